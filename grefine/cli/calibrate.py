"""`grefine calibrate`: measure what a pipeline's similarities, or a provider's map, mean on good images."""

import json
from pathlib import Path

from typer import Option, echo

from grefine.cli.passing import tell


def calibrate(
    pipeline: str = Option(None, help="Folder or bundled name whose model_index.json is to hold the result."),
    quality_map: str = Option(None, metavar="NAME", help="Measure this provider instead."),
    alignment_map: str = Option(None, metavar="NAME", help="The same of a provider of alignment maps."),
    allow_noncommercial: bool = Option(False, help="Accept a provider whose terms are non-commercial."),
    images: Path = Option(..., help="Folder of good images with prompts; 66 for the usual four gates."),
    prompts: Path = Option(None, help="Table of their prompts; sidecars and metadata are read without one."),
    out: Path = Option(None, help="Write the calibration to this JSON file and leave the pipeline as it is."),
    phrase_score: str = Option(None, help="class or peak; without it, what tells words apart better."),
    redundant: str = Option(None, help="empty or none; without it, what tells words apart better."),
    false_alarms: float = Option(0.03, help="Share of good images that all gates together may send to repair."),
    force: bool = Option(False, help="Also measure on pictures that the pipeline does not know; it is said."),
    device: str = Option(None, help="cpu, cuda, ..."),
) -> None:
    """Set tau, alpha, a_bound, beta, margin, gates and the mask's threshold from quantiles on good images."""
    from dataclasses import asdict

    from grefine.errors import ConfigError
    from grefine.indicators.calibrate import accept_readings
    from grefine.indicators.calibrate import calibrate as measure
    from grefine.indicators.domain_check import check_pictures
    from grefine.indicators.load import load_maps, store_calibration
    from grefine.indicators.providers import measure_provider
    from grefine.indicators.sources import list_pictures, prompt_sources, read_with_prompts
    from grefine.io.images import read_image
    from grefine.resources import chosen_pipeline

    accept_readings(phrase_score, redundant)
    pictures, sources = list_pictures([images]), prompt_sources(None, prompts)
    for kind, name in (("quality", quality_map), ("alignment", alignment_map)):
        if name is not None:
            asks = kind == "alignment"
            texts = [prompt for _, prompt in read_with_prompts(pictures, sources)] if asks else None
            stream = (read_image(picture.path).rgb for picture in pictures)
            edge, file = measure_provider(
                kind, name, stream, texts, false_alarms, device or "cpu", allow_noncommercial
            )
            echo(json.dumps({"kept": str(file), **asdict(edge)}, indent=1))
            if edge.badness == 1.0:
                tell(f"Good pictures reach the worst that '{name}' can say: it is not believed.")
    if quality_map is not None or alignment_map is not None:
        return
    pipeline = chosen_pipeline(pipeline)
    asked = [prompt for _, prompt in read_with_prompts(pictures, sources)]
    maps = load_maps(pipeline, device=device, fresh=True)
    if out is None and maps.folder is None:
        raise ConfigError(f"'{pipeline}' is not a folder on this machine: give --out FILE for its calibration.")
    tell(f"looking at {len(pictures)} images")
    told = check_pictures(pipeline, (read_image(picture.path).rgb for picture in pictures), force)
    stream = (read_image(picture.path).rgb for picture in pictures)
    readings = {"phrase_score": phrase_score, "redundant": redundant}
    done = measure(maps.pq, maps.aq, stream, asked, false_alarms=false_alarms, **readings)  # type: ignore[arg-type]
    for warning in filter(None, [*done.warnings, told]):
        tell(warning)
    store_calibration(out or maps.folder, done.calibration)  # type: ignore[arg-type]
    echo(json.dumps({"calibration": done.calibration.to_dict(), "report": done.report, "forced": told}, indent=1))
