"""What a backbone's similarities mean: the constants that the paper leaves open, measured or assumed.

A pipeline folder keeps them as the dictionary `calibration` in its `model_index.json`; `grefine calibrate` writes it.
Gates together let a stated share of good images through, and no more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from grefine.config import build
from grefine.errors import ConfigError
from grefine.types import AlignmentMap, QualityMap

MapMode = Literal["paper", "released"]
PMode = Literal["multi", "single"]
Redundant = Literal["empty", "none", "compete"]
PhraseScore = Literal["class", "peak"]

FOLDS = 8
WORST_SHARE = 0.02
"""Share of the pixels whose mean says how bad the worst place is."""
ALPHA = (0.935, 0.892, 0.826)
"""Mean technical, rational and natural quality of good images, as PQ-Map's authors give them."""
BOUNDS = (1.0, 0.6, 0.8)
"""How much of them a user asks for."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Turns a similarity into a logit: tau * (similarity - offset)."""

    tau: float | None = None
    """None is the CLIP's own learned scale."""
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds and scales for one CLIP and its prompts. The defaults are guesses and are called uncalibrated."""

    map_mode: MapMode = "paper"
    """How P was made when the thresholds were set; they hold for it alone."""
    side: int | None = None
    """Input side of the map's own pass; None is the CLIP's native side."""
    alpha: tuple[float, float, float] = ALPHA
    """Mean technical, rational and natural quality of good images, before user bounds (Eq. 3)."""
    map_scale: float = 1.0
    """Eq. 3's value at an ordinary place of a good image; P is divided by it and cut at 1."""
    score_scale: float = 1.0
    """The same for p."""
    redundant: Redundant = "empty"
    """What a phrase is compared with: the empty text, nothing, or all phrases together."""
    phrase_score: PhraseScore = "class"
    """Where a phrase is scored: the class token (Eq. 5 to the letter) or the peak of its map."""
    cells: Scale = field(default_factory=Scale)
    """Logits of phrase maps; half aligned is the border of what a met phrase claims."""
    phrases: Scale = field(default_factory=Scale)
    """Logits of a_phs and a_pns."""
    prompts: Scale = field(default_factory=Scale)
    """Logits of the whole prompt, Eq. 8's a_0."""
    a_bound: float = 0.5
    """A noun scored below it is missing."""
    beta: float = 0.5
    """A phrase scored at or above it does not lower a (Eq. 8)."""
    margin: float = 0.0
    """How far a phrase must fall below its noun before its attributes count as wrong."""
    mask_threshold: float = 0.81
    """Pixels of 1 - P + E above it are repainted. Unmeasured, it follows from Eq. 3 with all chances at a half: a
    place is bad where the factors together say no more for it than a coin would."""
    claim_threshold: float = 0.5
    """Pixels of a met phrase's map above it belong to that phrase."""
    counts: bool = False
    """Whether separate things are separate places on the maps, so that numbers ("three cats") can be held against
    them. Things that touch are one place: only for worlds in which they stand apart."""
    p_gate: float | None = None
    """p below it: the image as a whole is bad. None: never on these grounds."""
    worst_gate: float | None = None
    """`worst_quality` of P below it: some place of the image is bad. None: always look at the mask."""
    made_from: dict[str, Any] = field(default_factory=dict)
    """Counts and hashes of what was measured; empty for guesses."""

    @property
    def calibrated(self) -> bool:
        """True when the constants were measured."""
        return bool(self.made_from)

    @classmethod
    def of(cls, values: "Calibration | Mapping[str, Any] | None") -> "Calibration":
        """Read a stored dictionary; None gives the uncalibrated defaults."""
        if isinstance(values, Calibration):
            return values
        if values is None:
            return cls()
        if not isinstance(values, Mapping):
            raise ConfigError(f"calibration must be a dictionary as `grefine calibrate` writes it, not {values!r}.")
        return build(cls, dict(values), "calibration")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"alpha": list(self.alpha)}


def backbone_of(clip: Any) -> dict[str, str]:
    """Say on what a calibration rests: the shape of a CLIP, and the precision it runs in."""
    c = clip.config
    shape = f"ViT {c['vision_layers']}x{c['vision_width']}, patches of {c['patch_size']} at {c['image_size']}"
    return {"backbone": shape, "dtype": str(next(clip.parameters()).dtype).removeprefix("torch.")}


def check_belongs(calibration: Calibration, clip: Any) -> None:
    """Refuse a calibration that was measured on another CLIP or in another precision; similarities differ there."""
    for what, now in backbone_of(clip).items():
        then = calibration.made_from.get(what)
        if then is not None and then != now:
            raise ConfigError(
                f"This calibration was measured with CLIP's {what} '{then}', not '{now}': use that, or calibrate anew."
            )


def worst_quality(values: np.ndarray) -> float:
    """Return the mean of the worst pixels of a quality map, `WORST_SHARE` of all."""
    flat = np.asarray(values, dtype=np.float32).ravel()
    count = max(1, round(WORST_SHARE * flat.size))
    return float(np.partition(flat, count - 1)[:count].mean())


def needs_repair(quality: QualityMap, alignment: AlignmentMap | None, calibration: Calibration) -> tuple[bool, str]:
    """Decide, whatever the mask's threshold says, whether anything in the image is bad at all, with the reason."""
    defects = alignment.defects if alignment is not None else ()
    if defects:
        named = ", ".join(f"'{d.phrase.text}'" for d in defects[:3])
        return True, f"{len(defects)} phrase(s) of the prompt are not met: {named}."
    if calibration.p_gate is None and calibration.worst_gate is None:
        return True, "No gate is calibrated, so the mask alone decides."
    if calibration.p_gate is not None and quality.score < calibration.p_gate:
        return True, f"The image's quality {quality.score:.3f} is below {calibration.p_gate:.3f}."
    worst = worst_quality(quality.values)
    if calibration.worst_gate is not None and worst < calibration.worst_gate:
        return True, f"Its worst place has quality {worst:.3f}, below {calibration.worst_gate:.3f}."
    return False, "Every phrase is met and no place is worse than in good images."


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits by gate; an image is taken for defective when a sign of it lies below its limit."""

    limits: dict[str, float]
    share: float
    """Good images that were measured and are past some gate."""
    expected: float
    """The same for good images that were not measured, by the ranks at which the limits lie."""
    held_out: float
    """The same, counted: limits from seven eighths of the images, applied to the rest, eight times."""


def set_gates(signs: Mapping[str, np.ndarray], total: float) -> Gates:
    """Open all gates as far as a total share of false alarms allows; low is suspicious, infinite nothing to judge."""
    signs = {name: values for name, values in signs.items() if np.isfinite(values).any()}
    limits, expected = _opened(signs, total)
    fold = np.arange(len(next(iter(signs.values())))) % FOLDS
    past = 0
    for left_out in range(FOLDS):
        others, _ = _opened({name: values[fold != left_out] for name, values in signs.items()}, total)
        past += int(_past({name: values[fold == left_out] for name, values in signs.items()}, others).sum())
    return Gates(limits, float(_past(signs, limits).mean()), expected, past / len(fold))


def enough_for(total: float, gates: int) -> int:
    """Return how many good images it takes before so many gates can hold a total."""
    return int(np.ceil(gates / (2 * total))) - 1


def _opened(signs: Mapping[str, np.ndarray], total: float) -> tuple[dict[str, float], float]:
    ordered = {name: np.sort(values) for name, values in signs.items()}
    count = len(next(iter(signs.values())))

    def expected(limits: Mapping[str, float]) -> float:
        # A limit half-way between the k-th and the next value is passed by (k + 1/2) / (count + 1) on average.
        return (int(_past(signs, limits).sum()) + len(signs) / 2) / (count + 1)

    # From limits that no good image is past, the gate that fewest are past is opened by one image after the other; an
    # image past two gates counts once, so that gates which see the same thing share their room.
    level = dict.fromkeys(signs, 0)
    limits = {name: _between(values, 0) for name, values in ordered.items()}
    closed: set[str] = set()
    while open_ := [name for name in level if name not in closed]:
        name = min(open_, key=lambda gate: level[gate])
        past = level[name] + 1  # values that are all alike never count as past, so the last one ends it
        tried = limits | {name: _between(ordered[name], past)} if past < count else limits
        if past < count and np.isfinite(tried[name]) and expected(tried) <= total:
            limits, level[name] = tried, past
        else:
            closed.add(name)
    return limits, expected(limits)


def _between(ordered: np.ndarray, past: int) -> float:
    """Return a limit that `past` of the values lie below: half-way to the next, or as far beyond the first."""
    if past == 0:
        gap = ordered[1] - ordered[0] if len(ordered) > 1 and np.isfinite(ordered[1]) else 0.0
        return float(ordered[0] - gap / 2)
    return float((ordered[past - 1] + ordered[past]) / 2)


def _past(signs: Mapping[str, np.ndarray], limits: Mapping[str, float]) -> np.ndarray:
    return np.any([values < limits[name] for name, values in signs.items()], axis=0)
