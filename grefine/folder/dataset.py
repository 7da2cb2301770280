"""The results of a run as a data set: before and after, prompt, decision, scores and record of every picture."""

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
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
_TEXTS, _NUMBERS = ("name", "prompt", "state", "kept", "reason", "record"), ("area", "moved")
Sample = tuple[dict[str, Any], dict[str, tuple[str, bytes | None]]]
"""One picture's columns, and its `after` and `before` as (name, bytes)."""


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
    metrics = sorted(rows.metrics)
    for name in write(_samples(rows, out, metrics), folder, metrics):
        if mirror:
            mirror.give(f"{DATASET}/{name}")
    if not mirror:
        shutil.rmtree(out / DATASET, ignore_errors=True)
        folder.rename(out / DATASET)


def _samples(rows: LastRows, out: Path, metrics: list[str]) -> Iterator[Sample]:
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
        columns = {
            "name": row["file"],
            "prompt": row.get("prompt", ""),
            "state": row["state"],
            "kept": decision.get("kept", "original"),
            "guarded": bool(decision.get("guarded")),
            "reason": row["reason"],
            "area": float(row.get("area", 0.0)),
            "moved": float(row.get("moved", 0.0)),
            "record": read_embedded(after).text(KEY) or "",
        }
        columns |= {f"{metric} {side}": scores[side].get(metric) for metric in metrics for side in ("before", "after")}
        yield columns, {"after": (f"after/{row['output']}", after), "before": (f"before/{row['file']}", before)}


def _parted(samples: Iterable[Sample]) -> Iterator[tuple[int, Iterator[Sample]]]:
    """Yield the samples in parts that are not too large for one file."""
    number = size = 0

    def part_of(sample: Sample) -> int:
        nonlocal number, size
        if size >= PART_BYTES:
            number, size = number + 1, 0
        size += sum(len(data or b"") for _, data in sample[1].values())
        return number

    return groupby(samples, part_of)


def _parquet(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    kinds = dict.fromkeys(("before", "after"), image) | dict.fromkeys(_TEXTS, pyarrow.string())
    kinds |= {"guarded": pyarrow.bool_()} | dict.fromkeys(_NUMBERS, pyarrow.float64())
    kinds |= {f"{metric} {side}": pyarrow.float64() for metric in metrics for side in ("before", "after")}
    types = {"string": "string", "bool": "bool", "double": "float64"}
    features = {
        name: {"_type": "Image"} if kind is image else {"dtype": types[str(kind)], "_type": "Value"}
        for name, kind in kinds.items()
    }
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema(list(kinds.items()), metadata=told)
    for number, part in _parted(samples):
        name = f"part-{number:05}.parquet"
        with pyarrow.parquet.ParquetWriter(folder / name, schema) as writer:
            while some := list(islice(part, _GROUP)):
                held = [
                    columns
                    | {
                        side: data and {"bytes": data, "path": path.partition("/")[2]}
                        for side, (path, data) in pictures.items()
                    }
                    for columns, pictures in some
                ]
                writer.write_table(pyarrow.Table.from_pylist(held, schema))
        yield name


def _tars(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    for number, part in _parted(samples):
        name = f"part-{number:05}.tar"
        with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as tar:
            for columns, pictures in part:
                members = {
                    f"{side}{PurePosixPath(path).suffix.lower()}": data for side, (path, data) in pictures.items()
                }
                members |= {"txt": columns["prompt"].encode(), "json": json.dumps(columns).encode()}
                for ending, data in members.items():
                    if data is not None:
                        # webdataset ends a key at the first dot.
                        member = tarfile.TarInfo(f"{columns['name'].replace('.', '_')}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        yield name


def _folder(samples: Iterable[Sample], folder: Path, metrics: list[str]) -> Iterator[str]:
    heads = {"after": "file_name", "before": "before_file_name"}
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for columns, pictures in samples:
            for name, data in pictures.values():
                if data is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)
                    yield name
            names = {heads[side]: None if data is None else name for side, (name, data) in pictures.items()}
            file.write(json.dumps(names | columns) + "\n")
    yield "metadata.jsonl"
