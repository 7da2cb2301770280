"""Three hundred files that nobody would want: cut, empty, lying, fuzzed, exploding, odd, and a few good ones."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from small_world import scene


def encoded(form: str, image: Image.Image | None = None, **options) -> bytes:
    out = io.BytesIO()
    (image or scene(0)).save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_with(extra: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + extra + plain[33:]


def text(key: str, value: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value)
    return encoded("PNG", pnginfo=info)


def cut_files():
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(form)
        for part in range(10):
            yield f"cut_{form}_{part}.{form.lower()}", data[: len(data) * part // 11]


def lying_files():
    contents = [
        b"\x00" * 100,
        b"<html></html>",
        b"PK\x03\x04" + b"x" * 50,
        b"\x7fELF" + b"x" * 50,
        b"%PDF-1.4",
        b"GIF",
    ]
    contents += [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\xff\xff\xffWEBP", b"BM", b"II*\x00", b"%!PS-Adobe"]
    for number, content in enumerate(contents):
        for suffix in ("png", "jpg"):
            yield f"lying_{number}.{suffix}", content
    for number, form in enumerate(("JPEG", "WEBP", "GIF", "BMP")):
        yield f"other_content_{number}.png", encoded(form)


def fuzzed_files(count: int = 110):
    rng = np.random.default_rng(0)
    forms = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
    for number in range(count):
        form = forms[number % len(forms)]
        data = bytearray(encoded(form))
        for place in rng.integers(0, min(len(data), 80), 1 + number % 6):
            data[place] = rng.integers(0, 256)
        yield f"fuzzed_{number}.{form.lower()}", bytes(data)


def exploding_files():
    packed = zlib.compress(bytes(100 * 2**20))
    for side in (20_000, 60_000, 2**31 - 1):
        yield f"bomb_{side}.png", png(side, side, data=bytes(1000))
        gif = bytearray(encoded("GIF"))
        gif[6:10] = struct.pack("<HH", min(side, 65535), min(side, 65535))
        yield f"bomb_{side}.gif", bytes(gif)
        bmp = bytearray(encoded("BMP"))
        bmp[18:26] = struct.pack("<ii", side, side)
        yield f"bomb_{side}.bmp", bytes(bmp)
    yield "bomb_ztxt.png", png_with(chunk(b"zTXt", b"parameters\x00\x00" + packed))
    yield "bomb_itxt.png", png_with(chunk(b"iTXt", b"parameters\x00\x01\x00\x00\x00" + packed))
    yield (
        "bomb_many.png",
        png_with(b"".join(chunk(b"zTXt", b"k\x00\x00" + zlib.compress(bytes(900_000))) for _ in range(90))),
    )
    yield "bomb_icc.png", png_with(chunk(b"iCCP", b"p\x00\x00" + packed))
    yield "bomb_rows.png", png(8000, 8000, 1, 0, data=bytes(1001 * 8000))


def odd_files():
    """Pictures of every kind that are good, or refused for what they are."""
    image = scene(3)
    sixteen = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    yield "good_16_grey.png", encoded("PNG", Image.fromarray(sixteen))
    rows = b"".join(b"\x00" + os.urandom(32 * 6) for _ in range(32))
    yield "good_16_colour.png", png(32, 32, 16, 2, rows)
    yield "good_cmyk.jpg", encoded("JPEG", image.convert("CMYK"))
    yield "good_grey.jpg", encoded("JPEG", image.convert("L"))
    for colours in (2, 16, 256):
        yield f"good_palette_{colours}.png", encoded("PNG", image.quantize(colours))
        yield f"good_palette_{colours}.gif", encoded("GIF", image.quantize(colours))
    yield "good_hole.png", encoded("PNG", image.quantize(16), transparency=3)
    for mode in ("RGBA", "LA", "1", "L"):
        yield f"good_{mode}.png", encoded("PNG", image.convert(mode))
    for side in ((1, 1), (1, 500), (700, 2)):
        yield f"small_{side[0]}.png", encoded("PNG", image.resize(side))
    frames = [scene(i) for i in range(3)]
    for form in ("GIF", "PNG", "WEBP"):
        yield f"film.{form.lower()}", encoded(form, frames[0], save_all=True, append_images=frames[1:])
    yield "float.tif", encoded("TIFF", Image.new("F", (8, 8)))
    yield "lab.tif", encoded("TIFF", Image.new("LAB", (8, 8)))
    exif = Image.Exif()
    exif[0x010E] = "d" * 2_000_000
    yield "good_huge_exif.png", encoded("PNG", exif=exif.tobytes())
    for number, block in enumerate((b"Exif\x00\x00II*\x00", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", os.urandom(500))):
        yield f"broken_exif_{number}.jpg", encoded("JPEG", exif=block)
        yield f"broken_exif_{number}.webp", encoded("WEBP", exif=block)
    for number in range(12):
        yield f"good_plain_{number}.png", encoded("PNG", scene(number))


def hostile_texts():
    deep = "[" * 50_000 + "]" * 50_000
    circle = {str(i): {"class_type": "KSampler", "inputs": {"positive": [str((i + 1) % 50), 0]}} for i in range(50)}
    wide = {str(i): {"class_type": "Save", "inputs": {"images": [str(i + 1), 0], "x": ["0", 0]}} for i in range(3000)}
    for number, value in enumerate(
        (deep, '{"a":' * 50_000, json.dumps(circle), json.dumps(wide), "\x00" * 50, "{" * 10**6)
    ):
        for key in ("prompt", "workflow", "parameters", "invokeai_metadata", "Comment", "grefine"):
            yield f"good_text_{number}_{key}.png", text(key, value)
    yield "good_long_prompt.png", text("parameters", "word " * 400_000)
    for number in range(30):
        yield f"good_junk_{number}.png", encoded("PNG", scene(number)) + os.urandom(10 * number)


def make_hostile(folder: Path) -> set[str]:
    """Write them all, with what only a file system can do; return the names that a run has to account for."""
    folder.mkdir(parents=True)
    names = set()
    for source in (cut_files, lying_files, fuzzed_files, exploding_files, odd_files, hostile_texts):
        for name, content in source():
            (folder / name).write_bytes(content)
            names.add(name)
    for number in range(6):
        (folder / f"empty_{number}.png").write_bytes(b"")
        names.add(f"empty_{number}.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "nowhere.png").symlink_to(folder / "missing.png")
    (folder / "device.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    (folder / "good_line\nbreak.png").write_bytes(encoded("PNG"))
    names |= {"circle.png", "nowhere.png", "device.png", "pipe.png", "good_line\nbreak.png"}
    (folder / "folder.png").mkdir()
    (folder / "folder.png" / "good_inside.png").write_bytes(encoded("PNG"))
    (folder / "folder.png" / "up").symlink_to(folder)
    return names | {"folder.png/good_inside.png", "folder.png/up"}
