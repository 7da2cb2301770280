"""`report.html`: one page that opens from disk without a network, with a gallery and a content security policy."""

import hashlib
import json
import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grefine.io.atomic import write_text
from grefine.io.picture import printable
from grefine.io.run_files import LAYERS
from grefine.report.entry import ReportImage, ReportText
from grefine.report.media import FOLDER, INLINE_BYTES, MediaStore, add_layer, add_picture
from grefine.types import AXES, MetricSpec

_TEMPLATES = Path(__file__).parent / "templates"
_DECISIONS = {
    "original": "original kept",
    "repainted": "repainted",
    "both": "repainted and restored",
    "restored": "restored",
    "untouched": "nothing to repair",
    "refined": "refined",
    "kept": "original kept after comparing",
    "beyond": "beyond repair, needs a new generation",
    "repair": "to be repaired",
    "new": "to be generated anew",
    "keep": "good as it is",
    "": "not known",
}
PAIR = ("before", "after")
"""Labels of a page with one method."""

PAGE_ROWS = 200
"""Images per data file of a large report."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the images of a gallery can be sorted by."""

    metrics: tuple[str, ...]
    """In the order of the page."""
    axes: tuple[tuple[str, float, int], ...] = ()
    """Axis, noise of its judges, and the number of images that it was judged on."""
    bands: Mapping[str, float] = field(default_factory=dict)
    """Metric → the change that counts as none."""
    first: int = 1
    """Label of the method that is shown first."""


_Judged = tuple[str, Mapping[str, float], Mapping[str, tuple[float, float]], Mapping[str, float]]
"""Of one method: its decision, gains by axis, scores, noise."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a page shows beside its gallery: a template that extends `page.html.j2`, and what that prints."""

    template: str = "page.html.j2"
    folder: Path = _TEMPLATES
    context: Mapping[str, Any] = field(default_factory=dict)


def write_page(
    out: str | Path,
    images: Iterable[Sequence[ReportImage]],
    text: ReportText | Callable[[], ReportText],
    specs: Mapping[str, MetricSpec],
    *,
    labels: Sequence[str] = PAIR,
    measures: Measures | None = None,
    findings: Findings | None = None,
    inline_bytes: int = INLINE_BYTES,
    in_noise: bool = False,
) -> Path:
    """Write `out/report.html`; copies beyond `inline_bytes`, and the data of each 200 images, lie beside the page."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    store, findings = MediaStore(out, inline_bytes), findings or Findings()
    gallery = Gallery(store, in_noise)
    for entries in images:
        gallery.add(entries)
    text = text() if callable(text) else text
    kept = text.decided or (gallery.kept if len(labels) == len(PAIR) else {})
    shown, total = text.headline or text.title, sum(text.decided.values()) if text.decided else len(gallery)
    decisions = [
        {"key": key or "unknown", "name": name, "n": kept[key], "share": f"{100 * kept[key] / total:.4g}"}
        for key, name in _DECISIONS.items()
        if kept.get(key) and total and set(kept) - {""}
    ]
    context = {name: getattr(text, name) for name in ("title", "subtitle", "tone", "missing", "notes")} | {
        "headline": f"{shown} (forced)" if text.forced else shown,
        "sentences": [*filter(None, [text.forced]), *text.sentences],
        "facts": [("images", str(total)), *text.facts],
        "decisions": decisions,
        "count": len(gallery),
    }
    data = gallery.data(labels, specs, measures or Measures(tuple(specs)))
    write_text(out / "report.html", _render(findings, context | dict(findings.context), data, store.inline))
    store.finish()
    return out / "report.html"


def _render(findings: Findings, context: dict[str, Any], data: dict[str, Any], inline: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([findings.folder, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{'' if inline else ' file: *'}; "
        f"img-src data:{'' if inline else ' file: *'}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(findings.template).render(
        **context,
        policy=policy,
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=script,
        data=script_json(data),
    )


def _code(text: str) -> Any:
    """Show what stands between backticks as code; everything else is text."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


class Gallery:
    """Collects images one at a time; what each needs for sorting stays in memory, the rest where the pictures are."""

    def __init__(self, store: MediaStore, in_noise: bool = False) -> None:
        self.store = store
        self.in_noise = in_noise
        """Gains are told in units of each image's own noise."""
        self.kept: Counter[str] = Counter()
        """Images by decision, of the first method."""
        self._index: list[tuple[str, str, list[_Judged]]] = []
        self._chunks: list[list[dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._index)

    def add(self, images: Sequence[ReportImage]) -> None:
        """Add one input with its output of every method."""
        if len(self) % PAGE_ROWS == 0:
            self._flush()
            self._chunks.append([])
        before, size = add_picture(self.store, images[0].before)
        made = [_made(self.store, image) for image in images]
        self._chunks[-1].append({"before": before, "size": size, "made": made})
        judged = [(image.kept, image.gains, image.scores, image.noise) for image in images]
        self._index.append((printable(images[0].name), images[0].group, judged))
        self.kept[images[0].kept] += 1

    def data(self, labels: Sequence[str], specs: Mapping[str, MetricSpec], measures: Measures) -> dict[str, Any]:
        """Return what the page's script reads."""
        self._flush()
        lower = {name for name, spec in specs.items() if spec.direction == "lower"}
        return {
            "labels": list(labels),
            "first": measures.first,
            "inNoise": self.in_noise,
            "metrics": [
                {
                    "name": metric,
                    "lower": metric in lower,
                    "loop": metric in specs and specs[metric].used_in_loop,
                    "band": measures.bands.get(metric, 0.0),
                }
                for metric in measures.metrics
            ],
            "axes": [{"name": name, "band": band, "n": count} for name, band, count in measures.axes],
            # What sorting and filtering need: name, group, and by method decisions, and gains by axis and metric.
            "index": [
                [name, group, [kept for kept, *_ in made], [self._gains(one, measures.metrics, lower) for one in made]]
                for name, group, made in self._index
            ],
            "rows": PAGE_ROWS,
            "folder": FOLDER,
            "media": self.store.data_uris(),
            "chunks": self._chunks if self.store.inline else None,
        }

    def _gains(self, judged: _Judged, metrics: Sequence[str], lower: set[str]) -> list[float | None]:
        _, axes, scores, noise = judged
        gains = [axes.get(axis, math.nan) for axis in AXES]
        for metric in metrics:
            before, after = scores.get(metric, (math.nan, math.nan))
            gain = (-1 if metric in lower else 1) * (after - before)
            if self.in_noise and gain:
                # The guard counts in the same way, so that a judge without any noise divides by something.
                gain = gain / (noise[metric] + 1e-6) if metric in noise else math.nan
            gains.append(gain)
        return [_finite(gain) for gain in gains]

    def _flush(self) -> None:
        """Once pictures lie beside the page, so does the data: every full chunk goes to its own file."""
        for number, chunk in enumerate(self._chunks):
            if chunk and not self.store.inline:
                self.store.put(f"page-{number}.js", f"grefinePage({number},{script_json(chunk)})\n".encode())
                chunk.clear()


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no text in it can end the element or start markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def joined_emphasis(prompt: str, parts: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Return emphasis with neighbouring words of one weight as one part, so that a phrase reads as a phrase."""
    joined: list[tuple[int, int, float]] = []
    for start, end, weight in sorted(parts):
        if joined and joined[-1][2] == weight and not prompt[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], end, weight)
        else:
            joined.append((start, end, weight))
    return joined


def _made(store: MediaStore, image: ReportImage) -> dict[str, Any]:
    after, _ = add_picture(store, image.after)
    layers = {kind: add_layer(store, kind, value) for kind in LAYERS if (value := getattr(image, kind)) is not None}
    return {
        "after": after,
        "layers": layers,
        "prompt": image.prompt,
        "emphasis": joined_emphasis(image.prompt, image.emphasis),
        "reason": image.reason,
        "guarded": image.guarded,
        "scores": {name: [_finite(b), _finite(a)] for name, (b, a) in image.scores.items()},
        "noise": {name: _finite(band) for name, band in image.noise.items()},
        "notes": image.notes,
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
