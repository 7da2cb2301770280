"""The results of a run as a data set: before and after, prompt, decision, scores and record of every picture."""

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from grefine.errors import GRefineError
from grefine.folder.mirror import mirror_of
from grefine.io.encode import read_embedded
from grefine.io.images import read_bytes
from grefine.io.places import place_at
from grefine.io.record import KEY
from grefine.io.run_files import DATASET, STATE_FOLDER, LastRows
from grefine.io.samples import import_pyarrow, read_place

PART_BYTES = 512 * 2**20
"""Pictures of so many bytes go into one Parquet file or tar."""
_GROUP = 64
"""Rows of a Parquet row group: what a reader holds at once."""
Sample = dict[str, Any]
"""One picture's columns, and `before` and `after` as (name, bytes)."""


def form_of(form: str, source: str) -> str:
    """Return the form that is meant by `same` for a source, and see that it can be written before the work begins."""
    if form == "same":
        form = {".parquet": "parquet", ".tar": "webdataset"}.get(PurePosixPath(source).suffix.lower(), "imagefolder")
    if form == "parquet":
        import_pyarrow()
    return form


def write_dataset(rows: LastRows, out: Path, form: str) -> None:
    """Write OUT/dataset anew: Parquet files, tars as webdataset reads them, or pictures with a `metadata.jsonl`."""
    mirror = mirror_of(out)
    folder = out / DATASET if mirror else out / STATE_FOLDER / DATASET
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write = {"parquet": _parquet, "webdataset": _tars, "imagefolder": _folder}[form]
    for name in write(_samples(rows, out), folder, sorted(rows.metrics)):
        if mirror:
            mirror.give(f"{DATASET}/{name}")
    if not mirror:
        shutil.rmtree(out / DATASET, ignore_errors=True)
        folder.rename(out / DATASET)


def _samples(rows: LastRows, out: Path) -> Iterator[Sample]:
    mirror = mirror_of(out)
    for row in rows:
        if "output" not in row:
            continue
        after = mirror.read(row["output"]) if mirror else read_bytes(out / row["output"])
        try:
            before: bytes | None = read_place(place_at(row["source"]))
        except GRefineError:
            before = None  # the input is gone, its result is not
        decision = row.get("decision") or {}
        scores = row.get("scores") or {"before": {}, "after": {}}
        yield {
            "before": (f"before/{row['file']}", before),
            "after": (f"after/{row['output']}", after),
            "name": row["file"],
            "prompt": row.get("prompt", ""),
            "state": row["state"],
            "kept": decision.get("kept", "original"),
            "guarded": bool(decision.get("guarded")),
            "reason": row["reason"],
            "area": float(row.get("area", 0.0)),
            "moved": float(row.get("moved", 0.0)),
            "scores": scores,
            "record": read_embedded(after).text(KEY) or "",
        }


def _flat(sample: Sample, metrics: list[str]) -> dict[str, Any]:
    plain = {name: value for name, value in sample.items() if name not in ("before", "after", "scores")}
    for metric in metrics:
        for side in ("before", "after"):
            plain[f"{metric} {side}"] = sample["scores"][side].get(metric)
    return plain


def _parted(samples: Iterable[Sample]) -> Iterator[tuple[int, Iterator[Sample]]]:
    """Yield the samples in parts that are not too large for one file."""
    number = size = 0

    def part_of(sample: Sample) -> int:
        nonlocal number, size
        if size >= PART_BYTES:
            number, size = number + 1, 0
        size += sum(len(sample[side][1] or b"") for side in ("before", "after"))
        return number

    return groupby(samples, part_of)


def _parquet(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    texts = ("name", "prompt", "state", "kept", "reason", "record")
    columns = [("before", image), ("after", image), *((name, pyarrow.string()) for name in texts)]
    columns += [("guarded", pyarrow.bool_()), ("area", pyarrow.float64()), ("moved", pyarrow.float64())]
    columns += [(f"{metric} {side}", pyarrow.float64()) for metric in metrics for side in ("before", "after")]
    types = {"string": "string", "bool": "bool", "double": "float64"}
    features = {
        name: {"_type": "Image"} if kind is image else {"dtype": types[str(kind)], "_type": "Value"}
        for name, kind in columns
    }
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema(columns, metadata=told)
    for number, part in _parted(samples):
        name = f"part-{number:05}.parquet"
        with pyarrow.parquet.ParquetWriter(folder / name, schema) as writer:
            held: list[dict[str, Any]] = []
            for sample in part:
                pictures = {
                    side: data and {"bytes": data, "path": path.partition("/")[2]}
                    for side, (path, data) in ((side, sample[side]) for side in ("before", "after"))
                }
                held.append(_flat(sample, metrics) | pictures)
                if len(held) == _GROUP:
                    writer.write_table(pyarrow.Table.from_pylist(held, schema))
                    held.clear()
            writer.write_table(pyarrow.Table.from_pylist(held, schema))
        yield name


def _tars(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    for number, part in _parted(samples):
        name = f"part-{number:05}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as tar:
            for sample in part:
                # webdataset ends a key at the first dot.
                key = sample["name"].replace(".", "_")
                members = [
                    (f"{side}{PurePosixPath(path).suffix.lower()}", data)
                    for side, (path, data) in ((side, sample[side]) for side in ("after", "before"))
                ]
                members += [("txt", sample["prompt"].encode()), ("json", json.dumps(_flat(sample, metrics)).encode())]
                for ending, data in members:
                    if data is not None:
                        member = tarfile.TarInfo(f"{key}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        yield name


def _folder(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            names = {}
            for side, column in (("after", "file_name"), ("before", "before_file_name")):
                name, data = sample[side]
                if data is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)
                    yield name
                names[column] = None if data is None else name
            file.write(json.dumps(names | _flat(sample, metrics)) + "\n")
    yield "metadata.jsonl"
