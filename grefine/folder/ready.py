"""What a run works with: everything that it is told, checked and opened, cheap things first; and thresholds."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grefine.cluster import join
from grefine.config import build
from grefine.errors import ConfigError
from grefine.folder.batch import LoraShelf, read_batch
from grefine.folder.options import FolderOptions
from grefine.folder.plans import open_by_hand
from grefine.folder.task import Reading, Task, gate_key, painters_of, pipeline_name, weights_fingerprint
from grefine.folder.worklist import WorkItem, list_work
from grefine.indicators.calibrate import ENOUGH, SAMPLE, self_calibrate
from grefine.indicators.calibration import Calibration
from grefine.indicators.components import read_calibration, store_calibration
from grefine.indicators.providers import Provider, open_sources
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.prompt_table import PromptTable, read_prompt_table
from grefine.io.prompts import ORDER, PromptSources
from grefine.io.run_files import STATE_FOLDER
from grefine.opening import Opening, missing_judges, open_pipeline
from grefine.refine.maps import guesses
from grefine.refine.restore import RESTORERS
from grefine.refine.settings import read_settings
from grefine.scorers.prefilter import ScoreGate, parse_gate, read_gate

Source = str | Path
MEASURED = "calibration.json"
"""In the run's own folder: the thresholds that it measured, for when it goes on."""


@dataclass(frozen=True)
class Ready:
    """A run that can begin."""

    pipe: Any
    task: Task
    out: Path
    opening: Opening
    """How the pipeline was opened, so that others can open it alike."""
    table: PromptTable | None = None
    shelf: LoraShelf | None = None
    gate: ScoreGate | None = None
    notes: tuple[str, ...] = ()
    """What is to be known before the run, one sentence each."""


def make_ready(sources: list[Source], out: Source, options: FolderOptions, asked: Mapping[str, Any]) -> Ready:
    """Check and open what a run is told, cheap things first; `asked` are arguments of `refine_folder` by name."""
    ask = asked.get
    settings, out, options = read_settings(ask("config")), Path(out), build(FolderOptions, asdict(options), "options")
    table = None
    if ask("prompts") is not None:
        table = read_prompt_table(asked["prompts"], ask("name_column"), ask("prompt_column"))
    elif ask("prompt_column"):
        options = replace(options, prompt_column=asked["prompt_column"])
    shelf = LoraShelf(asked["lora_dir"]) if ask("lora_dir") is not None else None
    gate, device, terms = ask("gate"), ask("device"), bool(ask("allow_noncommercial"))
    if isinstance(gate, str):
        parse_gate(gate)
    there = (str(source).startswith("@") or is_address(source) or os.path.lexists(source) for source in sources)
    if sources and not any(there):
        raise ConfigError(f"'{printable(sources[0])}' does not exist: give images, folders, or an @list of paths.")
    if sources and next(list_work(sources, out, options), None) is None:
        where = ", ".join(f"'{printable(source)}'" for source in sources[:3])
        raise ConfigError(f"No images in {where}: files that end in .png, .jpg, .webp, ... or match the pattern.")
    by_hand = open_by_hand(ask("plans"), ask("masks"), bool(ask("add_masks")))
    drawn = open_sources(ask("quality_map"), ask("alignment_map"), device or "cpu", terms)
    restorer = ask("restorer")
    if restorer is not None:
        plain = str(restorer) if str(restorer) in RESTORERS else None
        settings, restorer = replace(settings, restorer=plain), None if plain else restorer
    settings = replace(settings, guidance=dict(asked["guidance"])) if ask("guidance") else settings
    painters = (str(ask("painter") or ""), ask("painter_class") or "", str(restorer or ""))
    loading = (ask("dtype") or "auto", ask("offload") or "none", tuple(ask("judges") or ()))
    opening = Opening(device, *loading, terms, *painters)
    if ask("cluster"):
        join(asked["cluster"])
    pipe = open_pipeline(asked["pipeline"], opening)
    notes = [missing_judges(pipe, settings) if settings.guard else ""]
    for name in (name for one in drawn if isinstance(one, Provider) for name in one.unmeasured):
        text = f"'{name}' was not measured on good pictures, so its map is believed from half on"
        notes.append(f"{text}: `grefine calibrate --help` says how to measure it.")
    notes.append(table.note if table else "")
    if isinstance(gate, str):
        gate = read_gate(gate, asked["gate_weights"], pipe, device or "cpu", terms)
    task = Task(
        pipeline_name(pipe),
        weights_fingerprint(pipe),
        settings,
        options,
        PromptSources(table, ask("prompt"), ask("prompt_order") or ORDER, options.follow_links),
        shelf.folder if shelf else None,
        gate_key(gate),
        tuple(opening.key()),
        *drawn,
        painters_of(pipe),
        *by_hand,
    )
    return Ready(pipe, task, out, opening, table, shelf, gate, tuple(filter(None, notes)))


@contextmanager
def thresholds(
    pipe: Any, task: Task, out: Path, items: Callable[[], Iterator[WorkItem]], say: Callable[[str], None]
) -> Iterator[None]:
    """Give a pipeline thresholds for the time of a run, where it has none."""
    by_hand = task.plans is not None or (task.masks is not None and not task.masks.with_maps)
    shown = (task.quality_map, task.alignment_map)
    if task.options.force or by_hand or not guesses(pipe.config.get("calibration"), task.config, *shown):
        yield
        return
    before = pipe.config.get("calibration")
    pipe.register_to_config(calibration=_measured(pipe, task, out / STATE_FOLDER / MEASURED, items, say).to_dict())
    try:
        yield
    finally:
        pipe.register_to_config(calibration=before)


def _measured(
    pipe: Any, task: Task, file: Path, items: Callable[[], Iterator[WorkItem]], say: Callable[[str], None]
) -> Calibration:
    if file.is_file():
        say(f"The thresholds are those that this run measured on its own pictures ({file.name}).")
        return read_calibration(file)
    listed = [item for item in items() if not item.refused]
    step = max(1.0, len(listed) / SAMPLE)
    chosen = [listed[int(index * step)] for index in range(min(len(listed), SAMPLE))]
    found = [(item, reading.prompt.prompt) for item, reading in _readings(chosen, task) if reading.prompt.prompt]
    if len(found) < ENOUGH:
        raise ConfigError(
            f"The thresholds of '{task.pipeline}' are not measured for pictures like these, and {len(found)} readable "
            f"pictures with prompts are too few to measure them on ({ENOUGH} are needed): run `grefine calibrate "
            f"--pipeline {task.pipeline} --images GOOD_PICTURES` once, mark the bad places yourself (`mask_image` in "
            "Python), or give --force to go on with guesses."
        )
    pq, aq = pipe.own_maps()
    if aq is None:
        raise ConfigError(f"'{task.pipeline}' has no clip_tokenizer, so it cannot be calibrated: add one.")
    kept = [item for item, _ in found]
    done, left_out = self_calibrate(
        pq,
        aq,
        lambda: (reading.image.rgb for _, reading in _readings(kept, task) if reading.image),
        [prompt for _, prompt in found],
    )
    say(
        f"No thresholds were measured before: they are measured on {len(found)} of these pictures; {left_out} that "
        f"stand apart are left out ({STATE_FOLDER}/{file.name}). `grefine calibrate` on good pictures is better."
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    store_calibration(file, done.calibration)
    return done.calibration


def _readings(items: list[WorkItem], task: Task) -> Iterator[tuple[WorkItem, Reading]]:
    """Read pictures one at a time; those that cannot be read are left out."""
    for item in items:
        reading = read_batch([item], task)[0]
        if reading.image is not None:
            yield item, reading
