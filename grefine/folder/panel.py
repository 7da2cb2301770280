"""Before, map and after side by side: what was bad, where it was repainted, what came of it."""

import textwrap
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grefine.indicators.draw import edge_of, fitting, overlay, png
from grefine.types import RefineResult

SMALLEST, LARGEST = 256, 768
"""Sides of one picture in a panel: small ones grow by a whole factor, large ones shrink."""
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 34), (110, 110, 116)
_GAP = 10


def panel_png(before: Image.Image, after: Image.Image, result: RefineResult, prompt: str) -> bytes:
    """Return before, map and after side by side, with their scores and the reason of the decision below, as PNG."""
    bad = np.array(overlay(before, np.clip(1.0 - result.quality.values + result.alignment.edit, 0.0, 1.0)))
    bad[edge_of(result.plan.mask)] = 255
    shown = [_fit(picture) for picture in (before, Image.fromarray(bad), after)]
    width, height = shown[0].size
    size = max(12, min(18, width // 22))
    font = ImageFont.load_default(size)
    painted = result.decision.kept in ("repainted", "both")
    middle = f"bad places, {'repainted ' * painted}inside the line ({result.plan.area:.0%})"
    captions = [f"before   {_scores(result.before.values)}", middle, f"after   {_scores(result.after.values)}"]
    total = width * 3 + _GAP * 4
    lines = _wrap(prompt, font, total - 2 * _GAP, 2) + _wrap(result.decision.reason, font, total - 2 * _GAP, 3)
    line = size + 6
    panel = Image.new("RGB", (total, height + 2 * _GAP + line * (1 + len(lines)) + _GAP), _PAPER)
    draw = ImageDraw.Draw(panel)
    for index, (picture, caption) in enumerate(zip(shown, captions, strict=True)):
        left = _GAP + index * (width + _GAP)
        panel.paste(picture, (left, _GAP))
        draw.text((left, height + _GAP + 4), fitting(caption, font, width), fill=_INK, font=font)
    for index, text in enumerate(lines):
        draw.text((_GAP, height + _GAP + 4 + line * (index + 1)), text, fill=_FAINT, font=font)
    return png(panel)


def _fit(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest > LARGEST:
        scale = LARGEST / longest
        return image.resize((round(image.width * scale) or 1, round(image.height * scale) or 1), Image.Resampling.BOX)
    factor = -(-SMALLEST // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _scores(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {values[name]:.2f}" for name in ("p", "a") if name in values)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    letters = max(1, int(width / font.getlength("n")))
    lines = textwrap.wrap(text[:600], letters, max_lines=most, placeholder=" …")
    return [fitting(line, font, width) for line in lines]
