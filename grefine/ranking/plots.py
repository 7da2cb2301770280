"""The ranking as a picture: scores with intervals, and stability against the images per pair."""

from __future__ import annotations

from pathlib import Path

from grefine.ranking.result import Ranking


def plot_ranking(ranking: Ranking, path: str | Path) -> None:
    """Write the plot of a ranking; the suffix of `path` decides the format."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from grefine.io.atomic import write_atomic

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
    label = f"{ranking.level:.0%} by {found.by}" if found else "no intervals"
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
