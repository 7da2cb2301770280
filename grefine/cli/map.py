"""`grefine map`: where pictures are bad and what of their prompts they miss, as files and as a table."""

import json
from pathlib import Path

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import tell


def map(
    images: list[Path] = Argument(help="Images, or folders of images."),
    out: Path = Option(..., "--out", "-o", help="Folder for overlays, maps, arrays and JSON."),
    prompt: str = Option(None, help="One prompt for all; tables, sidecars and metadata come first."),
    prompts: Path = Option(None, help="Table of prompts (CSV, TSV, JSON or JSON lines)."),
    pipeline: str = Option(None, help="sdxl, tiny (toy scenes only), a folder, a Hub id, or 'released'."),
    config: str = Option("default", help="Settings: a bundled name (default, paper, fast, ...) or a YAML file."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    calibration: Path = Option(None, help="JSON file that `grefine calibrate --out` wrote."),
    quality_map: str = Option(None, metavar="NAME|DIR", help="A provider, or maps, in place of PQ-Map."),
    alignment_map: str = Option(None, metavar="NAME|DIR", help="The same in place of AQ-Map."),
    allow_noncommercial: bool = Option(False, help="Accept a provider whose terms are non-commercial."),
    force: bool = Option(False, help="Also map pictures that the pipeline does not know; it is said."),
    device: str = Option(None, help="cpu, cuda, ..."),
    as_json: bool = Option(False, "--json", help="Print one JSON object per image."),
) -> None:
    """Map pictures without changing them, and draw the mask that `refine` would repaint under the same settings.

    Without a prompt only perceptual quality is judged.
    """
    from grefine.errors import ImageError
    from grefine.indicators.draw import save, table
    from grefine.indicators.providers import maps_of, open_sources
    from grefine.indicators.sources import list_pictures, prompt_sources
    from grefine.io.images import read_image
    from grefine.refine.inspector import Inspector
    from grefine.refine.settings import changed_settings
    from grefine.resources import chosen_pipeline

    pictures, sources = list_pictures(images), prompt_sources(prompt, prompts)
    pipeline = chosen_pipeline(pipeline)
    drawn = open_sources(quality_map, alignment_map, device or "cpu", allow_noncommercial)
    inspect = Inspector(pipeline, changed_settings(config, set_), device=device, calibration=calibration)
    domain, foreign, failed = inspect.domain, 0, 0
    for picture in pictures:
        try:
            read = read_image(picture.path)
            image, asked = read.rgb, sources.find(read, picture.relative)
            strange = domain is not None and domain.is_foreign(image)
            foreign += strange
            if strange and not force:
                failed += 1
                continue
            given = [maps_of(source, [picture.relative]) for source in drawn]
            (seen,) = inspect([image], [asked.prompt], *given, force=force)
        except ImageError as error:
            tell(f"{picture.path}: {error}")
            failed += 1
            continue
        known = {"image": str(picture.path), "prompt": asked.prompt, "prompt_from": asked.origin}
        known |= seen.to_dict()
        place = out / picture.name
        save(place.parent, place.name, image, seen.quality, seen.alignment, seen.plan.mask, known)
        lines = [json.dumps(known, ensure_ascii=False)] if as_json else [str(picture.path), *table(known)]
        echo("\n".join(lines))
        if asked.unsure:
            tell(f"{picture.path}: {asked.unsure}")
    if domain is not None and foreign:
        tell(domain.told(foreign, len(pictures), force))
    if failed:
        raise Exit(1)
