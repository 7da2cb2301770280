"""Before, map, mask, after and truth, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lab.bench.cases import Cases, pictures_of
from lab.bench.chain import Outcome
from lab.bench.verdicts import Verdict

ENLARGE = 2
COLUMNS = ("before", "1 - P + E", "repainted", "after", "clean scene")
MARGIN, LINE = 6, 14


def draw_gallery(
    path: Path, cases: Cases, out: Outcome, verdicts: Sequence[Verdict], most: int = 18, across: int = 2
) -> None:
    """Write one strip of five pictures per case, spread over all kinds, `across` strips side by side."""
    rows = _spread(cases.kinds, most)
    side = int(cases.images.shape[-1]) * ENLARGE
    width, height = len(COLUMNS) * (side + 2) + MARGIN, side + LINE + MARGIN
    lines = -(-len(rows) // across)
    sheet = Image.new("RGB", (across * width + MARGIN, lines * height + LINE + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for strip in range(across):
        for column, title in enumerate(COLUMNS):
            pen.text((MARGIN + strip * width + column * (side + 2), 2), title, fill="black")
    before, after, clean = (pictures_of(images) for images in (cases.images, out.images, cases.clean))
    for place, index in enumerate(rows):
        left, top = MARGIN + (place % across) * width, LINE + MARGIN + (place // across) * height
        result = out.results[index]
        heat = np.clip(1.0 - result.quality.values + result.alignment.edit, 0, 1)
        strip = (before[index], _heat(heat), _marked(before[index], result.plan.mask), after[index], clean[index])
        for column, picture in enumerate(strip):
            large = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(large, (left + column * (side + 2), top))
        pen.text((left, top + side), _words(cases, verdicts[index], index, result.decision.kept), fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _words(cases: Cases, verdict: Verdict, index: int, kept: str) -> str:
    state = "improved" if verdict.improved else "worse" if verdict.worse else "same"
    return f"{verdict.kind}, kept {kept}: {state}. {cases.captions[index].text}"[:104]


def _spread(kinds: Sequence[str], most: int) -> list[int]:
    """Return row numbers that take turns over the kinds."""
    by_kind: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(index)
    turns = max(map(len, by_kind.values()), default=0)
    chosen = [rows[turn] for turn in range(turns) for rows in by_kind.values() if turn < len(rows)]
    return sorted(chosen[:most])


def _heat(values: np.ndarray) -> Image.Image:
    """Show 0..1 from dark blue over red to pale yellow."""
    stops = np.array([[24, 28, 66], [142, 36, 92], [232, 92, 60], [252, 236, 160]], dtype=float)
    at = np.clip(values, 0, 1) * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    share = (at - low)[..., None]
    return Image.fromarray((stops[low] * (1 - share) + stops[low + 1] * share).astype(np.uint8))


def _marked(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """Show the picture with all but the repainted places faded."""
    pixels = np.asarray(picture, dtype=float)
    return Image.fromarray(np.where(mask[..., None], pixels, 255 - (255 - pixels) * 0.25).astype(np.uint8))
