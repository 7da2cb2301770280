"""Picture files in and out: which are read, how far they are trusted, and what can be done without decoding."""

import hashlib
import io
import os
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from PIL import Image

from grefine.errors import ConfigError, ImageError
from grefine.io import jpeg, png, webp
from grefine.io.embedded import Embedded, user_comment, with_user_comment
from grefine.io.picture import MAX_PIXELS, LoadedImage, embedded_of, printable, reason_of, restore, upright

MAX_BYTES = 512 * 2**20
_READABLE = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF")
"""The decoders that are let near a file; none of them starts another program."""
_ENDINGS = {"PNG": ".png .apng", "JPEG": ".jpg .jpeg .jpe .jfif", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}
_ENDINGS |= {"TIFF": ".tif .tiff", "PPM": ".ppm .pgm", "AVIF": ".avif"}
SUFFIXES = {ending: form for form, endings in _ENDINGS.items() for ending in endings.split()}
CONTAINERS: dict[str, ModuleType] = {"PNG": png, "JPEG": jpeg, "WEBP": webp}


@cache
def _readable() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _READABLE if name in Image.OPEN)


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read one picture file."""
    path = Path(path)
    return decode_image(read_bytes(path), path, max_pixels)


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of an ordinary file; pipes, devices, folders and giants are refused before they can hang."""
    name = printable(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"'{name}' is not a file.")
            if status.st_size > max_bytes:
                size = f"{status.st_size / 2**20:.0f} MiB"
                raise ImageError(f"'{name}' is too large: {size}, and {max_bytes // 2**20} MiB are accepted.")
            data = file.read(max_bytes + 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"'{name}' does not exist: give the path of a file.") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"'{name}' cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not data:
        raise ImageError(f"'{name}' is empty: the file has no bytes.")
    return data


def decode_image(data: bytes, path: str | Path | None = None, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Turn the bytes of a picture file into a `LoadedImage`; `path` only names it in messages and results."""
    name = f"'{printable(path)}'" if path is not None else "The image"
    path = None if path is None else Path(path)
    try:
        image = Image.open(io.BytesIO(data), formats=_readable())
        form = "JPEG" if image.format == "MPO" else "BMP" if image.format == "DIB" else image.format or ""
        width, height = image.size
        if min(width, height) < 1:
            raise ImageError(f"{name} has no pixels: {width} x {height}.")
        if width * height > max_pixels:
            told = f"{width} x {height} pixels, and {max_pixels:,} in all are accepted"
            raise ImageError(f"{name} is too large: {told}.")
        # A phone's MPO holds a preview or depth picture beside the photograph; the first one is the picture.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            frames = getattr(image, "n_frames", 2)
            raise ImageError(f"{name} is an animation of {frames} frames: give single pictures.")
        container = CONTAINERS.get(form)
        # Other libraries tell PIL, for the whole process, to fill what is cut off with grey.
        if container and not container.is_whole(data):
            raise ImageError(f"{name} is damaged: the file is cut off before its end.")
        image.load()
        embedded = container.read_embedded(data) if container else embedded_of(image)
        loaded = upright(image, embedded, name)
    except ImageError as error:
        told = str(error)
        raise (error if told.startswith(name) else ImageError(f"{name} is refused: {told}.")) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read: PNG, JPEG and WebP are.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is too large: {max_pixels:,} pixels are accepted.") from error
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than there is.") from error
    except Exception as error:  # noqa: BLE001 - decoders raise whatever their parsing meets in a damaged file
        raise ImageError(f"{name} is damaged: {reason_of(error)}.") from error
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


def encode_image(rgb: Image.Image, like: LoadedImage | None = None, form: str | None = None) -> bytes:
    """Return the bytes of a picture file (in its source's form, else PNG) with all that its source carried."""
    like = like or LoadedImage(rgb=rgb.convert("RGB"))
    form = form or (like.format if like.format in CONTAINERS else "PNG")
    image = restore(rgb, like)
    image.info.clear()
    embedded = like.embedded
    if like.format != form:  # its native place for what others read, carried texts for all else
        exif, parameters = embedded.exif, embedded.text("parameters")
        if form in ("JPEG", "WEBP") and parameters and not user_comment(exif):
            with_comment = with_user_comment(exif, parameters)
            exif = with_comment if form != "JPEG" or jpeg.fits(with_comment) else exif
        embedded = replace(embedded, exif=exif, others=())
    out = io.BytesIO()
    if form == "PNG":
        image.save(out, "PNG", compress_level=6)
        return png.attach(out.getvalue(), embedded)
    if form == "JPEG":
        if like.alpha is not None:
            raise ImageError(f"{like.name} has an alpha channel, which JPEG cannot hold: write PNG or WebP.")
        options = dict(like.jpeg_tables) if like.jpeg_tables else {"quality": 95, "subsampling": 0}
        image.save(out, "JPEG", **options)  # type: ignore[arg-type]
        return jpeg.attach(out.getvalue(), embedded)
    if form == "WEBP":
        lossless = like.lossless if like.format == "WEBP" else False
        image.save(out, "WEBP", lossless=lossless, quality=92, method=4, exact=True)
        return webp.attach(out.getvalue(), embedded)
    raise ConfigError(f"Cannot write '{form}': PNG, JPEG and WEBP are written.")


def pixel_digest(data: bytes, form: str) -> str:
    """Return the SHA-256 of the coded picture alone, which stays when only texts change."""
    state = hashlib.sha256()
    container = CONTAINERS.get(form)
    for part in container.pixel_parts(data) if container else (data,):
        state.update(part)
    return state.hexdigest()


def read_embedded(data: bytes) -> Embedded:
    """Return what a PNG, JPEG or WebP file carries beside its pixels, which are not decoded; nothing for others."""
    for mark, form in ((png.SIGNATURE, "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"RIFF", "WEBP")):
        if data.startswith(mark):
            return CONTAINERS[form].read_embedded(data)
    return Embedded()
