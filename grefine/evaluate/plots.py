"""Forest plot and radar as inline SVG. Colours and fonts come from the page's style sheet by class name."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from grefine.evaluate.tables import number

WIDTH = 440
_ROW = 46
_LEFT, _RIGHT = 8, WIDTH - 8


def _tag(name: str, class_: str, *inside: str, **facts: object) -> str:
    """Return an element; what is inside is markup already."""
    said = "".join(f' {key.replace("_", "-")}="{escape(str(value))}"' for key, value in facts.items())
    return f'<{name} class="{class_}"{said}>{"".join(inside)}</{name}>'


def _svg(class_: str, width: int, height: int, title: str, shapes: Iterable[str]) -> str:
    said = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria_label": title}
    return _tag("svg", class_, f"<title>{escape(title)}</title>", *shapes, **said)


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

    def upright(class_: str, value: float) -> str:
        return _tag("line", class_, x1=x(value), x2=x(value), y1=4, y2=height - 34)

    shapes = []
    # Round values, two to four on each side of zero.
    power = 10.0 ** math.floor(math.log10(reach))
    step = next(power * k for k in (5, 2.5, 2, 1, 0.5, 0.25, 0.2) if reach / (power * k) >= 2)
    for value in (k * step for k in range(-int(reach / step), int(reach / step) + 1)):
        text = f"{value:+g}" if value else "0"
        shapes += [upright("grid", value), _tag("text", "tick", text, x=x(value), y=height - 20, text_anchor="middle")]
    shapes.append(upright("zero", 0))
    shapes += [_forest_row(row, _ROW * index + 6, x) for index, row in enumerate(drawn)]
    for text, place, anchor in (("◀ worse", _LEFT, "start"), ("better ▶", _RIGHT, "end"), (unit, WIDTH / 2, "middle")):
        shapes.append(_tag("text", "unit", escape(text), x=place, y=height - 2, text_anchor=anchor))
    return _svg("forest", WIDTH, height, title, shapes)


def _forest_row(row: ForestRow, top: float, x: Callable[[float], float]) -> str:
    y, middle = top + 28, x(row.mean)
    tone = "gain" if row.low > 0 else "loss" if row.high < 0 else "even"
    shapes = [
        _tag("text", "label", escape(row.label), x=_LEFT, y=top + 14),
        _tag("text", "value", escape(row.text), x=_RIGHT, y=top + 14, text_anchor="end"),
    ]
    if row.band > 0:
        left, width = x(-row.band), round(x(row.band) - x(-row.band), 1)
        shapes.append(_tag("rect", "band", x=left, width=width, y=y - 8, height=16, rx=3))
    if math.isfinite(row.low):
        shapes.append(_tag("line", "ci", x1=x(row.low), x2=x(row.high), y1=y, y2=y))
    diamond = _tag("path", "point", d=f"M{middle} {y - 7}l7 7-7 7-7-7z")
    shapes.append(diamond if row.kind == "axis" else _tag("circle", "point", cx=middle, cy=y, r=5))
    return _tag("g", f"row {row.kind} {tone}", *shapes)


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

    Of two polygons one would lie at every centre, so `spread`, the range of the single images, widens the scale.
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

    def polygon(class_: str, corners: Sequence[tuple[float, float]], *inside: str) -> str:
        return _tag("polygon", class_, *inside, points=" ".join(f"{x},{y}" for x, y in corners))

    shapes = [polygon("ring", [point(i, ring) for i in range(len(axes))]) for ring in (0.25, 0.5, 0.75, 1.0)]
    for index, axis in enumerate(axes):
        (px, py), (tx, ty) = point(index, 1), point(index, 1.14)
        shapes.append(_tag("line", "spoke", x1=cx, y1=cy, x2=px, y2=py))
        anchor = "middle" if abs(tx - cx) < 12 else "start" if tx > cx else "end"
        scale = _tag("tspan", "tick", f"{number(axis.centre, 3)} → {number(axis.rim, 3)}", x=tx, dy=12)
        label = axis.label if len(axis.label) <= 18 else axis.label[:17] + "…"
        shapes.append(_tag("text", "label", escape(label + axis.mark), scale, x=tx, y=ty, text_anchor=anchor))
    # The first polygon, the original's, is drawn last, so that an equal one does not hide it.
    for place, (name, values) in reversed(list(enumerate(polygons.items()))):
        order = series(place)
        corners = [point(i, _share(values.get(axis.label, math.nan), axis)) for i, axis in enumerate(axes)]
        shapes.append(polygon(f"series s{order}", corners, f"<title>{escape(name)}</title>"))
        shapes += [_tag("circle", f"dot s{order}", cx=x, cy=y, r=3) for x, y in corners]
    return _svg("radar", width, height, title, shapes)


def series(place: int) -> int:
    """Return the style of a polygon; the first is the original's, and the others repeat after seven."""
    return place if place < 8 else 1 + (place - 1) % 7


def _share(value: float, axis: RadarAxis) -> float:
    """Return the distance from the centre: a small hub is kept free, so that the worst value is still a point."""
    if not math.isfinite(value):
        return 0.0
    return 0.12 + 0.88 * min(1.0, max(0.0, (value - axis.centre) / (axis.rim - axis.centre)))
