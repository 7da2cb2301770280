"""`grefine rank`: choose pairs, collect votes, rank the methods, test the judges."""

import json
from pathlib import Path

import typer
from typer import Argument, Option, echo

from grefine.cli.passing import chosen, tell

rank = typer.Typer(
    help="Which refiner is better? Choose the pairs that tell most, collect votes, rank, and test judges.",
    no_args_is_help=True,
)


@rank.command()
def pairs(
    methods: list[Path] = Argument(help="One folder of outputs per method; the folder's name is the method's."),
    out: Path = Option(..., "--out", "-o", help="The study folder to make."),
    k: int = Option(None, "-k", help="Images per pair of methods [16]."),
    random: int = Option(None, help="Further images per pair, drawn at random, for comparison [0]."),
    inputs: Path = Option(None, help="Folder of the inputs, for the semantic distance."),
    lambda_: float = Option(None, "--lambda", help="Weight of the semantic distance [0.1]."),
    distance: str = Option(None, help="auto, offline (no weights needed) or deep (DISTS and VGG) [auto]."),
    cache: Path = Option(None, help="Where descriptors are kept for the next time."),
    common: bool = Option(False, help="Use only the images that every method has."),
    training: int = Option(None, help="Exercises with a known answer at the start [3]."),
    attention: int = Option(None, help="Hidden pairs with a known answer [one in 25, at least 2]."),
    title: str = Option(None, help="Title of the page."),
    question: str = Option(None, help="What subjects are asked."),
    config: str = Option("default", help="A YAML file or the name of a bundled one (default, paper)."),
    seed: int = Option(None, help="For everything that is drawn [0]."),
    json_: bool = Option(False, "--json", help="Print the pairs as JSON."),
) -> None:
    """Choose the few images on which methods differ most (MAD, Eq. 1) and make a study folder of them."""
    import dataclasses

    from grefine.config import load_config
    from grefine.ranking.select import PairsConfig, build_study
    from grefine.resources import config_file

    given = chosen(locals(), "k random lambda_ distance training attention title question seed")
    settings = load_config(config_file("rank", config), PairsConfig, given)
    study = build_study(methods, out, settings, inputs, cache, common, tell)
    if json_:
        echo(json.dumps([dataclasses.asdict(pair) for pair in study.pairs], indent=1))
    else:
        images = len({pair.image for pair in study.pairs})
        echo(f"{len(study.pairs)} pairs of {len(study.methods)} methods on {images} images in '{out}'.")
        echo(f"Distances: {study.appearance}; {study.semantics}; lambda {study.lambda_:g}.")
        echo(f"Next: grefine rank study {out}")


@rank.command()
def study(
    folder: Path = Argument(help="A study folder made by `grefine rank pairs`."),
    port: int = Option(8750, help="0 takes any free port."),
    host: str = Option("127.0.0.1", help="Address to listen on; only this machine by default."),
    allow_host: list[str] = Option([], help="Further host names by which subjects may reach this server."),
    export: Path = Option(None, help="Write the votes as CSV and stop, also while a server is running."),
    min_attention: float = Option(0.0, help="With --export: leave out subjects that pass a smaller share."),
) -> None:
    """Serve the two-alternative forced choice as a page, or export its votes."""
    from grefine.ranking.server import StudyServer
    from grefine.ranking.study import export_votes

    if export is not None:
        for line in export_votes(folder, export, min_attention):
            echo(line)
        return
    server = StudyServer(folder, host, port, tuple(allow_host))
    echo(server.link)
    tell("Give this link to the subjects; Ctrl+C stops. Every vote is stored at once.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        tell(f"Stopped; {len(server.journal)} answers are in '{server.journal.path}'.")
    finally:
        server.server_close()
        server.journal.close()


@rank.command()
def fit(
    votes: Path = Argument(help="CSV: method_a, method_b, votes_a, votes_b; image, subject, group if known."),
    by: str = Option("auto", help="Intervals by subject, image, both, or auto (both where subjects are known)."),
    group: str = Option(None, help="Use only the rows of this group, e.g. mad."),
    method: list[str] = Option([], help="The accepted methods; others in the votes are an error."),
    resamples: int = Option(500, min=0, help="For the intervals; 0 leaves them out."),
    draws: int = Option(100, min=0, help="Per K of the stability curve; 0 leaves it out."),
    plot: Path = Option(None, help="Write a picture (.png, .svg, .pdf)."),
    seed: int = Option(0, help="For everything that is drawn."),
    json_: bool = Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Rank the methods by Thurstone's maximum likelihood (Eq. 2), with intervals, agreement and stability."""
    from grefine.ranking.result import plot_ranking, rank_methods
    from grefine.ranking.votes import in_group, read_votes

    table = in_group(read_votes(votes, method or None), group)
    ranking = rank_methods(table, by, resamples, draws, seed)  # type: ignore[arg-type]
    if plot is not None:
        plot_ranking(ranking, plot)
    echo(json.dumps(ranking.as_dict(), indent=1) if json_ else "\n".join(ranking.lines()))


@rank.command()
def score(
    votes: Path = Argument(help="CSV of votes."),
    metric: list[str] = Option([], help="A metric of the registry (`grefine metrics`); repeat for several."),
    images: list[Path] = Option([], help="The methods' folders, or one folder that holds them."),
    calibrated: list[Path] = Option([], help="Folder of `grefine train rectifier`; repeat for several."),
    prompts: Path = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    pipeline: str = Option(None, help="Take the networks that this pipeline carries."),
    weights: list[str] = Option([], metavar="METRIC=PATH", help="Weights of a metric; may be repeated."),
    allow_noncommercial: bool = Option(False, help="Accept the terms of pyiqa's metrics."),
    force: bool = Option(False, help="Also judge pictures that a network does not know; it is said."),
    device: str = Option("cpu", help="cpu or cuda."),
    seed: int = Option(0, help="For the intervals."),
    json_: bool = Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Score judges by how often they side with the voters (2AFC; ties count half), beside what could be reached."""
    from grefine.io.prompt_table import read_prompt_table
    from grefine.ranking.judges import afc_table, calibrated_values, metric_values, voted_images
    from grefine.ranking.votes import read_votes

    table = read_votes(votes)
    paths = voted_images(table, images) if metric or calibrated else {}
    texts = read_prompt_table(prompts).prompts if prompts is not None else None
    judges = metric_values(metric, paths, pipeline, device, texts, tell, weights, allow_noncommercial, force)
    judges |= calibrated_values(calibrated, paths, device, tell, force)
    found = afc_table(table, judges, seed)
    echo(json.dumps([row.as_dict() for row in found], indent=1) if json_ else "\n".join(r.line() for r in found))
