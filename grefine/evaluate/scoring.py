"""Who judges, and what they say of images, the cache asked first; a judge that fails costs its own column only.

Judges are metrics by name or preset, those inside a pipeline, and scorers of your own. A pipeline's own p and a sort
the inputs and, having made the masks, prove nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from grefine.config import load_config
from grefine.errors import ConfigError, GRefineError, ImageError, MetricUnavailable, WeightsMissing, in_words, nearest
from grefine.evaluate.analysis import analyse
from grefine.evaluate.pairs import Prompting, some_names
from grefine.evaluate.results import Judged
from grefine.evaluate.tables import NOISE, ScoreRow, Values, values_of, write_rows
from grefine.indicators.recipe import fetched_pipeline
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.picture import printable
from grefine.io.places import here
from grefine.io.record import read_record
from grefine.resources import bundled, config_file
from grefine.scorers import fidelity
from grefine.scorers.files import ScoreCache, Task, foreign_among, judge_pictures, score_key
from grefine.scorers.noise import PROBES
from grefine.scorers.protocol import Scorer
from grefine.scorers.registry import find_metric, known_metric, metric_specs, split_names
from grefine.scorers.resolve import Judge, check_device, fingerprint_of, known_pipeline, read_weights, resolve
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from grefine.indicators.load import Maps

Progress = Callable[[str], None]
NOISE_IMAGES = 32
"""Inputs on which each metric's own noise is measured; with none only equal scores are ties."""


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """One evaluation, as `configs/evaluate/*.yaml` states it."""

    metrics: tuple[str, ...] = ()
    """Names; empty means every registered metric."""
    description: str = ""
    REMOVED: ClassVar[Mapping[str, str]] = {"noise_images": "give --noise-images."}


def wanted_metrics(metrics: str | Path | Sequence[str | Scorer]) -> tuple[str | Scorer, ...]:
    """Return the names (or scorers) that names, a preset or a YAML file mean."""
    if isinstance(metrics, str):
        names = split_names(metrics)
        if len(names) != 1 or find_metric(names[0]):
            return tuple(names)
        presets = [path.stem for path in bundled("configs").glob("evaluate/*.yaml")]
        if names[0] not in presets and not Path(names[0]).is_file():
            near = nearest(names[0], [*(spec.name for spec in metric_specs()), *presets])
            raise ConfigError(
                f"There is no metric and no preset '{names[0]}' (`grefine metrics` lists the metrics){near}"
            )
        metrics = Path(names[0])
    if isinstance(metrics, Path):
        return load_config(config_file("evaluate", metrics), EvaluateConfig).metrics
    return tuple(metrics)


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
        if isinstance(item, str) and item in fidelity.FIDELITY:
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
    """Return the metrics that steered outputs, as the records of the first 64 say; a run has one configuration."""
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

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
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


@dataclass(frozen=True, slots=True)
class Item:
    image: str
    """Name that all stages share."""
    stage: str
    path: Path
    content: str
    prompt: str | None = None
    probe: str = ""
    """The change that nobody sees and that is made to the picture first."""


def judge_stages(
    files: Mapping[str, Mapping[str, Path]],
    prompting: Prompting,
    metrics: Sequence[str | Scorer],
    *,
    out: Path | None,
    noise_images: int | None,
    seed: int,
    force: bool,
    progress: Progress | None,
    notes: Iterable[str],
    **how: Any,
) -> Judged:
    """Score stage → image → file by judges (`how`: see `choose`), and analyse every stage against the first."""
    judges, silent = choose(metrics, **how)
    baseline, *others = files
    items = [
        Item(image, stage, path, content_hash(path), prompting.prompts.get(image) or None)
        for stage, paths in files.items()
        for image, path in paths.items()
    ]
    unreadable: dict[str, str] = {}
    notes, forced = [*notes, *prompting.notes], ""
    with ScoreCache(None if out is None else out / "scores.jsonl") as cache:
        for item in items:
            key = f"readable:{item.content}"
            if item.image in unreadable or cache.peek(key) is not None:
                continue
            try:
                read_image(item.path)
            except ImageError as error:
                unreadable[item.image] = str(error)
            else:
                cache.put(key, {}, count=False)
        items = [item for item in items if item.image not in unreadable]
        if not items:
            first = next(iter(unreadable.values()))
            raise ConfigError(f"No pair of images can be read; the first failed with: {first}")
        originals = {item.image: item for item in items if item.stage == baseline}
        pictures = [(item.image, item.content, partial(_load, item)) for item in items]
        foreign = {judge.spec.name: foreign_among(judge, pictures, cache) for judge in judges}
        # Said once, for all judges of a world together.
        for domain in dict.fromkeys(judge.domain for judge in judges if judge.domain and foreign[judge.spec.name]):
            names = [judge.spec.name for judge in judges if judge.domain is domain]
            count = len(set().union(*(foreign[name] for name in names)))
            said = f"{domain.told(count, len(originals), force)} Judges: {', '.join(names)}."
            if force:
                forced = f"{forced} Forced: {said}".strip()
            else:
                notes.append(said)
        count = NOISE_IMAGES if noise_images is None else noise_images
        sample = sorted(originals.values(), key=lambda item: item.content)[:count]
        noise = [replace(item, stage=NOISE + probe, probe=probe) for item in sample for probe in PROBES]
        rows: list[ScoreRow] = []
        specs: dict[str, MetricSpec] = {name: spec for name, (spec, _) in fidelity.FIDELITY.items()}
        for judge in judges:
            left_out = set() if force else foreign[judge.spec.name]
            known = [item for item in (*items, *noise) if item.image not in left_out]
            try:
                if not known:
                    raise ConfigError("it knows none of the images")
                found = _score(judge, known, cache, notes, seed, progress)
            except Exception as error:  # noqa: BLE001 - whatever a third-party metric raises, the other columns still come
                silent[judge.spec.name] = in_words(error)
                continue
            specs |= dict.fromkeys((row.metric for row in found), judge.spec)
            rows += found
        rows += _measure_change([item for item in items if item.stage != baseline], originals, cache, notes)
    if out is not None:
        write_rows(out / "scores.csv", rows)
    values, groups = values_of(rows), prompting.groups
    return Judged(
        baseline=baseline,
        files={s: {i: path for i, path in paths.items() if i not in unreadable} for s, paths in files.items()},
        judges=tuple(judge.spec.name for judge in judges),
        rows=tuple(rows),
        specs=specs,
        analyses={s: analyse(values, specs, method=s, baseline=baseline, groups=groups) for s in others},
        prompting=prompting,
        unavailable=silent,
        failed=unreadable,
        notes=tuple(notes),
        forced=forced,
        computed=cache.computed,
        reused=cache.reused,
    )


def _score(
    judge: Judge, items: Sequence[Item], cache: ScoreCache, notes: list[str], seed: int, progress: Progress | None
) -> list[ScoreRow]:
    """Return one judge's rows; known values are not computed again."""
    spec = judge.spec
    without = {item.image for item in items if not item.prompt} if spec.needs_prompt else set()
    items = [item for item in items if item.image not in without]
    if without:
        which = f"{len(without)} images (such as '{printable(min(without))}')" if items else "any image"
        notes.append(f"{spec.name} needs a prompt, and there is none for {which}.")
    if not items:
        raise ConfigError("needs prompts: give them with --prompts")

    def key_of(item: Item) -> str:
        prompt, probe = item.prompt if spec.needs_prompt else None, item.stage if item.probe else ""
        return score_key(spec, item.content, prompt=prompt, source=judge.source, device=judge.device, probe=probe)

    keyed, reasons = [(key_of(item), item) for item in items], list[str]()
    fresh = {key: item for key, item in dict(keyed).items() if cache.get(key) is None}
    tasks = [Task(partial(_load, item), item.prompt or "") for item in fresh.values()]
    for (key, item), found in zip(fresh.items(), judge_pictures(spec, judge.load, tasks, progress), strict=True):
        if isinstance(found, GRefineError):
            reasons.append(f"'{printable(item.image)}' ({item.stage}): {found}")
            found = {spec.name: math.nan}
        cache.put(key, found, count=bool(found))
    rows = [
        ScoreRow(item.image, item.stage, metric, value, seed, judge.device, spec.version)
        for key, item in keyed
        for metric, value in (cache.peek(key) or {}).items()
    ]
    for metric in sorted({row.metric for row in rows if math.isnan(row.value)}):
        names = sorted({row.image for row in rows if row.metric == metric and math.isnan(row.value)})
        notes.append(
            f"{metric} gave no number for {len(names)} of the images ({some_names(names)}); they are left out of its "
            f"row. The first reason: {reasons[0] if reasons else 'it answered NaN.'}"
        )
    return rows


def _load(item: Item) -> Image.Image | None:
    """Return the picture, or its probe; None where the probe would be seen on this picture."""
    image = read_image(item.path).rgb
    if not item.probe:
        return image
    changed = PROBES[item.probe](np.asarray(image))
    return None if changed is None else Image.fromarray(changed)


def _measure_change(
    items: Sequence[Item], originals: Mapping[str, Item], cache: ScoreCache, notes: list[str]
) -> list[ScoreRow]:
    """Return how far each image moved from its input: PSNR, SSIM and the share of changed pixels."""
    rows = []
    resized = 0
    spec = fidelity.FIDELITY["psnr"][0]
    for item in items:
        original = originals[item.image]
        key = score_key(spec, f"{original.content}>{item.content}", prompt=None, source="", device="cpu")
        known = cache.get(key)
        if known is None:
            picture, reference = read_image(item.path).rgb, read_image(original.path).rgb
            known = {name: fidelity.compare(name, picture, reference) for name in fidelity.FIDELITY}
            known["resized"] = float(picture.size != reference.size)
            cache.put(key, known)
        resized += bool(known["resized"])
        rows += [ScoreRow(item.image, item.stage, name, known[name]) for name in fidelity.FIDELITY]
    if resized:
        notes.append(
            f"{resized} images have another size than their input: measures of change see them at the input's size, "
            "every other metric at their own."
        )
    return rows


def change_means(values: Values, images: Iterable[str], stage: str) -> dict[str, float]:
    """Return the mean measures of change over some images, and the share that is bit-identical to its input.

    PSNR is averaged over the images that changed (NaN when none did): the value for identical images is a convention.
    """
    wanted = [image for image in images if image in values.get("psnr", {}).get(stage, {})]
    if not wanted:
        return {}
    means = {name: sum(values[name][stage][i] for i in wanted) / len(wanted) for name in fidelity.FIDELITY}
    moved = [values["psnr"][stage][i] for i in wanted if values["psnr"][stage][i] < fidelity.IDENTICAL_PSNR]
    means["psnr"] = sum(moved) / len(moved) if moved else math.nan
    return {"n": float(len(wanted)), **means, "untouched": 1 - len(moved) / len(wanted)}
