"""A picture in memory: upright RGB for the flow, everything else kept aside and put back.

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

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from grefine.errors import ImageError
from grefine.io.embedded import Embedded, exif_orientation, upright_exif

MAX_PIXELS = 32 * 2**20
_GREY = ("L", "1", "I;16", "I;16B", "I;16L", "I", "LA", "La")
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_HANDLED = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        return self.mode in _GREY


def printable(path: str | Path) -> str:
    """Return a path that fits on one line and can be printed, whatever bytes it is made of."""
    text = os.fspath(path)
    if text.isprintable():
        return text

    def escaped(char: str) -> str:
        # A byte that is no text comes from the system as one of 128 surrogates.
        byte = "\udc80" <= char <= "\udcff"
        return f"\\x{ord(char) - 0xDC00:02x}" if byte else char.encode("unicode_escape").decode()

    return "".join(char if char.isprintable() else escaped(char) for char in text)


def normalise(image: Image.Image) -> LoadedImage:
    """Bring a PIL image from memory into the form that the flow works on, with what `restore` needs."""
    if not isinstance(image, Image.Image):
        raise ImageError(f"The image is a {type(image).__name__}: give a PIL image.")
    if min(image.size) < 1:
        raise ImageError(f"The image is empty: {image.width} x {image.height} pixels.")
    try:
        image.load()
        return upright(image, embedded_of(image), "The image")
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - a lazily opened file decodes only here
        raise ImageError(f"The image is damaged: {reason_of(error)}.") from error


def restore(rgb: Image.Image, like: LoadedImage) -> Image.Image:
    """Give a refined RGB picture the alpha, greyness and profile of its source."""
    if rgb.size != like.size:
        sizes = [f"{width} x {height}" for width, height in (like.size, rgb.size)]
        raise ImageError(f"{like.name} is {sizes[0]} but its refined picture is {sizes[1]}.")
    image = rgb.convert("L" if like.grey else "RGB")
    if like.alpha is not None:
        image.putalpha(like.alpha)
    if like.embedded.icc:
        image.info["icc_profile"] = like.embedded.icc
    return image


def upright(image: Image.Image, embedded: Embedded, name: str) -> LoadedImage:
    """Return a decoded picture upright, as RGB with its alpha aside."""
    mode, transparency = image.mode, "transparency" in image.info
    notes: list[str] = []
    low, high = image.getextrema() if mode == "I" else (0, 0)
    if mode.startswith("I;16") or (mode == "I" and low >= 0 and high <= 65535):  # type: ignore[operator]
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        transparency = False
        notes.append("16-bit grey was scaled to 8 bits.")
    elif mode == "CMYK":
        image = _from_cmyk(image, embedded.icc)
        notes.append("CMYK was turned into sRGB.")
    elif mode == "YCbCr":
        image = image.convert("RGB")
    elif mode not in _HANDLED:
        raise ImageError(f"{name} has the unsupported colour mode '{mode}': give RGB, grey, palette or CMYK.")
    elif mode in ("P", "PA"):
        notes.append("the palette was resolved; the result is full colour.")
    alpha = None
    if mode in _WITH_ALPHA or transparency:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    rgb = image.convert("RGB")
    if (turn := _TURNS.get(exif_orientation(embedded.exif))) is not None:
        rgb = rgb.transpose(turn)
        alpha = alpha and alpha.transpose(turn)
        notes.append("turned upright as its EXIF asks.")
    rgb.info.clear()
    embedded = replace(embedded, exif=upright_exif(embedded.exif), icc=b"" if mode == "CMYK" else embedded.icc)
    return LoadedImage(rgb, alpha, mode, embedded, notes=tuple(notes))


def _from_cmyk(image: Image.Image, profile: bytes) -> Image.Image:
    with suppress(ImageCms.PyCMSError, OSError, ValueError):
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if turned is not None:
                return turned
    return image.convert("RGB")


def embedded_of(image: Image.Image) -> Embedded:
    """Return EXIF, profile and XMP of a PIL image that no container of ours was read from."""
    info = image.info
    exif = info.get("exif") or b""
    if image.format == "TIFF" or not isinstance(exif, bytes):
        exif = b""
    elif not exif and image.getexif():
        exif = image.getexif().tobytes()
    xmp = info.get("xmp") or b""
    xmp = xmp if isinstance(xmp, bytes) else str(xmp).encode()
    return Embedded((), exif.removeprefix(b"Exif\x00\x00"), info.get("icc_profile") or b"", xmp)


def reason_of(error: Exception) -> str:
    """Return why a decoder failed, in one line."""
    first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return first[:200] if isinstance(error, (OSError, SyntaxError, ValueError)) else f"its {first[:80]} cannot be read"
