"""Both maps of a pipeline, over one CLIP."""

from dataclasses import dataclass
from pathlib import Path

from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibration import Calibration
from grefine.indicators.components import (
    load_clip,
    load_prompts,
    load_tokenizer,
    maps_folder,
    read_calibration,
    stored_calibration,
)
from grefine.indicators.pq_map import PQMap
from grefine.indicators.readings import Readings
from grefine.scorers.resolve import check_device


@dataclass(frozen=True, slots=True)
class Maps:
    """Both maps over one CLIP."""

    pq: PQMap
    aq: AQMap
    folder: Path | None = None
    """Where they were loaded from; None for published weights and Hub ids."""

    @property
    def calibration(self) -> Calibration:
        """The constants both were built with."""
        return self.pq.calibration


def load_maps(
    pipeline: str | Path,
    *,
    device: str | None = None,
    readings: Readings = Readings(),
    calibration: str | Path | None = None,
    fresh: bool = False,
) -> Maps:
    """Load both maps of a pipeline: a bundled name, a folder, a Hub id, or "released" for the published weights."""
    if device:
        check_device(device)
    clip, prompts = load_clip(pipeline), load_prompts(pipeline)
    if device:
        clip, prompts = clip.to(device), prompts.to(device)
    if fresh:
        constants = Calibration()
    elif calibration is not None:
        constants = read_calibration(calibration)
    else:
        constants = stored_calibration(pipeline)
    pq = PQMap(clip, prompts, calibration=constants, readings=readings)
    aq = AQMap(clip, load_tokenizer(pipeline), calibration=constants, readings=readings)
    return Maps(pq, aq, maps_folder(pipeline))
