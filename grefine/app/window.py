"""The window in Gradio: where things stand on the page, and which handler of `page` each of them calls."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from grefine.app import page
from grefine.app.desk import Desk, Sitting, moved
from grefine.app.page import LAYERS
from grefine.errors import GRefineError

LARGEST = "64mb"
"""Of a dropped file; pictures are also refused by their pixels, as in a folder run."""
LOOKS: dict[str, Any] = {
    # Fonts of the machine, so that the page asks nothing of other hosts.
    "theme": gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")),
    "css": "#listed .wrap {flex-flow: column nowrap; max-height: 24rem; overflow-y: auto}"
    " #regions .add-row-button, #regions .cell-menu-button {display: none}"
    " :is(#phrases, #numbers) :is(table, tr, td, th) {border: 0 !important}"
    " :is(#phrases, #numbers) table {width: 100%} :is(#phrases, #numbers) td:first-child {overflow-wrap: anywhere}"
    " :is(#phrases, #numbers) :is(td, th) {padding: 0.25rem 0.5rem 0.25rem 0 !important; text-align: left;"
    " border-bottom: 1px solid var(--border-color-primary) !important}",
    "footer_links": [],
    "max_file_size": LARGEST,
    "ssr_mode": False,
}
"""How the page is launched."""


class Sittings:
    """Who sits at the window, by session; a tab that is closed leaves, and what it runs stops."""

    def __init__(self, desk: Desk, private: bool) -> None:
        self.desk, self.private = desk, private
        self.open: dict[str, Sitting] = {}

    def of(self, session: str | None) -> Sitting:
        """Return a session's sitting."""
        key = session or ""
        if key not in self.open:
            own = moved(self.desk, Path(tempfile.mkdtemp(prefix="grefine-app-"))) if self.private else self.desk
            self.open[key] = Sitting(own)
        return self.open[key]

    def leave(self, session: str | None) -> None:
        """Forget a session and stop its run."""
        sitting = self.open.pop(session or "", None)
        if sitting is not None:
            sitting.stop.set()
            if self.private:
                shutil.rmtree(sitting.desk.out.parent, ignore_errors=True)


def make_window(desk: Desk, private: bool = False) -> gr.Blocks:
    """Build the page; `private` gives everyone at it results of their own, to be downloaded."""
    sittings = Sittings(desk, private)
    with gr.Blocks(title="grefine", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as window:
        part = _layout(len(desk.items), private)

        def progress(at: int, of: int, stage: str) -> None:
            gr.Progress()((at, of), desc=stage, unit="steps")

        def on(
            event: Callable[..., Any],
            handler: Callable[..., page.Values],
            given: Sequence[str],
            changed: Sequence[str],
            busy: bool = True,
            **how: Any,
        ) -> Any:
            """Call a handler upon an event; the busy ones wait for one another."""

            def handle(request: gr.Request, *values: Any) -> Any:
                sitting = sittings.of(request.session_hash)
                more = {"on_step": progress} if handler is page.run else {}
                try:
                    found = handler(sitting, *values, **more)
                except GRefineError as error:
                    gr.Warning(str(error), duration=None, title="Not done")
                    found = {"listed": page.still_open(sitting)} if "listed" in changed else {}
                if not changed:
                    return None
                if found.get("listed"):
                    found["listed"] = gr.update(**found["listed"])
                if "files" in found:
                    files = found["files"] if private else None
                    found["files"] = gr.update(value=files, visible=bool(files))
                return {part[name]: value for name, value in found.items()} or gr.skip()

            queue = {"concurrency_id": "pipeline", "concurrency_limit": 1} if busy else {"queue": False}
            inputs, outputs = [part[name] for name in given], [part[name] for name in changed]
            return event(handle, inputs, outputs, api_visibility="private", **queue, **how)

        everything = (*page.PICTURE, *page.RESULT)
        on(window.load, page.open_next, ("listed", "layers"), everything)
        on(part["listed"].input, page.open_named, ("listed", "layers"), everything)
        on(part["previous"].click, partial(page.open_next, step=-1), ("listed", "layers"), everything)
        on(part["next"].click, page.open_next, ("listed", "layers"), everything)
        on(part["dropped"].upload, page.open_dropped, ("dropped", "layers"), everything)
        on(part["anew"].click, page.plan_anew, ("prompt", "layers"), everything)
        for event in (part["regions"].input, part["layers"].input):
            on(event, page.redraw, ("regions", "editor", "layers"), ("editor",), busy=False, show_progress="hidden")
        begun = on(part["run"].click, page.begin, (), ("told",), busy=False, show_progress="hidden")
        run = ("regions", "editor", "layers")
        on(begun.then, page.run, run, ("listed", "editor", *page.RESULT), show_progress_on=part["slider"])
        on(part["stop"].click, page.stop, (), (), busy=False)
        on(part["keep"].click, page.keep, ("listed",), ("listed", "saved", "files"))
        on(part["away"].click, page.throw_away, ("listed",), ("listed", *page.RESULT))

        def left(request: gr.Request) -> None:
            sittings.leave(request.session_hash)

        window.unload(left)
    window.sittings = sittings
    return window.queue(max_size=50)


def _layout(count: int, private: bool) -> dict[str, Any]:
    """Lay out the page and return its parts by name; every part has its name as its id."""
    part: dict[str, Any] = {}

    def add(name: str, kind: Callable[..., Any], *given: Any, **named: Any) -> None:
        part[name] = kind(*given, elem_id=name, **named)

    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            add("listed", gr.Radio, label="Pictures", visible=count > 0)
            with gr.Row():
                add("previous", gr.Button, "Previous", size="sm", min_width=80)
                add("next", gr.Button, "Next", size="sm", min_width=80)
            add("dropped", gr.File, label="Drop a picture", file_types=["image"], height=120)
        with gr.Column(scale=4, min_width=320):
            with gr.Row():
                add("prompt", gr.Textbox, label="Prompt", lines=2, max_lines=4, scale=5)
                add("anew", gr.Button, "Plan anew", scale=1, min_width=110, size="md")
            add("note", gr.Markdown)
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    brush = gr.Brush(default_size=24, colors=["#e6283c", "#2846e6"], color_mode="fixed")
                    gr.Markdown("Paint red to repaint, blue to leave alone.")
                    bare: dict[str, Any] = {"sources": (), "transforms": (), "layers": False, "format": "png"}
                    bare |= {"label": "Brush", "type": "pil", "height": "min(580px, 100vw)"}
                    add("editor", gr.ImageEditor, brush=brush, **bare)
                with gr.Column(scale=2, min_width=320):
                    add("layers", gr.CheckboxGroup, list(LAYERS), value=["what is repainted"], label="Layers")
                    add("phrases", gr.HTML, label="Phrases")
            more: dict[str, Any] = {"datatype": ["number", "bool", "str", "number", "str"], "static_columns": [0, 4]}
            more |= {"headers": ["", "on", "words", "strength", "why"], "interactive": True, "type": "array"}
            more |= {"column_widths": ["44px", "64px", "40%", "96px", "36%"], "wrap": True, "buttons": []}
            add("regions", gr.Dataframe, label="Regions", **more)
            with gr.Row():
                add("run", gr.Button, "Run", variant="primary")
                add("stop", gr.Button, "Stop")
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    add("slider", gr.ImageSlider, label="Before and after", format="png", max_height=580)
                with gr.Column(scale=2, min_width=320):
                    add("told", gr.Markdown)
                    with gr.Row():
                        add("keep", gr.Button, "Keep and save", variant="primary")
                        add("away", gr.Button, "Throw away")
                    add("saved", gr.Markdown)
                    add("numbers", gr.HTML)
                    add("files", gr.File, label="Download", interactive=False, visible=False)
    return part
