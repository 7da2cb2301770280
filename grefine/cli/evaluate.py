"""`grefine evaluate`: did the images of one folder become better than those of another?"""

import json
from pathlib import Path

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import pick, tell


def evaluate(
    before: Path = Argument(help="Folder of the images before."),
    after: Path = Argument(help="Folder of the images after, with the same tree."),
    out: Path = Option(..., "--out", "-o", help="Folder for tables, report and the cache of scores."),
    prompts: Path = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    metrics: str = Option(
        "", help="A preset (offline, judges, alignment, paper13), a YAML file, or names with commas; empty: all."
    ),
    group: str = Option(None, help="Column of --prompts to report by, or 'folder' for the first sub-folder."),
    pipeline: str = Option(None, help="Take the judges of this pipeline, and sort the inputs by its p and a."),
    weights: list[str] = Option([], metavar="METRIC=PATH", help="Weights of a metric; may be repeated."),
    used_in_loop: str = Option("", help="Metrics, with commas, that steered the refinement: no evidence."),
    noise_images: int = Option(None, help="Inputs on which each metric's own noise is measured; 0: none."),
    allow_noncommercial: bool = Option(False, help="Accept metrics whose terms are non-commercial."),
    force: bool = Option(False, help="Also judge pictures of a world that the judges do not know; it is said."),
    report: bool = Option(True, help="Write report.html."),
    seed: int = Option(0, help="Of metrics that look at random crops."),
    device: str = Option("cpu", help="cpu, cuda, ..."),
    verbose: bool = Option(False, "--verbose", "-v", help="Also say why each metric that did not run did not."),
    engine: str = Option(None, help="ray: the judges work on a cluster."),
    ray_address: str = Option(None, help="The cluster; without it one of this machine is started."),
    gpus_per_worker: float = Option(1.0, help="GPUs of every actor; 0 to work on CPUs."),
    actors: int = Option(0, help="Actors; 0 for as many as the GPUs serve."),
    as_json: bool = Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Compare two folders image by image; started again, it computes only what is not known yet."""
    given = dict(locals())
    from grefine.cluster import Cluster, judging_on
    from grefine.config import assignments
    from grefine.evaluate.run import evaluate_folders
    from grefine.evaluate.tables import to_markdown
    from grefine.evaluate.views import summary
    from grefine.scorers.registry import split_names
    from grefine.scorers.resolve import absent

    passed = pick(given, "prompts metrics group out pipeline device seed noise_images allow_noncommercial")
    passed |= pick(given, "force report") | {"weights": assignments(weights, "--weights")}
    passed |= {"used_in_loop": split_names(used_in_loop)}
    with judging_on(engine, Cluster(ray_address, gpus_per_worker, actors)):
        result = evaluate_folders(before, after, progress=tell, **passed)
    for line in (*result.failed.values(), *result.notes, *absent(result.unavailable, verbose or bool(metrics))):
        tell(line)
    if as_json:
        echo(json.dumps(summary(result)))
    else:
        echo("\n".join([*result.sentences, "", to_markdown(result.table)]))
        echo(f"{out / 'report.html' if report else out}")
    raise Exit(1 if result.failed else 0)
