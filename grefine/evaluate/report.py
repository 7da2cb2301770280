"""The pages of an evaluation and of a comparison: what was found, in words and drawings, above the gallery."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grefine.evaluate import plots
from grefine.evaluate.analysis import main_column
from grefine.evaluate.results import (
    AXIS_NAMES,
    CELL_WORDS,
    Analysis,
    AxisResult,
    Level,
    MetricResult,
    headline,
    sentences,
    verdict_of,
)
from grefine.evaluate.statistics import GainSummary
from grefine.evaluate.tables import Values, number
from grefine.report.entry import ReportImage, ReportText
from grefine.report.gallery import Measures
from grefine.report.media import INLINE_BYTES
from grefine.report.page import Findings, write_page
from grefine.report.records import RefineRecords
from grefine.types import AXES, MetricSpec

TONES: dict[str, str] = {"better": "gain", "worse": "loss", "mixed": "mixed"}


def page_context(
    analysis: Analysis, specs: Mapping[str, MetricSpec], change: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return what the template prints above the gallery."""
    return {
        "cells": _cells(analysis),
        "metrics": [_metric_row(m) for m in analysis.metrics if not _is_part(m, analysis)],
        "parts": [_metric_row(m) for m in analysis.metrics if _is_part(m, analysis)],
        "forest": _forest(analysis),
        "radars": _radars(analysis, specs),
        "strata": _strata(analysis),
        "groups": _groups(analysis),
        "change": _change(change),
        "band_known": any(m.gain.band > 0 for m in analysis.metrics),
    }


def _is_part(result: MetricResult, analysis: Analysis) -> bool:
    """Return whether a column is one of several of its network, and not the one that stands for it."""
    columns = [m.metric for m in analysis.metrics]
    return not result.evidence and result.metric != main_column(result.metric.split(".")[0], columns)


def _cells(analysis: Analysis) -> list[dict[str, Any]]:
    return [
        {
            "axis": AXIS_NAMES[axis],
            "cells": [_cell(analysis.cell(axis, third), name) for third, name in (("low", "bad"), ("high", "good"))],
        }
        for axis in AXES
    ]


def _cell(result: AxisResult, name: str) -> dict[str, Any]:
    gain = result.gain
    shares = share_texts(gain)
    counts = f"{shares[0]} gained, {shares[1]} same, {shares[2]} lost" if gain.n else "no judge of it ran"
    return {
        "name": f"the third of the inputs that were {'worst' if name == 'bad' else 'best'}",
        "word": CELL_WORDS[result.level],
        "tone": tone_of(result.level),
        "counts": counts,
        "source": result.stratified_by,
    }


def tone_of(level: Level) -> str:
    """Return the colour of a level."""
    return TONES.get(level, "none" if level == "no evidence" else "even" if level == "no change" else "unclear")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4g}"


def _metric_row(result: MetricResult) -> dict[str, Any]:
    gain = result.gain
    sign = -1 if result.spec.direction == "lower" else 1
    return {
        "name": result.metric,
        "description": result.spec.description,
        "arrow": "↓" if result.spec.direction == "lower" else "↑",
        "better": "lower is better" if result.spec.direction == "lower" else "higher is better",
        "before": number(result.before),
        "after": number(result.after),
        "delta": signed(result.delta),
        "interval": interval_text(gain, sign),
        "median": signed(sign * gain.median),
        "win": gain.win,
        "tie": gain.tie,
        "loss": gain.loss,
        "n": gain.n,
        "shares": [_percent(k, gain.n) if gain.n else "0" for k in (gain.win, gain.tie, gain.loss)],
        "band": number(gain.band, 3),
        "p": _p_value(gain.p),
        "p_holm": _p_value(result.p_holm),
        "effect": signed(gain.effect, 2),
        "tone": "gain" if gain.interval.low > 0 else "loss" if gain.interval.high < 0 else "even",
        "worse": result.negative,
        "evidence": result.evidence,
        "loop": result.spec.used_in_loop,
        "note": result.note,
        "axis": result.spec.axis,
    }


def interval_text(gain: GainSummary, sign: int) -> str:
    """Return a 95 % interval in words."""
    ends = sorted(sign * v for v in (gain.interval.low, gain.interval.high))
    if not all(math.isfinite(v) for v in ends):
        return "no interval"
    return f"{signed(ends[0])} to {signed(ends[1])}"


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign; "n/a" for NaN."""
    if not math.isfinite(value):
        return "n/a"
    return "0" if value == 0 else ("+" if value > 0 else "−") + number(abs(value), digits)


def _p_value(p: float) -> str:
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def axis_line(label: str, gain: GainSummary) -> plots.ForestRow:
    """Return the line of an axis in a forest plot: the pooled gain of all judges that count."""
    interval = gain.interval
    return plots.ForestRow(
        label, gain.mean, interval.low, interval.high, gain.band, f"{signed(gain.mean)} SD", kind="axis"
    )


def metric_line(label: str, result: MetricResult) -> plots.ForestRow:
    """Return the line of one metric in a forest plot, in units of the spread of the inputs' scores."""
    gain, unit = result.gain, result.spread
    low, high = gain.interval.low / unit, gain.interval.high / unit
    kind = "metric" if result.evidence else "loop"
    return plots.ForestRow(label, gain.mean / unit, low, high, gain.band / unit, signed(result.delta), kind)


def _forest(analysis: Analysis) -> str:
    rows = [axis_line(f"{AXIS_NAMES[axis.axis]}, all judges", axis.gain) for axis in analysis.axes if axis.gain.n]
    rows += [
        metric_line(result.metric + (" (used in the loop)" if result.spec.used_in_loop else ""), result)
        for result in sorted(analysis.metrics, key=lambda m: not m.evidence)
        if result.gain.n and not _is_part(result, analysis)
    ]
    if not rows:
        return ""
    title = "Mean gain per metric with its 95 % interval; the numbers are in the table above"
    return plots.forest_svg(rows, title=title, unit="gain in SD of the input's scores")


def radar_metrics(analysis: Analysis) -> list[str]:
    """Return the spokes of a radar: the judges that count, or, when they are too few for one, everything that ran."""
    judged = [m for m in analysis.metrics if m.gain.n and not _is_part(m, analysis)]
    evidence = [m.metric for m in judged if m.evidence]
    return evidence if len(evidence) >= 3 else [m.metric for m in judged]


def _radars(analysis: Analysis, specs: Mapping[str, MetricSpec]) -> list[dict[str, Any]]:
    metrics, ends = radar_metrics(analysis), (analysis.baseline, analysis.method)
    whole = {m.metric: (m.before, m.after) for m in analysis.metrics}
    groups = dict(analysis.group_means) if len(analysis.group_means) > 1 else {"all images": whole}
    panels = {
        group: {stage: {m: pair[k] for m, pair in means.items() if m in metrics} for k, stage in enumerate(ends)}
        for group, means in groups.items()
    }
    spread = {m.metric: m.input_range for m in analysis.metrics if m.input_range} if len(panels) == 1 else {}
    return draw_radars(panels, metrics, specs, spread)


def draw_radars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]],
    metrics: Sequence[str],
    specs: Mapping[str, MetricSpec],
    spread: Mapping[str, tuple[float, float]],
) -> list[dict[str, Any]]:
    """Return one radar per group from group → stage → metric → mean, all on the same scales. (Fig. 6)"""
    every = {f"{group}/{stage}": means for group, stages in panels.items() for stage, means in stages.items()}
    lower = [m for m in metrics if specs[m].direction == "lower"]
    axes = plots.radar_axes(metrics, lower, every, spread, {m for m in metrics if specs[m].used_in_loop})
    drawn = []
    for group, stages in panels.items():
        svg = plots.radar_svg(axes, stages, title=f"Radar of {group}: {', '.join(stages)}; outward is better")
        if svg:
            keys = [(name, plots.series(place)) for place, name in enumerate(stages)]
            drawn.append({"group": group, "svg": svg, "keys": keys})
    return drawn


def _strata(analysis: Analysis) -> list[dict[str, Any]]:
    rows = []
    for axis in AXES:
        thirds = [s for s in analysis.strata if s.axis == axis and s.gain.n]
        rows += [_summary_row(f"{AXIS_NAMES[axis]}: {third.stratum} inputs", third) for third in thirds]
    return rows


def _groups(analysis: Analysis) -> list[dict[str, Any]]:
    return [
        _summary_row(f"{group}: {AXIS_NAMES[axis.axis].lower()}", axis)
        for group, results in analysis.groups.items()
        for axis in results
        if axis.gain.n
    ]


def share_texts(gain: GainSummary) -> list[str]:
    """Return the shares that gained, stayed and lost, in percent."""
    judged = gain.win + gain.tie + gain.loss
    return [f"{100 * part / judged:.0f} %" if judged else "0 %" for part in (gain.win, gain.tie, gain.loss)]


def _summary_row(label: str, result: AxisResult) -> dict[str, Any]:
    return {"label": label} | axis_cells(result)


def axis_cells(result: AxisResult) -> dict[str, Any]:
    """Return what a page shows of one axis: its gain, who won, the verdict's word and tone."""
    gain = result.gain
    shares = share_texts(gain)
    return {
        "n": gain.n,
        "mean": signed(gain.mean),
        "interval": interval_text(gain, 1),
        "win": shares[0] if gain.win else "",
        "tie": shares[1] if gain.tie else "",
        "loss": shares[2] if gain.loss else "",
        "shares": [share.removesuffix(" %") for share in shares],
        "word": CELL_WORDS[result.level],
        "tone": tone_of(result.level),
    }


def _change(change: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for label, measures in change.items():
        rows.append(
            {
                "label": label,
                "n": f"{measures.get('n', math.nan):.0f}",
                "psnr": "identical" if math.isnan(measures["psnr"]) else f"{measures['psnr']:.1f} dB",
                "ssim": f"{measures['ssim']:.4f}",
                "changed": f"{100 * measures['changed']:.1f} %",
                "untouched": f"{100 * measures['untouched']:.0f} %",
            }
        )
    return rows


_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    out: str | Path,
    images: Iterable[ReportImage],
    text: ReportText | Callable[[], ReportText],
    *,
    analysis: Analysis | None = None,
    specs: Mapping[str, MetricSpec] | None = None,
    change: Mapping[str, Mapping[str, float]] | None = None,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write `out/report.html` of one method and return its path."""
    specs = specs or {}
    entries = ([image] for image in images)
    if analysis is None:
        return write_page(out, entries, text, specs, inline_bytes=inline_bytes)

    def told() -> ReportText:
        return _with_findings(text() if callable(text) else text, analysis)

    return write_page(
        out,
        entries,
        told,
        specs,
        measures=_measures([analysis]),
        findings=Findings("report.html.j2", _TEMPLATES, page_context(analysis, specs, change or {})),
        inline_bytes=inline_bytes,
    )


def write_joint_report(
    out: str | Path,
    images: Iterable[Sequence[ReportImage]],
    text: ReportText,
    context: Mapping[str, Any],
    *,
    analyses: Mapping[str, Analysis],
    specs: Mapping[str, MetricSpec],
    baseline: str,
) -> Path:
    """Write one `out/report.html` for all methods of a comparison; its gallery switches between them."""
    return write_page(
        out,
        images,
        text,
        specs,
        labels=(baseline, *analyses),
        measures=_measures(list(analyses.values()), _first_shown(analyses)),
        findings=Findings("compare.html.j2", _TEMPLATES, context),
    )


def gallery_images(
    files: Mapping[str, tuple[Path, Path]],
    values: Values,
    analysis: Analysis,
    records: RefineRecords,
    prompts: Mapping[str, str],
    groups: Mapping[str, str],
) -> Iterator[ReportImage]:
    """Yield what the gallery shows of each image; `files` holds the paths before and after by name."""

    def score(metric: str, stage: str, name: str) -> float:
        return values[metric].get(stage, {}).get(name, math.nan)

    ends = (analysis.baseline, analysis.method)
    for name, (before, after) in files.items():
        scores = {m.metric: (score(m.metric, ends[0], name), score(m.metric, ends[1], name)) for m in analysis.metrics}
        known: dict[str, Any] = {"prompt": prompts.get(name, "")} | records.about(before, after)
        yield ReportImage(
            name=name,
            before=before,
            after=after,
            scores={m: pair for m, pair in scores.items() if not all(map(math.isnan, pair))},
            gains={axis.axis: axis.per_image[name] for axis in analysis.axes if name in axis.per_image},
            group=groups.get(name, ""),
            **known,
        )


def _with_findings(text: ReportText, analysis: Analysis) -> ReportText:
    """Return a page's text with the verdict on it; a headline that the text brings stays."""
    return replace(
        text,
        headline=text.headline or headline(analysis),
        tone=text.tone if text.headline else TONES.get(verdict_of(analysis), "even"),
        sentences=(*sentences(analysis), *text.sentences),
        notes=(*text.notes, *analysis.notes),
    )


def _measures(analyses: Sequence[Analysis], first: int = 1) -> Measures:
    """Return what can be sorted by; the noise belongs to inputs and judges and so is the same for every method."""
    bands: dict[str, float] = {}
    for result in (result for found in analyses for result in found.metrics):
        bands[result.metric] = max(bands.get(result.metric, 0.0), result.gain.band)
    axes = tuple(
        (axis.axis, axis.gain.band, max(found.axes[place].gain.n for found in analyses))
        for place, axis in enumerate(analyses[0].axes if analyses else ())
    )
    return Measures(tuple(bands), axes, bands, first)


def _first_shown(analyses: Mapping[str, Analysis]) -> int:
    """Return the place of the method that the gallery begins with: the best of those that helped, else the first."""
    gains = {
        place: sum(axis.gain.mean for axis in found.axes if axis.gain.n)
        for place, found in enumerate(analyses.values(), start=1)
        if verdict_of(found) == "better"
    }
    return max(gains, key=gains.__getitem__, default=1)
