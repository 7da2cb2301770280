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

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from grefine.errors import ImageError
from grefine.io.embedded import Embedded, TextChunk, exif_orientation, upright_exif
from grefine.io.modes import is_grey, to_rgb_and_alpha

MAX_PIXELS = 32 * 2**20
MIN_SIDE = 1


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
    text = os.fspath(path)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    """A byte that is no text comes from the system as one of 128 surrogates."""
    return f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char.encode("unicode_escape").decode()


def normalise(image: Image.Image) -> LoadedImage:
    """Bring a PIL image from memory into the form that the flow works on, with what `restore` needs."""
    if not isinstance(image, Image.Image):
        raise ImageError(f"The image is a {type(image).__name__}: give a PIL image.")
    if min(image.size) < MIN_SIDE:
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
        raise ImageError(f"{like.name} is {size_text(like.size)} but its refined picture is {size_text(rgb.size)}.")
    image = rgb.convert("L" if like.grey else "RGB")
    if like.alpha is not None:
        image.putalpha(like.alpha)
    if like.embedded.icc:
        image.info["icc_profile"] = like.embedded.icc
    return image


def upright(image: Image.Image, embedded: Embedded, name: str) -> LoadedImage:
    """Return a decoded picture upright, as RGB with its alpha aside."""
    orientation = exif_orientation(embedded.exif)
    pixels = to_rgb_and_alpha(image, orientation, embedded.icc, name)
    embedded = replace(embedded, exif=upright_exif(embedded.exif), icc=b"" if image.mode == "CMYK" else embedded.icc)
    return LoadedImage(pixels.rgb, pixels.alpha, image.mode, embedded, notes=pixels.notes)


def embedded_of(image: Image.Image) -> Embedded:
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


def size_text(size: tuple[int, int]) -> str:
    """Return a size as people write it."""
    return f"{size[0]} x {size[1]}"


def reason_of(error: Exception) -> str:
    """Return why a decoder failed, in one line."""
    first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return first[:200] if isinstance(error, (OSError, SyntaxError, ValueError)) else f"its {first[:80]} cannot be read"
