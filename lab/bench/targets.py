"""What the embedded pipeline is meant to reach, by row id: the least that is acceptable, and the aim."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A goal for one row."""

    at_least: float
    aim: float
    lower: bool = False
    """True where less is better: the goals are upper limits."""


TARGETS: dict[str, Target] = {
    "pq.ap.seen": Target(0.90, 0.95),
    "pq.ap.heldout": Target(0.50, 0.80),
    "pq.auc": Target(0.98, 0.995),
    "pq.srcc": Target(0.75, 0.90),
    "aq.auc.colour": Target(0.98, 0.99),
    "aq.auc.missing": Target(0.98, 0.99),
    "aq.auc.object": Target(0.96, 0.99),
    "aq.auc.texture": Target(0.86, 0.96),
    "aq.named": Target(0.78, 0.95),
    "aq.pointing": Target(0.98, 0.995),
    "aq.ap": Target(0.92, 0.96),
    "repaint.colour": Target(0.95, 0.99),
    "repaint.object": Target(0.75, 0.93),
    "repaint.texture": Target(0.50, 0.80),
    "repair.distance": Target(0.85, 0.45, lower=True),
    "repair.attributes_worse": Target(0.15, 0.02, lower=True),
    "whole.improved": Target(0.55, 0.90),
    "whole.worse": Target(0.08, 0.01, lower=True),
    "clean.untouched": Target(0.94, 0.99),
    "clean.untouched.jpeg": Target(0.94, 0.99),
    "clean.untouched.webp": Target(0.94, 0.99),
    "clean.untouched.resized": Target(0.94, 0.99),
    "outside.worse": Target(0.01, 0.0, lower=True),
    "clean.worse": Target(0.03, 0.005, lower=True),
    "exact": Target(1.0, 1.0),
    "judge.moe": Target(0.90, 0.95),
    "judge.mdiqa": Target(0.85, 0.95),
    "judge.lar": Target(0.90, 0.95),
    "judge.prompt": Target(0.95, 0.99),
    "guide.sharpness": Target(0.80, 0.95),
}
