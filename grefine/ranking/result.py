"""A ranking with everything a reader needs to believe it, as one record and as a picture."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError
from grefine.io.atomic import write_atomic
from grefine.ranking.thurstone import (
    Cluster,
    Fit,
    Intervals,
    StabilityPoint,
    agreement,
    fit_scores,
    group_correlations,
    resampled_intervals,
    stability,
    stability_in_order,
)
from grefine.ranking.votes import VoteTable


@dataclass(frozen=True, slots=True)
class Ranking:
    table: VoteTable
    counts: np.ndarray
    thurstone: Fit
    bradley_terry: Fit
    intervals: Intervals | None
    """None where a single subject or image leaves nothing to resample."""
    two_subjects: float | None
    """How likely two subjects prefer the same image of a pair; None where no pair has two votes."""
    human_oracle: float
    """2AFC score of always siding with the majority."""
    stability: list[StabilityPoint]
    in_order: list[tuple[int, float]]
    groups: dict[str, float]

    @property
    def order(self) -> list[int]:
        """Positions of the methods, best first."""
        return [int(i) for i in np.argsort(-self.thurstone.mu, kind="stable")]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, methods best first."""
        names, found = self.table.methods, self.intervals

        def each(values: np.ndarray) -> dict[str, Any]:
            return {names[i]: values[i].tolist() for i in self.order}

        return {
            "scores": each(self.thurstone.mu),
            "intervals": each(np.stack([found.low, found.high], 1)) if found else {},
            "counts": {names[i]: {names[j]: int(self.counts[i, j]) for j in self.order if j != i} for i in self.order},
            "log_likelihood": self.thurstone.log_likelihood,
            "standard_errors": each(found.standard_errors) if found else {},
            "resampled": found.by if found else None,
            "clusters": found.clusters if found else 0,
            "pseudo_count": self.thurstone.pseudo_count,
            "votes": self.table.total,
            "bradley_terry": {
                "scores": each(self.bradley_terry.mu),
                "log_likelihood": self.bradley_terry.log_likelihood,
            },
            "agreement": {"two_subjects": self.two_subjects, "human_oracle": self.human_oracle},
            "stability": [{"K": p.K, "srcc": p.mean, "low": p.low} for p in self.stability],
            "stability_in_order": [{"K": K, "srcc": value} for K, value in self.in_order],
            "groups": self.groups,
        }

    def lines(self) -> list[str]:
        names, found, fit = self.table.methods, self.intervals, self.thurstone
        wide = max(len(n) for n in names)
        lines = [f"{'':>4} {'method':<{wide}} {'score':>8}  {'95% interval':^18}"]
        for rank, i in enumerate(self.order, 1):
            interval = f"[{found.low[i]:+.3f}, {found.high[i]:+.3f}]" if found else ""
            lines.append(f"{rank:>4} {names[i]:<{wide}} {fit.mu[i]:+8.4f}  {interval:^18}")
        lines.append(f"{self.table.total} votes, log-likelihood {fit.log_likelihood:.4f}")
        if found:
            lines.append(
                f"Intervals: {found.resamples} resamples by {found.by}, of which there are at least {found.clusters}."
            )
        else:
            lines.append("No intervals: they need votes of at least two subjects, or on at least two images.")
        if fit.pseudo_count:
            lines.append(
                f"Some method won or lost everything, so {fit.pseudo_count:g} vote was added to both directions of "
                "every compared pair; without that its score would be infinite."
            )
        if self.two_subjects is not None:
            lines.append(f"Two subjects agree on a pair with probability {self.two_subjects:.4f}.")
        return [*lines, f"Human oracle (always the majority): 2AFC {self.human_oracle:.4f}."]


def rank_methods(
    table: VoteTable, by: Cluster = "auto", resamples: int = 500, draws: int = 100, seed: int = 0
) -> Ranking:
    """Fit the scores (Eq. 2) and everything that says how far to trust them."""
    C = table.counts()
    intervals = None
    if resamples:
        try:
            intervals = resampled_intervals(table, by, resamples, seed=seed)
        except ConfigError:
            if by != "auto":
                raise
    return Ranking(
        table,
        C,
        fit_scores(C, table.methods),
        fit_scores(C, table.methods, "bradley-terry"),
        intervals,
        *agreement(table),
        stability(table, draws, seed),
        stability_in_order(table),
        group_correlations(table),
    )


def plot_ranking(ranking: Ranking, path: str | Path) -> None:
    """Write the plot of a ranking; the suffix of `path` decides the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    names, fit, found = ranking.table.methods, ranking.thurstone, ranking.intervals
    figure = Figure(figsize=(10, 0.32 * len(names) + 1.6), layout="constrained")
    (FigureCanvasSVG if str(path).endswith(".svg") else FigureCanvasAgg)(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = list(range(len(names)))[::-1]
    mu = [fit.mu[i] for i in ranking.order]
    if found:
        low, high = [found.low[i] for i in ranking.order], [found.high[i] for i in ranking.order]
        left.hlines(rows, low, high, color="0.55", linewidth=2)
    left.plot(mu, rows, "o", color="#1f5fa8")
    left.axvline(0, color="0.8", linewidth=1, zorder=0)
    left.set_yticks(rows, [names[i] for i in ranking.order])
    label = f"95% by {found.by}" if found else "no intervals"
    left.set_xlabel(f"Thurstone score ({label})")
    K = [p.K for p in ranking.stability]
    right.plot(K, [p.mean for p in ranking.stability], "o-", color="#1f5fa8", markersize=3, label="K at random, mean")
    right.plot(K, [p.low for p in ranking.stability], ":", color="#1f5fa8", label="5 % point")
    if ranking.in_order:
        right.plot(
            *zip(*ranking.in_order, strict=True), "s--", color="#b0522a", markersize=3, label="first K as picked"
        )
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set_xlabel("images per pair of methods, K")
    right.set_ylabel("SRCC with all votes' ranking")
    right.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format=Path(path).suffix.lstrip(".") or "png", dpi=150)
    write_atomic(path, out.getvalue())
