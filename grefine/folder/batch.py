"""The unit of work: one batch of images in, rows and files out. Plain functions; what they need is passed to them."""

import hashlib
import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine import __version__
from grefine.errors import ConfigError, GRefineError, ImageError, PlanError, PromptError, WorldMismatch
from grefine.folder.loras import LoraShelf
from grefine.folder.plans import with_mask
from grefine.folder.task import Task
from grefine.folder.worklist import WorkItem
from grefine.folder.write import write_outcomes
from grefine.indicators.domain_check import domain_of
from grefine.indicators.providers import maps_of
from grefine.io.content import content_hash
from grefine.io.encode import pixel_digest
from grefine.io.images import decode_image
from grefine.io.picture import LoadedImage
from grefine.io.prompts import ChosenPrompt
from grefine.io.record import LONGEST_PROMPT, RefineRecord, read_record
from grefine.scorers.prefilter import GateVerdict, ScoreGate
from grefine.types import RefineResult, RepairPlan

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """One image of a batch, read, or why it could not be."""

    item: WorkItem
    data: bytes = b""
    image: LoadedImage | None = None
    digest: str = ""
    state: Mapping[str, int] = field(default_factory=dict)
    """What `file_state` said of the file before it was read."""
    prompt: ChosenPrompt = ChosenPrompt("", "none")
    record: RefineRecord | None = None
    """What an earlier run wrote into it."""
    known: bool = False
    """True when that run was equal to this one and the picture is still what it wrote."""
    by_hand: RepairPlan | np.ndarray | None = None
    """The plan or the mask that was given for it."""
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image of a batch, refined, or why it was not."""

    reading: Reading
    state: str
    """untouched, refined, kept, beyond (repair) or failed."""
    reason: str
    image: Image.Image | None = None
    """The refined RGB picture; None where the input's own bytes are given back."""
    result: RefineResult | None = None
    seconds: float = 0.0
    unexpected: bool = False
    """True for a failure that is not about the image."""
    foreign: bool = False
    """True for a picture of a world that the pipeline does not know, refused or forced."""
    notes: tuple[str, ...] = ()
    gate: GateVerdict | None = None
    """What the run's first judge said; None without one."""


def run_batch(
    pipe: Any,
    items: Sequence[WorkItem],
    task: Task,
    shelf: LoraShelf | None = None,
    gate: ScoreGate | None = None,
) -> list[Row]:
    """Refine one batch: read its files, refine them together, write results, and return one journal row per image.

    The same items and task give the same files, whatever ran before.
    """
    return write_outcomes(refine_batch(pipe, read_batch(items, task), task, shelf, gate), task)


def plan_batches(
    pipe: Any, items: Iterable[WorkItem], task: Task, shelf: LoraShelf | None = None, gate: ScoreGate | None = None
) -> Iterator[list[Outcome]]:
    """Say of every image what would be done, batch by batch; nothing is repainted and nothing written."""
    task, items = replace(task, plan_only=True), iter(items)
    while batch := list(islice(items, task.options.batch_size)):
        refused = [
            Outcome(Reading(item), "failed" if item.failed else "skipped", f"{item.refused}.")
            for item in batch
            if item.refused
        ]
        readings = read_batch([item for item in batch if not item.refused], task)
        yield [*refused, *refine_batch(pipe, readings, task, shelf, gate)]


def read_batch(items: Sequence[WorkItem], task: Task) -> list[Reading]:
    """Read and decode the images of a batch and find their prompts; an image that cannot be read fails alone."""
    return [_read(item, task) for item in items]


def refine_batch(
    pipe: Any,
    readings: Sequence[Reading],
    task: Task,
    shelf: LoraShelf | None = None,
    gate: ScoreGate | None = None,
) -> list[Outcome]:
    """Run the pipeline over the readable images of a batch that no gate lets pass, equal networks together."""
    outcomes: dict[int, Outcome] = {}
    todo: list[int] = []
    for index, reading in enumerate(readings):
        if reading.failure:
            outcomes[index] = Outcome(reading, "failed", reading.failure)
        elif reading.known:
            outcomes[index] = Outcome(reading, "untouched", _already(reading.record))
        else:
            todo.append(index)
    todo = _of_this_world(todo, readings, outcomes, pipe, task)
    verdicts: dict[int, GateVerdict] = {}
    if gate is not None and todo:
        start = time.perf_counter()
        verdicts = dict(zip(todo, _look_first(gate, [readings[i] for i in todo]), strict=True))
        share = (time.perf_counter() - start) / len(todo)
        for index in [i for i in todo if verdicts[i].passed]:
            outcomes[index] = _passed(readings[index], verdicts[index], share)
            todo.remove(index)
    wanted = {index: readings[index].prompt.loras if shelf else () for index in todo}
    for loras, group in groupby(sorted(todo, key=lambda i: (wanted[i], i)), key=lambda i: wanted[i]):
        members = list(group)
        notes = shelf.apply(pipe, loras) if shelf else ()
        for index, outcome in zip(members, _refine([readings[i] for i in members], pipe, task), strict=True):
            outcomes[index] = _gated(_with_notes(outcome, notes), verdicts.get(index))
    return [outcomes[index] for index in range(len(readings))]


def _read(item: WorkItem, task: Task) -> Reading:
    start = time.perf_counter()
    try:
        state = item.state() if not isinstance(item.source, Path) or item.source.exists() else {}
        data = item.read()
        if isinstance(item.source, Path):
            image, given = decode_image(data, item.source, task.options.max_pixels), ("", "")
        else:
            # Nothing lies beside it on this machine.
            image = replace(decode_image(data, item.where, task.options.max_pixels), path=None)
            given = (item.source.prompt, f"data set {posixpath.basename(item.source.file)}")
        prompt = task.prompts.find(image, item.relative, given)
        by_hand = _by_hand(item, image, task)
    except GRefineError as error:
        return Reading(item, failure=str(error), seconds=time.perf_counter() - start)
    except OSError as error:
        return Reading(item, failure=f"It cannot be read: {error.strerror or error}.")
    except Exception as error:  # noqa: BLE001 - whatever a hostile file brings about, it fails alone
        return Reading(item, failure=f"It cannot be read: {type(error).__name__} while reading what it carries.")
    record = read_record(image.embedded)
    known = record is not None and not task.options.again and _equals(record, data, image, prompt, task, item.relative)
    return Reading(
        item,
        data,
        image,
        content_hash(data),
        state,
        prompt,
        record,
        known,
        by_hand,
        seconds=time.perf_counter() - start,
    )


def _by_hand(item: WorkItem, image: LoadedImage, task: Task) -> RepairPlan | np.ndarray | None:
    if task.plans is not None:
        return task.plans.find(item.relative, task.options.seed)
    return task.masks.find(item.relative, image.size) if task.masks is not None else None


def _equals(
    record: RefineRecord, data: bytes, image: LoadedImage, prompt: ChosenPrompt, task: Task, relative: str
) -> bool:
    now = (__version__, task.pipeline, task.hash_of(relative), prompt.prompt[:LONGEST_PROMPT])
    then = (record.version, record.pipeline, record.config, record.prompt)
    return now == then and record.pixels == pixel_digest(data, image.format, hashlib.sha256)


def _already(record: RefineRecord | None) -> str:
    passes = record.passes if record else 1
    return f"Already refined by grefine {__version__} with the same settings ({passes} so far)."


def _of_this_world(
    todo: list[int], readings: Sequence[Reading], outcomes: dict[int, Outcome], pipe: Any, task: Task
) -> list[int]:
    """Return the images that the pipeline knows how to judge; a stranger must not cost its neighbours their batch."""
    domain = None if task.options.force else domain_of(pipe)
    kept = []
    for index in todo:
        picture = readings[index].image
        if domain is not None and picture is not None and domain.is_foreign(picture.rgb):
            outcomes[index] = Outcome(readings[index], "failed", domain.reason, foreign=True)
        else:
            kept.append(index)
    return kept


def _refine(readings: Sequence[Reading], pipe: Any, task: Task) -> list[Outcome]:
    """Refine images together; when that fails, one by one, so that only the one at fault fails."""
    start = time.perf_counter()
    try:
        return _call(readings, pipe, task, start)
    except (ImageError, PlanError, PromptError, WorldMismatch) as error:
        fault, unexpected = str(error), False
    except (ConfigError, GRefineError):
        # Settings and weights are wrong for every image alike.
        raise
    except Exception as error:  # noqa: BLE001 - one image must not end the run; the sentence goes into its row
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no message"
        fault, unexpected = f"Refining it failed: {type(error).__name__}: {first}.", True
    if len(readings) == 1:
        return [Outcome(readings[0], "failed", fault, unexpected=unexpected)]
    return [outcome for reading in readings for outcome in _refine([reading], pipe, task)]


def _call(readings: Sequence[Reading], pipe: Any, task: Task, start: float) -> list[Outcome]:
    import torch

    names = [reading.item.relative for reading in readings]
    given: dict[str, Any] = {
        "prompt": [reading.prompt.prompt for reading in readings],
        "image": [reading.image.rgb for reading in readings if reading.image is not None],
        "config": task.config,
        "quality_map": maps_of(task.quality_map, names),
        "alignment_map": maps_of(task.alignment_map, names),
        "force": True,  # asked before, image by image
    }
    by_hand: list[Any] = [reading.by_hand for reading in readings]
    seeds = [task.options.seed] * len(readings)
    if task.plans is not None:
        given["plan"] = by_hand
        seeds = [seed if plan.seed is None else plan.seed for plan, seed in zip(by_hand, seeds, strict=True)]
    elif task.masks is not None and task.masks.with_maps:
        planned = pipe.plan(**given)
        given["plan"] = [with_mask(plan, mask) for plan, mask in zip(planned, by_hand, strict=True)]
    elif task.masks is not None:
        given["mask_image"] = by_hand
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    out = pipe(**given, generator=generators, plan_only=task.plan_only)
    share = (time.perf_counter() - start) / len(readings)
    return [
        _outcome(reading, image, result, share, task.plan_only)
        for reading, image, result in zip(readings, out.images, out.results, strict=True)
    ]


def _outcome(
    reading: Reading, image: Image.Image, result: RefineResult, seconds: float, plan_only: bool = False
) -> Outcome:
    notes = (*reading.image.notes, *result.warnings) if reading.image else result.warnings
    state = result.state
    if plan_only and state == "untouched" and (result.plan.regions or result.plan.restore):
        state = "refined"
    changed = image if result.decision.kept != "original" else None
    return Outcome(
        reading, state, result.decision.reason, changed, result, seconds, notes=notes, foreign=result.forced
    )


def _look_first(gate: ScoreGate, readings: Sequence[Reading]) -> list[GateVerdict]:
    import torch

    with torch.no_grad():
        return gate.look(
            [reading.image.rgb for reading in readings if reading.image is not None],
            [reading.prompt.prompt for reading in readings],
        )


def _passed(reading: Reading, verdict: GateVerdict, seconds: float) -> Outcome:
    notes = reading.image.notes if reading.image else ()
    found = f"The gate {verdict.name} found it good enough ({verdict.score:.4g})"
    reason = f"{found}, so it was left alone and no maps were drawn."
    return Outcome(reading, "untouched", reason, seconds=seconds, notes=notes, gate=verdict)


def _gated(outcome: Outcome, verdict: GateVerdict | None) -> Outcome:
    if verdict is None:
        return outcome
    note = (f"The gate {verdict.name} could not judge it: {verdict.note}",) if verdict.note else ()
    return replace(_with_notes(outcome, note), gate=verdict)


def _with_notes(outcome: Outcome, notes: tuple[str, ...]) -> Outcome:
    return replace(outcome, notes=(*outcome.notes, *notes)) if notes else outcome
