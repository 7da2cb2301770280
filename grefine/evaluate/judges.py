"""Who judges: metrics by name or preset, the judges inside a pipeline, and scorers of your own.

A pipeline's own p and a sort the inputs and, having made the masks, prove nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.config import load_config
from grefine.errors import ConfigError, ImageError, MetricUnavailable, WeightsMissing, nearest
from grefine.indicators.recipe import fetched_pipeline
from grefine.io.images import read_image
from grefine.io.places import here
from grefine.io.record import read_record
from grefine.resources import bundled, config_file
from grefine.scorers.fidelity import FIDELITY
from grefine.scorers.protocol import Scorer
from grefine.scorers.registry import find_metric, known_metric, metric_specs, split_names
from grefine.scorers.resolve import Judge, check_device, fingerprint_of, known_pipeline, read_weights, resolve
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from PIL import Image

    from grefine.indicators.load import Maps

NOISE_IMAGES = 32


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """One evaluation, as `configs/evaluate/*.yaml` states it."""

    metrics: tuple[str, ...] = ()
    """Names; empty means every registered metric."""
    noise_images: int = NOISE_IMAGES
    """On how many inputs each metric's own noise is measured; 0: not at all, and then only equal scores are ties."""
    description: str = ""


def wanted_metrics(metrics: str | Path | Sequence[str | Scorer]) -> tuple[tuple[str | Scorer, ...], int]:
    """Return metric names (or scorers) and the number of noise images that `metrics` means.

    A text may name a metric, several with commas between them, or a preset; a path is a YAML file.
    """
    if isinstance(metrics, str):
        names = split_names(metrics)
        if len(names) != 1 or find_metric(names[0]):
            return tuple(names), NOISE_IMAGES
        presets = [path.stem for path in bundled("configs").glob("evaluate/*.yaml")]
        if names[0] not in presets and not Path(names[0]).is_file():
            near = nearest(names[0], [*(spec.name for spec in metric_specs()), *presets])
            raise ConfigError(
                f"There is no metric and no preset '{names[0]}' (`grefine metrics` lists the metrics){near}"
            )
        metrics = Path(names[0])
    if isinstance(metrics, Path):
        settings = load_config(config_file("evaluate", metrics), EvaluateConfig)
        return settings.metrics, settings.noise_images
    return tuple(metrics), NOISE_IMAGES


def choose(
    metrics: Sequence[str | Scorer],
    *,
    pipeline: str | Path | None = None,
    device: str = "cpu",
    weights: Mapping[str, str | Path] | None = None,
    used_in_loop: Iterable[str] = (),
    allow_noncommercial: bool = False,
) -> tuple[list[Judge], dict[str, str]]:
    """Return the judges that can run (of all that are registered where none is named), and why the others cannot."""
    check_device(device)
    wanted = list(metrics) or [spec.name for spec in metric_specs()]
    own = {item.spec.name for item in wanted if not isinstance(item, str)}
    loop = {name if name in own else known_metric(name) for name in used_in_loop}
    how: dict[str, Any] = {"weights": read_weights(weights or {}), "device": device, "fetch": bool(metrics)}
    how |= {"allow_noncommercial": allow_noncommercial, "pipeline": pipeline and known_pipeline(pipeline)}
    judges: dict[str, Judge] = {}
    missing: dict[str, str] = {}
    for item in wanted:
        if isinstance(item, str) and item in FIDELITY:
            continue
        name = known_metric(item) if isinstance(item, str) else item.spec.name
        try:
            judge = resolve(item, **how)
        except (WeightsMissing, MetricUnavailable) as error:
            missing[name] = str(error)
            continue
        judges[name] = replace(judge, spec=replace(judge.spec, used_in_loop=True)) if name in loop else judge
    chosen = list(judges.values())
    if pipeline is not None:
        chosen += input_quality(here(pipeline), device)
    return chosen, missing


def steered_by(outputs: Iterable[Path]) -> set[str]:
    """Return the metrics that the records in the outputs name: they guarded, guided, gated or drew, and prove nothing.

    The first 64 files are read; a run has one configuration.
    """
    names: set[str] = set()
    for path in islice(outputs, 64):
        try:
            record = read_record(read_image(path).embedded)
        except ImageError:
            continue
        if record is not None:
            scored = (*record.before, *record.after, record.gate.partition(":")[0])
            names |= {name.split(".")[0] for name in (*scored, *record.drew.split(", "))}
    return {known for name in names if (known := find_metric(name))}


PQ = MetricSpec(
    "pq_map", used_in_loop=True, axis="perceptual", description="p of the pipeline's PQ map, which makes the masks"
)
AQ = MetricSpec(
    "aq_map",
    needs_prompt=True,
    used_in_loop=True,
    axis="alignment",
    description="a of the pipeline's AQ map, which makes the masks",
)


class MapScore:
    """p of whole images (`PQ`), or their a (`AQ`): NaN for a prompt that names nothing to judge."""

    def __init__(self, spec: MetricSpec, maps: "Maps") -> None:
        self.spec, self.maps = spec, maps

    def __call__(self, images: "Sequence[Image.Image]", prompts: Sequence[str] | None = None) -> list[Scores]:
        # By name: on a machine of a cluster the description is another object.
        quality = self.spec.name == PQ.name
        found: Any = self.maps.pq(list(images)) if quality else self.maps.aq(list(images), list(prompts or []))
        values = [math.nan if entry.score is None else float(entry.score) for entry in found]
        return [Scores({self.spec.name: value}) for value in values]


@lru_cache(1)
def _maps(pipeline: str, device: str) -> "Maps":
    from grefine.indicators.load import load_maps

    return load_maps(pipeline, device=device)


def input_quality(pipeline: str | Path, device: str) -> list[Judge]:
    """Return the judges for p and a; both share one CLIP, loaded when first needed."""
    folder = fetched_pipeline(pipeline)
    parts = [] if folder is None else [folder / name for name in ("clip", "pq_prompts", "model_index.json")]
    source = "".join(fingerprint_of(part) for part in parts if part.exists()) or str(pipeline)

    from grefine.indicators.domain_check import domain_at

    known = {"origin": source, "device": device, "domain": domain_at(pipeline)}
    return [Judge(spec, lambda spec=spec: MapScore(spec, _maps(str(pipeline), device)), **known) for spec in (PQ, AQ)]
