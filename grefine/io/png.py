"""PNG chunks: read what is beside the pixels, put it into another file, add one text without touching the rest."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from grefine.errors import ImageError
from grefine.io.embedded import Embedded, TextChunk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEY = "XML:com.adobe.xmp"
MAX_TEXT = 16 * 2**20
"""Largest unpacked text, and largest sum of all of them, in bytes."""
_TEXT_TYPES = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME")


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start of the body, length of the body) of every whole chunk."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > len(data):
            return
        yield kind, place + 8, length
        place += 12 + length
        if kind == b"IEND":
            return


def read_embedded(data: bytes) -> Embedded:
    """Return texts, EXIF, profile, XMP and the small chunks that describe colour and size."""
    texts: list[TextChunk] = []
    exif = icc = xmp = b""
    others: list[tuple[str, bytes]] = []
    room = MAX_TEXT
    for kind, start, length in chunks(data):
        body = data[start : start + length]
        if kind in _TEXT_TYPES:
            chunk = _text_chunk(kind, body, room)
            if chunk is None:
                continue
            room -= len(chunk.value)
            if chunk.key == XMP_KEY:
                xmp = chunk.value.encode("utf-8")
            else:
                texts.append(chunk)
        elif kind == b"eXIf":
            exif = body.removeprefix(b"Exif\x00\x00")
        elif kind == b"iCCP":
            with suppress(ImageError):
                icc = _unpack(body.partition(b"\x00")[2][1:], MAX_TEXT, "colour profile") or b""
        elif kind in _KEPT:
            others.append((kind.decode(), body))
    return Embedded(tuple(texts), exif, icc, xmp, tuple(others))


def attach(data: bytes, embedded: Embedded) -> bytes:
    """Return the file with its own texts, EXIF and profile replaced by those of `embedded`."""
    replaced = (*_TEXT_TYPES, b"eXIf", b"iCCP", *_KEPT)
    head, tail = [], []
    for kind, start, length in chunks(data):
        raw = data[start - 8 : start + length + 4]
        if kind == b"IHDR":
            head.append(raw)
        elif kind not in replaced:
            tail.append(raw)
    for name, body in embedded.others:
        # A profile and a declared sRGB exclude each other; the profile says more.
        if name.encode() in _KEPT and not (name == "sRGB" and embedded.icc):
            head.append(_chunk(name.encode(), body))
    if embedded.icc:
        head.append(_chunk(b"iCCP", b"profile\x00\x00" + zlib.compress(embedded.icc)))
    if embedded.exif:
        head.append(_chunk(b"eXIf", embedded.exif))
    if embedded.xmp:
        head.append(_encode_text(TextChunk(XMP_KEY, embedded.xmp.decode("utf-8", "replace"), "iTXt")))
    head.extend(_encode_text(chunk) for chunk in embedded.texts)
    return SIGNATURE + b"".join(head) + b"".join(tail)


def put_text(data: bytes, key: str, value: str) -> bytes | None:
    """Return the file with exactly one text `key`, all else byte for byte; None for a file without an end chunk."""
    found = list(chunks(data))
    if not found or found[-1][0] != b"IEND":
        return None
    parts = [SIGNATURE]
    for kind, start, length in found:
        raw = data[start - 8 : start + length + 4]
        if kind == b"IEND":
            parts.append(_encode_text(TextChunk(key, value)))
        elif kind in _TEXT_TYPES and data[start : start + length].split(b"\x00", 1)[0] == key.encode("latin-1"):
            continue
        parts.append(raw)
    end = found[-1][1] + found[-1][2] + 4
    return b"".join(parts) + data[end:]


def pixel_parts(data: bytes) -> Iterator[bytes]:
    """Yield the bytes that decide the pixels."""
    for kind, start, length in chunks(data):
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            yield kind
            yield data[start : start + length]


def is_whole(data: bytes) -> bool:
    """Say whether the file reaches its end mark."""
    return any(kind == b"IEND" for kind, _, _ in chunks(data))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(kind: bytes, body: bytes, room: int) -> TextChunk | None:
    """Decode one text chunk; None for one that is not well formed."""
    name, zero, rest = body.partition(b"\x00")
    if not zero or not name or (kind == b"iTXt" and len(rest) < 2):
        return None
    key, packed, text = name.decode("latin-1"), kind == b"zTXt", rest[1:] if kind == b"zTXt" else rest
    if kind == b"iTXt":  # language and translated name are passed over
        packed, text = bool(rest[0]), rest[2:].partition(b"\x00")[2].partition(b"\x00")[2]
    plain = _unpack(text, room, key) if packed else text
    if plain is None:
        return None
    if kind == b"iTXt":
        return TextChunk(key, plain.decode("utf-8", "replace"), "iTXt")
    return TextChunk(key, plain.decode("latin-1"))


def _unpack(packed: bytes, room: int, key: str) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, max(room, 1))
    except zlib.error:
        return None
    if unpacker.unconsumed_tail:
        raise ImageError(f"its compressed text {key[:40]!r} unpacks to more than {MAX_TEXT // 2**20} MiB")
    return plain


def _encode_text(chunk: TextChunk) -> bytes:
    key = chunk.key.encode("latin-1", "replace")[:79] or b"Comment"
    if chunk.kind != "iTXt" and "\x00" not in chunk.value:
        with suppress(UnicodeEncodeError):
            return _chunk(b"tEXt", key + b"\x00" + chunk.value.encode("latin-1"))
    return _chunk(b"iTXt", key + bytes(5) + chunk.value.encode("utf-8", "replace"))
