"""One image's maps as pictures, as files and as a table."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grefine.indicators.calibration import worst_quality
from grefine.io.atomic import write_atomic, write_text
from grefine.types import AlignmentMap, QualityMap

STOPS = np.array([[12, 10, 40], [92, 18, 110], [190, 55, 84], [244, 136, 32], [252, 255, 164]], dtype=np.float32)
"""Dark to light: from nothing to see here to look here."""
MASK = np.array([64, 220, 255], dtype=np.float32)
LEAST_SIDE = 256
"""Small images are enlarged on sheets, so that a person can see them."""
CAPTION = 34
DECIMALS = 5
VERDICTS = {None: "met", "noun": "missing", "attribute": "not as asked"}
"""Of a phrase, by its defect."""


def colours(values: np.ndarray) -> np.ndarray:
    """Turn `(H, W)` in 0..1 into `(H, W, 3)` uint8."""
    at = np.clip(values, 0.0, 1.0) * (len(STOPS) - 1)
    low = np.minimum(at.astype(int), len(STOPS) - 2)
    share = (at - low)[..., None]
    return np.round(STOPS[low] * (1 - share) + STOPS[low + 1] * share).astype(np.uint8)


def overlay(image: Image.Image, badness: np.ndarray) -> Image.Image:
    """Lay a map over its greyed image; the higher a value, the less of the image shines through."""
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) * 0.75
    share = (0.15 + 0.7 * np.clip(badness, 0.0, 1.0))[..., None]
    return Image.fromarray(np.round(grey * (1 - share) + colours(badness) * share).astype(np.uint8))


def edge_of(mask: np.ndarray) -> np.ndarray:
    """Return the outermost pixels of a mask `(H, W)` bool."""
    wide = np.pad(mask, 1)
    return mask & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])


def sheet(image: Image.Image, quality: QualityMap, alignment: AlignmentMap, mask: np.ndarray) -> Image.Image:
    """Put image, what would be repainted, maps and phrases side by side, each with a caption."""
    share = (0.45 * mask + 0.55 * edge_of(mask))[..., None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    tinted = Image.fromarray(np.round(pixels * (1 - share) + MASK * share).astype(np.uint8))
    panels = [
        (image.convert("RGB"), "image"),
        (tinted, f"mask, {mask.mean():.1%} of the image"),
        (overlay(image, 1 - quality.values), f"where it looks bad (1 - P), p = {quality.score:.3f}"),
    ]
    if alignment.score is not None:
        panels.append((overlay(image, alignment.edit), f"what is not as asked (1 - A), a = {alignment.score:.3f}"))
        for phrase in alignment.phrases:
            shown = phrase.region if phrase.defect else phrase.claimed
            if shown is not None:
                verdict = VERDICTS[phrase.defect]
                panels.append((overlay(image, shown), f"{phrase.phrase.text}: {verdict} ({phrase.a_phs:.2f})"))
    return grid(panels)


def grey_png(values: np.ndarray) -> bytes:
    """Encode a map as a 16-bit grey PNG, 65535 = 1."""
    return png(Image.fromarray(np.round(np.clip(values, 0.0, 1.0) * 65535.0).astype(np.uint16)))


def npy(values: np.ndarray) -> bytes:
    """Encode a map as a .npy file, float32."""
    sink = io.BytesIO()
    np.save(sink, np.asarray(values, dtype=np.float32), allow_pickle=False)
    return sink.getvalue()


def png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def describe(quality: QualityMap, alignment: AlignmentMap, mask: np.ndarray, calibrated: bool) -> dict[str, Any]:
    """Return everything the maps say as plain JSON values."""
    rows = []
    for found in alignment.phrases:
        phrase = found.phrase
        verdict = "excluded" if phrase.negated else VERDICTS[found.defect] if phrase.drawable else "style"
        rows.append(
            {
                "phrase": phrase.text,
                "noun": phrase.noun,
                "ancestor": alignment.phrases[phrase.ancestor].phrase.text,
                "a_phs": round(found.a_phs, DECIMALS),
                "a_pns": round(found.a_pns, DECIMALS),
                "verdict": verdict,
            }
        )
    return {
        "p": round(quality.score, DECIMALS),
        "factors": {name: round(value, DECIMALS) for name, value in quality.factors.items()},
        "worst": round(worst_quality(quality.values), DECIMALS),
        "a": None if alignment.score is None else round(alignment.score, DECIMALS),
        "phrases": rows,
        "mask_area": round(float(mask.mean()), DECIMALS),
        "calibrated": calibrated,
        "note": alignment.note,
    }


def table(known: Mapping[str, Any]) -> list[str]:
    """Return the defect table as lines of text."""
    a = "-" if known["a"] is None else f"{known['a']:.3f}"
    lines = [f"p {known['p']:.3f}  a {a}  mask {known['mask_area']:.1%}"]
    for row in known["phrases"]:
        lines.append(f"  {row['verdict']:14} {row['phrase']}  (a_phs {row['a_phs']:.3f}, a_pns {row['a_pns']:.3f})")
    if known.get("forced"):
        lines.insert(0, f"  {known['forced']}")
    return lines + ([f"  {known['note']}"] if known["note"] else [])


def save(
    folder: Path,
    stem: str,
    image: Image.Image,
    quality: QualityMap,
    alignment: AlignmentMap,
    mask: np.ndarray,
    known: Mapping[str, Any],
) -> None:
    """Write overlays, mask, 16-bit maps, arrays and JSON of one image."""
    files = {
        "sheet.png": png(sheet(image, quality, alignment, mask)),
        "quality-overlay.png": png(overlay(image, 1.0 - quality.values)),
        "quality.png": grey_png(quality.values),
        "quality.npy": npy(quality.values),
        "mask.png": png(Image.fromarray(mask.astype(np.uint8) * 255)),
        "alignment-overlay.png": png(overlay(image, alignment.edit)),
        "alignment.png": grey_png(alignment.values),
        "alignment.npy": npy(alignment.values),
    }
    for index, phrase in enumerate(alignment.phrases):
        shown = phrase.region if phrase.defect else phrase.claimed
        if shown is not None:
            files[f"phrase-{index:02d}.png"] = grey_png(shown)
    names = [f"{stem}.{name}" for name in files]
    text = json.dumps(dict(known) | {"files": names}, indent=1, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in zip(names, files.values(), strict=True):
        write_atomic(folder / name, data)
    write_text(folder / f"{stem}.maps.json", text)


def grid(panels: Sequence[tuple[Image.Image, str]], columns: int = 4) -> Image.Image:
    """Put pictures of one size beside and below each other, each with its caption."""
    width, height = panels[0][0].size
    scale = max(1, min(-(-LEAST_SIDE // min(width, height)), 1024 // max(width, height)))
    shrink = min(1.0, 640 / max(width, height))
    cell = (round(width * scale * shrink) or 1, round(height * scale * shrink) or 1)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    page = Image.new("RGB", (columns * (cell[0] + 8) + 8, rows * (cell[1] + CAPTION) + 8), (250, 250, 250))
    font = ImageFont.load_default(14)
    pen = ImageDraw.Draw(page)
    for index, (panel, caption) in enumerate(panels):
        left, top = 8 + index % columns * (cell[0] + 8), 8 + index // columns * (cell[1] + CAPTION)
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        page.paste(panel.resize(cell, resample), (left, top))
        pen.text((left, top + cell[1] + 4), fitting(caption, font, cell[0]), fill=(20, 20, 20), font=font)
    return page


def fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return as much of a text as is not wider than so many pixels."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"
