"""Evaluate two folders: score both sides once, keep the long table, make every view of it."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from grefine.errors import ConfigError
from grefine.evaluate.analysis import analyse
from grefine.evaluate.judges import NOISE_IMAGES, choose, steered_by, wanted_metrics
from grefine.evaluate.pairs import Pairing, pair_folders, read_prompting
from grefine.evaluate.results import Evaluation
from grefine.evaluate.scoring import (
    Item,
    Progress,
    ScoringLog,
    measure_change,
    readable,
    score,
    tell_foreign,
)
from grefine.evaluate.tables import AFTER, BEFORE, ScoreRow, write_rows
from grefine.io.atomic import write_text
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.scorers.cache import ScoreCache
from grefine.scorers.fidelity import FIDELITY
from grefine.scorers.files import foreign_among
from grefine.scorers.protocol import Scorer
from grefine.scorers.resolve import Judge
from grefine.types import MetricSpec


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
    found = pair_folders(before, after)
    with ScoreCache(None if out is None else Path(out) / "scores.jsonl") as cache:
        pairing, failed = usable(found, cache)
    prompting = read_prompting(pairing, prompts, group)
    steered = steered_by(pair.after for pair in pairing.pairs)
    judges, unavailable = choose(
        wanted,
        pipeline=pipeline,
        device=device,
        weights=weights,
        used_in_loop={*used_in_loop, *steered},
        allow_noncommercial=allow_noncommercial,
    )
    stages = {BEFORE: {p.name: p.before for p in pairing.pairs}, AFTER: {p.name: p.after for p in pairing.pairs}}
    with ScoreCache(None if out is None else Path(out) / "scores.jsonl") as cache:
        rows, specs, log = score_stages(
            stages,
            judges,
            cache,
            prompts=prompting.prompts,
            noise_images=noise_images,
            seed=seed,
            progress=progress,
            force=force,
        )
    result = Evaluation(
        rows=tuple(rows),
        specs=specs,
        analysis=analyse(rows, specs, groups=prompting.groups),
        pairing=pairing,
        prompting=prompting,
        unavailable={**unavailable, **log.failed},
        failed=failed,
        notes=(*pairing.notes, *prompting.notes, *log.notes),
        forced=log.forced,
        computed=cache.computed,
        reused=cache.reused,
        out=None if out is None else Path(out),
        settings={
            "before": str(before),
            "after": str(after),
            "prompts": None if prompts is None else str(prompts),
            "metrics": [judge.spec.name for judge in judges],
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

        write_rows(Path(out) / "scores.csv", rows)
        write_text(
            Path(out) / "run.json", json.dumps(dict(result.settings) | {"python": platform.python_version()}, indent=1)
        )
        write_views(result, Path(out), report=report)
    return result


def usable(pairing: Pairing, cache: ScoreCache) -> tuple[Pairing, dict[str, str]]:
    """Leave out pairs of which a file cannot be decoded; return the rest and image → reason."""
    items = [
        Item(pair.name, stage, path, content_hash(path))
        for pair in pairing.pairs
        for stage, path in ((BEFORE, pair.before), (AFTER, pair.after))
    ]
    refused = readable(items, cache)
    pairs = tuple(pair for pair in pairing.pairs if pair.name not in refused)
    if not pairs:
        raise ConfigError(f"No pair of images can be read; the first failed with: {next(iter(refused.values()))}")
    return replace(pairing, pairs=pairs), refused


def score_stages(
    stages: Mapping[str, Mapping[str, Path]],
    judges: Sequence[Judge],
    cache: ScoreCache,
    *,
    prompts: Mapping[str, str],
    baseline: str = BEFORE,
    noise_images: int = NOISE_IMAGES,
    seed: int = 0,
    progress: Progress | None = None,
    force: bool = False,
) -> tuple[list[ScoreRow], dict[str, MetricSpec], ScoringLog]:
    """Score stage → image → file by every judge, and measure how far each stage moved from the baseline."""
    items = [
        Item(image, stage, path, content_hash(path), prompts.get(image) or None)
        for stage, files in stages.items()
        for image, path in files.items()
    ]
    originals = {item.image: item for item in items if item.stage == baseline}
    sample = sorted(originals.values(), key=lambda item: item.content)[:noise_images]
    noise = [Item(item.image, BEFORE, item.path, item.content, item.prompt) for item in sample]
    log = ScoringLog()
    rows: list[ScoreRow] = []
    specs: dict[str, MetricSpec] = {name: spec for name, (spec, _) in FIDELITY.items()}
    pictures = [(item.image, item.content, lambda path=item.path: read_image(path).rgb) for item in items]
    foreign = {judge.spec.name: foreign_among(judge, pictures, cache) for judge in judges}
    tell_foreign(foreign, judges, len(originals), force, log)
    for judge in judges:
        left_out = set() if force else foreign[judge.spec.name]
        known, probed = ([i for i in some if i.image not in left_out] for some in (items, noise))
        if not known:
            log.failed[judge.spec.name] = "it knows none of the images"
            continue
        found = score(judge, known, cache, log, noise_items=probed, seed=seed, progress=progress)
        specs |= dict.fromkeys((row.metric for row in found), judge.spec)
        rows += found
    moved = [item for item in items if item.stage != baseline and item.image in originals]
    rows += measure_change(moved, originals, cache, log)
    return rows, specs, log
