"""The page of a run: every image before and after, with its maps, its decision and the reason, from the journal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.errors import ImageError
from grefine.folder.mirror import at_hand
from grefine.io.images import decode_image
from grefine.io.picture import printable
from grefine.io.places import place_at
from grefine.io.run_files import LAYERS, LastRows, layer_path, layers_at
from grefine.io.samples import read_place
from grefine.report.entry import ReportImage
from grefine.report.records import asked_of, decision_name
from grefine.report.run_page import RefineTally, write_refine_report

SHOWN = 5000
"""Images in the gallery of a page, and lines in its list of those without a result; the table has all."""


def write_run_report(
    rows: LastRows, out: Path, facts: list[tuple[str, str]], notes: list[str], forced: str = ""
) -> Path:
    """Write `report.html` for all images of a run; of very many the gallery shows some, spread evenly."""
    tally, step = RefineTally(), -(-len(rows) // SHOWN)
    if step > 1:
        told = f"The gallery shows one image of {step}; results.csv beside this page lists all {len(rows):,}."
        notes = [told, *notes]
    images = _images(rows, out, tally, max(step, 1))
    return write_refine_report(out, images, facts=facts, notes=notes, forced=forced, tally=tally)


def _images(rows: LastRows, out: Path, tally: RefineTally, step: int) -> Iterator[ReportImage]:
    for number, row in enumerate(rows):
        if row["state"] in tally.left_out:
            tally.leave_out(row["state"], printable(row["file"]), row["reason"], SHOWN)
            continue
        decision = row.get("decision") or {}
        kept = decision_name(row["state"], decision.get("kept", ""))
        guarded = decision.get("guarded") if row["state"] in ("refined", "kept") else None
        if number % step:
            tally.count(kept, guarded)
            continue
        scores = row.get("scores") or {"before": {}, "after": {}}
        shown: dict[str, Any] = {"prompt": row.get("prompt", "")} | asked_of(row)
        with at_hand(out, [row["output"], *(layer_path(Path(), row["output"], one).as_posix() for one in LAYERS)]):
            shown |= layers_at(out, row["output"])
            yield ReportImage(
                name=printable(row["file"]),
                before=picture_before(row["source"]),
                after=out / row["output"],
                kept=kept,
                reason=row["reason"],
                guarded=guarded,
                scores={
                    m: (scores["before"][m], scores["after"][m]) for m in scores["before"] if m in scores["after"]
                },
                noise=row.get("noise", {}),
                notes=tuple(row.get("notes", ())),
                **shown,
            )


def picture_before(source: str) -> Path | Image.Image:
    """Return the input; of one that can no longer be read, a path where nothing is."""
    place = place_at(source)
    if isinstance(place, Path):
        return place
    try:
        return decode_image(read_place(place), source).rgb
    except ImageError:
        return Path(source)
