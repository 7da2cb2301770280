"""A repair plan (`grefine.types.RepairPlan`) as files to edit, paint in and look at; docs/plans.md describes them."""

import base64
import io
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from grefine.config import build
from grefine.errors import ConfigError, PlanError
from grefine.io.atomic import write_atomic

SCHEMA = 1
PLAN, MASK, OVERLAY = ".plan.json", ".mask.png", ".overlay.jpg"
_LONGEST_TEXT = 10_000
_LARGEST_FILE = 64 * 2**20


_TOP = ["schema", "note", "prompt", "seed", "restore", "beyond_repair", "emphasis", "regions", "made_for"]
REGION = ["on", "prompt", "strength", "reason", "kind", "box", "phrases", "is_restoration"]
_MORE = "guidance"
"""What a plan may hold, too."""
Plan = TypeVar("Plan")
Region = TypeVar("Region")


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


def read_plan(path: str | Path, plan_type: type[Plan], region_type: type[Region]) -> Plan:
    """Return a checked plan; the types are those of `grefine.types`."""
    file = Path(stem_of(path) + PLAN)
    told = f"'{file}'"
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise PlanError(f"{told} is too large for a plan.")
        values = _having(_TOP, json.loads(file.read_text(encoding="utf-8"), parse_int=_number), told)
    except PlanError:
        raise
    except OSError as error:
        raise PlanError(f"The plan {told} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"The plan {told} is no JSON: {str(error).splitlines()[0][:120]}.") from error
    schema, parts = values.pop("schema"), values.pop("regions")
    if schema != SCHEMA:
        raise PlanError(f"{told} has schema {str(schema)[:40]}, this grefine reads {SCHEMA}: plan again.")
    if not isinstance(parts, list):
        raise PlanError(f"{told}: 'regions' must be a list, not {str(parts)[:40]!r}.")
    mask = _mask(Path(stem_of(path) + MASK))
    regions = [_region(part, mask.shape, region_type, f"{told}: region {n}") for n, part in enumerate(parts, 1)]
    values |= {"token_weights": values.pop("emphasis"), "mask": mask, "regions": regions, "file": str(path)}
    plan: Any = _built(plan_type, values, told)
    if (plan.seed or 0) >= 2**63:
        raise PlanError(f"{told}: 'seed' must be an ordinary number, not {plan.seed}.")
    if not all(map(math.isfinite, plan.guidance.values())):
        raise PlanError(f"{told}: guidance must be ordinary numbers, not {str(plan.guidance)[:60]}.")
    for part in plan.token_weights:
        if not 0 <= part[0] < part[1] <= len(plan.prompt) or not 0 < part[2] < 10:
            raise PlanError(f"{told}: emphasis holds [start, end, weight] within the prompt, not {str(part)[:60]}.")
    return plan


def _region(given: Any, shape: tuple[int, int], region_type: type[Region], where: str) -> Region:
    values, (height, width) = _having([*REGION, "pixels"], given, where), shape
    pixels = values.pop("pixels")
    region: Any = _built(region_type, values | {"mask": np.zeros((0, 0), bool)}, where)
    left, top, right, bottom = region.box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PlanError(f"{where}: the box {str(region.box)[:60]} is no part of a picture of {width}x{height}.")
    return replace(region, mask=unpack(pixels, (bottom - top, right - left), where))


def pack(mask: np.ndarray) -> str:
    """Return a mask as a short text."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def unpack(text: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask that `pack` wrote."""
    count = shape[0] * shape[1]
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), (count + 7) // 8 + 1)
    except (ValueError, TypeError, zlib.error):
        data = b""
    if len(data) != (count + 7) // 8:
        raise PlanError(f"{where}: `pixels` is damaged: change where it is in the mask file.")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).reshape(shape).astype(bool)


def _mask(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            return np.asarray(image.convert("L")) >= 128
    except Exception as error:  # noqa: BLE001 - decoders raise whatever their parsing meets in a damaged file
        raise PlanError(f"The plan's mask '{file}' is missing, or no PNG that can be read: plan again.") from error


def _number(digits: str) -> float:
    """Read a whole number; a giant is none."""
    return int(digits) if len(digits) <= 20 else float(digits)


def _having(names: list[str], given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise PlanError(f"{where} must hold {', '.join(names)}.")
    wrong = [*(name for name in names if name not in given), *(name for name in given if name not in (*names, _MORE))]
    if wrong:
        fault = "is missing" if wrong[0] in names else "is no part of a plan"
        raise PlanError(f"{where}: '{wrong[0][:60]}' {fault}.")
    return given


def _built(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    for name, value in values.items():
        if isinstance(value, str) and name != "file":
            if len(value) > _LONGEST_TEXT:
                raise PlanError(f"{where}: '{name}' is longer than {_LONGEST_TEXT:,} characters.")
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise PlanError(f"{where}: '{name}' holds characters that are no text.")
    try:
        return build(kind, values, where)
    except ConfigError as error:
        raise PlanError(str(error).replace("'token_weights'", "'emphasis'")) from error
