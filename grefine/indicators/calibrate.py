"""Sets the constants that the paper leaves open from good images, their prompts, and words that are not theirs."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.errors import ConfigError
from grefine.indicators.aq_map import AQMap, Prompt, parsed_prompt
from grefine.indicators.calibration import (
    Calibration,
    PhraseScore,
    Redundant,
    Scale,
    backbone_of,
    enough_for,
    set_gates,
    worst_quality,
)
from grefine.indicators.evidence import ENOUGH_IMAGES, Evidence, gather
from grefine.indicators.grids import GridMap
from grefine.indicators.pq_map import PQMap, cask
from grefine.io.content import content_hash

FALSE_ALARMS = 0.03
"""Share of good images that all gates together may send to a repair: missing nouns, wrong attributes, a low p, a bad
place."""
GOOD_PIXELS = 0.995
"""Share of the pixels of good images that lie below the mask's threshold."""
HALO = 0.27
"""Least threshold of the mask, however clean good images are: below it lies the halo of coarse cells."""
PREFER = 0.01
"""A reading further from the paper's letter must separate better by this much."""
USABLE = 0.65
"""Below this share of right choices between own and foreign words, AQ-Map is switched off rather than believed."""
BETA = 0.25
"""Share of the phrases of good images that may lower a."""
CERTAIN = math.log(0.9 / 0.1)
COMPARED: tuple[Redundant, ...] = ("empty", "none")
PLACES: tuple[PhraseScore, ...] = ("class", "peak")
"""The readings of Eq. 5 that are measured, the paper's letter first."""
NOUN, ATTRIBUTE, LOW_P, BAD_PLACE = "missing noun", "wrong attribute", "low p", "bad place"
"""The four gates."""
ENOUGH = 50
"""Pictures that a folder must hold before it is calibrated on itself."""
SAMPLE = 128
"""Pictures of a folder that are looked at."""
TOLD_APART = 0.8
"""Share of the variance of a sign that lies between two groups, above which they are taken for good and bad: one group
alone, split where it splits best, has 0.64 (a bell) to 0.75 (all values alike often)."""
FENCE, LEAST_SPREAD = 6.0, 0.02
"""A group too small to be told apart lies further below the median than this many times the way from there down to the
lowest fifth, or than this share of the whole range times as many."""
ROUNDS = 4
"""How often a sign's low group is taken off: very bad pictures hide those that are less so."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration and what it rests on."""

    calibration: Calibration
    report: dict[str, Any]
    """Counts, and how well words are told apart; plain JSON values."""
    warnings: tuple[str, ...] = ()


def accept_readings(phrase_score: Any, redundant: Any) -> None:
    """Refuse readings that are not measured, before anybody looks at a picture; None leaves the choice open."""
    for name, value, accepted in (("phrase_score", phrase_score, PLACES), ("redundant", redundant, COMPARED)):
        if value not in (None, *accepted):
            raise ConfigError(f"{name} must be one of {', '.join(accepted)}, not {value!r}.")


def calibrate(
    pq: PQMap,
    aq: AQMap,
    images: Iterable[Image.Image],
    prompts: Sequence[Prompt],
    *,
    phrase_score: PhraseScore | None = None,
    redundant: Redundant | None = None,
    false_alarms: float = FALSE_ALARMS,
) -> Calibrated:
    """Measure a CLIP and its prompts on good images, which may stream; of both readings None takes the better one."""
    if pq.map_mode != "paper":
        raise ConfigError(f"No threshold holds for maps of map_mode {pq.map_mode!r}: calibrate with map_mode 'paper'.")
    accept_readings(phrase_score, redundant)
    if not 0.0 < false_alarms <= 0.5:
        raise ConfigError(f"false_alarms must be a share above 0 and at most 0.5, not {false_alarms}.")
    evidence = gather(pq, aq, images, [parsed_prompt(prompt) for prompt in prompts])
    column, base, separation = _choose(evidence, pq, redundant, phrase_score)
    aligned, told, signs, warnings = _phrases(evidence, base, column)
    rated, seen = _qualities(evidence, aligned, pq)
    gates = set_gates(signs | seen, false_alarms)
    if gates.expected > false_alarms:
        least = enough_for(false_alarms, len(gates.limits))
        warnings.append(
            f"{len(evidence.image_hashes)} images are too few to hold false alarms to {false_alarms:.1%}: expect "
            f"{gates.expected:.1%}, or give at least {least} images."
        )
    made_from = {
        "images": len(evidence.image_hashes),
        "phrases": len(evidence.pair_images),
        "images_sha256": content_hash("\n".join(evidence.image_hashes)),
        "prompts_sha256": content_hash("\n".join(evidence.prompt_hashes)),
        "clip_sha256": weights_digest(pq.clip),
        **backbone_of(pq.clip),
        "false_alarms": false_alarms,
    }
    alarms = {name: round(getattr(gates, name), 4) for name in ("share", "expected", "held_out")}
    report = {"separation": separation, "noun_auc": round(told, 4), "false_alarms": alarms, "made_from": made_from}
    limits = gates.limits
    done = replace(
        rated,
        a_bound=limits.get(NOUN, 0.0),
        margin=max(0.0, -limits[ATTRIBUTE]) if ATTRIBUTE in limits else 1.0,
        p_gate=limits[LOW_P],
        worst_gate=limits[BAD_PLACE],
        made_from=made_from,
    )
    return Calibrated(done, report, tuple(warnings))


def self_calibrate(
    pq: PQMap, aq: AQMap, images: Callable[[], Iterable[Image.Image]], prompts: Sequence[Prompt]
) -> tuple[Calibrated, int]:
    """Measure a CLIP on pictures that nobody looked at, without those that seem bad; say how many these are."""
    texts = [parsed_prompt(prompt) for prompt in prompts]
    good = likely_good(list(_signs(gather(pq, aq, images(), texts), pq).values()))
    if good.sum() < ENOUGH_IMAGES:
        raise ConfigError(
            f"Only {int(good.sum())} of the {len(good)} pictures look alike enough to calibrate on, {ENOUGH_IMAGES} "
            "are needed: run `grefine calibrate` on good pictures, or give --force to go on with guesses."
        )
    kept = [text for text, keep in zip(texts, good, strict=True) if keep]
    chosen = (image for image, keep in zip(images(), good, strict=True) if keep)
    done = calibrate(pq, aq, chosen, kept)
    made_from = done.calibration.made_from | {"self": True, "left_out": int((~good).sum())}
    return replace(done, calibration=replace(done.calibration, made_from=made_from)), int((~good).sum())


def _signs(evidence: Evidence, pq: PQMap) -> dict[str, np.ndarray]:
    """Return by gate one logarithm or logit per image, low where it looks bad; what is not judged is left out."""
    column, _, _ = _choose(evidence, pq)
    is_told = evidence.separation("noun", column) >= USABLE
    signs = _word_signs(evidence, evidence.pairs(column)) if is_told else {}
    chances = np.stack(evidence.class_chances)
    limits = torch.from_numpy(np.median(chances[:, 1:], axis=0).clip(1e-3, 1.0))
    whole = cask(torch.from_numpy(chances), limits).numpy() if pq.p_mode == "multi" else chances[:, 0]
    worst = [worst_quality(_cask_map(factors, limits).draw()) for factors in evidence.patch_chances]
    return signs | {LOW_P: np.log(whole.clip(1e-6)), BAD_PLACE: np.log(np.asarray(worst).clip(1e-6))}


def likely_good(signs: Sequence[np.ndarray]) -> np.ndarray:
    """Return which pictures no sign puts into a group apart on its low side; infinite values have nothing to judge."""
    good = np.ones(len(signs[0]), dtype=bool)
    for values in signs:
        left = np.isfinite(values)
        for _ in range(ROUNDS):
            limit = split(values[left])
            if limit is None:
                break
            left &= values >= limit
        if left.any():
            low, middle = np.quantile(values[left], [0.2, 0.5])
            spread = max(middle - low, LEAST_SPREAD * np.ptp(values[left]))
            left &= values >= float(middle - FENCE * spread)
        good &= left | ~np.isfinite(values)
    return good


def split(values: np.ndarray) -> float | None:
    """Return where values fall into two groups, by the variance between them (Otsu); None where they are one."""
    ordered = np.sort(values)
    count = len(ordered)
    total = float(ordered.var() * count) if count > 1 else 0.0
    if total <= 0.0:
        return None
    below = np.arange(1, count)
    sums = np.cumsum(ordered)
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) / count * (means[1] - means[0]) ** 2
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2) if between[best] >= TOLD_APART * total else None


def weights_digest(clip: torch.nn.Module) -> str:
    """Return a hash of a module's weights, so that a calibration can be told to belong to others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(clip.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _choose(
    evidence: Evidence, pq: PQMap, redundant: Redundant | None = None, where: PhraseScore | None = None
) -> tuple[int, Calibration, dict[str, float]]:
    """Pick the reading that tells own words from foreign ones best: its column, what states it, and a table of all."""
    readings = product([redundant] if redundant else COMPARED, [where] if where else PLACES)
    table = {}
    best: tuple[float, int, Calibration] | None = None
    for minus, place in readings:
        column = (minus == "empty") + 2 * (place == "peak")
        told = (evidence.separation("noun", column) + evidence.separation("phrase", column)) / 2
        table[f"{minus}/{place}"] = round(told, 4)
        if best is None or told > best[0] + PREFER:
            best = told, column, Calibration(pq.map_mode, pq.side, redundant=minus, phrase_score=place)
    assert best is not None
    return *best[1:], table


def _phrases(
    evidence: Evidence, base: Calibration, column: int
) -> tuple[Calibration, float, dict[str, np.ndarray], list[str]]:
    """Set the scales of words; return how well nouns are told apart, and each image's signs of a missing one."""
    minus = int(base.redundant == "empty")
    nouns, foreign = evidence.group("noun"), evidence.group("other noun")
    phrases, cells = (_scale(*_levels(nouns[:, at], foreign[:, at])) for at in (column, 2 + minus))
    prompts = _scale(*(float(np.median(evidence.group(name)[:, minus])) for name in ("other prompt", "prompt")))
    pairs = _sigmoid(evidence.pairs(column), phrases)
    beta = float(np.clip(np.quantile(pairs[:, 0], BETA), 1e-3, 1.0))
    told = evidence.separation("noun", column)
    warnings, signs = [], {}
    if told < USABLE:
        warnings.append(
            f"This CLIP prefers the words of the prompts to foreign words in only {told:.0%} of the cases: missing "
            "phrases are not judged (a_bound 0)."
        )
    else:
        signs = _word_signs(evidence, pairs)
    return replace(base, phrases=phrases, cells=cells, prompts=prompts, beta=beta), told, signs, warnings


def _word_signs(evidence: Evidence, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Return how near the phrases of each image come to a missing noun and a wrong attribute; infinite without any."""
    signs = {}
    for gate, values in ((NOUN, pairs.max(axis=1)), (ATTRIBUTE, pairs[:, 0] - pairs[:, 1])):
        signs[gate] = np.full(len(evidence.image_hashes), np.inf)
        np.minimum.at(signs[gate], np.asarray(evidence.pair_images), values)
    return signs


def _levels(present: np.ndarray, foreign: np.ndarray) -> tuple[float, float]:
    """Return the usual similarity of a word that is not there, and of one that is."""
    high = float(np.median(present))
    # Foreign words may be there all the same (a synonym, an unmentioned thing): twice as many as lie above the median.
    there = min(0.8, 2.0 * float((foreign > high).mean()))
    return float(np.quantile(foreign, (1.0 - there) / 2)), high


def _scale(low: float, high: float) -> Scale:
    """Make usual absent words (`low`) 0.1 and usual present words (`high`) 0.9."""
    spread = max(high - low, 1e-3)
    return Scale(tau=2 * CERTAIN / spread, offset=low + spread / 2)


def _sigmoid(values: np.ndarray, scale: Scale) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip((scale.tau or 1.0) * (values - scale.offset), -60, 60)))


def _qualities(evidence: Evidence, base: Calibration, pq: PQMap) -> tuple[Calibration, dict[str, np.ndarray]]:
    """Set the scales of quality and the mask's threshold, and return p and the worst place of each image."""
    chances = np.stack(evidence.class_chances)
    alpha = tuple(float(a) for a in chances[:, 1:].mean(axis=0).clip(1e-3, 1.0))
    limits = torch.tensor([a * b for a, b in zip(alpha, pq.bounds, strict=True)])
    raw_scores = cask(torch.from_numpy(chances), limits).numpy() if pq.p_mode == "multi" else chances[:, 0]
    score_scale = float(np.median(raw_scores).clip(1e-6, 1.0))
    scores = np.minimum(raw_scores / score_scale, 1.0)
    maps = [_cask_map(factors, limits) for factors in evidence.patch_chances]
    map_scale = float(np.median(np.concatenate([grid.ravel() for m in maps for _, grid in m.patches])).clip(1e-6, 1.0))
    drawn = [m.apply(lambda grid: np.minimum(grid / map_scale, 1.0)).draw() for m in maps]
    worst = np.array([worst_quality(values) for values in drawn])
    bad = np.concatenate([np.quantile(1.0 - values, np.linspace(0, 1, 513)) for values in drawn])
    calibration = replace(
        base,
        alpha=alpha,
        map_scale=map_scale,
        score_scale=score_scale,
        mask_threshold=float(np.quantile(bad, GOOD_PIXELS).clip(HALO, 0.98)),
    )
    return calibration, {LOW_P: scores, BAD_PLACE: worst}


def _cask_map(factors: tuple[GridMap, ...], alpha: torch.Tensor) -> GridMap:
    first, *others = factors
    return first.apply(
        lambda *grids: cask(torch.stack([*map(torch.from_numpy, grids)], dim=-1), alpha).numpy(), *others
    )
