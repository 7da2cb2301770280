"""Gates that together let a stated share of good images through, and no more."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FOLDS = 8


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
