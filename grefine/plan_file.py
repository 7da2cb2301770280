"""A repair plan as files: JSON that a person can edit, a mask to paint in, an overlay to look at.

docs/plans.md is the description of the format; `grefine.types.RepairPlan` is what it means.
"""

import base64
import io
import json
import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import PlanError
from grefine.io.atomic import write_atomic

SCHEMA = 1
PLAN, MASK, OVERLAY = ".plan.json", ".mask.png", ".overlay.jpg"
_LONGEST_TEXT = 10_000
_LARGEST_FILE = 64 * 2**20
_KINDS = ("noun", "attribute", "perceptual", "user")
_TOP: dict[str, Any] = {
    "schema": int,
    "note": str,
    "prompt": str,
    "seed": (int, type(None)),
    "restore": bool,
    "beyond_repair": bool,
    "emphasis": list,
    "regions": list,
    "made_for": dict,
    "guidance": dict,
}
_REGION: dict[str, Any] = {
    "on": bool,
    "prompt": str,
    "strength": (int, float),
    "reason": str,
    "kind": str,
    "box": list,
    "phrases": list,
    "is_restoration": bool,
    "pixels": str,
}
_SPOKEN = {int: "a whole number", str: "a text", bool: "true or false", list: "a list", dict: "a group of values"}
_SPOKEN |= {(int, type(None)): "a whole number or null", (int, float): "a number"}


def stem_of(path: str | Path) -> str:
    """Return the path that a plan's files are named by, from that or from the path of its JSON."""
    return os.fspath(path).removesuffix(PLAN)


def write_plan(path: str | Path, values: Mapping[str, Any], mask: np.ndarray, picture: Image.Image | None) -> Path:
    """Write a plan's files and return the path of its JSON, which is written last."""
    stem = stem_of(path)
    Path(stem).parent.mkdir(parents=True, exist_ok=True)
    layer = Image.fromarray(mask.astype(np.uint8) * 255)
    pictures = [(MASK, layer, "PNG")]
    if picture is not None:
        red = Image.new("RGB", picture.size, (230, 40, 60))
        seen = Image.composite(Image.blend(picture.convert("RGB"), red, 0.45), picture.convert("RGB"), layer)
        pictures.append((OVERLAY, seen, "JPEG"))
    for ending, shown, form in pictures:
        buffer = io.BytesIO()
        shown.save(buffer, form)
        write_atomic(Path(stem + ending), buffer.getvalue())
    text = json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False, indent=1)
    write_atomic(Path(stem + PLAN), text.encode("utf-8", "backslashreplace"))
    return Path(stem + PLAN)


def read_plan(path: str | Path) -> tuple[dict[str, Any], np.ndarray]:
    """Return the checked values of a plan, every region's mask among them, and the plan's mask."""
    file = Path(stem_of(path) + PLAN)
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise PlanError(f"'{file}' is too large for a plan.")
        given = json.loads(file.read_text(encoding="utf-8"))
    except PlanError:
        raise
    except OSError as error:
        raise PlanError(f"The plan '{file}' cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"The plan '{file}' is no JSON: {str(error).splitlines()[0][:120]}.") from error
    values = _checked({"guidance": {}} | given if isinstance(given, dict) else given, _TOP, f"'{file}'")
    if not all(_is_number(value) for value in values["guidance"].values()):
        raise PlanError(f"'{file}': guidance holds a number for each name, not {str(values['guidance'])[:60]}.")
    if values["schema"] != SCHEMA:
        raise PlanError(f"'{file}' has schema {values['schema']}, this grefine reads {SCHEMA}: plan again.")
    mask = _mask(Path(stem_of(path) + MASK))
    height, width = mask.shape
    for number, region in enumerate(values["regions"], 1):
        where = f"'{file}': region {number}"
        _checked(region, _REGION, where)
        box = region["box"]
        whole = all(type(side) is int for side in box) and len(box) == 4
        if not (whole and 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise PlanError(f"{where}: the box {str(box)[:60]} is no part of a picture of {width}x{height}.")
        if not 0 < region["strength"] <= 1:
            raise PlanError(f"{where}: strength must lie above 0 and up to 1, not {region['strength']}.")
        if region["kind"] not in _KINDS:
            raise PlanError(f"{where}: kind must be one of {', '.join(_KINDS)}, not '{region['kind'][:40]}'.")
        if not all(type(index) is int and index >= 0 for index in region["phrases"]):
            raise PlanError(f"{where}: phrases must be numbers of phrases, not {str(region['phrases'])[:60]}.")
        region["mask"] = unpack(region.pop("pixels"), (box[3] - box[1], box[2] - box[0]), where)
    for part in values["emphasis"]:
        known = isinstance(part, list) and len(part) == 3 and all(_is_number(value) for value in part)
        if not known or not 0 <= part[0] < part[1] <= len(values["prompt"]) or not 0 < part[2] < 10:
            raise PlanError(f"'{file}': emphasis holds [start, end, weight] within the prompt, not {str(part)[:60]}.")
    return values, mask


def pack(mask: np.ndarray) -> str:
    """Return a mask as a short text."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def unpack(text: str, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask that `pack` wrote."""
    count = shape[0] * shape[1]
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), (count + 7) // 8 + 1)
    except (ValueError, zlib.error) as error:
        raise PlanError(f"{where}: `pixels` is damaged: paint in the mask file to change where it is.") from error
    if len(data) != (count + 7) // 8:
        raise PlanError(f"{where}: `pixels` does not fill its box: change where it is in the mask file.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).reshape(shape).astype(bool)


def _mask(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            return np.asarray(image.convert("L")) >= 128
    except FileNotFoundError as error:
        raise PlanError(f"The plan's mask '{file}' is missing: plan again.") from error
    except Exception as error:  # noqa: BLE001 - decoders raise whatever their parsing meets in a damaged file
        raise PlanError(f"The plan's mask '{file}' is no PNG that can be read: save it as PNG.") from error


def _checked(values: Any, kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise PlanError(f"{where} must hold {', '.join(kinds)}.")
    wrong = [*(name for name in kinds if name not in values), *(name for name in values if name not in kinds)]
    if wrong:
        fault = "is missing" if wrong[0] in kinds else "is no part of a plan"
        raise PlanError(f"{where}: '{wrong[0][:60]}' {fault}.")
    for name, kind in kinds.items():
        value = values[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise PlanError(f"{where}: '{name}' must be {_SPOKEN[kind]}, not {str(value)[:40]!r}.")
        if isinstance(value, (int, float)) and not _is_number(value) and not isinstance(value, bool):
            raise PlanError(f"{where}: '{name}' must be an ordinary number, not {str(value)[:40]}.")
        if isinstance(value, str) and name != "pixels":
            if len(value) > _LONGEST_TEXT:
                raise PlanError(f"{where}: '{name}' is longer than {_LONGEST_TEXT:,} characters.")
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise PlanError(f"{where}: '{name}' holds characters that are no text.")
    return values


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that fits into 63 bits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value < 2**63
