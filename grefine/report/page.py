"""`report.html`: one page that opens from disk without a network, with a gallery and a content security policy."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grefine.io.atomic import write_text
from grefine.report.entry import ReportImage, ReportText
from grefine.report.gallery import PAIR, Gallery, Measures, script_json
from grefine.report.media import INLINE_BYTES, MediaStore
from grefine.types import MetricSpec

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
    """Write `out/report.html` and return its path.

    Images are read one at a time. While their copies stay below `inline_bytes` they lie inside the page; beyond that
    they and the data of each 200 images lie beside it in `report_files/`, and the page loads what it shows.
    """
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
