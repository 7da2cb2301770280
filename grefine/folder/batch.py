"""The unit of work: one batch of images in, rows and files out. Plain functions; what they need is passed to them."""

import posixpath
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch

from grefine import __version__
from grefine.errors import ConfigError, GRefineError, ImageError, PlanError, PromptError, WeightsMissing, WorldMismatch
from grefine.folder.task import Outcome, Reading, Task
from grefine.folder.worklist import WorkItem
from grefine.folder.write import write_outcomes
from grefine.indicators.domain_check import domain_of
from grefine.indicators.providers import maps_of
from grefine.io.content import content_hash
from grefine.io.images import decode_image, pixel_digest
from grefine.io.journal import Row
from grefine.io.picture import printable
from grefine.io.record import LONGEST_PROMPT, read_record
from grefine.scorers.prefilter import GateVerdict, ScoreGate


class LoraShelf:
    """The LoRA files of one folder; loads what is asked for and remembers what a pipeline has."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigError(f"No folder of LoRAs '{printable(folder)}': give one that holds .safetensors files.")
        self.files = {path.stem.lower(): path for path in sorted(self.folder.rglob("*.safetensors"))}
        self._loaded: dict[str, str] = {}

    def apply(self, pipe: Any, wanted: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
        """Make exactly the wanted networks active; return one sentence for each that the folder does not have."""
        here = [(name, weight) for name, weight in wanted if name.lower() in self.files]
        notes = tuple(
            f"LoRA '{name}' is not in '{printable(self.folder)}'."
            for name, _ in wanted
            if name.lower() not in self.files
        )
        if here:
            pipe.set_adapters([self._load(pipe, name) for name, _ in here], [weight for _, weight in here])
            pipe.enable_lora()
        elif self._loaded:
            pipe.disable_lora()
        return notes

    def _load(self, pipe: Any, name: str) -> str:
        key = name.lower()
        if key in self._loaded:
            return self._loaded[key]
        path = self.files[key]
        adapter = f"folder_{len(self._loaded)}"
        try:
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter)
        except (ImportError, ValueError) as error:
            if "peft" in str(error).lower():
                raise WeightsMissing("LoRAs need peft: pip install 'grefine[lora]'.") from error
            raise ConfigError(f"LoRA '{printable(path)}' does not fit this pipeline: {error}") from error
        self._loaded[key] = adapter
        return adapter


def run_batch(
    pipe: Any, items: Sequence[WorkItem], task: Task, shelf: LoraShelf | None = None, gate: ScoreGate | None = None
) -> list[Row]:
    """Read, refine and write one batch; return a journal row per image. What ran before changes nothing."""
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
    pipe: Any, readings: Sequence[Reading], task: Task, shelf: LoraShelf | None = None, gate: ScoreGate | None = None
) -> list[Outcome]:
    """Run the pipeline over the readable images of a batch that no gate lets pass, equal networks together."""
    outcomes: dict[int, Outcome] = {}
    todo: list[int] = []
    domain = None if task.options.force else domain_of(pipe)
    for index, reading in enumerate(readings):
        if reading.image is None:
            outcomes[index] = Outcome(reading, "failed", reading.failure)
        elif reading.known:
            passes = reading.record.passes if reading.record else 1
            reason = f"Already refined by grefine {__version__} with the same settings ({passes} so far)."
            outcomes[index] = Outcome(reading, "untouched", reason)
        elif domain is not None and domain.is_foreign(reading.image.rgb):
            # Left out here: a stranger must not cost its neighbours their batch.
            outcomes[index] = Outcome(reading, "failed", domain.reason, foreign=True)
        else:
            todo.append(index)
    verdicts: dict[int, GateVerdict] = {}
    if gate is not None and todo:
        start = time.perf_counter()
        asked = [readings[index] for index in todo]
        with torch.no_grad():
            found = gate.look([one.image.rgb for one in asked if one.image], [one.prompt.prompt for one in asked])
        verdicts = dict(zip(todo, found, strict=True))
        share = (time.perf_counter() - start) / len(todo)
        for index in [i for i in todo if verdicts[i].passed]:
            reading, verdict = readings[index], verdicts[index]
            reason = f"The gate {verdict.name} found it good enough ({verdict.score:.4g})"
            reason += ", so it was left alone and no maps were drawn."
            notes = reading.image.notes if reading.image else ()
            outcomes[index] = Outcome(reading, "untouched", reason, seconds=share, notes=notes, gate=verdict)
            todo.remove(index)
    wanted = {index: readings[index].prompt.loras if shelf else () for index in todo}
    for loras, group in groupby(sorted(todo, key=lambda i: (wanted[i], i)), key=lambda i: wanted[i]):
        members = list(group)
        missing = shelf.apply(pipe, loras) if shelf else ()
        for index, outcome in zip(members, _refine([readings[i] for i in members], pipe, task), strict=True):
            verdict = verdicts.get(index)
            notes = (*outcome.notes, *missing)
            if verdict and verdict.note:
                notes = (*notes, f"The gate {verdict.name} could not judge it: {verdict.note}")
            outcomes[index] = replace(outcome, notes=notes, gate=verdict)
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
        by_hand = None
        if task.plans is not None:
            by_hand = task.plans.find(item.relative, task.options.seed)
        elif task.masks is not None:
            by_hand = task.masks.find(item.relative, image.size)
    except GRefineError as error:
        return Reading(item, failure=str(error), seconds=time.perf_counter() - start)
    except OSError as error:
        return Reading(item, failure=f"It cannot be read: {error.strerror or error}.")
    except Exception as error:  # noqa: BLE001 - whatever a hostile file brings about, it fails alone
        return Reading(item, failure=f"It cannot be read: {type(error).__name__} while reading what it carries.")
    record, known = read_record(image.embedded), False
    if record is not None and not task.options.again:
        now = (__version__, task.pipeline, task.hash_of(item.relative), prompt.prompt[:LONGEST_PROMPT])
        then = (record.version, record.pipeline, record.config, record.prompt)
        known = now == then and record.pixels == pixel_digest(data, image.format)
    digest, spent = content_hash(data), time.perf_counter() - start
    return Reading(item, data, image, digest, state, prompt, record, known, by_hand, seconds=spent)


def _refine(readings: Sequence[Reading], pipe: Any, task: Task) -> list[Outcome]:
    """Refine images together; when that fails, one by one, so that only the one at fault fails."""
    try:
        return _call(readings, pipe, task)
    except (ImageError, PlanError, PromptError, WorldMismatch) as error:
        fault, unexpected = str(error), False
    except GRefineError:
        # Settings and weights are wrong for every image alike.
        raise
    except Exception as error:  # noqa: BLE001 - one image must not end the run; the sentence goes into its row
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no message"
        fault, unexpected = f"Refining it failed: {type(error).__name__}: {first}.", True
    if len(readings) == 1:
        return [Outcome(readings[0], "failed", fault, unexpected=unexpected)]
    return [outcome for reading in readings for outcome in _refine([reading], pipe, task)]


def _call(readings: Sequence[Reading], pipe: Any, task: Task) -> list[Outcome]:
    start = time.perf_counter()
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
        planned = zip(pipe.plan(**given), by_hand, strict=True)
        given["plan"] = [plan if mask is None else replace(plan, mask=plan.mask | mask) for plan, mask in planned]
    elif task.masks is not None:
        given["mask_image"] = by_hand
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    if task.on_step is not None:
        given["callback_on_step_end"] = task.on_step
    out = pipe(**given, generator=generators, plan_only=task.plan_only)
    share = (time.perf_counter() - start) / len(readings)
    outcomes = []
    for reading, image, result in zip(readings, out.images, out.results, strict=True):
        state = result.state
        if task.plan_only and state == "untouched" and (result.plan.regions or result.plan.restore):
            state = "refined"
        changed = image if result.decision.kept != "original" else None
        notes = (*(reading.image.notes if reading.image else ()), *result.warnings)
        told = {"notes": notes, "foreign": result.forced}
        outcomes.append(Outcome(reading, state, result.decision.reason, changed, result, share, **told))
    return outcomes
