"""The table, the page and the data set of a run, from its journal and what the journal's first row says of it."""

import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image

from grefine.errors import GRefineError, ImageError
from grefine.folder.mirror import at_hand, mirror_of
from grefine.folder.progress import Reporter
from grefine.folder.summary import RunSummary, write_table
from grefine.indicators.domain_check import domain_of
from grefine.io.images import decode_image, read_bytes, read_embedded
from grefine.io.picture import printable
from grefine.io.places import place_at
from grefine.io.record import KEY
from grefine.io.run_files import DATASET, STATE_FOLDER, LastRows, layer_names, layers_at
from grefine.io.samples import import_pyarrow, read_place
from grefine.report.entry import ReportImage, ReportText, asked_of, decision_name
from grefine.report.page import write_page
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from grefine.folder.task import Task
    from grefine.scorers.prefilter import ScoreGate

TABLE, PAGE = "results.csv", "report.html"
VIEWS = (TABLE, PAGE, "report_files")
_ORIGINAL = {"untouched": "untouched", "kept": "original kept", "beyond": "beyond repair"}
_UNGUARDED = "had no judge beside the one that made the mask: look at them yourself."
_NO_PROOF = (
    "The scores on this page chose what was kept, so they prove nothing; `grefine evaluate` with other metrics does. "
    "Gains count in units of a judge's own noise on the picture: what is below 1 is none."
)
SHOWN = 5000
"""Images in the gallery of a page, and lines in its list of those without a result; the table has all."""


class RefineTally:
    """Counts decisions, and lists what has no result, with the reasons."""

    def __init__(self) -> None:
        self.kept, self.left_out = Counter[str](), Counter[str]()
        self.unguarded = 0
        self._listed: dict[str, list[tuple[str, str]]] = {"failed": [], "skipped": []}

    def count(self, kept: str, guarded: bool | None) -> None:
        """Count one image with its decision."""
        self.kept[kept] += 1
        self.unguarded += guarded is False

    def leave_out(self, state: str, name: str, reason: str) -> None:
        """Count one that has no result, and list it among the first."""
        self.left_out[state] += 1
        if self.left_out[state] <= SHOWN:
            self._listed[state].append((name, reason))

    def text(self, facts: Sequence[tuple[str, str]], notes: Sequence[str], forced: str) -> ReportText:
        """Return what the page says: all inputs by state, those that failed first; then what is to be known first."""
        failed, skipped = self.left_out["failed"], self.left_out["skipped"]
        refined = sum(count for name, count in self.kept.items() if name not in _ORIGINAL)
        counts = {"failed": failed, "refined": refined} | {words: self.kept[name] for name, words in _ORIGINAL.items()}
        counts["skipped"] = skipped
        parts = [f"{count:,} {words}" for words, count in counts.items() if count]
        have = "has" if failed == 1 else "have"
        kept, untouched, beyond = (self.kept[name] for name in ("kept", "untouched", "beyond"))
        sentences = (
            (failed, f"{_counted(failed)} failed and {have} no result: the reasons are listed below."),
            (kept, f"For {_counted(kept).lower()} the refined picture was not better, so the original was kept."),
            (untouched, f"{_counted(untouched)} had nothing to repair and came back untouched."),
            (beyond, f"{_counted(beyond)} came back untouched and should be generated anew: too much is bad."),
            (self.unguarded, f"{_counted(self.unguarded)} {_UNGUARDED}"),
            (refined, _NO_PROOF),
        )
        listed = [*self._listed["failed"], *self._listed["skipped"]]
        more = {state: self.left_out[state] - SHOWN for state in self._listed}
        listed += [(f"{count:,} more {state}", "see results.csv") for state, count in more.items() if count > 0]
        return ReportText(
            title="Refinement",
            subtitle="What the refinement decided, image by image.",
            headline=f"{_counted(sum(counts.values()))}: {', '.join(parts)}" if parts else "There was no image",
            # A run of which nothing failed claims nothing either.
            tone="loss" if failed > self.kept.total() else "mixed" if failed else "even",
            sentences=tuple(sentence for count, sentence in sentences if count),
            facts=tuple(facts),
            missing=tuple(listed),
            notes=tuple(notes),
            forced=forced,
            decided=self.kept,
        )


def _counted(count: int) -> str:
    return "One image" if count == 1 else f"{count:,} images"


def _images(rows: LastRows, out: Path, tally: RefineTally, step: int) -> Iterator[ReportImage]:
    for number, row in enumerate(rows):
        if row["state"] in ("failed", "skipped"):
            tally.leave_out(row["state"], printable(row["file"]), row["reason"])
            continue
        decision, output = row.get("decision") or {}, row["output"]
        kept = decision_name(row["state"], decision.get("kept", ""))
        guarded = decision.get("guarded") if row["state"] in ("refined", "kept") else None
        if number % step:
            tally.count(kept, guarded)
            continue
        scores = row.get("scores") or {"before": {}, "after": {}}
        shown: dict[str, Any] = {"prompt": row.get("prompt", "")} | asked_of(row)
        with at_hand(out, [output, *layer_names(output)]):
            yield ReportImage(
                name=printable(row["file"]),
                before=picture_before(row["source"]),
                after=out / output,
                kept=kept,
                reason=row["reason"],
                guarded=guarded,
                scores={m: (then, scores["after"][m]) for m, then in scores["before"].items() if m in scores["after"]},
                noise=row.get("noise", {}),
                notes=tuple(row.get("notes", ())),
                **shown | layers_at(out, output),
            )


def picture_before(source: str) -> Path | Image.Image:
    """Return the input; of one that can no longer be read, a path where nothing is."""
    place = place_at(source)
    if isinstance(place, Path):
        return place
    try:
        return decode_image(read_place(place), source).rgb
    except ImageError:
        return Path(source)


def view_of(task: "Task", gate: "ScoreGate | None", pipe: Any) -> dict[str, Any]:
    """Return what the views of a run need beside its rows, as plain values for the journal."""
    guidance = task.config.guidance or {}
    facts = {"pipeline": task.pipeline, "settings": task.hash_of(), "seed": str(task.options.seed)}
    facts |= {"gate": gate.name if gate else "", **task.drawn_by, "painter": task.painter_name}
    facts["steered by"] = ", ".join(f"{name} {weight:g}" for name, weight in guidance.items())
    facts["candidates"] = str(task.config.candidates) if task.config.tries[0] > 1 else ""
    facts["force"] = "yes" if task.options.force else ""
    domain = domain_of(pipe)
    return {
        "facts": [[name, value] for name, value in facts.items() if value],
        "warning": gate.warning if gate else "",
        "force": task.options.force,
        "world": asdict(domain.world) if domain else None,
    }


def conclude(
    rows: LastRows, out: Path, view: Mapping[str, Any], summary: RunSummary, report: Reporter, page: bool
) -> None:
    """Write the table and the page; neither takes the other with it, and the run ends in order without them."""

    def write_gallery() -> None:
        facts = [(str(name), str(value)) for name, value in view.get("facts", ())]
        step = max(1, -(-len(rows) // SHOWN))
        few = f"The gallery shows one image of {step}; {TABLE} beside this page lists all {len(rows):,}."
        notes = [few if step > 1 else "", view.get("warning"), *summary.lines()[1:]]
        tally, forced = RefineTally(), summary.told if view.get("force") else ""
        images = _images(rows, out, tally, step)
        write_refine_report(out, images, tally, facts=facts, notes=[*filter(None, notes)], forced=forced)

    views: dict[str, Callable[[], object]] = {TABLE: lambda: write_table(rows, rows.metrics, out / TABLE)}
    if page:
        views[PAGE] = write_gallery
    if view.get("dataset") and not summary.stopped:
        views[DATASET] = lambda: write_dataset(rows, out, str(view["dataset"]))
    for name, write in views.items():
        try:
            write()
        except Exception as error:  # noqa: BLE001 - the results are there, whatever befalls their table or page
            summary.unwritten.append(name)
            report({"event": "note", "text": f"{name} could not be written: {type(error).__name__}: {error}"})


def write_refine_report(
    out: str | Path,
    images: Iterable[ReportImage],
    tally: RefineTally,
    *,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    forced: str = "",
) -> Path:
    """Write the report of a run: images are read once, and counted in `tally`; a caller counts those not shown."""
    shown: dict[str, MetricSpec] = {}

    def entries() -> Iterator[list[ReportImage]]:
        for image in images:
            tally.count(image.kept, image.guarded)
            shown.update({name: MetricSpec(name, used_in_loop=True) for name in image.scores if name not in shown})
            yield [image]

    return write_page(out, entries(), lambda: tally.text(facts, notes, forced), shown, in_noise=True)


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
