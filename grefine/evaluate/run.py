"""Evaluate two folders: score both sides once, keep the long table, make every view of it."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from grefine.errors import ConfigError
from grefine.evaluate.analysis import analyse
from grefine.evaluate.judges import choose, steered_by, wanted_metrics
from grefine.evaluate.pairs import Prompting, pair_folders, read_prompting
from grefine.evaluate.results import Evaluation, Judged
from grefine.evaluate.scoring import Item, Progress, readable, score_stages
from grefine.evaluate.tables import AFTER, BEFORE, values_of, write_rows
from grefine.io.atomic import write_text
from grefine.io.content import content_hash
from grefine.scorers.cache import ScoreCache
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
        noise_images: on how many inputs the metrics' own noise is measured; 0: none. Default: the preset's, else 32.
        allow_noncommercial: accept the terms of metrics that are not free for every use.
        force: let judges score pictures of a world that they do not know; the headline says so.
    """
    wanted, preset_noise = wanted_metrics(metrics)
    noise_images = preset_noise if noise_images is None else noise_images
    pairing = pair_folders(before, after)
    judged = judge_stages(
        {BEFORE: {p.name: p.before for p in pairing.pairs}, AFTER: {p.name: p.after for p in pairing.pairs}},
        read_prompting({p.name: p.before for p in pairing.pairs}, prompts, group),
        wanted,
        out=None if out is None else Path(out),
        pipeline=pipeline,
        weights=weights,
        device=device,
        seed=seed,
        used_in_loop={*used_in_loop, *steered_by(pair.after for pair in pairing.pairs)},
        noise_images=noise_images,
        allow_noncommercial=allow_noncommercial,
        force=force,
        progress=progress,
    )
    judged = replace(judged, notes=(*pairing.notes, *judged.notes))
    result = Evaluation(
        **vars(judged),
        pairing=replace(pairing, pairs=tuple(p for p in pairing.pairs if p.name in judged.files[BEFORE])),
        out=None if out is None else Path(out),
        settings={
            "before": str(before),
            "after": str(after),
            "prompts": None if prompts is None else str(prompts),
            "metrics": list(judged.judges),
            "group": group,
            "pipeline": None if pipeline is None else str(pipeline),
            "device": device,
            "seed": seed,
            "noise_images": noise_images,
            "force": force,
        },
    )
    if out is not None:
        from grefine.evaluate.write_outputs import write_views

        said = dict(result.settings) | {"python": platform.python_version()}
        write_text(Path(out) / "run.json", json.dumps(said, indent=1))
        write_views(result, Path(out), report=report)
    return result


def judge_stages(
    files: Mapping[str, Mapping[str, Path]],
    prompting: Prompting,
    wanted: Sequence[str | Scorer],
    *,
    out: Path | None,
    pipeline: str | Path | None,
    weights: Mapping[str, str | Path] | None,
    device: str,
    seed: int,
    used_in_loop: Iterable[str],
    noise_images: int,
    allow_noncommercial: bool,
    force: bool,
    progress: Progress | None,
) -> Judged:
    """Score stage → image → file by all judges that can run, and analyse every stage against the first.

    An image that cannot be read at every stage is left out.
    """
    judges, unavailable = choose(
        wanted,
        pipeline=pipeline,
        device=device,
        weights=weights,
        used_in_loop=used_in_loop,
        allow_noncommercial=allow_noncommercial,
    )
    baseline = next(iter(files))
    items = [
        Item(image, stage, path, content_hash(path), prompting.prompts.get(image) or None)
        for stage, paths in files.items()
        for image, path in paths.items()
    ]
    with ScoreCache(None if out is None else out / "scores.jsonl") as cache:
        failed = readable(items, cache)
        items = [item for item in items if item.image not in failed]
        if not items:
            raise ConfigError(f"No pair of images can be read; the first failed with: {next(iter(failed.values()))}")
        rows, specs, log = score_stages(
            items,
            judges,
            cache,
            baseline=baseline,
            noise_images=noise_images,
            seed=seed,
            progress=progress,
            force=force,
        )
    if out is not None:
        write_rows(out / "scores.csv", rows)
    values, groups = values_of(rows), prompting.groups
    return Judged(
        baseline=baseline,
        files={s: {i: path for i, path in paths.items() if i not in failed} for s, paths in files.items()},
        judges=tuple(judge.spec.name for judge in judges),
        rows=tuple(rows),
        specs=specs,
        analyses={
            s: analyse(values, specs, method=s, baseline=baseline, groups=groups) for s in files if s != baseline
        },
        prompting=prompting,
        unavailable={**unavailable, **log.failed},
        failed=failed,
        notes=(*prompting.notes, *log.notes),
        forced=log.forced,
        computed=cache.computed,
        reused=cache.reused,
    )
