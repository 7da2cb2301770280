"""Both maps of a pipeline over one CLIP, and the components that they are made of, without any diffusion model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.indicators import released
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibration import Calibration
from grefine.indicators.pq_map import PQMap
from grefine.indicators.readings import Readings
from grefine.indicators.recipe import assembled_folder, recipe_folder
from grefine.io.atomic import write_atomic
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.resources import pipeline_folder, pipeline_names
from grefine.scorers.resolve import check_device

INDEX = "model_index.json"
COMPONENTS = ("clip", "clip_tokenizer", "pq_prompts")


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


def maps_folder(pipeline: str | Path) -> Path | None:
    """Return the folder that holds a pipeline's maps; those of a recipe are assembled from what was fetched."""
    recipe = recipe_folder(pipeline)
    return pipeline_folder(pipeline) if recipe is None else assembled_folder(recipe, COMPONENTS)


def load_clip(pipeline: str | Path) -> ClipSurgery:
    """Load the component `clip`, ready for use."""
    return _load(ClipSurgery, pipeline, "clip").eval()


def load_prompts(pipeline: str | Path) -> PQPrompts:
    """Load the component `pq_prompts`, ready for use."""
    return _load(PQPrompts, pipeline, "pq_prompts").eval()


def load_tokenizer(pipeline: str | Path) -> Any:
    """Load the component `clip_tokenizer`."""
    from transformers import CLIPTokenizerFast

    return _load(CLIPTokenizerFast, pipeline, "clip_tokenizer")


def stored_calibration(pipeline: str | Path) -> Calibration:
    """Read what `grefine calibrate` stored; guesses when nothing is stored."""
    return Calibration.of(stored_config(pipeline).get("calibration"))


def stored_config(pipeline: str | Path, component: str = "") -> dict[str, Any]:
    """Read what a pipeline's index states, or a component's configuration; nothing for what is not stored."""
    if pipeline in released.NAMES:
        return {}
    folder = maps_folder(pipeline)
    if folder is not None:
        path = folder / component / "config.json" if component else folder / INDEX
        if not component and not path.is_file():
            raise _missing(pipeline, INDEX)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    _needs_owner(pipeline, component or INDEX)
    from diffusers import AutoencoderKL, DiffusionPipeline

    stored: Any = (
        AutoencoderKL.load_config(str(pipeline), subfolder=component)
        if component
        else DiffusionPipeline.load_config(str(pipeline))
    )
    return dict(stored)


def read_calibration(file: str | Path) -> Calibration:
    """Read a calibration from a JSON file of its own."""
    try:
        return Calibration.of(json.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the calibration '{file}': {error}") from error


def store_calibration(place: str | Path, calibration: Calibration) -> Path:
    """Write a calibration: into the `model_index.json` of a pipeline folder, or as a JSON file of its own."""
    path, stored = Path(place), calibration.to_dict()
    if path.is_dir():
        path /= INDEX
        if not path.is_file():
            raise _missing(place, INDEX)
        stored = json.loads(path.read_text(encoding="utf-8")) | {"calibration": stored}
    write_atomic(path, (json.dumps(stored, indent=2) + "\n").encode())
    return path


def _load(kind: Any, pipeline: str | Path, component: str) -> Any:
    if pipeline in released.NAMES:
        return released.PARTS[component]()
    folder = maps_folder(pipeline)
    if folder is None:
        _needs_owner(pipeline, component)
    elif not (folder / component).is_dir():
        raise _missing(pipeline, component)
    try:
        return kind.from_pretrained(str(folder or pipeline), subfolder=component)
    except OSError as error:
        raise _missing(pipeline, component) from error


def _needs_owner(pipeline: str | Path, what: str) -> None:
    """Refuse what cannot be on the Hub, whose ids have an owner, instead of asking there for it again and again."""
    if "/" not in str(pipeline):
        raise _missing(pipeline, what)


def _missing(pipeline: str | Path, what: str) -> WeightsMissing:
    names = ", ".join(pipeline_names()) or "none"
    return WeightsMissing(
        f"'{pipeline}' has no {what}: give a pipeline folder that holds {', '.join(COMPONENTS)}, the id of one on the "
        f"Hub, or a bundled name ({names}); `grefine fetch {Path(str(pipeline)).name}` gets the weights of a recipe."
    )
