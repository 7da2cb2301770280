"""`grefine app`: look at pictures, change what would be repainted, run it, keep it or not; in the browser."""

from __future__ import annotations

from pathlib import Path

from typer import Argument, Option, echo

from grefine.cli.passing import pick, tell


def app(
    folder: Path = Argument(None, help="Folder of pictures; without it the examples that come with grefine."),
    pipeline: str = Option(None, help="sdxl, tiny (toy scenes only), a folder or a Hub id."),
    port: int = Option(7860, help="Of this machine; nobody else can connect."),
    out: Path = Option(None, "--out", "-o", help="Folder of what is kept; FOLDER-refined here without it."),
    plans: Path = Option(None, help="Folder of plans, also of `grefine plan`; FOLDER-plans here without it."),
    prompts: Path = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    config: str = Option("default", help="Settings: a bundled name (default, paper, fast, ...) or a YAML file."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    seed: int = Option(0, help="Of the noise; the same as for `refine`."),
    force: bool = Option(False, help="Open also pictures that the pipeline does not know."),
    device: str = Option(None, help="cpu, cuda, ..."),
    dtype: str = Option("auto", help="auto, fp32, fp16 or bf16; the same as for `refine`."),
    open_: bool = Option(False, "--open", help="Open it in the browser."),
) -> None:
    """Open a window on pictures and plans in the browser of this machine."""
    from grefine.app.desk import open_desk
    from grefine.app.serve import serve
    from grefine.refine.settings import changed_settings
    from grefine.resources import bundled, chosen_pipeline

    if folder is None and pipeline in (None, "tiny"):
        examples = bundled("examples") / "images"
        folder, pipeline, prompts = examples, "tiny", prompts or examples / "prompts.csv"
    name = folder.resolve().name if folder else "dropped"
    desk = open_desk(
        folder,
        chosen_pipeline(pipeline),
        out or Path(f"{name}-refined"),
        plans or Path(f"{name}-plans"),
        config=changed_settings(config, set_),
        say=tell,
        **pick(locals(), "prompts seed force device dtype"),
    )
    serve(desk, port, open_, say=echo)
