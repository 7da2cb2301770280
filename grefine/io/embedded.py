"""What an image file carries beside its pixels, in one form for PNG, JPEG and WebP."""

import struct
from dataclasses import dataclass
from typing import Any, Literal

ORIENTATION = 0x0112
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286


@dataclass(frozen=True, slots=True)
class TextChunk:
    """One named text."""

    key: str
    value: str
    kind: Literal["tEXt", "iTXt", "comment", "carried"] = "tEXt"
    """How the file held it: a PNG chunk type, a JPEG comment, or a text that another format gave it to carry."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts, EXIF, colour profile and XMP of one file, as bytes where they are not ours to read."""

    texts: tuple[TextChunk, ...] = ()
    exif: bytes = b""
    """The TIFF structure, without the `Exif` mark that JPEG puts before it."""
    icc: bytes = b""
    xmp: bytes = b""
    others: tuple[tuple[str, bytes], ...] = ()
    """Further parts that only a file of the same format can hold, as (name, body)."""

    def text(self, key: str) -> str | None:
        """Return the first text of that name, or None."""
        return next((chunk.value for chunk in self.texts if chunk.key == key), None)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation 1..8 that an EXIF block asks for; 1 when it asks for none."""
    place = _orientation_place(exif)
    value = struct.unpack_from(f"{place[1]}H", exif, place[0])[0] if place else 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes) -> bytes:
    """Return the block with its orientation set to 1, every other byte as it was."""
    changed = bytearray(exif)
    if place := _orientation_place(exif):
        struct.pack_into(f"{place[1]}H", changed, place[0], 1)
    return bytes(changed)


def _orientation_place(exif: bytes) -> tuple[int, str] | None:
    """Find the two bytes of the orientation in the first directory: (offset, byte order)."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    start = struct.unpack_from(f"{order}I", exif, 4)[0]
    if start + 2 > len(exif):
        return None
    count = struct.unpack_from(f"{order}H", exif, start)[0]
    for i in range(count):
        entry = start + 2 + 12 * i
        if entry + 12 > len(exif):
            return None
        tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
        if tag == ORIENTATION:
            return (entry + 8, order) if kind == 3 else None
    return None


def _exif(exif: bytes) -> Any:
    """Return a block as PIL reads it; None for one that it cannot read."""
    from PIL import Image

    block = Image.Exif()
    try:
        block.load(b"Exif\x00\x00" + exif)
    except Exception:  # noqa: BLE001 - whichever way a block is damaged
        return None
    return block


def user_comment(exif: bytes) -> str:
    """Return the EXIF user comment as text; empty when there is none or it cannot be read."""
    block = _exif(exif) if exif else None
    try:
        # Fooocus writes the tag into the first directory, where it does not belong.
        raw = block and (block.get_ifd(EXIF_IFD).get(USER_COMMENT) or block.get(USER_COMMENT, b""))
    except Exception:  # noqa: BLE001 - a damaged directory holds no comment
        return ""
    if isinstance(raw, str):
        return raw.strip("\x00 ")
    if not isinstance(raw, bytes):
        return ""
    mark, body = raw[:8], raw[8:]
    if mark == b"UNICODE\x00":
        # piexif writes big-endian, several Windows tools little-endian; Latin text has its zeros on one side.
        order = "utf-16-be" if body[0::2].count(0) >= body[1::2].count(0) else "utf-16-le"
        return body.decode(order, "replace").lstrip("\ufeff").rstrip("\x00 ")
    if mark in (b"ASCII\x00\x00\x00", b"\x00" * 8):
        return body.decode("utf-8", "replace").rstrip("\x00 ")
    return raw.decode("utf-8", "replace").strip("\x00 ")


def exif_texts(exif: bytes) -> dict[int, str]:
    """Return the texts of the first EXIF directory by tag; empty for a block that cannot be read."""
    try:
        return {tag: value for tag, value in (_exif(exif) or {}).items() if isinstance(value, str)}
    except Exception:  # noqa: BLE001 - a damaged directory holds no texts
        return {}


def with_user_comment(exif: bytes, text: str) -> bytes:
    """Return an EXIF block that holds `text` as its user comment (UTF-16, as Automatic1111 writes it)."""
    block = _exif(exif)
    try:
        if block is None:  # rewriting what cannot be read would lose it
            return exif
        block.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\x00" + text.encode("utf-16-be", "replace")
        return block.tobytes().removeprefix(b"Exif\x00\x00")
    except Exception:  # noqa: BLE001 - the same
        return exif
