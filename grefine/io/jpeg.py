"""JPEG segments: read what is beside the pixels, put it into another file, add one text without touching the rest."""

import struct
from collections.abc import Iterator

from grefine.io.embedded import Embedded, TextChunk

_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\x00"
_ICC = b"ICC_PROFILE\x00"
_IPTC = b"Photoshop 3.0\x00"
_CARRIED = b"grefine-text\x00"
_LIMIT = 65533
"""Bytes that one segment can hold."""
_APP0, _APP1, _APP2, _APP13, _COM, _SOS = 0xE0, 0xE1, 0xE2, 0xED, 0xFE, 0xDA


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start of the body, length of the body) up to the picture data; that one runs to the end."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            place += 2
            continue
        length = struct.unpack_from(">H", data, place + 2)[0] - 2
        if length < 0 or place + 4 + length > len(data):
            return
        if marker == _SOS:
            yield marker, place + 4, len(data) - place - 4
            return
        yield marker, place + 4, length
        place += 4 + length


def read_embedded(data: bytes) -> Embedded:
    """Return comments, carried texts, EXIF, profile, XMP and IPTC."""
    texts: list[TextChunk] = []
    carried: dict[str, list[bytes]] = {}
    profile: dict[int, bytes] = {}
    exif = xmp = b""
    others: list[tuple[str, bytes]] = []
    for marker, start, length in segments(data):
        body = data[start : start + length]
        if marker == _APP1 and body.startswith(_EXIF):
            exif = exif or body[len(_EXIF) :]
        elif marker == _APP1 and body.startswith(_XMP):
            xmp = xmp or body[len(_XMP) :]
        elif marker == _APP1 and body.startswith(_XMP_MORE):
            others.append(("APP1", body))
        elif marker == _APP2 and body.startswith(_ICC) and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == _APP13 and body.startswith(_IPTC):
            others.append(("APP13", body))
        elif marker == _COM and body.startswith(_CARRIED):
            name, zero, part = body[len(_CARRIED) :].partition(b"\x00")
            if zero:
                carried.setdefault(name.decode("utf-8", "replace"), []).append(part)
        elif marker == _COM:
            texts.append(TextChunk("comment", body.decode("utf-8", "replace").rstrip("\x00"), "comment"))
    whole = {name: b"".join(parts).decode("utf-8", "replace") for name, parts in carried.items()}
    exif = exif or _from_hex(whole.pop("exif-hex", ""))
    xmp = xmp or _from_hex(whole.pop("xmp-hex", ""))
    texts += [TextChunk(name, text, "carried") for name, text in whole.items()]
    icc = b"".join(profile[i] for i in sorted(profile))
    return Embedded(tuple(texts), exif, icc, xmp, tuple(others))


def attach(data: bytes, embedded: Embedded) -> bytes:
    """Return the file with the comments, EXIF and profile of `embedded`; what is too large is carried as a text."""
    head = [b"\xff\xd8"]
    kept: list[bytes] = []
    for marker, start, length in segments(data):
        raw = data[start - 4 : start + length]
        if marker == _APP0:
            head.append(raw)
        elif marker not in (_APP1, _APP2, _APP13, _COM):
            kept.append(raw)
    for name, mark, body in (("exif", _EXIF, embedded.exif), ("xmp", _XMP, embedded.xmp)):
        if body and len(mark) + len(body) <= _LIMIT:
            head.append(_segment(_APP1, mark + body))
        elif body:
            head += _carry(f"{name}-hex", body.hex().encode())
    step = _LIMIT - len(_ICC) - 2
    pieces = [embedded.icc[i : i + step] for i in range(0, len(embedded.icc), step)]
    if len(pieces) < 256:
        head += [_segment(_APP2, _ICC + bytes([i + 1, len(pieces)]) + piece) for i, piece in enumerate(pieces)]
    head += [_segment(int(name[3:]) + _APP0, body) for name, body in embedded.others if name.startswith("APP")]
    for chunk in embedded.texts:
        body = chunk.value.encode("utf-8", "replace")
        if chunk.kind == "comment" and len(body) <= _LIMIT:
            head.append(_segment(_COM, body))
        else:
            head += _carry(chunk.key, body)
    return b"".join(head + kept)


def put_text(data: bytes, key: str, value: str) -> bytes | None:
    """Return the file with exactly one carried text `key`, all else byte for byte; None without picture data."""
    mark = _CARRIED + key.encode("utf-8") + b"\x00"
    parts: list[bytes] = [data[:2]]
    insert_at, place, whole = 1, 2, False
    leading = True
    for marker, start, length in segments(data):
        raw = data[place : start + length]
        place = start + length
        whole = whole or marker == _SOS
        if marker == _COM and data[start : start + length].startswith(mark):
            continue
        parts.append(raw)
        # Readers of JFIF and EXIF expect those two first; offsets in later segments count from themselves.
        leading = leading and marker in (_APP0, _APP1)
        if leading:
            insert_at = len(parts)
    if not whole:
        return None
    parts[insert_at:insert_at] = _carry(key, value.encode("utf-8", "replace"))
    return b"".join(parts) + data[place:]


def pixel_parts(data: bytes) -> Iterator[bytes]:
    """Yield the bytes that decide the pixels."""
    for marker, start, length in segments(data):
        if marker != _COM and not _APP0 <= marker <= _APP0 + 15:
            yield bytes([marker])
            yield data[start : start + length]


def is_whole(data: bytes) -> bool:
    """Say whether the file reaches its end mark."""
    return any(marker == _SOS and data.rfind(b"\xff\xd9", start) >= 0 for marker, start, _ in segments(data))


def fits(exif: bytes) -> bool:
    """Say whether an EXIF block fits into a segment."""
    return len(exif) + len(_EXIF) <= _LIMIT


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def _carry(key: str, body: bytes) -> list[bytes]:
    mark = _CARRIED + key.encode("utf-8", "replace")[:200] + b"\x00"
    step = _LIMIT - len(mark)
    return [_segment(_COM, mark + body[i : i + step]) for i in range(0, max(len(body), 1), step)]
