"""Seeded damage to pictures and their metadata: a file is read, or refused by one sentence that names it."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from grefine.errors import ImageError
from grefine.io.images import decode_image
from grefine.io.prompts import PromptSources

GRAPH = json.dumps(
    {
        "1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["2", 0], "model": ["3", 0]}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red ball", "clip": ["3", 1]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
)
LINES = (
    "a red ball (on:1.2) [grass]\nNegative prompt: blur"
    "\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
)
VALUES = ("\ud800", "", "[[[", "0" * 5000, "nan", "\x00", '{"a": {}}', "<lora:x:1e999>", "\N{RIGHT-TO-LEFT OVERRIDE}x")


def seed_files() -> list[bytes]:
    """Return whole files of every kind that generators write, with their metadata."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    image, info = Image.fromarray(pixels), PngInfo()
    for key, value in (("prompt", GRAPH), ("workflow", GRAPH), ("parameters", LINES), ("Comment", '{"prompt": "x"}')):
        info.add_text(key, value)
    kinds = [("PNG", image, {"pnginfo": info}), ("PNG", image.quantize(16), {"pnginfo": info})]
    kinds += [(kind, image, {}) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")]
    kinds += [("PNG", image.convert(mode), {}) for mode in ("I;16", "1", "LA", "RGBA")]
    found = []
    for kind, picture, options in kinds:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        found.append(stream.getvalue())
    return found


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return a file with a few bytes flipped, cut, doubled, or of the metadata replaced."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(max(len(found), 1))
        match draw.randrange(5):
            case 0:
                found[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del found[at:]
            case 2:
                found[at:at] = found[at : at + draw.randrange(64)]
            case 3:
                del found[at : at + draw.randrange(16)]
            case _:
                found[at : at + 4] = draw.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
    return bytes(found)


def rewritten(draw: random.Random) -> bytes:
    """Return a whole PNG whose graph or lines are damaged: its checksums hold, so that the texts are read."""
    info, text = PngInfo(), draw.choice((GRAPH, LINES))
    for _ in range(draw.choice((1, 2, 5))):
        at, end = sorted((draw.randrange(len(text)), draw.randrange(len(text))))
        text = text[:at] + draw.choice((*VALUES, text[at:end] * 2)) + text[min(end, at + draw.randrange(40)) :]
    key = draw.choice(("prompt", "workflow", "parameters", "Comment", "Description", "sd-metadata"))
    info.add_itxt(key, text.encode("utf-8", "replace").decode())
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def attack(cases: int, seed: int) -> tuple[int, int]:
    """Read so many damaged files; return how many were read and refused. Any other error is the test's."""
    draw, files, sources = random.Random(seed), seed_files(), PromptSources()
    read, refused, named_all = 0, 0, True
    for case in range(cases):
        data = rewritten(draw) if case % 2 else damaged(draw.choice(files), draw)
        try:
            image = decode_image(data, "damaged.png")
            sources.find(image, "damaged.png").prompt.encode()  # whatever it held, it can be written
            read += 1
        except ImageError as error:
            named = "damaged.png" in str(error) and "\n" not in str(error)
            refused += 1
            named_all = named_all and named
        except Exception as error:
            raise AssertionError(f"case {case} of seed {seed}: {type(error).__name__}: {error}") from error
    assert named_all, "a refusal names its file in one line"
    return read, refused


def test_five_hundred_damaged_files_are_read_or_refused():
    read, refused = attack(500, seed=1)
    assert read > 100, "the damage must leave something to read"
    assert refused > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 42))
def test_twenty_thousand_damaged_files_are_read_or_refused(seed):
    assert sum(attack(500, seed)) == 500
