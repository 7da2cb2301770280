"""`grefine demo`: a few pictures that come with grefine, refined with what comes with it."""

import os
import sys
from pathlib import Path

import typer
from typer import Exit, Option, echo

SHOWN = ("01_clean", "05_blur", "07_warp", "09_colour", "11_texture", "12_missing")
"""One good picture, and one of each thing that grefine tells apart."""


def demo(
    out: Path = Option("grefine-demo", "--out", "-o", help="Folder of results."),
    open_: bool | None = Option(
        None, "--open/--no-open", help="Open the page in the browser; without either where a terminal has a display."
    ),
    as_json: bool = Option(False, "--json", help="Print events as JSON lines, the summary last."),
) -> None:
    """Refine six example pictures with the bundled toy pipeline (no download, no GPU) and open the page of results."""
    from grefine.folder.progress import choose_reporter
    from grefine.folder.runner import refine_folder
    from grefine.resources import bundled

    examples = bundled("examples") / "images"
    summary = refine_folder(
        [examples / f"{name}.png" for name in SHOWN],
        out,
        "tiny",
        prompts=examples / "prompts.csv",
        report=choose_reporter(as_json),
    )
    page = (out / "report.html").resolve()
    if not as_json:
        echo("\n".join(summary.lines()))
        echo(f"The page of the run: {page}")
        echo(f"The pictures, for other commands with --pipeline tiny: {examples}")
    if (has_display() if open_ is None else open_) and page.is_file():
        typer.launch(page.as_uri())
    raise Exit(summary.exit_code)


def has_display() -> bool:
    """Say whether somebody sits at a terminal with a display, where a page can be shown."""
    screen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.stdout.isatty() and bool(screen)
