"""The pages of an evaluation and of a comparison: the gallery of `grefine.report` below what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grefine.evaluate.long_table import Values
from grefine.evaluate.report_view import TONES, page_context
from grefine.evaluate.results import Analysis, headline, sentences, verdict_of
from grefine.report.entry import RefineRecords, ReportImage, ReportText
from grefine.report.gallery import Measures
from grefine.report.media import INLINE_BYTES
from grefine.report.page import Findings, write_page
from grefine.types import MetricSpec

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
