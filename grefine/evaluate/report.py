"""`report.html`: one page that opens from disk without a network and lets a person see whether it helped.

Two doors: `write_report` for anything that has images before and after (it is what `grefine evaluate` uses), and
`write_refine_report` for a refinement run, whose own scores are shown but never taken as evidence.
"""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.evaluate.findings import AXES, Analysis
from grefine.evaluate.long_table import write_text
from grefine.evaluate.report_media import FOLDER, INLINE_BYTES, MediaStore, add_layer, add_picture, layer_png
from grefine.io.images import printable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from grefine.types import MetricSpec, RefineResult

PAGE_ROWS = 200
"""Images per data file of a large report."""
LAYERS = ("quality", "alignment", "mask")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class ReportImage:
    """One image of a report. Everything but the name and the two pictures may be missing."""

    name: str
    before: Path | str | Image.Image
    after: Path | str | Image.Image
    quality: np.ndarray | Path | str | None = None
    """P as `(H, W)` with 1 = good, or a PNG made by `layer_png("quality", P)`."""
    alignment: np.ndarray | Path | str | None = None
    """A likewise."""
    mask: np.ndarray | Path | str | None = None
    """True = repainted."""
    prompt: str = ""
    emphasis: tuple[tuple[int, int, float], ...] = ()
    """(start, end, weight) over the characters of `prompt`."""
    kept: str = ""
    """"original", "repainted", "both" or "restored"; empty when it is not known."""
    reason: str = ""
    guarded: bool | None = None
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Metric → (before, after)."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """"perceptual" and "alignment" → gain of the whole axis, positive = better; what the gallery sorts by."""
    group: str = ""
    notes: tuple[str, ...] = ()


def report_image(
    name: str,
    before: Path | str | Image.Image,
    after: Path | str | Image.Image,
    result: RefineResult,
    *,
    group: str = "",
    layers: Mapping[str, Path | str] | None = None,
) -> ReportImage:
    """Make a report's entry from what the pipeline said about one image.

    Args:
        name: shown as text, usually the path relative to the folder.
        before: the input.
        after: the output.
        result: the pipeline's record.
        group: e.g. the generator.
        layers: "quality", "alignment", "mask" → PNG files that `layers_of` made, in place of the arrays in `result`.
    """
    maps: Mapping[str, Any] = layers if layers is not None else {
        "quality": result.quality.values,
        "alignment": result.alignment.values if result.alignment.phrases else None,
        "mask": result.plan.mask if result.plan.regions else None,
    }  # fmt: skip
    both = [metric for metric in result.before.keys() if metric in result.after]  # noqa: SIM118 - Scores is no mapping
    return ReportImage(
        name=name,
        before=before,
        after=after,
        quality=maps.get("quality"),
        alignment=maps.get("alignment"),
        mask=maps.get("mask"),
        prompt=result.plan.prompt or result.prompt,
        emphasis=result.plan.token_weights,
        kept=result.decision.kept,
        reason=result.decision.reason,
        guarded=result.decision.guarded,
        scores={metric: (result.before[metric], result.after[metric]) for metric in both},
        group=group,
        notes=result.warnings,
    )


def layers_of(result: RefineResult) -> dict[str, bytes]:
    """Return a result's maps as small PNG files by layer name, for runs that write their report at the end."""
    layers = {"quality": layer_png("quality", result.quality.values)}
    if result.alignment.phrases:
        layers["alignment"] = layer_png("alignment", result.alignment.values)
    if result.plan.regions:
        layers["mask"] = layer_png("mask", result.plan.mask)
    return layers


@dataclass(frozen=True, slots=True)
class ReportText:
    """What a report says beside its images."""

    title: str
    subtitle: str = ""
    headline: str = ""
    """Replaces the verdict's own headline; needed when there is no analysis."""
    tone: str = "even"
    """"gain", "loss" or "even"; used with `headline`."""
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """(what, value) lines about the run."""
    missing: tuple[tuple[str, str], ...] = ()
    """(metric or file, reason) for everything that is not in the tables."""
    notes: tuple[str, ...] = ()


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
    """
    from grefine.evaluate.report_view import page_context

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    store = MediaStore(out, inline_bytes)
    specs = {} if specs is None else specs
    seen: list[tuple[str, str, str, Mapping[str, float], Mapping[str, tuple[float, float]]]] = []
    chunks: list[list[dict[str, Any]]] = []
    kept: dict[str, int] = {}
    for number, image in enumerate(images):
        if number % PAGE_ROWS == 0:
            _flush(store, chunks)
            chunks.append([])
        chunks[-1].append(_details(store, image))
        seen.append((printable(image.name), image.group, image.kept, image.gains, image.scores))
        kept[image.kept] = kept.get(image.kept, 0) + 1
    _flush(store, chunks)
    text = text() if callable(text) else text
    metrics = [m.metric for m in analysis.metrics] if analysis else list(specs)
    index = [_index_row(*row, metrics=metrics, specs=specs) for row in seen]
    data = {
        "metrics": [_metric_facts(m, specs, analysis) for m in metrics],
        "axes": [{"name": a.axis, "band": a.gain.band, "n": a.gain.n} for a in analysis.axes] if analysis else [],
        "index": index,
        "rows": PAGE_ROWS,
        "folder": FOLDER,
        "media": store.data_uris(),
        "chunks": chunks if store.inline else None,
    }
    page = _render(page_context(text, analysis, specs, change or {}, kept, len(index)), data, store.inline)
    write_text(out / "report.html", page)
    store.finish()
    return out / "report.html"


def write_refine_report(
    out: str | Path,
    images: Iterable[ReportImage],
    *,
    title: str = "Refinement",
    specs: Mapping[str, MetricSpec] | None = None,
    facts: Sequence[tuple[str, str]] = (),
    failed: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Write the report of a refinement run: what was decided for each image, and why.

    The run's own scores made or guarded its decisions, so the page shows them and says that they prove nothing;
    `grefine evaluate` with other metrics does.

    Args:
        out: folder of the run; gets `report.html` and, for large runs, `report_files/`.
        images: one `ReportImage` per finished image, e.g. from `report_image`; read one at a time, once.
        title: heading of the page.
        specs: score name → what to know about it (direction); unknown names count as "higher is better".
        facts: (what, value) lines, e.g. ("pipeline", "tiny"), ("seed", "0"), ("seconds", "81").
        failed: (file, reason) for images that could not be refined.
        notes: sentences that a reader should know.
        inline_bytes: see `write_report`.
    """
    from grefine.evaluate.refine_summary import RefineTally

    tally = RefineTally(specs or {})

    def text() -> ReportText:
        return ReportText(
            title=title,
            subtitle="What the refinement decided, image by image.",
            headline=tally.headline(),
            sentences=tuple(tally.sentences(len(failed))),
            facts=tuple(facts),
            missing=tuple(failed),
            notes=tuple(notes),
        )

    return write_report(out, tally.watch(images), text, specs=tally.specs, inline_bytes=inline_bytes)


def _flush(store: MediaStore, chunks: list[list[dict[str, Any]]]) -> None:
    """Once pictures lie beside the page, so does the data: every full chunk goes to its own file."""
    if store.inline:
        return
    for number, chunk in enumerate(chunks):
        if chunk:
            store.put(f"page-{number}.js", f"grefinePage({number},{_json(chunk)})\n".encode())
            chunk.clear()


def _details(store: MediaStore, image: ReportImage) -> dict[str, Any]:
    before, size = add_picture(store, image.before)
    after, _ = add_picture(store, image.after)
    layers = {kind: add_layer(store, kind, value) for kind in LAYERS if (value := getattr(image, kind)) is not None}
    return {
        "before": before,
        "after": after,
        "size": size,
        "layers": layers,
        "prompt": image.prompt,
        "emphasis": image.emphasis,
        "reason": image.reason,
        "guarded": image.guarded,
        "scores": {name: [_finite(b), _finite(a)] for name, (b, a) in image.scores.items()},
        "notes": image.notes,
    }


def _index_row(
    name: str,
    group: str,
    kept: str,
    axes: Mapping[str, float],
    scores: Mapping[str, tuple[float, float]],
    *,
    metrics: Sequence[str],
    specs: Mapping[str, MetricSpec],
) -> list[Any]:
    """Return name, group, decision, and the gains by axis and metric: what sorting and filtering need."""
    gains: list[float | None] = [_finite(axes.get(axis, math.nan)) for axis in AXES]
    for metric in metrics:
        before, after = scores.get(metric, (math.nan, math.nan))
        sign = -1 if metric in specs and specs[metric].direction == "lower" else 1
        gains.append(_finite(sign * (after - before)))
    return [name, group, kept, gains]


def _metric_facts(metric: str, specs: Mapping[str, MetricSpec], analysis: Analysis | None) -> dict[str, Any]:
    spec = specs.get(metric)
    result = next((m for m in analysis.metrics if m.metric == metric), None) if analysis else None
    return {
        "name": metric,
        "lower": bool(spec and spec.direction == "lower"),
        "loop": bool(spec and spec.used_in_loop),
        "band": result.gain.band if result else 0.0,
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no text in it can end the element or start markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _render(context: dict[str, Any], data: dict[str, Any], inline: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{'' if inline else ' file: *'}; "
        f"img-src data:{'' if inline else ' file: *'}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("report.html.j2").render(
        **context,
        policy=policy,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        data=_json(data),
    )
