"""From maps to a plan: what is repainted, how strongly, as what, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grefine.indicators.calibration import Calibration, needs_repair
from grefine.indicators.defects import BACKGROUND, depends_on
from grefine.indicators.grids import GridMap, Place, undrawn
from grefine.refine.emphasis import region_prompt, token_weights
from grefine.refine.job import Job, timed
from grefine.refine.painters.phrasing import Phrasing
from grefine.refine.regions import (
    LARGEST_CROP,
    MaskPart,
    binarise,
    bounds,
    connected_parts,
    crop_box,
    grow,
    joined,
    split_large,
    union,
)
from grefine.refine.settings import PLAIN, RefineConfig, UNetTraits
from grefine.refine.strength import one_strength, region_strength
from grefine.types import AlignmentMap, Box, ParsedPrompt, QualityMap, Region, RegionKind, RepairPlan

DIFFUSE = "No single place is bad enough to be repainted."
COVERED = 0.5
"""A phrase asks for a part of the mask when its region map is at least this high there on average, or makes at least
this share of all that was found wrong there."""

OBSCURED = 0.25
"""A place whose mean badness is at least this may show what is asked for, if it could be seen: a UNet that sees the
damage mends it instead of drawing the thing anew."""

TOUCHED = 0.1
"""A met thing is part of what is wrong when at least this share of it is."""


Claims = dict[int, np.ndarray]
"""The pixels that each met phrase claims, as bits: its map is drawn once, and kept in a thirty-second of its size.
Without phrases that claim nothing, or so much that they are backgrounds."""


@dataclass(frozen=True)
class Findings:
    """What is known of one image before anything is planned."""

    quality: QualityMap
    alignment: AlignmentMap
    parsed: ParsedPrompt | None
    """None without a prompt."""
    user_mask: np.ndarray | None = None
    """A person's own mask; it replaces ours."""


@dataclass(frozen=True)
class Planner:
    """Decides for every image what is repainted, how strongly and as what."""

    config: RefineConfig
    calibration: Calibration
    side: int
    """Of the square that the painter works at."""
    traits: UNetTraits
    phrasing: Phrasing
    """How the painter wants to be told."""
    strength: float | None
    """A caller's own."""

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs with their plans."""
        planned = []
        for job in jobs:
            with timed([job], "plan"):
                found = Findings(job.quality, job.alignment, job.parsed, job.user_mask)
                plan = plan_repair(found, self.config, self.calibration, self.side, self.traits)
                plan = self.phrasing.reword(plan, job.alignment)
                if self.strength is not None:
                    # Who marks a place and says how strongly wants something else there.
                    regions = [replace(region, strength=self.strength) for region in plan.regions]
                    regions = [replace(one, is_restoration=False) if one.kind == "user" else one for one in regions]
                    plan = replace(plan, regions=tuple(regions))
            planned.append(replace(job, plan=plan))
        return planned


def plan_repair(
    found: Findings, config: RefineConfig, calibration: Calibration, working: int, traits: UNetTraits = PLAIN
) -> RepairPlan:
    """Plan the repair of one image. An empty plan says why in its note."""
    calibration = with_overrides(calibration, config)
    caption = found.parsed.text if found.parsed else ""
    defects = [p.phrase for p in found.alignment.defects] if config.use_aq else []
    weights = token_weights(found.parsed, defects, config.emphasis) if found.parsed else ()
    empty = RepairPlan(np.zeros(found.quality.values.shape, bool), (), caption, weights)
    if found.user_mask is None:
        claims = find_claims(found.alignment, calibration.claim_threshold) if config.use_aq else {}
        cut, note = automatic_mask(found, config, calibration, claims)
        mask = grow(cut, round((config.dilate or 0.0) * min(cut.shape)))
        if config.use_aq and not config.literal:
            mask &= cut | ~protected_mask(cut, claims)
    else:
        cut = mask = found.user_mask
        note = ""
    if not mask.any():
        return replace(empty, note=note or "The given mask is empty.", restore=note == DIFFUSE)
    worst = badness(found, config)
    if config.readings.frame == "whole":
        parts = [mask]
    else:
        parts, note = select_parts(mask, worst, config, working, user=found.user_mask is not None)
    kept = np.logical_or.reduce(parts) if parts else empty.mask
    regions = [describe(part, cut & part, found, worst, config, caption, working, traits) for part in parts]
    # What is mended in sight of its damage is no new picture, however much of it there is.
    anew = [part for part, region in zip(parts, regions, strict=True) if not (traits.damage and region.is_restoration)]
    bad = float((cut & np.logical_or.reduce([empty.mask, *anew])).mean())
    if found.user_mask is None and bad > config.max_area:
        return replace(
            empty,
            note=f"{bad:.0%} of the image would have to be repainted, more than max_area "
            f"{config.max_area:.0%}: this image needs a new generation, not a repair.",
            beyond_repair=True,
        )
    return RepairPlan(kept, tuple(regions), caption, weights, note, restore=bool(regions))


def with_overrides(calibration: Calibration, config: RefineConfig) -> Calibration:
    """Return the thresholds with those of the settings in place of the calibrated ones."""
    given = {"p_gate": config.gate, "mask_threshold": config.mask_threshold}
    given = {name: value for name, value in given.items() if isinstance(value, float)}
    return replace(calibration, **given | ({"worst_gate": None} if "p_gate" in given else {}))


def automatic_mask(
    found: Findings, config: RefineConfig, calibration: Calibration, claims: Claims | None = None
) -> tuple[np.ndarray, str]:
    """Cut 1 - P + E into the mask; whether the image is bad at all is asked first and apart. (Eq. 9's Bi)"""
    perceptual, reason = config.use_pq, ""
    nothing = np.zeros(found.quality.values.shape, bool)
    if config.gated:
        bad, reason = needs_repair(found.quality, None, calibration)
        perceptual = perceptual and bad
        if not perceptual and not (config.use_aq and _asks(found.alignment, calibration)):
            return nothing, reason if config.use_pq else "Every phrase of the prompt is met."
    values = np.zeros(nothing.shape, np.float32)
    if perceptual:
        values += 1.0 - found.quality.values
    if config.use_aq:
        values += edit_map(found.alignment, None if config.literal else calibration.claim_threshold, claims)
    mask = binarise(values, "mean" if config.mask_threshold == "mean" else calibration.mask_threshold)
    return mask, "" if mask.any() else DIFFUSE


def _asks(alignment: AlignmentMap, calibration: Calibration) -> bool:
    """Say whether anything has to be drawn: a phrase is not met, or a map that knows no phrases says so of a place."""
    wordless = alignment.beside is not None or not alignment.phrases
    return bool(alignment.defects) or (wordless and bool(binarise(alignment.edit, calibration.mask_threshold).any()))


def find_claims(alignment: AlignmentMap, threshold: float) -> Claims:
    """Return the pixels that every met phrase claims; each map is drawn once."""
    found: Claims = {}
    for index, aligned in enumerate(alignment.phrases):
        values = aligned.claimed
        if values is not None and (claim := values > threshold).mean() <= BACKGROUND:
            found[index] = np.packbits(claim)
    return found


def _unpacked(claim: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(claim, count=math.prod(shape)).reshape(shape).view(bool)


def edit_map(alignment: AlignmentMap, claim_threshold: float | None, claims: Claims | None = None) -> np.ndarray:
    """Return E, high where something has to be drawn, without the cells that other, met phrases claim.

    A missing thing may belong on another ("wearing a red dress" on the woman), whose claim does not protect then; nor
    does that of what the defect has all over (the checks of "a pink house with checks"), nor that of a background ("on
    grass"), which is where missing things go. Everyone else's does.
    """
    if claim_threshold is None or not any(p.region is not None for p in alignment.phrases):
        return alignment.edit
    kept = np.ones_like(alignment.values)
    claims = find_claims(alignment, claim_threshold) if claims is None else claims
    claimed = np.zeros(kept.shape, np.uint16)
    for claim in claims.values():
        claimed += _unpacked(claim, kept.shape)
    phrases = [aligned.phrase for aligned in alignment.phrases]
    for index, asked in enumerate(alignment.phrases):
        if asked.defect is None or _is_carried(alignment, index):
            continue
        region = asked.region  # drawn once
        if region is None:
            continue
        if not claims:
            kept *= 1.0 - region
            continue
        others = claimed.copy()
        place = region > claim_threshold
        placed = asked.defect == "noun" and asked.host is None
        for other in (o for o in claims if o in (index, asked.host) or depends_on(o, index, phrases)):
            claim = _unpacked(claims[other], kept.shape)
            shared = (claim & place).sum()
            # A place that was looked for has made way already; what it shares then is the thing's own dots or stripes.
            its_own = shared > COVERED * (min(claim.sum(), place.sum()) if placed else place.sum())
            if its_own or other in (index, asked.host):
                others -= claim
        kept *= 1.0 - np.where(others > 0, np.float32(0.0), region)
    return 1.0 - kept if alignment.beside is None else alignment.beside.mixed(1.0 - kept)


def _is_carried(alignment: AlignmentMap, index: int) -> bool:
    """Say whether a missing phrase shares the place of the missing thing that it hangs on, which draws it already."""
    asked = alignment.phrases[index]
    if asked.host is None or alignment.phrases[asked.host].defect != "noun":
        return False
    own, place = undrawn(asked, "region"), undrawn(alignment.phrases[asked.host], "region")
    if isinstance(own, GridMap) and isinstance(place, GridMap):
        return np.array_equal(own.cells(), place.cells())
    return own is not None and place is not None and np.array_equal(own, place)  # type: ignore[arg-type]


def protected_mask(cut: np.ndarray, claims: Claims) -> np.ndarray:
    """Return the places of met things with which nothing is wrong: a mask that grows must not grow into them."""
    kept = np.zeros(cut.shape, bool)
    for packed in claims.values():
        claim = _unpacked(packed, cut.shape)
        if (cut & claim).sum() < TOUCHED * claim.sum():
            kept |= claim
    return kept


def badness(found: Findings, config: RefineConfig) -> np.ndarray:
    """Return how bad each pixel is, for choosing the worst parts."""
    values = np.zeros(found.quality.values.shape, np.float32)
    if config.use_pq:
        values += 1.0 - found.quality.values
    if config.use_aq:
        values += found.alignment.edit
    return values


def select_parts(
    mask: np.ndarray, worst: np.ndarray, config: RefineConfig, working: int, user: bool
) -> tuple[list[np.ndarray], str]:
    """Choose the parts that become crops: large enough, grouped where one crop holds several, the worst first."""
    parts = connected_parts(mask)
    least = 0.0 if user or config.literal else config.min_region_area * mask.size
    large = [part for part in parts if part.area >= least]
    small = len(parts) - len(large)
    notes = [f"{small} part(s) below min_region_area were dropped."] if small else []
    pieces = [piece for part in large for piece in cut_up(part, mask.shape, config, working)]
    groups = group_parts(pieces, mask.shape, config, working)
    groups.sort(key=lambda part: part.total(worst), reverse=True)
    if len(groups) > config.max_regions and not user:
        notes.append(f"{len(groups) - config.max_regions} region(s) beyond max_regions were left as they are.")
        groups = groups[: config.max_regions]
    if not groups:
        notes.append("Nothing large enough is left to repair.")
    return [part.draw(mask.shape) for part in groups], " ".join(notes)


def cut_up(part: MaskPart, shape: tuple[int, ...], config: RefineConfig, working: int) -> list[MaskPart]:
    """Cut a part that is too wide for one crop into pieces, unless one larger crop costs no more than theirs."""
    pieces = split_large(part, working)
    if _widest(part.box) > LARGEST_CROP * working:
        return pieces
    # Crops smaller than the working size are enlarged to it, so none costs less.
    cost = sum(max(_cost(piece.box, shape, config, working), working**2) for piece in pieces)
    return [part] if _cost(part.box, shape, config, working) <= cost else pieces


def group_parts(
    parts: Sequence[MaskPart], shape: tuple[int, ...], config: RefineConfig, working: int
) -> list[MaskPart]:
    """Join parts whose common crop costs no more than their own two, the first pair first, until none is left."""
    groups = [[part] for part in parts]
    boxes = [part.box for part in parts]
    costs = [_cost(box, shape, config, working) for box in boxes]

    def cheaper(i: int, j: int) -> bool:
        joint = union((boxes[i], boxes[j]))
        fits = _widest(joint) <= LARGEST_CROP * working
        return fits and _cost(joint, shape, config, working) <= costs[i] + costs[j]

    def join(i: int, j: int) -> None:
        groups[i] += groups.pop(j)
        boxes[i] = union((boxes[i], boxes.pop(j)))
        costs.pop(j)
        costs[i] = _cost(boxes[i], shape, config, working)

    at = 0
    while at < len(groups):
        # Pairs before `at` were found wanting and have not changed since, but for those with a group that grew.
        other = next((j for j in range(at + 1, len(groups)) if cheaper(at, j)), None)
        if other is None:
            at += 1
            continue
        join(at, other)
        before = next((i for i in range(at) if cheaper(i, at)), None)
        while before is not None:
            join(before, at)
            at = before
            before = next((i for i in range(at) if cheaper(i, at)), None)
    return [joined(group) for group in groups]


def crop_of(part: Box, shape: tuple[int, ...], config: RefineConfig, working: int) -> Box:
    """Return the crop of a part under the settings."""
    smallest = math.ceil(working / (config.max_upscale or 1.0))
    return crop_box(part, (shape[0], shape[1]), config.context, smallest, working)


def describe(
    part: np.ndarray,
    core: np.ndarray,
    found: Findings,
    worst: np.ndarray,
    config: RefineConfig,
    caption: str,
    working: int,
    traits: UNetTraits,
) -> Region:
    """Turn one part of the mask into a region with crop, kind, prompt, strength and reason.

    What is wrong is read in the part's `core`, before it was grown: the margin was found fault with by nobody.
    """
    whole = config.readings.frame == "whole"
    box = (0, 0, part.shape[1], part.shape[0]) if whole else crop_of(bounds(part), part.shape, config, working)
    left, top, right, bottom = box
    core = core if core.any() else part
    place = Place(core)
    wrong = float(worst[core].mean()) if found.user_mask is None else 1.0
    asked = asking_phrases(place, found.alignment, wrong) if config.use_aq else []
    phrases = found.alignment.phrases
    if found.user_mask is not None and config.use_aq and not asked:
        # A person's mark says where the least seen of the missing things goes that belong on no other.
        missing = [
            index
            for index, one in enumerate(phrases)
            if one.defect == "noun" and undrawn(one, "region") is not None and (one.host is None or one.phrase.beside)
        ]
        asked = sorted(missing, key=lambda index: phrases[index].a_phs)[:1]
    bad = float((1.0 - found.quality.values[core]).mean())
    kind: RegionKind
    if asked and traits.damage and config.use_pq and bad >= OBSCURED:
        kind, shown = "perceptual", [region_phrase_text(found.alignment, asked[0], part)]
        names = ", ".join(f"'{phrases[i].phrase.text}'" for i in asked)
        reason = f"This place looks bad: its mean quality is {1.0 - bad:.2f}, which may be why {names} is not seen."
        asked = []
    elif asked:
        kind = "noun" if any(phrases[i].defect == "noun" for i in asked) else "attribute"
        shown = [region_phrase_text(found.alignment, i, part) for i in asked]
        names = ", ".join(f"'{phrases[i].phrase.text}'" for i in asked)
        fault = "is not seen" if kind == "noun" else "is there, but not as asked"
        reason = f"{names} {fault}; this is where it belongs."
    else:
        kind, shown = "perceptual", shown_phrase(place, found.alignment) if config.use_aq else []
        reason = f"This place looks bad: its mean quality is {1.0 - bad:.2f}."
    one = config.readings.strength
    if one == "region":
        strength = region_strength(kind, bad, traits.strengths)
    else:
        strength = one_strength(found.quality.score, found.alignment.score, one)
    if whole:
        reason = "One mask over the whole picture, as the paper has it."
    if traits.damage and not asked:
        strength = min(strength, traits.strength)
    if found.user_mask is not None:
        kind, reason = "user", "You marked this place."
    prompt = region_prompt(caption, shown, phrase_first=not config.literal)
    return Region(box, part[top:bottom, left:right], prompt, strength, kind, reason, tuple(asked), not asked)


def asking_phrases(place: Place, alignment: AlignmentMap, wrong: float) -> list[int]:
    """Return the defective phrases that belong into a part, the most certain first; `wrong` is its mean badness."""
    heights = {}
    for index, asked in enumerate(alignment.phrases):
        region = undrawn(asked, "region")
        if asked.defect is not None and region is not None:
            height = place.mean(region)
            if height >= COVERED * min(wrong, 1.0):
                heights[index] = height
    return sorted(heights, key=lambda index: -heights[index])


def region_phrase_text(alignment: AlignmentMap, index: int, part: np.ndarray) -> str:
    """Return what to draw for a phrase in a part of the mask: what it hangs on before it, its own patterns after it.

    "With stripes" alone names nothing; and a "green cone" with dots, or whose dots are seen here, is to have dots
    afterwards as well.
    """
    asked = alignment.phrases[index]
    if asked.host is not None and not asked.phrase.beside:
        return f"{alignment.phrases[asked.host].phrase.text} {asked.phrase.text}"
    phrases = [aligned.phrase for aligned in alignment.phrases]

    def is_worn(at: int) -> bool:
        if at == index or not depends_on(at, index, phrases):
            return False
        claimed = alignment.phrases[at].claimed
        here = claimed is not None and float(claimed[part].sum()) > COVERED * float(claimed.sum())
        return here or phrases[at].ancestor == index and phrases[at].words[0].lower() == "with"

    worn = [phrase.text for at, phrase in enumerate(phrases) if is_worn(at)]
    return " ".join([asked.phrase.text, *worn])


def shown_phrase(place: Place, alignment: AlignmentMap) -> list[str]:
    """Return the met thing that most of a bad place shows, so that it is redrawn as what it was.

    What things stand on or under is not named: the caption says it, and the place shows more than that.
    """
    best, share = None, COVERED
    everywhere = Place(np.ones_like(place.mask))
    for met in alignment.phrases:
        claim = undrawn(met, "claimed")
        if claim is not None and (covered := place.mean(claim)) > share and everywhere.mean(claim) <= BACKGROUND:
            best, share = met.phrase.text, covered
    return [best] if best is not None else []


def _widest(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _cost(part: Box, shape: tuple[int, ...], config: RefineConfig, working: int) -> int:
    """Return the pixels of a part's crop."""
    left, top, right, bottom = crop_of(part, shape, config, working)
    return (right - left) * (bottom - top)
