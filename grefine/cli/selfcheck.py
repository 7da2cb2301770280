"""`grefine selfcheck`: see on one's own machine that the maps mean what they say."""

import dataclasses
import json
from pathlib import Path

from typer import Exit, Option, echo

from grefine.cli.passing import tell


def selfcheck(
    pipeline: str = Option(None, help="sdxl, tiny (toy scenes only), a folder, a Hub id, or 'released'."),
    images: Path = Option(..., help="Folder of good images."),
    prompts: Path = Option(None, help="Table of their prompts; sidecars and metadata are read without one."),
    count: int = Option(16, min=4, help="Images used, at most."),
    calibration: Path = Option(None, help="JSON file that `grefine calibrate --out` wrote."),
    force: bool = Option(False, help="Also check with pictures that the pipeline does not know; it is said."),
    device: str = Option(None, help="cpu, cuda, ..."),
    as_json: bool = Option(False, "--json", help="Print JSON."),
) -> None:
    """Blur images, swap their prompts, paste defects: does p fall, does a fall, is the defect found?"""
    from grefine.indicators.domain_check import check_pictures
    from grefine.indicators.load import load_maps
    from grefine.indicators.selfcheck import selfcheck as run
    from grefine.indicators.sources import list_pictures, prompt_sources, read_with_prompts
    from grefine.resources import chosen_pipeline

    pipeline = chosen_pipeline(pipeline)
    found = list(read_with_prompts(list_pictures([images])[:count], prompt_sources(None, prompts)))
    shown, asked = [image for image, _ in found], [prompt for _, prompt in found]
    told = check_pictures(pipeline, shown, force)
    maps = load_maps(pipeline, device=device, calibration=calibration)
    checks = run(maps.pq, maps.aq, shown, asked)
    if as_json:
        echo(json.dumps([dataclasses.asdict(c) | {"passed": c.passed, "forced": told} for c in checks], indent=1))
    for check in checks if not as_json else ():
        verdict = "ok    " if check.passed else "FAILED"
        echo(
            f"{verdict} {check.name}: {check.right} of {check.total} pictures ({check.least} or more are right), "
            f"mean {check.change:+.4f} (below 0 is right)"
        )
    if told:
        tell(told)
    if not maps.calibration.calibrated:
        tell("Uncalibrated: `grefine calibrate` sets the thresholds for this pipeline.")
    if not all(check.passed for check in checks):
        raise Exit(1)
