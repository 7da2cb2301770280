"""`grefine settings`: what --set and a settings file can change, read from the record that holds it."""

import json
import shutil
import textwrap
from typing import Any

from typer import Argument, Option, echo


def settings(
    names: list[str] = Argument(None, metavar="[NAME]...", help="Only these; without one, all."),
    as_json: bool = Option(False, "--json", help="Print JSON."),
) -> None:
    """List every setting of a refinement: its default, the values it takes, and what it does."""
    import dataclasses
    import typing

    from grefine.config import field_texts
    from grefine.errors import ConfigError, nearest
    from grefine.refine.settings import FALLBACKS, RefineConfig

    texts, hints = field_texts(RefineConfig), typing.get_type_hints(RefineConfig)
    rows = {}
    for field in dataclasses.fields(RefineConfig):
        default = FALLBACKS.get(field.name) if field.default is None else field.default
        shown = "the pipeline's own" if default is None else json.dumps(default).strip('"')
        if field.default is None and default is not None:
            shown += ", or what the pipeline prefers"
        allowed, meaning = _allowed(RefineConfig, field.name, hints[field.name]), texts.get(field.name, "")
        rows[field.name] = {"name": field.name, "default": shown, "allowed": allowed, "meaning": meaning}
    for name in names or ():
        if name not in rows:
            raise ConfigError(f"No setting '{name}'; `grefine settings` lists them{nearest(name, rows)}")
    chosen = [rows[name] for name in names or rows]
    if as_json:
        echo(json.dumps(chosen, indent=1))
        return
    width = min(shutil.get_terminal_size((100, 24)).columns, 119)
    for row in chosen:
        echo(f"{row['name']} = {row['default']}   ({row['allowed']})")
        if row["meaning"]:
            echo(textwrap.fill(row["meaning"], width, initial_indent="    ", subsequent_indent="    "))


def _allowed(schema: type, name: str, hint: Any) -> str:
    """Say in words what a field takes: its type, and what the record answers to values far out on either side."""
    from grefine.config import spoken
    from grefine.errors import ConfigError

    rules = []
    for value in (-1_000_000, 1_000_000):
        try:
            schema(**{name: value})
        except (ConfigError, TypeError) as error:
            _, must, rest = str(error).partition(" must ")
            rule = rest.partition(", not")[0].partition(", but")[0].rstrip(".")
            if must and f"must {rule}" not in rules:
                rules.append(f"must {rule}")
    return ", ".join([spoken(hint), *rules])
