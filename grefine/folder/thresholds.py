"""Thresholds for a run whose pipeline has none: from the run's own pictures, or a sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.folder.batch import read_batch
from grefine.folder.task import Task
from grefine.folder.worklist import WorkItem
from grefine.indicators.calibrate import ENOUGH, SAMPLE, self_calibrate
from grefine.indicators.calibration import Calibration
from grefine.indicators.components import read_calibration, store_calibration
from grefine.io.run_files import STATE_FOLDER
from grefine.refine.maps import guesses

FILE = "calibration.json"
"""In the run's own folder: what it was calibrated to, for when it goes on."""


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
    pipe.register_to_config(calibration=_measured(pipe, task, out / STATE_FOLDER / FILE, items, say).to_dict())
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
    chosen = _sample([item for item in items() if not item.refused])
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


def _readings(items: list[WorkItem], task: Task) -> Iterator[tuple[WorkItem, Any]]:
    """Read pictures one at a time; those that cannot be read are left out."""
    for item in items:
        reading = read_batch([item], task)[0]
        if reading.image is not None:
            yield item, reading


def _sample(items: list[WorkItem]) -> list[WorkItem]:
    """Return at most so many items, evenly spread over the list."""
    step = max(1.0, len(items) / SAMPLE)
    return [items[int(index * step)] for index in range(min(len(items), SAMPLE))]
