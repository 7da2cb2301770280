"""WebP chunks: read what is beside the pixels, put it into another file, add one text without touching the rest."""

import struct
from collections.abc import Iterator

from grefine.io.embedded import Embedded, TextChunk

_TEXT = b"GRFT"
"""Our chunk, `name NUL text`; the container asks readers to skip and keep chunks that they do not know."""
_PICTURE = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_ICC_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x04, 0x02


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the body, length of the body) of every whole chunk."""
    place, end = 12, min(len(data), struct.unpack_from("<I", data, 4)[0] + 8 if len(data) >= 12 else 0)
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > end:
            return
        yield kind, place + 8, length
        place += 8 + length + (length & 1)


def read_embedded(data: bytes) -> Embedded:
    """Return carried texts, EXIF, profile and XMP."""
    texts: list[TextChunk] = []
    exif = icc = xmp = b""
    for kind, start, length in chunks(data):
        body = data[start : start + length]
        if kind == b"EXIF":
            exif = body.removeprefix(b"Exif\x00\x00")
        elif kind == b"ICCP":
            icc = body
        elif kind == b"XMP ":
            xmp = body
        elif kind == _TEXT:
            name, _, text = body.partition(b"\x00")
            texts.append(TextChunk(name.decode("utf-8", "replace"), text.decode("utf-8", "replace"), "carried"))
    return Embedded(tuple(texts), exif, icc, xmp)


def attach(data: bytes, embedded: Embedded) -> bytes:
    """Return the file with its own texts, EXIF and profile replaced by those of `embedded`."""
    picture = [(k, data[s : s + n]) for k, s, n in chunks(data) if k in _PICTURE]
    parts = [(b"VP8X", _header(data, embedded)), (b"ICCP", embedded.icc), *picture]
    parts += [(b"EXIF", embedded.exif), (b"XMP ", embedded.xmp)]
    texts = [(_TEXT, _text_body(chunk.key, chunk.value)) for chunk in embedded.texts]
    return _riff([(kind, body) for kind, body in parts if body or kind in _PICTURE] + texts)


def put_text(data: bytes, key: str, value: str) -> bytes | None:
    """Return the file with exactly one carried text `key`, all other chunks as they were; None without a picture."""
    mark = key.encode("utf-8") + b"\x00"
    kept = [(k, data[s : s + n]) for k, s, n in chunks(data)]
    if not any(k in _PICTURE for k, _ in kept):
        return None
    kept = [(k, body) for k, body in kept if not (k == _TEXT and body.startswith(mark))]
    if kept[0][0] != b"VP8X":
        kept.insert(0, (b"VP8X", _header(data, Embedded())))
    return _riff([*kept, (_TEXT, _text_body(key, value))])


def pixel_parts(data: bytes) -> Iterator[bytes]:
    """Yield the bytes that decide the pixels."""
    for kind, start, length in chunks(data):
        if kind in _PICTURE:
            yield kind
            yield data[start : start + length]


def is_whole(data: bytes) -> bool:
    """Say whether the file is as long as its header says."""
    return len(data) >= 12 and len(data) >= struct.unpack_from("<I", data, 4)[0] + 8


def is_lossless(data: bytes) -> bool:
    """Say whether the picture was coded without loss."""
    return any(kind == b"VP8L" for kind, _, _ in chunks(data))


def _header(data: bytes, embedded: Embedded) -> bytes:
    flags = width = height = 0
    size = b""
    for kind, start, length in chunks(data):
        body = data[start : start + min(length, 16)]
        if kind == b"VP8X" and length >= 10:
            flags, size = body[0] & (_ALPHA_FLAG | _ANIMATION_FLAG), body[4:10]
            break
        if kind == b"ALPH":
            flags |= _ALPHA_FLAG
        elif kind == b"VP8L" and length >= 5:
            bits = struct.unpack_from("<I", body, 1)[0]
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            flags |= _ALPHA_FLAG if bits >> 28 & 1 else 0
        elif kind == b"VP8 " and length >= 10:
            width, height = (v & 0x3FFF for v in struct.unpack_from("<HH", body, 6))
    size = size or b"".join(struct.pack("<I", max(side - 1, 0))[:3] for side in (width, height))
    for part, flag in ((embedded.icc, _ICC_FLAG), (embedded.exif, _EXIF_FLAG), (embedded.xmp, _XMP_FLAG)):
        flags |= flag if part else 0
    return bytes([flags, 0, 0, 0]) + size


def _text_body(key: str, value: str) -> bytes:
    return key.encode("utf-8", "replace") + b"\x00" + value.encode("utf-8", "replace")


def _riff(parts: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(k + struct.pack("<I", len(v)) + v + b"\x00" * (len(v) & 1) for k, v in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
