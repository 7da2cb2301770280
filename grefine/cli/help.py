"""`--help` at 80 columns: options in groups by what they are about, flags in one word, defaults whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand, TyperGroup

OPTIONS = {
    "Prompts": "prompt prompts name_column prompt_column prompt_order lora_dir group",
    "Which images": "pattern recursive follow_links limit max_pixels gate overwrite again force",
    "Pipeline and settings": (
        "pipeline painter painter_class config set_ preserve candidates seed judge guidance quality_map alignment_map "
        "calibration plans masks add_masks refiners model steps strength"
    ),
    "Judges": "metrics metric weights allow_noncommercial used_in_loop noise_images calibrated",
    "Results": "out suffix format_ panels report dataset dry_run as_json json_ verbose plot export",
    "The machine": "device dtype port open_ offload batch_size workers engine ray_address gpus_per_worker actors",
}
"""Group of a parameter by its name, the same in every command; what is in none comes first."""
COMMANDS = {
    "Begin here": "demo doctor settings",
    "Refine": "refine plan app map merge parse",
    "Judge and compare": "score evaluate compare metrics rank",
    "Weights and thresholds": "fetch convert calibrate selfcheck train",
}


class Plain:
    """Help as plain text, whether or not rich is installed."""

    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        """Write usage, what it does, and the groups."""
        for part in (self.format_usage, self.format_help_text, self.format_options, self.format_epilog):
            part(ctx, formatter)


class Command(Plain, TyperCommand):
    """A command with its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options by group."""
        for title, groups in (("Arguments", {}), ("Options", OPTIONS)):
            kind = title.lower().removesuffix("s")
            rows = {p.name: _row(p, ctx) for p in self.params if p.param_type_name == kind}
            _write_groups(formatter, title, groups, rows)


class Group(Plain, TyperGroup):
    """Commands by what they are for."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by group, then the options."""
        rows = {
            name: (name, (command.help or "").split("\n\n")[0])
            for name, command in self.commands.items()
            if not command.hidden
        }
        _write_groups(formatter, "Commands", {} if ctx.parent else COMMANDS, rows)
        _write_groups(formatter, "Options", {}, {p.name: _row(p, ctx) for p in self.get_params(ctx)})


def plain(app: Any) -> None:
    """Give every command of an app, and of the apps below it, this help."""
    app.info.cls = Group
    for info in app.registered_commands:
        info.cls = Command
    for below in app.registered_groups:
        plain(below.typer_instance)


def _row(param: Any, ctx: Any) -> tuple[str, str] | None:
    """Return an option's names and text; `--no-` stands only where it changes something."""
    record = param.get_help_record(ctx)
    if record is None or not getattr(param, "secondary_opts", None):
        return record and (re.sub(r"<list\[(\w+)\]>", r"<\1>", record[0]), record[1])
    name = param.opts[0].removeprefix("--")
    text = param.help or ""
    return (f"--[no-]{name}", f"{text}  [default: on]") if param.default else (f"--{name}", text)


def _write_groups(
    formatter: Any, rest: str, groups: Mapping[str, str], rows: Mapping[str, tuple[str, str] | None]
) -> None:
    known = {name: title for title, names in groups.items() for name in names.split()}
    for title in (rest, *groups):
        found = [row for name, row in rows.items() if row and known.get(name, rest) == title]
        if found:
            with formatter.section(title):
                formatter.write_dl(found, col_max=26)
