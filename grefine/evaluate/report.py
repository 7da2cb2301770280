"""The pages of an evaluation and of a comparison: what was found, in words and drawings, above the gallery."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grefine.evaluate import plots
from grefine.evaluate.analysis import main_column
from grefine.evaluate.results import (
    AXIS_NAMES,
    CELL_WORDS,
    ORIGINAL,
    TONES,
    Analysis,
    Comparison,
    Judged,
    MetricResult,
    headline,
    sentences,
    verdict_of,
)
from grefine.evaluate.scoring import change_means
from grefine.evaluate.statistics import GainSummary
from grefine.evaluate.tables import number
from grefine.report.entry import SOURCE_DIFFERS, RefineRecords, ReportImage, ReportText
from grefine.report.media import INLINE_BYTES
from grefine.report.page import Findings, Measures, write_page
from grefine.scorers.fidelity import IDENTICAL_PSNR
from grefine.types import AXES, MetricSpec

VERDICT_WORDS = {name: "better and worse" if name == "mixed" else name for name in TONES}
_TEMPLATES = Path(__file__).parent / "templates"
_UNIT = "gain in SD of the input's scores"


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign; "n/a" for NaN."""
    if not math.isfinite(value):
        return "n/a"
    return "0" if value == 0 else ("+" if value > 0 else "−") + number(abs(value), digits)


def _interval(gain: GainSummary, sign: int = 1) -> str:
    ends = sorted(sign * v for v in (gain.interval.low, gain.interval.high))
    return f"{signed(ends[0])} to {signed(ends[1])}" if all(map(math.isfinite, ends)) else "no interval"


def _p_value(p: float) -> str:
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _share(part: int, gain: GainSummary) -> str:
    judged = gain.win + gain.tie + gain.loss
    return f"{100 * part / judged:.0f} %" if judged else "0 %"


def _psnr(change: Mapping[str, float]) -> str:
    if not change:
        return "–"
    return "identical" if math.isnan(change["psnr"]) else f"{change['psnr']:.1f} dB"


_WORDS = {
    "signed": signed,
    "number": number,
    "interval": _interval,
    "p_value": _p_value,
    "share": _share,
    "psnr": _psnr,
    "tones": TONES,
    "cell_words": CELL_WORDS,
    "verdict_words": VERDICT_WORDS,
    "axis_names": AXIS_NAMES,
}
"""What the templates say numbers and findings with."""


def write_report(
    out: str | Path,
    images: Iterable[ReportImage],
    text: ReportText,
    *,
    analysis: Analysis,
    specs: Mapping[str, MetricSpec],
    change: Mapping[str, Mapping[str, float]] | None = None,
    records: RefineRecords | None = None,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write `out/report.html` of one method and return its path; the images were read with `records`."""

    def told() -> ReportText:
        """Put the verdict on the page; a headline that the text brings stays."""
        other = records.strangers if records else 0
        strange = [f"{other} refined image(s) {SOURCE_DIFFERS}."] if other else []
        return replace(
            text,
            headline=text.headline or headline(analysis),
            tone=text.tone if text.headline else TONES[verdict_of(analysis)],
            sentences=(*sentences(analysis), *text.sentences),
            notes=(*text.notes, *strange, *analysis.notes),
        )

    parts = [m for m in analysis.metrics if _is_part(m, analysis)]
    whole = [m for m in analysis.metrics if m not in parts]
    lines = [_axis_line(f"{AXIS_NAMES[axis.axis]}, all judges", axis.gain) for axis in analysis.axes if axis.gain.n]
    for m in sorted(whole, key=lambda m: not m.evidence):
        if m.gain.n:
            name = m.metric + (" (used in the loop)" if m.spec.used_in_loop else "")
            values = (m.gain.mean, m.gain.interval.low, m.gain.interval.high, m.gain.band)
            kind = "metric" if m.evidence else "loop"
            lines.append(plots.ForestRow(name, *(v / m.spread for v in values), signed(m.delta), kind))
    title = "Mean gain per metric with its 95 % interval; the numbers are in the table above"
    shown = {
        "cells": [(AXIS_NAMES[axis], [analysis.cell(axis, third) for third in ("low", "high")]) for axis in AXES],
        "metrics": whole,
        "parts": parts,
        "forest": plots.forest_svg(lines, title=title, unit=_UNIT) if lines else "",
        "radars": _radars({analysis.method: analysis}, analysis.baseline, specs),
        "strata": [(f"{AXIS_NAMES[s.axis]}: {s.stratum} inputs", s) for s in analysis.strata if s.gain.n],
        "groups": [
            (f"{group}: {AXIS_NAMES[axis.axis].lower()}", axis)
            for group, results in analysis.groups.items()
            for axis in results
            if axis.gain.n
        ],
        "change": change or {},
        "band_known": any(m.gain.band > 0 for m in analysis.metrics),
    }
    return write_page(
        out,
        ([image] for image in images),
        told,
        specs,
        measures=_measures([analysis]),
        findings=Findings("report.html.j2", _TEMPLATES, _WORDS | shown),
        inline_bytes=inline_bytes,
    )


def write_method_page(
    result: Judged, method: str, out: Path, text: ReportText, change: Mapping[str, Mapping[str, float]]
) -> None:
    records, analysis = RefineRecords(), result.analyses[method]
    images = gallery_images(result, method, records)
    write_report(out, images, text, analysis=analysis, specs=result.specs, change=change, records=records)


def write_joint_page(result: Comparison, out: Path, text: ReportText) -> None:
    """Write one `out/report.html` for all methods of a comparison; its gallery switches between them."""
    analyses, images = result.analyses, result.files[ORIGINAL]
    forests = []
    for place, axis in enumerate(AXES):
        gains = {method: found.axes[place].gain for method, found in analyses.items()}
        if lines := [_axis_line(method, gain) for method, gain in gains.items() if gain.n]:
            title = f"{AXIS_NAMES[axis]}: mean gain of every method with its 95 % interval"
            forests.append((AXIS_NAMES[axis], plots.forest_svg(lines, title=title, unit=_UNIT)))
    shown = {
        "baseline": ORIGINAL,
        "analyses": analyses,
        "verdicts": result.verdicts,
        "worse": result.negative_optimisations,
        "change": {method: change_means(result.values, images, method) for method in analyses},
        "table": result.table,
        "specs": result.specs,
        "forests": forests,
        "radars": _radars(analyses, ORIGINAL, result.specs),
    }
    # The gallery begins with the best of the methods that helped, else with the first.
    helped = {
        place: sum(axis.gain.mean for axis in found.axes if axis.gain.n)
        for place, found in enumerate(analyses.values(), start=1)
        if verdict_of(found) == "better"
    }
    write_page(
        out,
        zip(*(gallery_images(result, method, RefineRecords()) for method in analyses), strict=True),
        text,
        result.specs,
        labels=(ORIGINAL, *analyses),
        measures=_measures(list(analyses.values()), max(helped, key=helped.__getitem__, default=1)),
        findings=Findings("compare.html.j2", _TEMPLATES, _WORDS | shown),
    )


def gallery_images(result: Judged, method: str, records: RefineRecords) -> Iterator[ReportImage]:
    analysis, values = result.analyses[method], result.values
    for name, before in result.files[result.baseline].items():
        after = result.files[method][name]
        scores: dict[str, tuple[float, float]] = {}
        for metric in (m.metric for m in analysis.metrics):
            pair = [values[metric].get(stage, {}).get(name, math.nan) for stage in (result.baseline, method)]
            if not all(map(math.isnan, pair)):
                scores[metric] = (pair[0], pair[1])
        notes: tuple[str, ...] = ()
        if name in values.get("psnr", {}).get(method, {}):
            psnr, ssim, changed = (values[measure][method][name] for measure in ("psnr", "ssim", "changed"))
            moved = (
                f"PSNR {psnr:.1f} dB and SSIM {ssim:.4f} to the input; {100 * changed:.1f} % of the pixels changed."
            )
            notes = ("Bit-identical to the input." if psnr >= IDENTICAL_PSNR else moved,)
        known: dict[str, Any] = {"prompt": result.prompting.prompts.get(name, "")} | records.about(before, after)
        yield ReportImage(
            name=name,
            before=before,
            after=after,
            scores=scores,
            gains={axis.axis: axis.per_image[name] for axis in analysis.axes if name in axis.per_image},
            group=result.prompting.groups.get(name, ""),
            notes=notes,
            **known,
        )


def _is_part(result: MetricResult, analysis: Analysis) -> bool:
    """Return whether a column is one of several of its network, and not the one that stands for it."""
    columns = [m.metric for m in analysis.metrics]
    return not result.evidence and result.metric != main_column(result.metric.split(".")[0], columns)


def _axis_line(label: str, gain: GainSummary) -> plots.ForestRow:
    """Return the line of an axis in a forest plot: the pooled gain of all judges that count."""
    ends = (gain.interval.low, gain.interval.high)
    return plots.ForestRow(label, gain.mean, *ends, gain.band, f"{signed(gain.mean)} SD", kind="axis")


def _radars(analyses: Mapping[str, Analysis], baseline: str, specs: Mapping[str, MetricSpec]) -> list[dict[str, Any]]:
    """Return one radar per group, or one of all images, all on the same scales, a polygon per method. (Fig. 6)"""
    first = next(iter(analyses.values()))
    judged = [m for m in first.metrics if m.gain.n and not _is_part(m, first)]
    # The judges that count, or, when they are too few for a radar, everything that ran.
    evidence = [m.metric for m in judged if m.evidence]
    metrics = evidence if len(evidence) >= 3 else [m.metric for m in judged]
    groups = list(first.group_means) if len(first.group_means) > 1 else ["all images"]
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for group in groups:
        polygons = panels[group] = {baseline: {}}
        for method, found in analyses.items():
            whole = {m.metric: (m.before, m.after) for m in found.metrics}
            means = found.group_means.get(group, {}) if len(found.group_means) > 1 else whole
            polygons[baseline] |= {m: means[m][0] for m in metrics if m in means}
            polygons[method] = {m: means[m][1] for m in metrics if m in means}
    alone = len(panels) == len(analyses) == 1
    spread = {m.metric: m.input_range for m in first.metrics if m.input_range} if alone else {}
    every = {f"{group}/{stage}": means for group, stages in panels.items() for stage, means in stages.items()}
    lower = [m for m in metrics if specs[m].direction == "lower"]
    axes = plots.radar_axes(metrics, lower, every, spread, {m for m in metrics if specs[m].used_in_loop})
    drawn = []
    for group, stages in panels.items():
        svg = plots.radar_svg(axes, stages, title=f"Radar of {group}: {', '.join(stages)}; outward is better")
        keys = [(name, plots.series(place)) for place, name in enumerate(stages)]
        drawn += [{"group": group, "svg": svg, "keys": keys}] if svg else []
    return drawn


def _measures(analyses: Sequence[Analysis], first: int = 1) -> Measures:
    """Return what can be sorted by; the noise belongs to inputs and judges and so is the same for every method."""
    bands: dict[str, float] = {}
    for result in (result for found in analyses for result in found.metrics):
        bands[result.metric] = max(bands.get(result.metric, 0.0), result.gain.band)
    axes = tuple(
        (axis.axis, axis.gain.band, max(found.axes[place].gain.n for found in analyses))
        for place, axis in enumerate(analyses[0].axes)
    )
    return Measures(tuple(bands), axes, bands, first)
