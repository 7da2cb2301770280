"""`grefine score`: numbers for image files."""

from pathlib import Path

import typer


def score(
    paths: list[Path] = typer.Argument(help="Images and folders of images."),
    metrics: str = typer.Option(..., help="Names with commas; `grefine metrics` lists them."),
    out: Path = typer.Option(None, "--out", "-o", help="A .csv or .json file; run again, only what is new is scored."),
    prompts: Path = typer.Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    prompt: str = typer.Option(None, help="One prompt for all images that have none."),
    pipeline: str = typer.Option(None, help="Take the judges that this pipeline carries."),
    weights: list[str] = typer.Option([], metavar="METRIC=PATH", help="Weights of a metric; may be repeated."),
    device: str = typer.Option("cpu", help="cpu, cuda, ..."),
    allow_noncommercial: bool = typer.Option(False, help="Accept metrics whose terms are non-commercial."),
    color_space: str = typer.Option(None, help="Show lar_iqa its pictures in RGB, HSV, LAB or YUV."),
    crop_size: int = typer.Option(None, help="Show lar_iqa a middle of so many pixels a side, not its network's own."),
    force: bool = typer.Option(False, help="Also score pictures of a world that a metric does not know; it is said."),
    engine: str = typer.Option(None, help="ray: the judges work on a cluster."),
    ray_address: str = typer.Option(None, help="The cluster; without it one of this machine is started."),
    gpus_per_worker: float = typer.Option(1.0, help="GPUs of every actor; 0 to work on CPUs."),
    actors: int = typer.Option(0, help="Actors; 0 for as many as the GPUs serve."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of CSV."),
) -> None:
    """Score images by one or more metrics, with the prompts that their files, sidecars or a table name."""
    from grefine.cluster import Cluster, judging_on
    from grefine.io.prompt_table import read_prompt_table
    from grefine.io.prompts import PromptSources
    from grefine.scorers.files import score_files
    from grefine.scorers.resolve import resolve_all, shown_as

    judges = resolve_all(
        metrics, weights=weights, pipeline=pipeline, device=device, allow_noncommercial=allow_noncommercial
    )
    if color_space or crop_size is not None:
        judges = {name: shown_as(judge, color_space, crop_size) for name, judge in judges.items()}
    table = None if prompts is None else read_prompt_table(prompts)
    with judging_on(engine, Cluster(ray_address, gpus_per_worker, actors)):
        found = score_files(
            paths,
            list(judges.values()),
            sources=PromptSources(table, prompt),
            out=out,
            force=force,
            progress=lambda line: typer.echo(line, err=True),
        )
    for row in found.rows:
        if row["note"] and row["path"] not in found.foreign:
            typer.echo(f"{row['path']}: {row['note']}", err=True)
    if found.told:
        typer.echo(found.told, err=True)
    if out is None or as_json:
        typer.echo(found.as_json() if as_json else found.as_csv(), nl=as_json)
    else:
        typer.echo(f"Scores: {out}")
    raise typer.Exit(1 if found.failed else 0)
