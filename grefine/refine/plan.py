"""From maps to a plan: what is repainted, how strongly, as what, and why."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import numpy as np

from grefine.indicators.calibration import Calibration, needs_repair
from grefine.indicators.defects import BACKGROUND, depends_on
from grefine.indicators.grids import GridMap, Place, undrawn
from grefine.refine.job import Job, timed
from grefine.refine.painters.families import Phrasing
from grefine.refine.regions import (
    LARGEST_CROP,
    MaskPart,
    area,
    binarise,
    bounds,
    connected_parts,
    crop_box,
    grow,
    joined,
    split_large,
    union,
    widest,
)
from grefine.refine.settings import PLAIN, RefineConfig, UNetTraits, one_strength, region_strength
from grefine.types import (
    AlignmentMap,
    Box,
    ParsedPrompt,
    Phrase,
    QualityMap,
    Region,
    RegionKind,
    RepairPlan,
    Weights,
    place_of,
)

DIFFUSE = "No single place is bad enough to be repainted."
COVERED = 0.5
"""A phrase asks for a part of the mask when its region map is at least this high there on average, or makes at least
this share of all that was found wrong there."""

OBSCURED = 0.25
"""A place whose mean badness is at least this may show what is asked for, if it could be seen: a UNet that sees the
damage mends it instead of drawing the thing anew."""

TOUCHED = 0.1
"""A met thing is part of what is wrong when at least this share of it is."""

JOIN = " , "
"""Between the phrases of a region and the caption."""

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
    traits: UNetTraits = PLAIN
    phrasing: Phrasing = field(default_factory=Phrasing)
    """How the painter wants to be told."""
    strength: float | None = None
    """A caller's own."""

    def __call__(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs with their plans."""
        planned = []
        for job in jobs:
            with timed([job], "plan"):
                plan = self.plan(Findings(job.quality, job.alignment, job.parsed, job.user_mask))
                plan = self.phrasing.reword(plan, job.alignment)
                if self.strength is not None:
                    # Who marks a place and says how strongly wants something else there.
                    regions = [replace(region, strength=self.strength) for region in plan.regions]
                    regions = [replace(one, is_restoration=False) if one.kind == "user" else one for one in regions]
                    plan = replace(plan, regions=tuple(regions))
            planned.append(replace(job, plan=plan))
        return planned

    def plan(self, found: Findings) -> RepairPlan:
        """Plan the repair of one image. An empty plan says why in its note."""
        config, shape = self.config, found.quality.values.shape
        defects = [p.phrase for p in found.alignment.defects] if config.use_aq else []
        weights = token_weights(found.parsed, defects, config.emphasis) if found.parsed else ()
        empty = RepairPlan(np.zeros(shape, bool), (), found.parsed.text if found.parsed else "", weights)
        if found.user_mask is None:
            calibration = with_overrides(self.calibration, config)
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
        worst = np.zeros(shape, np.float32)  # how bad each pixel is
        if config.use_pq:
            worst += 1.0 - found.quality.values
        if config.use_aq:
            worst += found.alignment.edit
        parts = [mask]
        if config.readings.frame != "whole":
            parts, note = self._parts(mask, worst, user=found.user_mask is not None)
        regions = [self._region(part, cut & part, found, worst) for part in parts]
        # What is mended in sight of its damage is no new picture, however much of it there is.
        in_sight = [self.traits.damage and region.is_restoration for region in regions]
        anew = [part for part, mended in zip(parts, in_sight, strict=True) if not mended]
        bad = float((cut & np.logical_or.reduce([empty.mask, *anew])).mean())
        if found.user_mask is None and bad > config.max_area:
            return replace(
                empty,
                note=f"{bad:.0%} of the image would have to be repainted, more than max_area "
                f"{config.max_area:.0%}: this image needs a new generation, not a repair.",
                beyond_repair=True,
            )
        kept = np.logical_or.reduce([empty.mask, *parts])
        return replace(empty, mask=kept, regions=tuple(regions), note=note, restore=bool(regions))

    def _parts(self, mask: np.ndarray, worst: np.ndarray, user: bool) -> tuple[list[np.ndarray], str]:
        """Choose the parts that become crops: large enough, grouped where one crop holds several, the worst first."""
        parts, most = connected_parts(mask), self.config.max_regions
        least = 0.0 if user or self.config.literal else self.config.min_region_area * mask.size
        large = [part for part in parts if part.area >= least]
        small = len(parts) - len(large)
        notes = [f"{small} part(s) below min_region_area were dropped."] if small else []
        groups = self.groups([piece for part in large for piece in self._pieces(part, mask.shape)], mask.shape)
        groups.sort(key=lambda part: part.total(worst), reverse=True)
        if len(groups) > most and not user:
            notes.append(f"{len(groups) - most} region(s) beyond max_regions were left as they are.")
            groups = groups[:most]
        if not groups:
            notes.append("Nothing large enough is left to repair.")
        return [part.draw(mask.shape) for part in groups], " ".join(notes)

    def _pieces(self, part: MaskPart, shape: tuple[int, ...]) -> list[MaskPart]:
        """Cut a part that is too wide for one crop into pieces, unless one larger crop costs no more than theirs."""
        pieces = split_large(part, self.side)
        if widest(part.box) > LARGEST_CROP * self.side:
            return pieces
        # Crops smaller than the working size are enlarged to it, so none costs less.
        cost = sum(max(area(self.crop(piece.box, shape)), self.side**2) for piece in pieces)
        return [part] if area(self.crop(part.box, shape)) <= cost else pieces

    def groups(self, parts: Sequence[MaskPart], shape: tuple[int, ...]) -> list[MaskPart]:
        """Join parts whose common crop costs no more than their own two, the first pair first, until none is left."""
        groups = [(part.box, [part]) for part in parts]
        cost = cache(lambda box: area(self.crop(box, shape)))

        def cheaper(pair: tuple[int, int]) -> bool:
            own, other = (groups[index][0] for index in pair)
            joint = union((own, other))
            return widest(joint) <= LARGEST_CROP * self.side and cost(joint) <= cost(own) + cost(other)

        at, grew = 0, False
        while at < len(groups):
            # Pairs before `at` were found wanting and have not changed since, but for those with a group that grew.
            before = ((index, at) for index in range(at if grew else 0))
            pair = next(filter(cheaper, chain(before, ((at, j) for j in range(at + 1, len(groups))))), None)
            grew = pair is not None
            if pair is None:
                at += 1
                continue
            at, (box, members) = pair[0], groups.pop(pair[1])
            groups[at] = (union((groups[at][0], box)), groups[at][1] + members)
        return [joined(members) for _, members in groups]

    def crop(self, part: Box, shape: tuple[int, ...]) -> Box:
        """Return the crop of a part in a picture `(H, W)`."""
        smallest = math.ceil(self.side / (self.config.max_upscale or 1.0))
        return crop_box(part, (shape[0], shape[1]), self.config.context, smallest, self.side)

    def _region(self, part: np.ndarray, core: np.ndarray, found: Findings, worst: np.ndarray) -> Region:
        """Turn one part of the mask into a region; what is wrong there is read in its `core`, before it was grown."""
        config, traits, alignment, phrases = self.config, self.traits, found.alignment, found.alignment.phrases
        by_hand, core = found.user_mask is not None, core if core.any() else part
        place = Place(core)
        asked = (
            asking_phrases(place, alignment, 1.0 if by_hand else float(worst[core].mean())) if config.use_aq else []
        )
        if by_hand and config.use_aq and not asked:
            # A person's mark says where the least seen of the missing things goes that belong on no other.
            missing = [
                index
                for index, one in enumerate(phrases)
                if one.defect == "noun"
                and undrawn(one, "region") is not None
                and (one.host is None or one.phrase.beside)
            ]
            asked = sorted(missing, key=lambda index: phrases[index].a_phs)[:1]
        bad = float((1.0 - found.quality.values[core]).mean())
        names = ", ".join(f"'{phrases[i].phrase.text}'" for i in asked)
        reason = f"This place looks bad: its mean quality is {1.0 - bad:.2f}"
        kind: RegionKind = "perceptual"
        if asked and traits.damage and config.use_pq and bad >= OBSCURED:
            shown = [region_phrase_text(alignment, asked[0], part)]
            reason, asked = f"{reason}, which may be why {names} is not seen.", []
        elif asked:
            kind = "noun" if any(phrases[i].defect == "noun" for i in asked) else "attribute"
            shown = [region_phrase_text(alignment, i, part) for i in asked]
            fault = "is not seen" if kind == "noun" else "is there, but not as asked"
            reason = f"{names} {fault}; this is where it belongs."
        else:
            shown, reason = shown_phrase(place, alignment) if config.use_aq else [], f"{reason}."
        one = config.readings.strength
        if one == "region":
            strength = region_strength(kind, bad, traits.strengths)
        else:
            strength = one_strength(found.quality.score, alignment.score, one)
        if config.readings.frame == "whole":
            box = (0, 0, part.shape[1], part.shape[0])
            reason = "One mask over the whole picture, as the paper has it."
        else:
            box = self.crop(bounds(part), part.shape)
        if traits.damage and not asked:
            strength = min(strength, traits.strength)
        if by_hand:
            kind, reason = "user", "You marked this place."
        prompt = region_prompt(found.parsed.text if found.parsed else "", shown, phrase_first=not config.literal)
        return Region(box, part[place_of(box)], prompt, strength, kind, reason, tuple(asked), not asked)


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

    No claim protects of what a missing thing belongs on ("wearing a red dress"), of what the defect has all over (the
    checks of "a house with checks"), and of backgrounds ("on grass"), where missing things go.
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


def token_weights(parsed: ParsedPrompt, defective: Iterable[Phrase], emphasis: float) -> Weights:
    """Weigh the words: what the prompt's own syntax says, plus `emphasis` for words of a defective phrase. (Eq. 7)"""
    lifted = [span for phrase in defective for span in phrase.spans]
    found = []
    for token in parsed.tokens:
        inside = any(start <= token.start and token.end <= end for start, end in lifted)
        weight = token.weight + (emphasis if inside else 0.0)
        if abs(weight - 1.0) > 1e-9:
            found.append((token.start, token.end, weight))
    return tuple(found)


def region_prompt(caption: str, phrases: Sequence[str], phrase_first: bool) -> str:
    """Say what to draw in a region: its phrases first, so that no long caption buries them, then the caption."""
    if not phrase_first or not phrases:
        return caption
    names = list(dict.fromkeys(phrases))
    return JOIN.join([*names, caption] if caption else names)


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

    "With stripes" alone names nothing, and a cone whose dots are seen here is to have dots afterwards as well.
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
    """Return the met thing that most of a bad place shows, so that it is redrawn as what it was; no background."""
    best, share = None, COVERED
    everywhere = Place(np.ones_like(place.mask))
    for met in alignment.phrases:
        claim = undrawn(met, "claimed")
        if claim is not None and (covered := place.mean(claim)) > share and everywhere.mean(claim) <= BACKGROUND:
            best, share = met.phrase.text, covered
    return [best] if best is not None else []
