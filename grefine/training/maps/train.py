"""`grefine train pq` and `aq`: from a pipeline and opinions to weights, record, curves and measurements."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from grefine.config import load_config
from grefine.errors import ConfigError
from grefine.indicators.calibrate import weights_digest
from grefine.indicators.components import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.io.atomic import write_atomic
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.resources import config_file
from grefine.training.loop import Budget, Record, curves, train
from grefine.training.maps.fits import AQSettings, PQSettings, fit_alignment, fit_prompts
from grefine.training.maps.opinions import OpinionSource, RatedTable

SourceMaker = Callable[[ClipSurgery, PQSettings | AQSettings], OpinionSource]
"""`make(clip, settings)` gives a source of opinions in place of a table."""
FREE = ("learning_rate", "weight_decay", "order_weight", "factor_weight", "keep_quality", "epochs")
"""Settings that may change between runs; all others fix what is learnt and from what."""


def train_map(
    kind: Literal["pq", "aq"],
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
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Fit one map to opinions, or go on: PQ-Map's prompts (`out`/pq_prompts) or the CLIP of AQ-Map (`out`/clip)."""
    schema: type[PQSettings | AQSettings] = PQSettings if kind == "pq" else AQSettings
    settings = load_config(config_file(f"train/{kind}", config or "paper"), schema)
    if min(settings.batch - 1, settings.epochs) < 1 or settings.learning_rate <= 0:
        raise ConfigError("batch must be at least 2, epochs at least 1 and learning_rate above 0.")
    if seed is not None:
        settings = replace(settings, seed=seed)
    clip = load_clip(pipeline).float()
    if source is not None:
        opinions = source(clip, settings)
    elif data is not None:
        opinions = RatedTable(clip, data, images, seed=settings.seed, plan=settings.split, prompted=kind == "aq")
        for note in opinions.data.notes:
            progress(note)
    else:
        raise ConfigError(f"Give `data`: a CSV file of opinions to fit the {kind.upper()}-Map to (docs/maps.md).")
    identity = {"opinions": opinions.identity}
    in_place = Path(pipeline).is_dir() and out.is_dir() and out.samefile(pipeline)
    if kind == "pq" or not in_place:
        identity["pipeline_clip"] = weights_digest(clip)
    record = Record.load(out / "training", kind)
    stated = asdict(settings) | identity
    record.check(stated, out, FREE)
    if steps is None and minutes is None and opinions.size is None:
        raise ConfigError("This source of opinions never ends: give a budget with --minutes N or --steps N.")
    whole = settings.epochs * math.ceil((opinions.size or 0) / settings.batch)
    budget = Budget.rest(minutes, steps, whole, record.samples // settings.batch)
    torch.manual_seed(settings.seed)
    accelerator, resumed = Accelerator(cpu=cpu), bool(record.samples)
    calibration, device = stored_calibration(pipeline), accelerator.device
    component = "pq_prompts" if isinstance(settings, PQSettings) else "clip"
    if isinstance(settings, AQSettings):
        fitted = ClipSurgery.from_pretrained(out / component) if resumed else load_clip(pipeline)
        prompts = load_prompts(pipeline)
        tokenizer = load_tokenizer(pipeline)
        fit = fit_alignment(opinions, settings, device, fitted, tokenizer, prompts, calibration, clip)
    else:
        if resumed:
            prompts = PQPrompts.from_pretrained(out / component)
        elif settings.start == "pipeline":
            prompts = load_prompts(pipeline)
        else:
            tokenizer = load_tokenizer(pipeline)
            prompts = PQPrompts.from_clip(clip, tokenizer, settings.n_ctx, feature_norm=settings.feature_norm)
        fit = fit_prompts(opinions, settings, device, clip, prompts, calibration)
    if not record.rows:  # the first row is of before
        record.rows.append({"step": 0, "samples": 0, "cpu_seconds": 0.0} | fit.evaluate())
    done = record.samples // settings.batch
    train(
        lambda number: fit.losses(opinions.draw(done + number, settings.batch)),
        [torch.optim.Adam(fit.parameters, settings.learning_rate, weight_decay=settings.weight_decay)],
        budget,
        record,
        settings=stated,
        evaluate=fit.evaluate,
        save=lambda: fit.part.save_pretrained(out / component),
        batch=settings.batch,
        accelerator=accelerator,
    )
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
