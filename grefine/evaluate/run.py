"""Evaluate two folders: score both sides once, keep the long table, make every view of it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grefine.evaluate.pairs import pair_folders, read_prompting
from grefine.evaluate.results import Evaluation
from grefine.evaluate.scoring import Progress, judge_stages, steered_by, wanted_metrics
from grefine.evaluate.tables import AFTER, BEFORE
from grefine.evaluate.views import write_evaluation
from grefine.scorers.protocol import Scorer


def evaluate_folders(
    before: str | Path,
    after: str | Path,
    *,
    prompts: str | Path | None = None,
    metrics: str | Path | Sequence[str | Scorer] = (),
    group: str | None = None,
    out: str | Path | None = None,
    pipeline: str | Path | None = None,
    weights: Mapping[str, str | Path] | None = None,
    device: str = "cpu",
    seed: int = 0,
    used_in_loop: Iterable[str] = (),
    noise_images: int | None = None,
    allow_noncommercial: bool = False,
    force: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare the images of two folders and say whether the second is better.

    Args:
        before: folder of the inputs.
        after: folder of the outputs, paired by relative path (then by name without suffix).
        prompts: CSV, TSV, JSON or JSONL of prompts by file name; without it sidecars and image metadata are read.
        metrics: a preset ("offline", "paper13", ...), a YAML file, names, or scorers of your own. Empty: every
            registered metric; those that cannot run are named with the reason.
        group: column of the prompt table, or "folder" for the first part of the relative path.
        out: where the tables, the report and the score cache go; nothing is written without it.
        pipeline: a pipeline folder or name: its judges take part, its p and a sort the inputs into thirds.
        seed: of metrics that look at random crops.
        used_in_loop: metrics that steered the refinement, beside those that the outputs themselves name.
        noise_images: on how many inputs the metrics' own noise is measured; 0: none. Default: 32.
        allow_noncommercial: accept the terms of metrics that are not free for every use.
        force: let judges score pictures of a world that they do not know; the headline says so.
    """
    wanted, pairing = wanted_metrics(metrics), pair_folders(before, after)
    prompting = read_prompting(pairing.before, prompts, group)
    out = None if out is None else Path(out)
    judged = judge_stages(
        {BEFORE: pairing.before, AFTER: pairing.after},
        prompting,
        wanted,
        out=out,
        noise_images=noise_images,
        seed=seed,
        force=force,
        progress=progress,
        notes=(),
        pipeline=pipeline,
        device=device,
        weights=weights,
        used_in_loop={*used_in_loop, *steered_by(pairing.after.values())},
        allow_noncommercial=allow_noncommercial,
    )
    settings = {
        "before": str(before),
        "after": str(after),
        "metrics": ", ".join(judged.judges) or "none",
        "pipeline": str(pipeline or "none"),
        "device": device,
    }
    result = Evaluation(**vars(judged), pairing=pairing, out=out, settings=settings)
    if out is not None:
        write_evaluation(result, out, report=report)
    return result
