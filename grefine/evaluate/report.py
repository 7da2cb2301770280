"""`report.html`: one page that opens from disk without a network and lets a person see whether it helped.

Three doors: `write_report` for anything that has images before and after (it is what `grefine evaluate` uses),
`write_refine_report` for a refinement run, whose own scores are shown but never taken as evidence, and
`write_joint_report` for several methods on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.evaluate.report_data import Gallery
from grefine.evaluate.report_entry import ReportImage, ReportText
from grefine.evaluate.report_media import INLINE_BYTES, layer_png
from grefine.evaluate.report_page import open_store, write_page
from grefine.evaluate.results import Analysis
from grefine.evaluate.verdict import verdict_of

if TYPE_CHECKING:
    from grefine.types import MetricSpec, RefineResult


def layers_of(result: RefineResult) -> dict[str, bytes]:
    """Return a result's maps as small PNG files by layer name, for runs that write their report at the end."""
    layers = {"quality": layer_png("quality", result.quality.values)}
    if result.alignment.phrases:
        layers["alignment"] = layer_png("alignment", result.alignment.values)
    if result.plan.regions:
        layers["mask"] = layer_png("mask", result.plan.mask)
    return layers


def write_report(
    out: str | Path,
    images: Iterable[ReportImage],
    text: ReportText | Callable[[], ReportText],
    *,
    analysis: Analysis | None = None,
    specs: Mapping[str, MetricSpec] | None = None,
    change: Mapping[str, Mapping[str, float]] | None = None,
    inline_bytes: int = INLINE_BYTES,
    in_noise: bool = False,
) -> Path:
    """Write `out/report.html` and return its path.

    Images are read one at a time. While their copies stay below `inline_bytes` they lie inside the page; beyond that
    they and the data of each 200 images lie beside it in `report_files/`, and the page loads what it shows.

    Args:
        out: folder of the report; made when missing.
        images: what the gallery shows, in its first order.
        text: title, facts, and what was left out; or a function that says so once all images have been read.
        analysis: findings; without it the page has the gallery and `text` only.
        specs: metric → what to know about it, for directions and the "used in the loop" mark.
        change: what happened to good images: row label → measure → mean.
        inline_bytes: 0 puts every picture beside the page.
        in_noise: gains are shown in units of each image's own noise.
    """
    from grefine.evaluate.report_view import page_context

    store = open_store(out, inline_bytes)
    specs = {} if specs is None else specs
    gallery = Gallery(store, in_noise)
    for image in images:
        gallery.add([image])
    text = text() if callable(text) else text
    metrics = [m.metric for m in analysis.metrics] if analysis else list(specs)
    data = gallery.data(("before", "after"), metrics, specs, [analysis] if analysis else [])
    context = page_context(text, analysis, specs, change or {}, gallery.kept, len(gallery))
    return write_page(Path(out), "report.html.j2", context, data, store)


def write_joint_report(
    out: str | Path,
    images: Iterable[Sequence[ReportImage]],
    context: Callable[[int], dict[str, Any]],
    *,
    analyses: Mapping[str, Analysis],
    specs: Mapping[str, MetricSpec],
    baseline: str,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write one `out/report.html` for all methods of a comparison; its gallery switches between them.

    Args:
        out: folder of the report.
        images: for every input one entry per method, in the order of `analyses`.
        context: number of images → what the template prints, from `compare_page.joint_context`.
        analyses: method → findings against the inputs.
        specs: metric → what to know about it.
        baseline: what the inputs are called.
        inline_bytes: see `write_report`.
    """
    store = open_store(out, inline_bytes)
    gallery = Gallery(store)
    for entries in images:
        gallery.add(entries)
    metrics = list(dict.fromkeys(m.metric for found in analyses.values() for m in found.metrics))
    data = gallery.data((baseline, *analyses), metrics, specs, list(analyses.values()), _first_shown(analyses))
    return write_page(Path(out), "compare.html.j2", context(len(gallery)), data, store)


def _first_shown(analyses: Mapping[str, Analysis]) -> int:
    """Return the place of the method that the gallery begins with: the best of those that helped, else the first."""
    gains = {
        place: sum(axis.gain.mean for axis in found.axes if axis.gain.n)
        for place, found in enumerate(analyses.values(), start=1)
        if verdict_of(found) == "better"
    }
    return max(gains, key=gains.__getitem__, default=1)


def write_refine_report(
    out: str | Path,
    images: Iterable[ReportImage],
    *,
    title: str = "Refinement",
    specs: Mapping[str, MetricSpec] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    failed: Sequence[tuple[str, str]] = (),
    skipped: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    forced: str = "",
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write the report of a refinement run: what was decided for each image, and why.

    The run's own scores made or guarded its decisions, so the page shows them, in units of each judge's own noise, and
    says that they prove nothing; `grefine evaluate` with other metrics does.

    Args:
        out: folder of the run; gets `report.html` and, for large runs, `report_files/`.
        images: one `ReportImage` per finished image; read one at a time, once.
        title: heading of the page.
        specs: score name → what to know about it (direction); unknown names count as "higher is better".
        facts: (what, value) lines, e.g. ("pipeline", "tiny"), ("seed", "0"), ("seconds", "81").
        failed: (file, reason) for images that could not be refined.
        skipped: (file, reason) for those that were left out on purpose.
        notes: sentences that a reader should know.
        forced: what is to be known of pictures that were refined by force.
        inline_bytes: see `write_report`.
    """
    from grefine.evaluate.refine_summary import RefineTally

    tally = RefineTally(specs or {}, len(failed), len(skipped))

    def text() -> ReportText:
        return ReportText(
            title=title,
            subtitle="What the refinement decided, image by image.",
            headline=tally.headline(),
            tone=tally.tone(),
            sentences=tuple(tally.sentences()),
            facts=tuple(facts),
            missing=(*failed, *skipped),
            notes=tuple(notes),
            forced=forced,
        )

    return write_report(out, tally.watch(images), text, specs=tally.specs, inline_bytes=inline_bytes, in_noise=True)
