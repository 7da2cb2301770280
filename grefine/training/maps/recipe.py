"""`grefine train pq` and `aq`: from a pipeline and opinions to weights, record, curves and measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from grefine.config import load_config
from grefine.errors import ConfigError
from grefine.indicators.calibrate import weights_digest
from grefine.indicators.load import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.io.atomic import write_atomic
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.resources import config_file
from grefine.training.loop import Budget, Record, curves
from grefine.training.maps.aq import AQSettings, fit_alignment
from grefine.training.maps.pq import PQSettings, fit_prompts
from grefine.training.maps.rated import RatedSource
from grefine.training.maps.table import RatedTable

Settings = TypeVar("Settings", PQSettings, AQSettings)
SourceMaker = Callable[[ClipSurgery, PQSettings | AQSettings], RatedSource]
"""`make(clip, settings)` gives a source of opinions in place of a table."""
FREE = ("learning_rate", "weight_decay", "order_weight", "factor_weight", "keep_quality", "epochs")
"""Settings that may change between runs; all others fix what is learnt and from what."""


def train_pq(
    out: Path,
    pipeline: str | Path,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    source: SourceMaker | None = None,
    config: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cpu: bool = False,
) -> dict[str, Any]:
    """Fit PQ-Map's prompts to opinions: `out`/pq_prompts, or go on with those that lie there.

    Args:
        out: folder of the result; a pipeline folder gets its prompts replaced.
        pipeline: whose CLIP (and, as the settings say, whose prompts) is used.
        data: table of opinions (docs/maps.md says how it looks).
        images: folder that the table's names are relative to; None is the table's own.
        source: makes the source of opinions in place of `data`.
        config: YAML file or name in configs/train/pq; None takes "paper".
        minutes, steps: the budget, one of the two; neither means what is left of the epochs over a table.
        seed: in place of the configuration's.
        cpu: stay on the CPU even where an accelerator is present.

    Returns:
        Measurements on held-out pictures before and after, as `out`/pq_prompts/metrics.json holds them.
    """
    settings = _settings("pq", PQSettings, config, seed)
    clip = load_clip(pipeline)
    identity = {"pipeline_clip": weights_digest(clip.float())}
    opinions = _open_source("pq", clip, settings, data, images, source)
    identity["opinions"] = opinions.identity
    record = _resumed(out, "pq", settings, identity)
    budget = _budget(opinions, settings, record, minutes, steps)
    torch.manual_seed(settings.seed)
    if record.samples:
        prompts = PQPrompts.from_pretrained(out / "pq_prompts")
    elif settings.start == "fresh":
        tokenizer = load_tokenizer(pipeline)
        prompts = PQPrompts.from_clip(clip, tokenizer, settings.n_ctx, feature_norm=settings.feature_norm)
    else:
        prompts = load_prompts(pipeline)
    calibration = stored_calibration(pipeline)
    record = fit_prompts(out, clip, prompts, calibration, opinions, settings, budget, Accelerator(cpu=cpu), identity)
    return _finish(out, "pq_prompts", record)


def train_aq(
    out: Path,
    pipeline: str | Path,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    source: SourceMaker | None = None,
    config: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cpu: bool = False,
) -> dict[str, Any]:
    """Fit the CLIP of AQ-Map to opinions on pictures and prompts: `out`/clip, or go on with the one that lies there.

    Arguments as for `train_pq`; every line of a table needs a prompt.
    """
    settings = _settings("aq", AQSettings, config, seed)
    before, prompts = load_clip(pipeline).float(), load_prompts(pipeline)
    opinions = _open_source("aq", before, settings, data, images, source)
    identity = {"opinions": opinions.identity}
    if not _same_folder(out, pipeline):
        identity["pipeline_clip"] = weights_digest(before)
    record = _resumed(out, "aq", settings, identity)
    budget = _budget(opinions, settings, record, minutes, steps)
    torch.manual_seed(settings.seed)
    clip = ClipSurgery.from_pretrained(out / "clip") if record.samples else load_clip(pipeline)
    record = fit_alignment(
        out,
        clip,
        load_tokenizer(pipeline),
        prompts,
        stored_calibration(pipeline),
        opinions,
        settings,
        budget,
        Accelerator(cpu=cpu),
        identity,
        before,
    )
    return _finish(out, "clip", record)


def _settings(kind: str, schema: type[Settings], config: str | Path | None, seed: int | None) -> Settings:
    settings = load_config(config_file(f"train/{kind}", config or "paper"), schema)
    if min(settings.batch - 1, settings.epochs) < 1 or settings.learning_rate <= 0:
        raise ConfigError("batch must be at least 2, epochs at least 1 and learning_rate above 0.")
    return settings if seed is None else replace(settings, seed=seed)


def _open_source(
    kind: str,
    clip: ClipSurgery,
    settings: PQSettings | AQSettings,
    data: str | Path | None,
    images: str | Path | None,
    make: SourceMaker | None,
) -> RatedSource:
    if make is not None:
        return make(clip, settings)
    if data is None:
        raise ConfigError(f"Give `data`: a CSV file of opinions to fit the {kind.upper()}-Map to (docs/maps.md).")
    return RatedTable(clip, data, images, seed=settings.seed, plan=settings.split, prompted=kind == "aq")


def _same_folder(out: Path, pipeline: str | Path) -> bool:
    return Path(pipeline).is_dir() and out.is_dir() and out.samefile(pipeline)


def _resumed(out: Path, name: str, settings: PQSettings | AQSettings, identity: dict[str, Any]) -> Record:
    """Return the record to go on with, and refuse one that another configuration or other data began."""
    record = Record.load(out / "training", name)
    if not record.runs:
        return record
    before = record.runs[-1]["settings"]
    now = json.loads(json.dumps(asdict(settings) | identity))
    for key, value in before.items():
        if key not in FREE and now.get(key) != value:
            raise ConfigError(
                f"'{out}' was trained with {key} {value}, and now it is {now.get(key)}: give another --out, or "
                "what it was begun with."
            )
    return record


def _budget(
    source: RatedSource,
    settings: PQSettings | AQSettings,
    record: Record,
    minutes: float | None,
    steps: int | None,
) -> Budget:
    """Return the budget that was asked for, or what is left of the epochs."""
    if minutes is not None or steps is not None:
        return Budget(minutes, steps)
    if source.size is None:
        raise ConfigError("This source of opinions never ends: give a budget with --minutes N or --steps N.")
    left = settings.epochs * math.ceil(source.size / settings.batch) - record.samples // settings.batch
    if left <= 0:
        raise ConfigError(f"All {settings.epochs} epochs are done: give --steps N to go on, or another --out.")
    return Budget(steps=left)


def _finish(out: Path, component: str, record: Record) -> dict[str, Any]:
    """Draw the curves and write down what was measured before and after."""
    curves(record, out / "training" / f"{record.name}.png")
    names = [name for name in record.rows[0] if name not in ("step", "samples", "cpu_seconds")]
    found = {
        "before": {name: record.rows[0][name] for name in names},
        "after": {name: record.rows[-1][name] for name in names},
        "samples": record.samples,
        "runs": len(record.runs),
    }
    write_atomic(out / component / "metrics.json", (json.dumps(found, indent=1) + "\n").encode())
    return found
