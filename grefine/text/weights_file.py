"""The file of the embedded parser: a few tables of small whole numbers, mostly zeros, packed.

Layout: magic, length of the header, header (JSON), blocks. A block is a bit per cell that says where a value is, then
the values that are not zero. Both are as good as random in their order, so they are only Huffman coded, which loads
quickest; the vocabulary is compressed; a checksum guards the whole.
"""

import json
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.text.features import LABELLER, PARSER, TAGGER_DYNAMIC, TAGGER_STATIC

MAGIC = b"grefine-parser-1\n"


@dataclass(frozen=True, slots=True)
class ParserWeights:
    """What training leaves: tables, vocabulary, and where they come from."""

    tables: dict[str, np.ndarray]
    """tagger (rows, tags) int16, parser (rows, 2) int8: left and right against shift, labeller (rows, labels) int8."""
    tags: list[str]
    labels: list[str]
    classes: dict[str, str]
    """Known words and their usual tags, see `features.Lexicon`."""
    endings: dict[str, str]
    about: dict[str, Any]
    """Seed, data, licence: for the reader, not for the parser."""


def read_weights(path: Path) -> ParserWeights:
    """Read the file."""
    retrain = "reinstall grefine, or make it anew with `python -m lab train parser --ud DIR` in a source tree."
    if not path.is_file():
        raise WeightsMissing(f"The parser's weights '{path}' are missing: {retrain}")
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise WeightsCorrupt(f"'{path}' is not a parser file of this version: {retrain}")
    try:
        at = len(MAGIC) + 4
        size = int.from_bytes(data[at - 4 : at], "little")
        header = json.loads(data[at : at + size])
        body = memoryview(data)[at + size :]
        if zlib.crc32(body) != header["checksum"]:
            raise WeightsCorrupt(f"'{path}' is damaged, its checksum does not match: {retrain}")
        if header["features"] != features_signature():
            raise WeightsCorrupt(f"'{path}' was trained for other features than this version's: {retrain}")
        at = header["vocabulary"]
        words, _, endings = lzma.decompress(body[:at], lzma.FORMAT_ALONE).decode().partition("\n\n")
        tables = {}
        for name in ORDER:
            info, parts = header["tables"][name], []
            for length in info["blocks"]:
                parts.append(zlib.decompress(body[at : at + length], -15))
                at += length
            tables[name] = _table(parts, info["shape"], np.dtype(info["type"]))
        return ParserWeights(tables, header["tags"], header["labels"], _pairs(words), _pairs(endings), header["about"])
    except (ValueError, KeyError, lzma.LZMAError, zlib.error) as error:
        raise WeightsCorrupt(f"'{path}' cannot be unpacked ({error}): {retrain}") from error


def features_signature() -> int:
    """Return a number that changes with the templates: weights fit only the rows they were trained on."""
    total = 0
    for templates in (TAGGER_STATIC, TAGGER_DYNAMIC, PARSER, LABELLER):
        total = zlib.crc32(templates.matrix.astype("<u4").tobytes(), total)
    return total


ORDER = ["tagger", "parser", "labeller"]


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
