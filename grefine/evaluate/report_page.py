"""From words, numbers and gallery data to one HTML file with a content security policy of its own."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

from grefine.evaluate.report_data import script_json
from grefine.evaluate.report_media import MediaStore
from grefine.io.atomic import write_text

_TEMPLATES = Path(__file__).parent / "templates"


def open_store(out: str | Path, inline_bytes: int) -> MediaStore:
    """Make the folder of a report and return where its pictures go."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return MediaStore(out, inline_bytes)


def write_page(out: Path, template: str, context: dict[str, Any], data: dict[str, Any], store: MediaStore) -> Path:
    """Render a template with its gallery's data and return the page's path."""
    write_text(out / "report.html", _render(template, context, data, store.inline))
    store.finish()
    return out / "report.html"


def _render(template: str, context: dict[str, Any], data: dict[str, Any], inline: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{'' if inline else ' file: *'}; "
        f"img-src data:{'' if inline else ' file: *'}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        **context,
        policy=policy,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        data=script_json(data),
    )


def _code(text: str) -> Any:
    """Show what stands between backticks as code; everything else is text."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
