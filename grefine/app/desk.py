"""What the window does, without the window: open a picture, change its plan, run it, keep it as a folder run does."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.errors import ConfigError, GRefineError, PlanError
from grefine.folder.batch import read_batch, refine_batch
from grefine.folder.options import FolderOptions
from grefine.folder.plans import PlanFolder
from grefine.folder.ready import make_ready, thresholds
from grefine.folder.task import Outcome, Reading, Task
from grefine.folder.worklist import WorkItem, list_work
from grefine.folder.write import write_outcomes
from grefine.indicators.domain_check import domain_of
from grefine.io.images import read_bytes, read_embedded
from grefine.io.picture import printable
from grefine.io.prompts import PromptSources
from grefine.io.record import read_record
from grefine.plan_file import MASK, PLAN
from grefine.refine.settings import RefineConfig
from grefine.types import RefineResult, RepairPlan

DROPPED = "dropped"
"""The folder below OUT of pictures that were not in FOLDER."""


class Stopped(GRefineError):
    """The person at the window wants no more of this run."""


@dataclass
class Desk:
    """One pipeline and one folder of pictures; what all people at the window share."""

    pipe: Any
    task: Task
    items: Mapping[str, WorkItem]
    """The pictures of FOLDER by their path below it; nothing else of FOLDER can be opened."""
    out: Path
    plans: Path
    kept: ExitStack = field(default_factory=ExitStack)
    """What the pipeline was given for as long as the desk is there: thresholds."""


@dataclass
class Sitting:
    """One person at the window: what lies open, and what became of each picture."""

    desk: Desk
    dropped: dict[str, WorkItem] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    reading: Reading | None = None
    found: RefineResult | None = None
    """What the maps say of the open picture, and the fresh plan."""
    plan: RepairPlan | None = None
    """The plan as shown, perhaps changed."""
    note: str = ""
    """What is to be said of that plan."""
    task: Task | None = None
    """What the open picture is refined by: the desk's, with a prompt that was typed."""
    outcome: Outcome | None = None
    """What a run made of it, until it is kept or thrown away."""
    stop: threading.Event = field(default_factory=threading.Event)


def open_desk(
    folder: str | Path | None,
    pipeline: Any,
    out: str | Path,
    plans: str | Path,
    *,
    config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
    prompts: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str = "auto",
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Desk:
    """Load a pipeline and list a folder; the settings are those of `refine_folder`."""
    out = Path(out)
    options = FolderOptions(seed=seed, force=force, panels=False, report=False, overwrite="always", batch_size=1)
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"'{printable(folder)}' is no folder of pictures.")
    sources = [] if folder is None else [folder]
    items = {item.relative: item for item in list_work(sources, out, options) if not item.refused}
    asked = {"pipeline": pipeline, "config": config, "prompts": prompts, "device": device, "dtype": dtype}
    ready = make_ready(sources, out, options, asked)
    ready.pipe.set_progress_bar_config(disable=True)
    desk = Desk(ready.pipe, ready.task, items, out, Path(plans))
    desk.kept.enter_context(thresholds(ready.pipe, ready.task, out, lambda: list_work(sources, out, options), say))
    return desk


def moved(desk: Desk, folder: Path) -> Desk:
    """Return the desk with its results and plans in a folder of their own, for one of several people."""
    out = folder / "results"
    items = {name: replace(item, out=out) for name, item in desk.items.items()}
    return replace(desk, items=items, out=out, plans=folder / "plans")


def drop(sitting: Sitting, file: str | Path) -> str:
    """Lay a picture from elsewhere onto the desk and return its name; it is only read."""
    path = Path(file)
    name = f"{DROPPED}/{path.name}"
    if name in sitting.desk.items:  # results and plans of both would have one place
        raise ConfigError(f"The folder has a picture '{printable(name)}' of its own: give the file another name.")
    (item,) = list_work([path], sitting.desk.out / DROPPED, sitting.desk.task.options)
    if item.refused:
        raise ConfigError(f"'{printable(path.name)}': {item.refused}.")
    sitting.dropped[name] = item
    return name


def look(sitting: Sitting, name: str, prompt: str | None = None, anew: bool = False) -> None:
    """Open a picture of the list: read it, draw its maps, take its saved plan or, `anew`, make one."""
    item = sitting.desk.items.get(name) or sitting.dropped.get(name)
    if item is None:
        raise ConfigError(f"'{printable(str(name))[:200]}' is not in the list.")
    task, pipe = sitting.desk.task, sitting.desk.pipe
    if prompt is not None:
        task = replace(task, prompts=PromptSources(None, prompt, ("prompt",)))
    (reading,) = read_batch([item], task)
    if reading.image is None:
        raise PlanError(reading.failure)
    domain = None if task.options.force else domain_of(pipe)
    if domain is not None:
        domain.demand([reading.image.rgb])
    seed = torch.Generator().manual_seed(task.options.seed)
    given = {"prompt": [reading.prompt.prompt], "image": [reading.image.rgb], "config": task.config}
    (found,) = pipe(**given, generator=seed, plan_only=True, force=True).results
    sitting.task, sitting.reading, sitting.found = task, reading, found
    sitting.plan, sitting.outcome = found.plan, None
    sitting.note = "" if anew or not plan_file(sitting, item).is_file() else _take_saved(sitting, item, found.plan)


def _take_saved(sitting: Sitting, item: WorkItem, fresh: RepairPlan) -> str:
    """Lay the saved plan of the open picture onto the desk, or say why the fresh one lies there."""
    try:
        saved = RepairPlan.load(plan_file(sitting, item))
    except PlanError as error:
        return f"Planned anew: {error}"
    told = ("picture", "prompt", "pipeline", "settings", "seed")
    if saved.mask.shape != fresh.mask.shape or any(saved.made_for.get(k) != fresh.made_for.get(k) for k in told):
        return "Planned anew: the saved plan is of another picture, prompt, pipeline or settings."
    sitting.plan = saved
    return "This is the plan that was saved."


def plan_file(sitting: Sitting, item: WorkItem) -> Path:
    """Return where the plan of a picture is saved."""
    folder = sitting.desk.plans / DROPPED if item.out != sitting.desk.out else sitting.desk.plans
    return folder / f"{item.relative}{PLAN}"


def change(
    plan: RepairPlan, rows: Sequence[Sequence[Any]], add: np.ndarray | None = None, remove: np.ndarray | None = None
) -> RepairPlan:
    """Return the plan as the table has it (number, on, words, strength), with mask painted in and wiped away."""
    numbered = {str(row[0]): row for row in rows}
    if len(rows) != len(plan.regions) or set(numbered) != {str(n + 1) for n in range(len(plan.regions))}:
        raise PlanError("The table must have one row for every region of the plan: plan it anew.")
    none = np.zeros(plan.mask.shape, bool)
    add, remove = none if add is None else add, none if remove is None else remove
    regions = []
    for number, region in enumerate(plan.regions, 1):
        try:
            _, on, words, strength = (*numbered[str(number)][:3], float(numbered[str(number)][3]))
        except (ValueError, TypeError, IndexError):
            on, words, strength = False, "", 0.0
        if not 0 < strength < 1:
            raise PlanError(f"Region {number}: the strength must be a number above 0 and below 1.")
        on = on in (True, "true", "True")
        left, top, right, bottom = region.box
        # What is painted over a region that is off is no longer part of it, so it is drawn as a region of its own.
        mask = region.mask if on else region.mask & ~add[top:bottom, left:right]
        regions.append(replace(region, on=on, prompt=str(words), strength=strength, mask=mask))
    return replace(plan, regions=tuple(regions), mask=(plan.mask | add) & ~remove)


def run(sitting: Sitting, on_step: Callable[[int, int, str], None] = lambda *told: None) -> Outcome:
    """Save the plan and follow it, as `grefine refine PICTURE -o OUT --plans PLANS` would; nothing else is written."""
    if sitting.reading is None or sitting.plan is None or sitting.task is None:
        raise ConfigError("Open a picture first.")
    item = sitting.reading.item
    picture = sitting.reading.image
    file = plan_file(sitting, item)
    sitting.plan.save(file, picture.rgb if picture else None)
    task = replace(sitting.task, plans=PlanFolder.open(file.parents[item.relative.count("/")], item.relative))

    def go_on() -> None:
        if sitting.stop.is_set():
            raise Stopped("Stopped; nothing was changed.")

    def step(pipe: Any, index: int, _: Any, told: dict[str, Any]) -> dict[str, Any]:
        on_step(index + 1, pipe.num_timesteps, str(told.get("stage", "")))
        go_on()
        return told

    sitting.outcome = None
    go_on()
    (outcome,) = refine_batch(sitting.desk.pipe, read_batch([item], task), replace(task, on_step=step))
    go_on()
    if outcome.state == "failed":
        raise PlanError(outcome.reason)
    sitting.outcome, sitting.task, sitting.states[name_of(sitting, item)] = outcome, task, outcome.state
    return outcome


def keep(sitting: Sitting) -> list[Path]:
    """Write the result with its record as a folder run does, and return the files: picture, plan and mask."""
    if sitting.outcome is None or sitting.task is None:
        raise ConfigError("There is no result to keep: run the plan first.")
    item = sitting.outcome.reading.item
    if item.output.exists() and read_record(read_embedded(read_bytes(item.output))) is None:
        raise ConfigError(f"'{printable(item.output)}' is there and no result of grefine: give another --out.")
    (row,) = write_outcomes([sitting.outcome], sitting.task)
    if row["state"] == "failed":
        raise ConfigError(row["reason"])
    sitting.states[name_of(sitting, item)] = "saved"
    sitting.outcome = None
    plan = plan_file(sitting, item)
    return [item.output, plan, plan.with_name(plan.name.removesuffix(PLAN) + MASK)]


def name_of(sitting: Sitting, item: WorkItem) -> str:
    """Return the name of a picture in the list."""
    return item.relative if item.out == sitting.desk.out else f"{DROPPED}/{item.relative}"


def state_of(sitting: Sitting, name: str) -> str:
    """Say in a word or two how far a picture is."""
    item = sitting.desk.items.get(name) or sitting.dropped[name]
    on_disk = "saved" if item.output.is_file() else "planned" if plan_file(sitting, item).is_file() else ""
    return sitting.states.get(name, on_disk)


def strokes_of(layer: Image.Image, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return what a layer of strokes adds (its red) and takes away (its blue), in a picture's size."""
    seen = np.asarray(layer.convert("RGBA").resize(size, Image.Resampling.BOX)).astype(int)
    painted = seen[..., 3] >= 128
    red = seen[..., 0] > seen[..., 2]
    return painted & red, painted & ~red
