"""Write the file of the embedded parser; `grefine.text.weights_file` says how it looks and reads it."""

import json
import lzma
import zlib
from pathlib import Path

import numpy as np

from grefine.io.atomic import write_atomic
from grefine.text.weights_file import MAGIC, ORDER, ParserWeights, features_signature


def write_weights(path: Path, weights: ParserWeights) -> int:
    """Write the file and return its size in bytes; equal weights give equal bytes."""
    blocks, shapes = [], {}
    for name in ORDER:
        table = weights.tables[name]
        kept = table != 0
        values = table[kept]
        wide = values.dtype.itemsize > 1
        parts = [np.packbits(kept.ravel()).tobytes()]
        # The low and the high byte of a number look different; apart they pack better.
        parts += [values.view(np.uint8)[k::2].tobytes() for k in (0, 1)] if wide else [values.tobytes()]
        packed = [_pack(p) for p in parts]
        shapes[name] = {"shape": table.shape, "type": table.dtype.str, "blocks": [len(p) for p in packed]}
        blocks += packed
    words = "\n".join("\t".join(item) for item in (*weights.classes.items(), (), *weights.endings.items()))
    vocabulary = lzma.compress(words.encode(), lzma.FORMAT_ALONE)
    body = vocabulary + b"".join(blocks)
    header = {
        "about": weights.about,
        "tags": weights.tags,
        "labels": weights.labels,
        "vocabulary": len(vocabulary),
        "tables": shapes,
        "checksum": zlib.crc32(body),
        "features": features_signature(),
    }
    head = json.dumps(header, sort_keys=True).encode()
    data = MAGIC + len(head).to_bytes(4, "little") + head + body
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    return len(data)


def _pack(part: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(part) + packer.flush()
