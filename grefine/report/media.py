"""Pictures of a report: small copies and map layers, inside the page while they are few, beside it when many."""

import base64
import os
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from grefine.errors import ImageError
from grefine.indicators.draw import edge_of
from grefine.io.atomic import PARTIAL_PREFIX
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.types import RefineResult

SIDE = 640
"""Longest side of a copy in a report."""
MAP_SIDE = 256
INLINE_BYTES = 12 * 2**20
"""Up to this much the pictures lie inside the page, so that one file can be mailed."""
FOLDER = "report_files"
_OURS = re.compile(r"^([0-9a-f]{24}-\w+\.(webp|png)|page-\d+\.js)$")
_TYPES = {".webp": "image/webp", ".png": "image/png"}
_TINT = {"quality": (234, 88, 12), "alignment": (37, 99, 235), "mask": (13, 148, 136)}


class MediaStore:
    """Keeps pictures in memory until they are too many, then on disk under names made of their content."""

    def __init__(self, out: Path, limit: int = INLINE_BYTES) -> None:
        self.folder = out / FOLDER
        self.limit = limit
        self.inline = True
        self._held: dict[str, bytes] = {}
        self._bytes = 0
        self._used: set[str] = set()

    def put(self, name: str, data: bytes) -> str:
        """Store a file and return its name."""
        self._used.add(name)
        if not self.inline:
            self._write(name, data)
        elif name not in self._held:
            self._held[name] = data
            self._bytes += len(data)
            if self._bytes > self.limit:
                self.inline = False
                for held, content in self._held.items():
                    self._write(held, content)
                self._held.clear()
        return name

    def has(self, name: str) -> bool:
        """Return whether the picture is there already, from this run or an earlier one."""
        if name in self._held:
            return True
        if not (self.folder / name).is_file():
            return False
        if self.inline:
            self.put(name, (self.folder / name).read_bytes())
        self._used.add(name)
        return True

    def read(self, name: str) -> bytes:
        """Return a stored file."""
        return self._held[name] if name in self._held else (self.folder / name).read_bytes()

    def _write(self, name: str, data: bytes) -> None:
        """Write without waiting for the disk: these are copies, and a power cut costs no more than another report."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{PARTIAL_PREFIX}{name}"
        partial.write_bytes(data)
        os.replace(partial, self.folder / name)

    def data_uris(self) -> dict[str, str]:
        """Return name → data URI of what lies inside the page."""
        return {
            name: f"data:{_TYPES[Path(name).suffix]};base64,{base64.b64encode(data).decode('ascii')}"
            for name, data in self._held.items()
        }

    def finish(self) -> None:
        """Remove what earlier reports left in the folder; files that no report of ours wrote are not touched."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if _OURS.match(path.name.removeprefix(PARTIAL_PREFIX)) and path.name not in self._used:
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def add_picture(store: MediaStore, source: Path | str | Image.Image) -> tuple[str, tuple[int, int]]:
    """Store a copy of a picture for the page, or a crossed-out field where it cannot be read; return name and size."""
    try:
        if isinstance(source, Image.Image):
            key = content_hash(source.tobytes() + repr((source.mode, source.size)).encode())
        else:
            key = content_hash(Path(source))
        name = f"{key[:24]}-copy.webp"
        if not store.has(name):
            # Whoever made the run accepted pictures of this size.
            picture = source if isinstance(source, Image.Image) else read_image(source, max_pixels=sys.maxsize).rgb
            store.put(name, picture_bytes(picture.convert("RGB")))
    except (ImageError, OSError):
        crossed = Image.new("RGB", (64, 64), (226, 226, 222))
        for line in ((16, 16, 48, 48), (16, 48, 48, 16)):
            ImageDraw.Draw(crossed).line(line, (150, 60, 50), 3)
        name = store.put(f"{0:024x}-copy.webp", picture_bytes(crossed))
    with Image.open(BytesIO(store.read(name))) as copy:
        return name, copy.size


def picture_bytes(picture: Image.Image) -> bytes:
    """Return a picture's copy for a page as WebP."""
    small = max(picture.size) <= 160
    if max(picture.size) > SIDE:
        picture = picture.copy()
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "WEBP", lossless=small, quality=20 if small else 86, method=1 if small else 2)
    return buffer.getvalue()


def layer_png(kind: str, values: np.ndarray) -> bytes:
    """Return a map `(H, W)` as a transparent PNG that lies over the picture: "quality", "alignment" or "mask"."""
    if kind not in _TINT:
        raise ImageError(f"'{kind}' is no map layer: use one of {', '.join(_TINT)}.")
    field = np.asarray(values, dtype=np.float32)
    if field.ndim != 2 or not np.isfinite(field).all():
        raise ImageError(f"The {kind} layer must be a finite (H, W) array, not shape {field.shape}.")
    strength = field if kind == "mask" else 1.0 - np.clip(field, 0, 1)
    grey = Image.fromarray((np.clip(strength, 0, 1) * 255).round().astype(np.uint8))
    if max(grey.size) > MAP_SIDE:
        resample = Image.Resampling.NEAREST if kind == "mask" else Image.Resampling.BILINEAR
        scale = MAP_SIDE / max(grey.size)
        grey = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), resample)
    alpha = np.asarray(grey, dtype=np.float32) / 255
    rgba = np.zeros((*alpha.shape, 4), dtype=np.uint8)
    rgba[..., :3] = _TINT[kind]
    rgba[..., 3] = (alpha * (0.45 if kind == "mask" else 0.85) * 255).round()
    if kind == "mask":
        rgba[edge_of(alpha > 0.5)] = (255, 255, 255, 230)
    buffer = BytesIO()
    Image.fromarray(rgba, "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def layers_of(result: RefineResult) -> dict[str, bytes]:
    """Return a result's maps as small PNG files by layer name, for runs that write their report at the end."""
    layers = {"quality": layer_png("quality", result.quality.values)}
    if result.alignment.phrases:
        layers["alignment"] = layer_png("alignment", result.alignment.values)
    if result.plan.regions:
        layers["mask"] = layer_png("mask", result.plan.mask)
    return layers


def add_layer(store: MediaStore, kind: str, source: np.ndarray | Path | str) -> str:
    """Store a map layer given as an array, or as a PNG that `layer_png` made earlier; return its name."""
    data = layer_png(kind, source) if isinstance(source, np.ndarray) else Path(source).read_bytes()
    return store.put(f"{content_hash(data)[:24]}-{kind}.png", data)
