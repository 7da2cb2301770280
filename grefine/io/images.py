"""Images in and out: upright RGB for the flow, everything else kept aside and put back.

The rule, one line per kind of picture:

    turned by EXIF      made upright; the kept EXIF says "upright"
    alpha               set aside as 8 bits and put back unchanged; the colour below transparent pixels is kept
    grey, grey + alpha  refined as RGB, given back as grey (luma of the result)
    one bit             refined as RGB, given back as 8-bit grey
    palette             given back as RGB: a refined picture rarely fits its old palette
    16-bit grey         scaled to 8 bits (65535 becomes 255), given back as 8-bit grey
    16-bit colour       read as 8 bits, given back as 8-bit colour
    CMYK                turned into sRGB through its own profile, or plainly without one; given back as RGB
    colour profile      never applied to RGB or grey: the numbers are refined as they are and the profile is kept
    animation, float, 32-bit and other colour spaces: refused by name
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from PIL import Image

from grefine.errors import ImageError
from grefine.io import jpeg, png, webp
from grefine.io.embedded import Embedded, TextChunk, exif_orientation, upright_exif
from grefine.io.modes import is_grey, to_rgb_and_alpha

Format = Literal["PNG", "JPEG", "WEBP"]

MAX_PIXELS = 32 * 2**20
MAX_BYTES = 512 * 2**20
MIN_SIDE = 1
_READABLE = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF")
"""The decoders that are let near a file; none of them starts another program."""
SUFFIXES = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".avif": "AVIF",
}
CONTAINERS: dict[str, ModuleType] = {"PNG": png, "JPEG": jpeg, "WEBP": webp}


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One upright picture and everything that has to be given back with it."""

    rgb: Image.Image
    """Mode RGB."""
    alpha: Image.Image | None = None
    """Mode L, of the same size."""
    mode: str = "RGB"
    """The mode of the source, as PIL names it."""
    embedded: Embedded = field(default_factory=Embedded)
    path: Path | None = None
    format: str = ""
    """What the content is, whatever the name says; empty for a picture from memory."""
    notes: tuple[str, ...] = ()
    """What was converted, one sentence each."""
    jpeg_tables: Mapping[str, object] | None = None
    """Quantisation, sub-sampling and scan order of a JPEG source, so that it is written as it was."""
    lossless: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.size

    @property
    def name(self) -> str:
        """The file's name, or what to call a picture without one."""
        return printable(self.path) if self.path is not None else "the image"

    @property
    def grey(self) -> bool:
        """True when it is given back as grey."""
        return is_grey(self.mode)


def printable(path: str | Path) -> str:
    """Return a path that fits on one line and can be printed, whatever bytes it is made of."""
    return "".join(c if c.isprintable() else _escaped(c) for c in os.fspath(path))


def _escaped(char: str) -> str:
    """A byte that is no text comes from the system as one of 128 surrogates."""
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char.encode("unicode_escape").decode()


@cache
def _readable() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read one picture file.

    Raises:
        ImageError: anything that keeps the file from being used, in one sentence that names it.
    """
    path = Path(path)
    return decode_image(read_bytes(path), path, max_pixels)


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of an ordinary file; pipes, devices, folders and giants are refused before they can hang.

    Raises:
        ImageError: the file cannot be read; the sentence names it.
    """
    name = printable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"'{name}' is not a file: give PNG, JPEG or WebP files.")
            if status.st_size > max_bytes:
                size = f"{status.st_size / 2**20:.0f} MiB"
                raise ImageError(f"'{name}' is too large: {size}, and {max_bytes // 2**20} MiB are accepted.")
            data = file.read(max_bytes + 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"'{name}' does not exist: give the path of an image file.") from error
    except PermissionError as error:
        raise ImageError(f"'{name}' may not be read: no permission.") from error
    except (OSError, ValueError) as error:
        loop = getattr(error, "errno", None) == errno.ELOOP
        reason = "its symbolic links lead in a circle" if loop else getattr(error, "strerror", None) or str(error)
        raise ImageError(f"'{name}' cannot be read: {reason}.") from error
    if not data:
        raise ImageError(f"'{name}' is empty: the file has no bytes.")
    return data


def decode_image(data: bytes, path: str | Path | None = None, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Turn the bytes of a picture file into a `LoadedImage`; `path` only names it in messages and results.

    Raises:
        ImageError: damaged, too large, animated, or in a colour space that is not handled.
    """
    path = None if path is None else Path(path)
    name = f"'{printable(path)}'" if path is not None else "The image"
    try:
        image = Image.open(io.BytesIO(data), formats=_readable())
        form = "JPEG" if image.format == "MPO" else "BMP" if image.format == "DIB" else image.format or ""
        _check_size(image.size, max_pixels, name)
        _check_frames(image, name)
        container = CONTAINERS.get(form)
        # Other libraries tell PIL, for the whole process, to fill what is cut off with grey.
        if container and not container.is_whole(data):
            raise ImageError(f"{name} is damaged: the file is cut off before its end.")
        image.load()
        embedded = container.read_embedded(data) if container else _embedded_of(image)
        loaded = _normalise(image, embedded, name)
    except ImageError as error:
        raise _named(error, name) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read: PNG, JPEG and WebP are.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large: {max_pixels:,} pixels are accepted.") from error
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than there is.") from error
    except Exception as error:  # noqa: BLE001 - decoders raise whatever their parsing meets in a damaged file
        raise ImageError(f"{name} is damaged: {_reason(error)}.") from error
    notes = loaded.notes
    if form == "PNG" and len(data) > 24 and data[24] == 16 and not loaded.grey:
        notes = (*notes, "16 bits per channel were read as 8.")
    return replace(
        loaded,
        path=path,
        format=form,
        notes=notes,
        jpeg_tables=_jpeg_tables(image) if form == "JPEG" else None,
        lossless=form not in ("JPEG", "AVIF") and not (form == "WEBP" and not webp.is_lossless(data)),
    )


def normalise(image: Image.Image) -> LoadedImage:
    """Bring a PIL image from memory into the form that the flow works on, with what `restore` needs.

    Raises:
        ImageError: an animation or a mode that is not handled.
    """
    if not isinstance(image, Image.Image):
        raise ImageError(f"The image is a {type(image).__name__}: give a PIL image.")
    if min(image.size) < MIN_SIDE:
        raise ImageError(f"The image is empty: {image.width} x {image.height} pixels.")
    try:
        image.load()
        return _normalise(image, _embedded_of(image), "The image")
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - a lazily opened file decodes only here
        raise ImageError(f"The image is damaged: {_reason(error)}.") from error


def restore(rgb: Image.Image, like: LoadedImage) -> Image.Image:
    """Give a refined RGB picture the alpha, greyness and profile of its source.

    Raises:
        ImageError: the sizes differ.
    """
    if rgb.size != like.size:
        raise ImageError(f"{like.name} is {size_text(like.size)} but its refined picture is {size_text(rgb.size)}.")
    image = rgb.convert("L" if like.grey else "RGB")
    if like.alpha is not None:
        image.putalpha(like.alpha)
    if like.embedded.icc:
        image.info["icc_profile"] = like.embedded.icc
    return image


def _normalise(image: Image.Image, embedded: Embedded, name: str) -> LoadedImage:
    orientation = exif_orientation(embedded.exif)
    pixels = to_rgb_and_alpha(image, orientation, embedded.icc, name)
    embedded = replace(embedded, exif=upright_exif(embedded.exif), icc=b"" if image.mode == "CMYK" else embedded.icc)
    return LoadedImage(pixels.rgb, pixels.alpha, image.mode, embedded, notes=pixels.notes)


def _embedded_of(image: Image.Image) -> Embedded:
    """Collect from a PIL image what our own readers take from a file."""
    info = image.info
    texts = []
    known = ("exif", "icc_profile", "xmp", "transparency", "dpi", "comment", "photoshop")
    pairs = getattr(image, "text", None)
    for key, value in (pairs if isinstance(pairs, dict) else info).items():
        if isinstance(key, str) and isinstance(value, str) and key not in known:
            texts.append(TextChunk(key, value, "iTXt" if not value.isascii() else "tEXt"))
    comment = info.get("comment")
    if comment:
        text = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)
        texts.append(TextChunk("comment", text, "comment"))
    exif = info.get("exif") or b""
    if image.format == "TIFF" or not isinstance(exif, bytes):
        exif = b""
    elif not exif and image.getexif():
        exif = image.getexif().tobytes()
    xmp = info.get("xmp") or b""
    return Embedded(
        tuple(texts),
        exif.removeprefix(b"Exif\x00\x00"),
        info.get("icc_profile") or b"",
        xmp if isinstance(xmp, bytes) else str(xmp).encode(),
    )


def _jpeg_tables(image: Image.Image) -> dict[str, object] | None:
    from PIL import JpegImagePlugin

    tables = getattr(image, "quantization", None)
    if not tables or image.mode not in ("RGB", "L"):
        return None
    sampling = JpegImagePlugin.get_sampling(image)
    return {
        "qtables": [tables[i] for i in sorted(tables)],
        "subsampling": sampling if sampling in (0, 1, 2) else 0,
        "progressive": bool(image.info.get("progressive")),
        "optimize": True,
    }


def _check_size(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width < MIN_SIDE or height < MIN_SIDE:
        raise ImageError(f"{name} has no pixels: {width} x {height}.")
    if width * height > max_pixels:
        raise ImageError(f"{name} is too large: {width} x {height} pixels, and {max_pixels:,} in all are accepted.")


def _check_frames(image: Image.Image, name: str) -> None:
    # A phone's MPO holds a preview or depth picture beside the photograph; the first one is the picture.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 2)
        raise ImageError(f"{name} is an animation of {frames} frames: give single pictures.")


def _named(error: ImageError, name: str) -> ImageError:
    text = str(error)
    return error if text.startswith(name) else ImageError(f"{name} is refused: {text}.")


def size_text(size: tuple[int, int]) -> str:
    """Return a size as people write it."""
    return f"{size[0]} x {size[1]}"


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return first[:200] if isinstance(error, (OSError, SyntaxError, ValueError)) else f"its {first[:80]} cannot be read"
