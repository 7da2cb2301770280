"""The file of the embedded parser: a few tables of small whole numbers, mostly zeros, packed.

Layout: magic, length of the header, header (JSON), blocks. A block is a bit per cell that says where a value is, then
the values that are not zero; both are compressed and the whole is guarded by a checksum.
"""

from __future__ import annotations

import json
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import WeightsCorrupt, WeightsMissing

_MAGIC = b"grefine-parser-1\n"
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True, slots=True)
class ParserWeights:
    """What training leaves: tables, vocabulary, and where they come from."""

    tables: dict[str, np.ndarray]
    """tagger (rows, tags) int16, parser (rows, 3) int8, labeller (rows, labels) int8."""
    tags: list[str]
    labels: list[str]
    classes: dict[str, str]
    """Known words and their usual tags, see `features.Lexicon`."""
    endings: dict[str, str]
    about: dict[str, Any]
    """Seed, data, licence: for the reader, not for the parser."""


def write_weights(path: Path, weights: ParserWeights) -> int:
    """Write the file and return its size in bytes; equal weights give equal bytes."""
    blocks, shapes = [], {}
    for name in _ORDER:
        table = weights.tables[name]
        kept = table != 0
        values = table[kept]
        wide = values.dtype.itemsize > 1
        parts = [np.packbits(kept.ravel()).tobytes()]
        # The low and the high byte of a number look different; apart they pack better.
        parts += [values.view(np.uint8)[k::2].tobytes() for k in (0, 1)] if wide else [values.tobytes()]
        packed = [lzma.compress(p, lzma.FORMAT_RAW, filters=_FILTERS) for p in parts]
        shapes[name] = {"shape": table.shape, "type": table.dtype.str, "blocks": [len(p) for p in packed]}
        blocks += packed
    words = "\n".join(
        ["\t".join(item) for item in weights.classes.items()]
        + [""]
        + ["\t".join(item) for item in weights.endings.items()]
    )
    vocabulary = lzma.compress(words.encode(), lzma.FORMAT_RAW, filters=_FILTERS)
    body = vocabulary + b"".join(blocks)
    header = {
        "about": weights.about,
        "tags": weights.tags,
        "labels": weights.labels,
        "vocabulary": len(vocabulary),
        "tables": shapes,
        "checksum": zlib.crc32(body),
    }
    head = json.dumps(header, sort_keys=True).encode()
    data = _MAGIC + len(head).to_bytes(4, "little") + head + body
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return len(data)


def read_weights(path: Path) -> ParserWeights:
    """Read the file.

    Raises:
        WeightsMissing: no such file.
        WeightsCorrupt: it is not what `write_weights` wrote.
    """
    retrain = "run `grefine train parser --ud DIR` to make it anew, or reinstall grefine."
    if not path.is_file():
        raise WeightsMissing(f"The parser's weights '{path}' are missing: {retrain}")
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise WeightsCorrupt(f"'{path}' is not a parser file of this version: {retrain}")
    try:
        at = len(_MAGIC) + 4
        size = int.from_bytes(data[at - 4 : at], "little")
        header = json.loads(data[at : at + size])
        body = memoryview(data)[at + size :]
        if zlib.crc32(body) != header["checksum"]:
            raise WeightsCorrupt(f"'{path}' is damaged, its checksum does not match: {retrain}")
        at = header["vocabulary"]
        words, _, endings = _unpack(body[:at]).decode().partition("\n\n")
        tables = {}
        for name, info in sorted(header["tables"].items(), key=lambda item: _ORDER.index(item[0])):
            parts = []
            for length in info["blocks"]:
                parts.append(_unpack(body[at : at + length]))
                at += length
            tables[name] = _table(parts, info["shape"], np.dtype(info["type"]))
        return ParserWeights(tables, header["tags"], header["labels"], _pairs(words), _pairs(endings), header["about"])
    except (ValueError, KeyError, lzma.LZMAError) as error:
        raise WeightsCorrupt(f"'{path}' cannot be unpacked ({error}): {retrain}") from error


_ORDER = ["tagger", "parser", "labeller"]


def _unpack(part: memoryview) -> bytes:
    return lzma.decompress(part, lzma.FORMAT_RAW, filters=_FILTERS)


def _table(parts: list[bytes], shape: list[int], kind: np.dtype) -> np.ndarray:
    table = np.zeros(int(np.prod(shape)), dtype=kind)
    kept = np.unpackbits(np.frombuffer(parts[0], dtype=np.uint8), count=table.size).view(bool)
    if kind.itemsize == 1:
        table[kept] = np.frombuffer(parts[1], dtype=kind)
    else:
        both = np.stack([np.frombuffer(p, dtype=np.uint8) for p in parts[1:]], axis=1)
        table[kept] = np.ascontiguousarray(both).view(kind).ravel()
    return table.reshape(shape)


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split("\t") for line in text.split("\n") if line)
