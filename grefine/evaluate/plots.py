"""Forest plot and radar as inline SVG. Colours and fonts come from the page's style sheet by class name."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from grefine.evaluate.tables import number

WIDTH = 440
_ROW = 46
_LEFT, _RIGHT = 8, WIDTH - 8


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot, in whatever unit all lines share; positive is better."""

    label: str
    mean: float
    low: float
    high: float
    band: float
    text: str
    """What stands at the right: the change in the metric's own unit."""
    kind: str = "metric"
    """"axis" for a composite (drawn as a diamond), "metric", or "loop" for what is no evidence."""


def forest_svg(rows: Sequence[ForestRow], *, title: str, unit: str) -> str:
    """Return a forest plot; labels stand above their interval so that it reads at phone width too."""
    drawn = [row for row in rows if math.isfinite(row.mean)]
    ends = [abs(v) for row in drawn for v in (row.mean, row.low, row.high, row.band) if math.isfinite(v)]
    reach = max(ends, default=0.0) * 1.08 or 1.0
    height = _ROW * len(drawn) + 44

    def x(value: float) -> float:
        share = (max(-reach, min(reach, value)) + reach) / (2 * reach)
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    parts = [
        f'<svg class="forest" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    parts += [_tick(x(v), v, height) for v in _ticks(reach)]
    parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="4" y2="{height - 34}"/>')
    for index, row in enumerate(drawn):
        parts += _forest_row(row, _ROW * index + 6, x)
    parts.append(f'<text class="unit" x="{_LEFT}" y="{height - 2}">◀ worse</text>')
    parts.append(f'<text class="unit" x="{_RIGHT}" y="{height - 2}" text-anchor="end">better ▶</text>')
    parts.append(
        f'<text class="unit" x="{WIDTH / 2}" y="{height - 2}" text-anchor="middle">{escape(unit)}</text></svg>'
    )
    return "".join(parts)


def _ticks(reach: float) -> list[float]:
    """Return round values, two to four on each side of zero."""
    power = 10.0 ** math.floor(math.log10(reach))
    step = next(power * k for k in (5, 2.5, 2, 1, 0.5, 0.25, 0.2) if reach / (power * k) >= 2)
    return [k * step for k in range(-int(reach / step), int(reach / step) + 1)]


def _tick(position: float, value: float, height: int) -> str:
    return (
        f'<line class="grid" x1="{position}" x2="{position}" y1="4" y2="{height - 34}"/>'
        f'<text class="tick" x="{position}" y="{height - 20}" text-anchor="middle">{value:+g}</text>'.replace(
            "+0<", "0<"
        )
    )


def _forest_row(row: ForestRow, top: float, place: Callable[[float], float]) -> list[str]:
    y = top + 28
    tone = "gain" if row.low > 0 else "loss" if row.high < 0 else "even"
    parts = [
        f'<g class="row {row.kind} {tone}">',
        f'<text class="label" x="{_LEFT}" y="{top + 14}">{escape(row.label)}</text>',
        f'<text class="value" x="{_RIGHT}" y="{top + 14}" text-anchor="end">{escape(row.text)}</text>',
    ]
    if row.band > 0:
        left, right = place(-row.band), place(row.band)
        parts.append(
            f'<rect class="band" x="{left}" width="{round(right - left, 1)}" y="{y - 8}" height="16" rx="3"/>'
        )
    middle = place(row.mean)
    if math.isfinite(row.low):
        parts.append(f'<line class="ci" x1="{place(row.low)}" x2="{place(row.high)}" y1="{y}" y2="{y}"/>')
    if row.kind == "axis":
        parts.append(f'<path class="point" d="M{middle} {y - 7}l7 7-7 7-7-7z"/>')
    else:
        parts.append(f'<circle class="point" cx="{middle}" cy="{y}" r="5"/>')
    return [*parts, "</g>"]


@dataclass(frozen=True, slots=True)
class RadarAxis:
    """One spoke: a metric with the values at the centre and at the rim (the better end)."""

    label: str
    centre: float
    rim: float
    mark: str = ""
    """Printed after the label, e.g. a dagger."""


def radar_axes(
    metrics: Sequence[str],
    lower: Sequence[str],
    polygons: Mapping[str, Mapping[str, float]],
    spread: Mapping[str, tuple[float, float]] | None = None,
    loop: Collection[str] = (),
) -> list[RadarAxis]:
    """Scale each spoke by the smallest and largest value over all polygons, turned so that outward is better.

    With two polygons that would put one of them at the centre of every spoke; `spread` (metric → range of the single
    images) widens the scale then. Metrics of the `loop` get a dagger.
    """
    axes = []
    for metric in metrics:
        values = [p[metric] for p in polygons.values() if metric in p and math.isfinite(p[metric])]
        values += (spread or {}).get(metric, ())
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        ends = (high, low) if metric in lower else (low, high)
        axes.append(RadarAxis(metric, *ends, " †" if metric in loop else ""))
    return axes


def radar_svg(axes: Sequence[RadarAxis], polygons: Mapping[str, Mapping[str, float]], *, title: str) -> str:
    """Return a radar chart; needs at least three axes (an empty string otherwise)."""
    if len(axes) < 3:
        return ""
    width, height, radius = 420, 290, 104
    cx, cy = width / 2, 150

    def point(index: int, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * index / len(axes) - math.pi / 2
        return round(cx + radius * share * math.cos(angle), 1), round(cy + radius * share * math.sin(angle), 1)

    parts = [
        f'<svg class="radar" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
    ]
    for ring in (0.25, 0.5, 0.75, 1.0):
        parts.append(f'<polygon class="ring" points="{_points(point(i, ring) for i in range(len(axes)))}"/>')
    for index, axis in enumerate(axes):
        px, py = point(index, 1)
        parts.append(f'<line class="spoke" x1="{cx}" y1="{cy}" x2="{px}" y2="{py}"/>')
        tx, ty = point(index, 1.14)
        anchor = "middle" if abs(tx - cx) < 12 else "start" if tx > cx else "end"
        scale = f"{number(axis.centre, 3)} → {number(axis.rim, 3)}"
        parts.append(
            f'<text class="label" x="{tx}" y="{ty}" text-anchor="{anchor}">{escape(_short(axis.label) + axis.mark)}'
            f'<tspan class="tick" x="{tx}" dy="12">{escape(scale)}</tspan></text>'
        )
    # The first polygon, the original's, is drawn last, so that an equal one does not hide it.
    for place, (name, values) in reversed(list(enumerate(polygons.items()))):
        order = series(place)
        corners = [point(i, _share(values.get(axis.label, math.nan), axis)) for i, axis in enumerate(axes)]
        parts.append(
            f'<polygon class="series s{order}" points="{_points(corners)}"><title>{escape(name)}</title></polygon>'
        )
        parts += [f'<circle class="dot s{order}" cx="{x}" cy="{y}" r="3"/>' for x, y in corners]
    return "".join([*parts, "</svg>"])


def series(place: int) -> int:
    """Return the style of a polygon; the first is the original's, and the others repeat after seven."""
    return place if place < 8 else 1 + (place - 1) % 7


def _share(value: float, axis: RadarAxis) -> float:
    """Return the distance from the centre: a small hub is kept free, so that the worst value is still a point."""
    if not math.isfinite(value):
        return 0.0
    return 0.12 + 0.88 * min(1.0, max(0.0, (value - axis.centre) / (axis.rim - axis.centre)))


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in pairs)


def _short(label: str) -> str:
    return label if len(label) <= 18 else label[:17] + "…"
