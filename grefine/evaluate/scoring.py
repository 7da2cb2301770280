"""Run judges over images, asking the cache first; a judge that fails costs its own column only."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.errors import GRefineError, ImageError, in_words
from grefine.evaluate.pairs import some_names
from grefine.evaluate.tables import NOISE, ScoreRow, Values
from grefine.io.images import read_image
from grefine.io.picture import printable
from grefine.scorers import fidelity
from grefine.scorers.cache import ScoreCache, score_key
from grefine.scorers.files import Task, foreign_among, judge_pictures
from grefine.scorers.noise import PROBES
from grefine.scorers.resolve import Judge
from grefine.types import MetricSpec

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Item:
    """One image that is to be scored."""

    image: str
    """Name that all stages share."""
    stage: str
    path: Path
    content: str
    """Hash of the file."""
    prompt: str | None = None
    probe: str = ""
    """The change that nobody sees and that is made to the picture first."""


@dataclass(slots=True)
class ScoringLog:
    """What did not go as asked, one sentence each."""

    failed: dict[str, str] = field(default_factory=dict)
    """Metric → why it gave nothing at all."""
    notes: list[str] = field(default_factory=list)
    forced: str = ""
    """What is to be known of pictures that were judged though the judges do not know their world."""


def readable(items: Iterable[Item], cache: ScoreCache) -> dict[str, str]:
    """Return image → why it cannot be used, for every image of which a stage cannot be decoded."""
    refused: dict[str, str] = {}
    for item in items:
        key = f"readable:{item.content}"
        if item.image in refused or cache.peek(key) is not None:
            continue
        try:
            read_image(item.path)
        except ImageError as error:
            refused[item.image] = str(error)
        else:
            cache.put(key, {}, count=False)
    return refused


def score_stages(
    items: Sequence[Item],
    judges: Sequence[Judge],
    cache: ScoreCache,
    *,
    baseline: str,
    noise_images: int,
    seed: int = 0,
    progress: Progress | None = None,
    force: bool = False,
) -> tuple[list[ScoreRow], dict[str, MetricSpec], ScoringLog]:
    """Score images by every judge, and measure how far each stage moved from the baseline."""
    originals = {item.image: item for item in items if item.stage == baseline}
    sample = sorted(originals.values(), key=lambda item: item.content)[:noise_images]
    noise = [replace(item, stage=NOISE + probe, probe=probe) for item in sample for probe in PROBES]
    log = ScoringLog()
    rows: list[ScoreRow] = []
    specs: dict[str, MetricSpec] = {name: spec for name, (spec, _) in fidelity.FIDELITY.items()}
    pictures = [(item.image, item.content, partial(_load, item)) for item in items]
    foreign = {judge.spec.name: foreign_among(judge, pictures, cache) for judge in judges}
    _tell_foreign(foreign, judges, len(originals), force, log)
    for judge in judges:
        left_out = set() if force else foreign[judge.spec.name]
        known = [item for item in (*items, *noise) if item.image not in left_out]
        if not known:
            log.failed[judge.spec.name] = "it knows none of the images"
            continue
        found = _score(judge, known, cache, log, seed, progress)
        specs |= dict.fromkeys((row.metric for row in found), judge.spec)
        rows += found
    rows += _measure_change([item for item in items if item.stage != baseline], originals, cache, log)
    return rows, specs, log


def _tell_foreign(
    foreign: Mapping[str, set[str]], judges: Sequence[Judge], total: int, force: bool, log: ScoringLog
) -> None:
    """Say once, for all judges of a world together, how many images they do not know."""
    concerned = (judge.domain for judge in judges if foreign[judge.spec.name])
    for domain in dict.fromkeys(found for found in concerned if found is not None):
        names = [judge.spec.name for judge in judges if judge.domain is domain]
        count = len(set().union(*(foreign[name] for name in names)))
        said = f"{domain.told(count, total, force)} Judges: {', '.join(names)}."
        if force:
            log.forced = f"{log.forced} Forced: {said}".strip()
        else:
            log.notes.append(said)


def _score(
    judge: Judge, items: Sequence[Item], cache: ScoreCache, log: ScoringLog, seed: int, progress: Progress | None
) -> list[ScoreRow]:
    """Return one judge's rows; known values are not computed again."""
    spec = judge.spec
    without = {item.image for item in items if not item.prompt} if spec.needs_prompt else set()
    items = [item for item in items if item.image not in without]
    if without:
        which = f"{len(without)} images (such as '{printable(min(without))}')" if items else "any image"
        log.notes.append(f"{spec.name} needs a prompt, and there is none for {which}.")
    if not items:
        log.failed[spec.name] = "needs prompts: give them with --prompts"
        return []
    keyed = [(_key(judge, item), item) for item in items]
    asked = dict(keyed)
    reasons: list[str] = []

    def refused(task: Task, error: GRefineError) -> dict[str, float]:
        item = asked[task.key]
        reasons.append(f"'{printable(item.image)}' ({item.stage}): {error}")
        return {spec.name: math.nan}

    tasks = [Task(key, partial(_load, item), item.prompt or "") for key, item in asked.items()]
    try:
        judge_pictures(spec, judge.load, tasks, cache, refused, progress)
    except Exception as error:  # noqa: BLE001 - whatever a third-party metric raises, the other columns still come
        log.failed[spec.name] = in_words(error)
        return []
    rows = [
        ScoreRow(item.image, item.stage, metric, value, seed, judge.device, spec.version)
        for key, item in keyed
        for metric, value in (cache.peek(key) or {}).items()
    ]
    for metric in sorted({row.metric for row in rows if math.isnan(row.value)}):
        names = sorted({row.image for row in rows if row.metric == metric and math.isnan(row.value)})
        log.notes.append(
            f"{metric} gave no number for {len(names)} of the images ({some_names(names)}); they are left out of its "
            f"row. The first reason: {reasons[0] if reasons else 'it answered NaN.'}"
        )
    return rows


def _key(judge: Judge, item: Item) -> str:
    prompt = item.prompt if judge.spec.needs_prompt else None
    probe = item.stage if item.probe else ""
    return score_key(judge.spec, item.content, prompt=prompt, source=judge.source, device=judge.device, probe=probe)


def _load(item: Item) -> Image.Image | None:
    """Return the picture, or its probe; None where the probe would be seen on this picture."""
    image = read_image(item.path).rgb
    if not item.probe:
        return image
    changed = PROBES[item.probe](np.asarray(image))
    return None if changed is None else Image.fromarray(changed)


def _measure_change(
    items: Sequence[Item], originals: Mapping[str, Item], cache: ScoreCache, log: ScoringLog
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
        log.notes.append(
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
