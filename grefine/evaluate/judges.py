"""Who judges: metrics by name or preset, the judges inside a pipeline, and scorers of your own.

A pipeline's own p and a sort the inputs and, having made the masks, prove nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from grefine.config import load_config
from grefine.errors import ConfigError, GRefineError, nearest
from grefine.resources import bundled, config_file, pipeline_folder
from grefine.scorers.fidelity import FIDELITY
from grefine.scorers.protocol import Scorer
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from PIL import Image

    from grefine.indicators.load import Maps

if TYPE_CHECKING:
    from grefine.indicators.domain_check import DomainCheck

NOISE_IMAGES = 32
_HASHED_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """One evaluation, as `configs/evaluate/*.yaml` states it."""

    metrics: tuple[str, ...] = ()
    """Names; empty means every registered metric."""
    noise_images: int = NOISE_IMAGES
    """On how many inputs each metric's own noise is measured; 0: not at all, and then only equal scores are ties."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """A metric that can run, loaded only when something has to be computed."""

    spec: MetricSpec
    load: Callable[[], Scorer]
    source: str = ""
    """What tells its weights from others."""
    device: str = "cpu"
    seeded: bool = False
    domain: DomainCheck | None = None
    """Tells the pictures that its weights do not know."""


def preset(name: str | Path) -> EvaluateConfig:
    """Read a bundled preset or a YAML file of one's own."""
    return load_config(config_file("evaluate", name), EvaluateConfig)


def resolve(metrics: str | Path | Sequence[str | Scorer]) -> tuple[tuple[str | Scorer, ...], int]:
    """Return metric names (or scorers) and the number of noise images that `metrics` means.

    A text may name a metric, several with commas between them, or a preset; a path is a YAML file.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(metrics, str):
        names = [name.strip() for name in metrics.split(",") if name.strip()]
        if len(names) == 1 and not _is_metric(names[0]):
            return _from_preset(names[0]) if _is_preset(names[0]) else _neither(names[0])
        return tuple(names), NOISE_IMAGES
    return _from_preset(metrics) if isinstance(metrics, Path) else (tuple(metrics), NOISE_IMAGES)


def _from_preset(name: str | Path) -> tuple[tuple[str, ...], int]:
    settings = preset(name)
    return settings.metrics, settings.noise_images


def _is_preset(name: str) -> bool:
    try:
        config_file("evaluate", name)
    except ConfigError:
        return False
    return True


def _neither(name: str) -> NoReturn:
    from grefine.scorers.registry import metric_specs

    presets = [path.stem for path in bundled("configs").glob("evaluate/*.yaml")]
    near = nearest(name, [*(spec.name for spec in metric_specs()), *presets])
    raise ConfigError(f"There is no metric and no preset '{name}' (`grefine metrics` lists the metrics){near}")


def _is_metric(name: str) -> bool:
    from grefine.scorers.registry import known_metric

    try:
        known_metric(name)
    except ConfigError:
        return False
    return True


def choose(
    metrics: Sequence[str | Scorer],
    *,
    pipeline: str | Path | None = None,
    device: str = "cpu",
    weights: Mapping[str, str | Path] | None = None,
    used_in_loop: Iterable[str] = (),
    allow_noncommercial: bool = False,
) -> tuple[list[Judge], dict[str, str]]:
    """Return the judges that can run, and name → reason for those that cannot.

    Args:
        metrics: names, or scorers of your own. Empty: every registered metric.
        pipeline: takes the judges that it carries from there, and its p and a of every image (which made the masks).
        device: on which scorers run.
        weights: metric → file or folder.
        used_in_loop: metrics that steered the refinement: scored, shown and kept out of verdicts.
        allow_noncommercial: accept the terms of pyiqa's metrics.

    Raises:
        ConfigError: an unknown metric, with the nearest name, or a device that is not there.
    """
    from grefine.indicators.domain_check import domain_at
    from grefine.scorers.registry import (
        availability,
        check_device,
        find_weights,
        known_metric,
        load_scorer,
        metric_specs,
        trained,
    )

    check_device(device)
    specs = {spec.name: spec for spec in metric_specs()}
    wanted = list(metrics) or list(specs)
    weights = {known_metric(name): path for name, path in (weights or {}).items()}
    own = {item.spec.name for item in wanted if not isinstance(item, str)}
    loop = {name if name in own else known_metric(name) for name in used_in_loop}
    folder = _pipeline(pipeline)
    judges: dict[str, Judge] = {}
    missing: dict[str, str] = {}
    for item in wanted:
        if not isinstance(item, str):
            judges[item.spec.name] = Judge(item.spec, lambda scorer=item: scorer, _origin(item), device)
            continue
        if item in FIDELITY:
            continue
        name = known_metric(item)
        where = weights.get(name)
        if where is None and folder is not None and (folder / name).is_dir():
            where = folder
        state = availability(name, where)
        if not state.runs:
            advice = f" Needed: {state.how}." if state.how and state.how not in state.reason else ""
            missing[name] = state.reason + advice
            continue
        if specs[name].licence.startswith("PolyForm") and not allow_noncommercial:
            missing[name] = "its terms are non-commercial; --allow-noncommercial accepts them."
            continue

        def load(name: str = name, where: str | Path | None = where) -> Scorer:
            # Whatever is foreign to it never reaches it, unless that was forced.
            return load_scorer(name, where, device, allow_noncommercial, force=True)

        domain = domain_at(find_weights(name, where)) if trained(name) else None
        judges[name] = Judge(specs[name], load, _fingerprint(name, where), device, name == "moe_agiqa", domain)
    chosen = [replace(j, spec=replace(j.spec, used_in_loop=True)) if n in loop else j for n, j in judges.items()]
    if pipeline is not None:
        chosen += input_quality(pipeline, device)
    return chosen, missing


def _pipeline(name: str | Path | None) -> Path | None:
    if name is None:
        return None
    folder = pipeline_folder(name)
    if folder is None:
        raise ConfigError(
            f"There is no pipeline '{name}' on this machine: give a folder or the name of a bundled one."
        )
    return folder


def _origin(scorer: Scorer) -> str:
    kind = type(scorer)
    return f"{kind.__module__}.{kind.__qualname__}"


def _fingerprint(name: str, where: str | Path | None) -> str:
    """Return what tells these weights from others: a hash of small files, size and time of large ones."""
    from grefine.scorers.registry import find_weights

    try:
        root = find_weights(name, where)
    except GRefineError:
        return ""
    return fingerprint_of(root)


def fingerprint_of(root: Path) -> str:
    """Return a hash of a file or of all files below a folder."""
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(path.name.encode("utf-8", "surrogateescape"))
        if state.st_size <= _HASHED_BYTES:
            digest.update(path.read_bytes())
        else:
            digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


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


class PerceptualScore:
    """p of whole images."""

    spec = PQ

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        return [Scores({PQ.name: float(found.score)}) for found in self.maps.pq(list(images))]


class AlignmentScore:
    """a of whole images; NaN for a prompt that names nothing to judge."""

    spec = AQ

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        found = self.maps.aq(list(images), list(prompts or []))
        return [Scores({AQ.name: math.nan if entry.score is None else float(entry.score)}) for entry in found]


def input_quality(pipeline: str | Path, device: str) -> list[Judge]:
    """Return the judges for p and a; both share one CLIP, loaded when first needed."""
    folder = pipeline_folder(pipeline)
    parts = [] if folder is None else [folder / name for name in ("clip", "pq_prompts", "model_index.json")]
    source = "".join(fingerprint_of(part) for part in parts if part.exists()) or str(pipeline)

    @cache
    def maps() -> Maps:
        from grefine.indicators.load import load_maps

        return load_maps(pipeline, device=device)

    from grefine.indicators.domain_check import domain_at

    domain = domain_at(pipeline)
    return [
        Judge(PQ, lambda: PerceptualScore(maps()), source, device, domain=domain),
        Judge(AQ, lambda: AlignmentScore(maps()), source, device, domain=domain),
    ]
