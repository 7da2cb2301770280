"""One image's maps as files and as a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.indicators import draw
from grefine.indicators.calibration import worst_quality
from grefine.io.atomic import write_atomic, write_text
from grefine.types import AlignmentMap, QualityMap

DECIMALS = 5


def describe(quality: QualityMap, alignment: AlignmentMap, mask: np.ndarray, calibrated: bool) -> dict[str, Any]:
    """Return everything the maps say as plain JSON values."""
    rows = []
    for found in alignment.phrases:
        phrase = found.phrase
        verdict = "excluded" if phrase.negated else draw.VERDICTS[found.defect] if phrase.drawable else "style"
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
        "sheet.png": draw.png(draw.sheet(image, quality, alignment, mask)),
        "quality-overlay.png": draw.png(draw.overlay(image, 1.0 - quality.values)),
        "quality.png": draw.grey_png(quality.values),
        "quality.npy": draw.npy(quality.values),
        "mask.png": draw.png(Image.fromarray(mask.astype(np.uint8) * 255)),
        "alignment-overlay.png": draw.png(draw.overlay(image, alignment.edit)),
        "alignment.png": draw.grey_png(alignment.values),
        "alignment.npy": draw.npy(alignment.values),
    }
    for index, phrase in enumerate(alignment.phrases):
        shown = phrase.region if phrase.defect else phrase.claimed
        if shown is not None:
            files[f"phrase-{index:02d}.png"] = draw.grey_png(shown)
    names = [f"{stem}.{name}" for name in files]
    text = json.dumps(dict(known) | {"files": names}, indent=1, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in zip(names, files.values(), strict=True):
        write_atomic(folder / name, data)
    write_text(folder / f"{stem}.maps.json", text)
