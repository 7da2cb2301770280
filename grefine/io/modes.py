"""From any colour mode that a picture file has to RGB and alpha; the rules are listed in `grefine.io.picture`."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from grefine.errors import ImageError

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
class Pixels:
    """A picture as RGB, with its alpha apart."""

    rgb: Image.Image
    alpha: Image.Image | None
    notes: tuple[str, ...]


def is_grey(mode: str) -> bool:
    """Say whether a picture of this mode is given back as grey."""
    return mode in _GREY


def to_rgb_and_alpha(image: Image.Image, orientation: int, profile: bytes, name: str) -> Pixels:
    """Turn a decoded picture upright and into RGB and alpha."""
    mode, transparency = image.mode, "transparency" in image.info
    notes: list[str] = []
    if mode.startswith("I;16") or (mode == "I" and _fits_16_bits(image)):
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
        transparency = False
        notes.append("16-bit grey was scaled to 8 bits.")
    elif mode == "CMYK":
        image = _from_cmyk(image, profile)
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
    if orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[orientation])
        alpha = alpha and alpha.transpose(_TURNS[orientation])
        notes.append("turned upright as its EXIF asks.")
    rgb.info.clear()
    return Pixels(rgb, alpha, tuple(notes))


def _fits_16_bits(image: Image.Image) -> bool:
    low, high = image.getextrema()
    return low >= 0 and high <= 65535  # type: ignore[operator]


def _from_cmyk(image: Image.Image, profile: bytes) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            turned = None
        if turned is not None:
            return turned
    return image.convert("RGB")
