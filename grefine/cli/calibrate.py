"""`grefine calibrate`: measure what a pipeline's similarities mean, on good images with their prompts."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def calibrate(
    pipeline: str = typer.Option(..., help="Folder or bundled name whose model_index.json is to hold the result."),
    images: Path = typer.Option(..., help="Folder of good images."),
    prompts: Path = typer.Option(None, help="Table of their prompts; sidecars and metadata are read without one."),
    out: Path = typer.Option(None, help="Write the calibration to this JSON file and leave the pipeline as it is."),
    phrase_score: str = typer.Option(None, help="class or peak; without it, what tells words apart better."),
    redundant: str = typer.Option(None, help="empty or none; without it, what tells words apart better."),
    false_alarms: float = typer.Option(0.03, help="Share of good images that all gates together may send to repair."),
    force: bool = typer.Option(False, help="Also measure on pictures that the pipeline does not know; it is said."),
    device: str = typer.Option(None, help="cpu, cuda, ..."),
) -> None:
    """Set tau, alpha, a_bound, beta, margin, gates and the mask's threshold from quantiles on good images."""
    from grefine.errors import ConfigError
    from grefine.indicators.calibrate import calibrate as measure
    from grefine.indicators.calibration import accept_readings
    from grefine.indicators.components import store_calibration
    from grefine.indicators.domain_check import check_pictures
    from grefine.indicators.load import load_maps
    from grefine.indicators.sources import list_pictures, prompt_sources, prompts_of
    from grefine.io.images import read_image

    accept_readings(phrase_score, redundant)
    pictures, sources = list_pictures([images]), prompt_sources(None, prompts)
    asked = prompts_of(pictures, sources)
    maps = load_maps(pipeline, device=device, fresh=True)
    if out is None and maps.folder is None:
        raise ConfigError(f"'{pipeline}' is not a folder on this machine: give --out FILE for its calibration.")
    typer.echo(f"looking at {len(pictures)} images", err=True)
    told = check_pictures(pipeline, (read_image(picture.path).rgb for picture in pictures), force)
    stream = (read_image(picture.path).rgb for picture in pictures)
    readings = {"phrase_score": phrase_score, "redundant": redundant}
    done = measure(maps.pq, maps.aq, stream, asked, false_alarms=false_alarms, **readings)  # type: ignore[arg-type]
    for warning in filter(None, [*done.warnings, told]):
        typer.echo(warning, err=True)
    store_calibration(out or maps.folder, done.calibration)  # type: ignore[arg-type]
    typer.echo(
        json.dumps({"calibration": done.calibration.to_dict(), "report": done.report, "forced": told}, indent=1)
    )
