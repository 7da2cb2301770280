"""`grefine score`: numbers for image files."""

from pathlib import Path

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import tell


def score(
    paths: list[Path] = Argument(help="Images and folders of images."),
    metrics: str = Option(..., help="Names with commas; `grefine metrics` lists them."),
    out: Path = Option(None, "--out", "-o", help="A .csv or .json file; run again, only what is new is scored."),
    prompts: Path = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    prompt: str = Option(None, help="One prompt for all images that have none."),
    pipeline: str = Option(None, help="Take the judges that this pipeline carries."),
    weights: list[str] = Option([], metavar="METRIC=PATH", help="Weights of a metric; may be repeated."),
    device: str = Option("cpu", help="cpu, cuda, ..."),
    allow_noncommercial: bool = Option(False, help="Accept metrics whose terms are non-commercial."),
    color_space: str = Option(None, help="Show lar_iqa its pictures in RGB, HSV, LAB or YUV."),
    crop_size: int = Option(None, help="Show lar_iqa a middle of so many pixels a side, not its network's own."),
    force: bool = Option(False, help="Also score pictures of a world that a metric does not know; it is said."),
    engine: str = Option(None, help="ray: the judges work on a cluster."),
    ray_address: str = Option(None, help="The cluster; without it one of this machine is started."),
    gpus_per_worker: float = Option(1.0, help="GPUs of every actor; 0 to work on CPUs."),
    actors: int = Option(0, help="Actors; 0 for as many as the GPUs serve."),
    as_json: bool = Option(False, "--json", help="Print JSON instead of CSV."),
) -> None:
    """Score images by one or more metrics, with the prompts that their files, sidecars or a table name."""
    from grefine.cluster import Cluster, judging_on
    from grefine.indicators.sources import prompt_sources
    from grefine.scorers.files import score_files
    from grefine.scorers.lar_iqa import shown_as
    from grefine.scorers.resolve import resolve_all

    judges = resolve_all(
        metrics, weights=weights, pipeline=pipeline, device=device, allow_noncommercial=allow_noncommercial
    )
    if color_space or crop_size is not None:
        judges = {name: shown_as(judge, color_space, crop_size) for name, judge in judges.items()}
    sources = prompt_sources(prompt, prompts)
    with judging_on(engine, Cluster(ray_address, gpus_per_worker, actors)):
        found = score_files(paths, list(judges.values()), sources=sources, out=out, force=force, progress=tell)
    for row in found.rows:
        if row["note"] and row["path"] not in found.foreign:
            tell(f"{row['path']}: {row['note']}")
    if found.told:
        tell(found.told)
    if out is None or as_json:
        echo(found.as_json() if as_json else found.as_csv(), nl=as_json)
    else:
        echo(f"Scores: {out}")
    raise Exit(1 if found.failed else 0)
