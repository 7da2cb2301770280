"""Picture files out, and what can be done to the bytes of one without decoding it."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from grefine.errors import ConfigError, ImageError
from grefine.io import jpeg, png, webp
from grefine.io.embedded import Embedded, user_comment, with_user_comment
from grefine.io.images import CONTAINERS
from grefine.io.picture import LoadedImage, restore

_JPEG_QUALITY = 95
_WEBP_QUALITY = 92


def encode_image(
    rgb: Image.Image,
    like: LoadedImage | None = None,
    form: str | None = None,
    extra_text: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a picture file with all that its source carried, also across formats.

    `form` defaults to the source's own where that is PNG, JPEG or WebP, and to PNG otherwise.
    """
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
    for key, value in (extra_text or {}).items():
        embedded = embedded.with_text(key, value)
    out = io.BytesIO()
    if form == "PNG":
        image.save(out, "PNG", compress_level=6)
        return png.attach(out.getvalue(), embedded)
    if form == "JPEG":
        if like.alpha is not None:
            raise ImageError(f"{like.name} has an alpha channel, which JPEG cannot hold: write PNG or WebP.")
        options = dict(like.jpeg_tables) if like.jpeg_tables else {"quality": _JPEG_QUALITY, "subsampling": 0}
        image.save(out, "JPEG", **options)  # type: ignore[arg-type]
        return jpeg.attach(out.getvalue(), embedded)
    if form == "WEBP":
        if max(image.size) > 16383:
            size = f"{image.width} x {image.height}"
            raise ImageError(f"{like.name} is {size}; WebP holds at most 16383 a side: write PNG.")
        lossless = like.lossless if like.format == "WEBP" else False
        image.save(out, "WEBP", lossless=lossless, quality=_WEBP_QUALITY, method=4, exact=True)
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
