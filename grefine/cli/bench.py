"""`grefine bench`: what a pipeline does where the truth is known."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(name="bench", help="Measure a pipeline where the truth is known.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Measure a pipeline where the truth is known."""


@app.command()
def toyworld(
    pipeline: str = typer.Option("tiny", help="A pipeline of the toy world: a bundled name or a folder."),
    quick: bool = typer.Option(False, help="Few pictures per row, no ablation: about a minute on two cores."),
    json_: Path = typer.Option(None, "--json", help="Write the rows as JSON (docs/toyworld.md has the schema)."),
    markdown: Path = typer.Option(None, help="Write the table that is printed."),
    raw: Path = typer.Option(None, help="Write one JSON line per judged picture."),
    gallery: Path = typer.Option(None, help="Write before, map, mask, after and truth as one PNG."),
    native: Path = typer.Option(None, help="An early checkpoint (unet, text encoders) whose failures are repaired."),
    contrastive: Path = typer.Option(None, help="A CLIP trained without masks (clip, clip_tokenizer), to compare."),
    seed: int = typer.Option(0, help="Of every refinement."),
    device: str = typer.Option(None, help="Where the pipeline runs, e.g. cuda."),
) -> None:
    """Maps, repaints and the whole chain on scenes of the toy world, judged by nets that no pipeline loads."""
    from grefine.toyworld.benchmark.run import bench_toyworld

    report = bench_toyworld(
        pipeline,
        quick=quick,
        seed=seed,
        device=device,
        native=native,
        contrastive=contrastive,
        gallery=gallery,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(report.markdown(), nl=False)
    if json_:
        report.write_json(json_)
    if raw:
        report.write_raw(raw)
    if markdown:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(report.markdown(), encoding="utf-8")
