"""Refine many images: list, read, refine, write and journal together, and go on where an earlier start ended."""

import os
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from grefine.cluster import Cluster, join, leave, packed
from grefine.errors import ConfigError, GRefineError
from grefine.folder.adopt import adopted_row, own_record
from grefine.folder.afar import Afar, afar
from grefine.folder.batch import Outcome, Reading, Row, read_batch, refine_batch
from grefine.folder.dataset import form_of, see_writable
from grefine.folder.gate import gate_key
from grefine.folder.interrupt import Interrupt
from grefine.folder.ledger import Ledger, open_ledger
from grefine.folder.loras import LoraShelf
from grefine.folder.mirror import mirror_of, mirrored, open_journal
from grefine.folder.options import FolderOptions, Overwrite
from grefine.folder.plans import open_by_hand
from grefine.folder.preview import preview
from grefine.folder.progress import Reporter, choose_reporter, silent
from grefine.folder.shards import (
    Shard,
    hold,
    list_digest,
    locked,
    one_at_a_time,
    own_device,
    read_engine,
    refuse_unmerged,
    see_shareable,
    share_of,
)
from grefine.folder.single import names_a_file, refine_file
from grefine.folder.summary import RunSummary
from grefine.folder.task import Task, painters_of, pipeline_name, weights_fingerprint
from grefine.folder.thresholds import thresholds
from grefine.folder.views import PAGE, VIEWS, conclude, view_of
from grefine.folder.workers import refine_with_workers
from grefine.folder.worklist import WorkItem, expand_stdin, list_work
from grefine.folder.write import DiskFull, write_outcomes
from grefine.indicators.domain_check import domain_of
from grefine.indicators.providers import Provider, open_sources
from grefine.io.content import content_hash
from grefine.io.journal import Journal
from grefine.io.picture import printable
from grefine.io.places import fetched, is_address
from grefine.io.prompt_table import read_prompt_table
from grefine.io.prompts import ORDER, PromptSources
from grefine.io.record import RefineRecord
from grefine.io.run_files import LastRows
from grefine.opening import Opening, missing_judges, open_pipeline
from grefine.refine.restore import RESTORERS
from grefine.refine.settings import RefineConfig, read_settings
from grefine.scorers.prefilter import ScoreGate, parse_gate, read_gate

_AHEAD = 2
"""Batches that are read before their turn, and written after it."""
_HOPELESS = 3
"""Batches in a row in which every image failed unexpectedly, before the run gives up."""


def refine_folder(
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    pipeline: Any,
    *,
    config: RefineConfig | str | Path | dict[str, Any] | None = None,
    options: FolderOptions | None = None,
    prompts: str | Path | None = None,
    prompt: str | None = None,
    name_column: str | None = None,
    prompt_column: str | None = None,
    prompt_order: tuple[str, ...] = ORDER,
    lora_dir: str | Path | None = None,
    gate: str | ScoreGate | None = None,
    gate_weights: Sequence[str] = (),
    allow_noncommercial: bool = False,
    device: str | None = None,
    dtype: str = "auto",
    offload: str = "none",
    judges: Sequence[str] = (),
    painter: str | Path | None = None,
    painter_class: str | None = None,
    restorer: str | Path | None = None,
    guidance: Mapping[str, float] | None = None,
    engine: str | None = None,
    workers: int = 0,
    cluster: Cluster | None = None,
    quality_map: str | Path | None = None,
    alignment_map: str | Path | None = None,
    plans: str | Path | None = None,
    masks: str | Path | None = None,
    add_masks: bool = False,
    seed: int | None = None,
    overwrite: Overwrite | None = None,
    force: bool | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    report: Reporter | None = None,
) -> RunSummary:
    """Refine files and folders into `out`, each image with its own prompt; started again, it goes on where it was.

    Args:
        sources: Files, folders, `@list.txt` files of paths, or several of them.
        out: The folder of results; mirrors the tree of the sources. For one image also a file (`.png`, `.jpg`,
            `.webp`), which is then all that is written. Inputs are never written.
        pipeline: A loaded `GRefinePipeline`, or what `from_pretrained` takes.
        config: Settings of the refinement: a record, the name of a bundled file, a YAML path, or plain values.
        options: How files are found, named and written; `seed`, `overwrite`, `force` and `limit` stand in it, too.
        prompts: A table of prompts (CSV, TSV, JSONL, JSON).
        prompt: The prompt of every image for which nothing else gives one.
        name_column: The table's column of file names.
        prompt_column: The table's column of prompts.
        prompt_order: Where prompts are looked for, first answer wins: table, sidecar, metadata; `prompt` in it puts
            the one for all before what follows.
        lora_dir: Folder of the LoRAs that prompts name; without it they are ignored.
        gate: A cheap first judge as NAME:VALUE; images that reach the value are left alone and no maps are drawn.
        gate_weights: METRIC=PATH of that judge, where the pipeline does not hold it.
        allow_noncommercial: Accept a gate whose terms are non-commercial.
        device: Where a pipeline that is loaded here runs.
        dtype: Its precision: auto, fp32, fp16 or bf16.
        offload: none, model, group or sequential.
        judges: NAME or NAME=DIR of judges for the guard beside the pipeline's own.
        painter: Who redraws in place of SDXL: a recipe, an installed painter, a folder, or a Hub id.
        painter_class: The class of diffusers that a folder or Hub id is loaded as.
        restorer: Stage 2: none, inpaint, controlnet-tile, or another painter, named as `painter` is.
        guidance: Experimental: preferences that steer denoising, e.g. {"sharpness": 1.0}; in place of the settings'.
        engine: `shard I/N` for one of N processes that share `out`, `shard auto` to be told by SLURM or torchrun;
            `ray` to work on a cluster.
        workers: Start so many shards on this machine, wait for them and merge.
        cluster: Which cluster and what of it, for `engine="ray"`.
        quality_map: A provider of quality maps by name, or a folder with a map for every picture, in place of PQ-Map.
        alignment_map: The same in place of AQ-Map.
        plans: A folder that `grefine plan` wrote and somebody may have edited; followed in place of planning.
        masks: A folder of masks by the names of the pictures, white = repaint, in place of planned ones.
        add_masks: Repaint what the masks mark and what our maps find; a picture without a mask is planned alone.
        seed: Of the noise; 0 without it.
        overwrite: never (the default), older or always.
        force: Refine images that the pipeline does not know; every result says so.
        limit: Only so many images from the beginning of the list.
        dry_run: Draw the maps and plan, write nothing; the summary's `planned` says what would be done.
        report: Called with an event (a dict) for everything that happens; without it the run shows a line of progress
            on stderr (`grefine.folder.progress.silent` shows nothing).
    """
    asked = {name: value for name, value in locals().items() if name not in ("sources", "engine", "workers")}
    named = expand_stdin([sources] if isinstance(sources, (str, Path)) else list(sources))
    on_ray = engine == "ray"
    if on_ray:
        cluster = cluster or Cluster()
        # This process only deals: it holds the weights to name them, in the precision of the actors.
        device, dtype = "cpu", "bf16" if dtype == "auto" and cluster.gpus_per_worker else dtype
        asked |= {"dtype": dtype}
    shard = None if on_ray else read_engine(engine)
    device = own_device(device) if shard else device
    if not named:
        raise ConfigError("Nothing to refine: give files, folders or an @list of them.")
    report = report or choose_reporter()
    chosen = {"seed": seed, "overwrite": overwrite, "force": force, "limit": limit}
    options = replace(options or FolderOptions(), **{k: v for k, v in chosen.items() if v is not None})  # type: ignore[arg-type]
    if dry_run and is_address(out):
        out = "dry-run"  # nothing is written, so nothing there is looked at
    if shard or workers or on_ray:
        see_shareable(named, out, options)
    if workers and not dry_run:
        if shard:
            raise ConfigError("--workers starts the shards itself: leave --engine out.")
        return refine_with_workers(refine_folder, workers, named, out, asked)
    if is_address(out) or any(is_address(table) for table in (prompts,)):
        with _at_hand(out, prompts, report) as given:
            summary = refine_folder(named, engine=engine, **asked | given)
        summary.out = out
        return summary
    if names_a_file(out) and not dry_run:
        decided = ("out", "options", "seed", "overwrite", "force", "limit", "dry_run", "cluster", "report")
        same = {name: value for name, value in asked.items() if name not in decided} | {"device": device}
        shown = (
            report if report is silent else lambda event: report(event | ({"out": str(out)} if "out" in event else {}))
        )
        work = partial(refine_folder, named, report=shown, **same)
        return refine_file(named, Path(out), options, work)
    if prompts is None and prompt_column:
        options = replace(options, prompt_column=prompt_column)
    dataset = form_of(options.dataset, str(named[0]))
    see_writable(dataset)
    settings = read_settings(config)
    table = read_prompt_table(prompts, name_column, prompt_column) if prompts is not None else None
    shelf = LoraShelf(lora_dir) if lora_dir is not None else None
    if isinstance(gate, str):
        parse_gate(gate)
    out = Path(out)
    if not any(str(source).startswith("@") or is_address(source) or os.path.lexists(source) for source in named):
        raise ConfigError(f"'{printable(named[0])}' does not exist: give images, folders, or an @list of paths.")
    # The first image is asked for before anything heavy is loaded, so that a wrong path is told at once.
    if next(list_work(named, out, options), None) is None:
        where = ", ".join(f"'{printable(source)}'" for source in named[:3])
        raise ConfigError(f"No images in {where}: files that end in .png, .jpg, .webp, ... or match the pattern.")
    by_hand = open_by_hand(plans, masks, add_masks)
    drawn = open_sources(quality_map, alignment_map, device or "cpu", allow_noncommercial)
    if restorer is not None:
        plain = str(restorer) if str(restorer) in RESTORERS else None
        settings, restorer = replace(settings, restorer=plain), None if plain else restorer
    settings = replace(settings, guidance=dict(guidance)) if guidance else settings
    named_painter = (str(painter or ""), painter_class or "", str(restorer or ""))
    opening = Opening(device, dtype, offload, tuple(judges), allow_noncommercial, *named_painter)
    if cluster and on_ray:
        join(cluster)
    pipe = open_pipeline(pipeline, opening)
    unjudged = missing_judges(pipe, settings) if settings.guard else ""
    first = gate
    if isinstance(first, str):
        first = read_gate(first, gate_weights, pipe, device or "cpu", allow_noncommercial)
    task = Task(
        pipeline_name(pipe),
        weights_fingerprint(pipe),
        settings,
        options,
        PromptSources(table, prompt, prompt_order, options.follow_links),
        Path(lora_dir) if lora_dir is not None else None,
        gate_key(first),
        tuple(opening.key()),
        *drawn,
        painters_of(pipe),
        *by_hand,
    )
    if dry_run:
        with _quiet(pipe):
            return preview(pipe, named, out, task, shelf, first, report)
    header = task.header(content_hash(table.path) if table else "")
    view = view_of(task, first, pipe) | ({"dataset": dataset} if dataset else {})
    start = {"kind": "run", "header": header, "settings": asdict(settings), "view": view}
    with _lock(out, shard), _quiet(pipe), _told(report), ExitStack() as stack:
        beginning = stack.enter_context(ExitStack())
        if shard:
            beginning.enter_context(one_at_a_time(out))
            stack.enter_context(hold(out, shard))
            start |= {"shard": share_of(out, shard, named, options)}
        refuse_unmerged(out, shard)
        if unjudged:
            report({"event": "note", "text": unjudged})
        for name in (name for one in drawn if isinstance(one, Provider) for name in one.unmeasured):
            text = f"'{name}' was not measured on good pictures, so its map is believed from half on"
            report({"event": "note", "text": f"{text}: `grefine calibrate --help` says how to measure it."})
        if table is not None:
            report({"event": "note", "text": table.note})
        _warn(first, report)
        stack.enter_context(
            thresholds(
                pipe,
                task,
                out,
                lambda: list_work(named, out, replace(options, limit=None)),
                lambda text: report({"event": "note", "text": text}),
            )
        )
        ledger = open_ledger(out, header, options, shard)
        if options.overwrite == "never":
            ledger.check_inputs(_own_work(named, out, options, shard))
        with open_journal(ledger.path, out) as journal:
            if journal.repaired:
                report({"event": "note", "text": f"After an earlier end, {journal.repaired}"})
            work = partial(_own_work, named, out, options, shard)
            run = _Run(work, out, pipe, task, (shelf, first), ledger, journal, report)
            if cluster and on_ray:
                run.afar = afar(cluster, asked, task, header, pipe.config.get("calibration"), out)
                stack.callback(leave)
            summary = run.go(start if shard or ledger.header is None else None, beginning.close)
            if shard and list_digest(list_work(named, out, options)) != start["shard"]["list"]:
                summary.stopped = summary.stopped or "Pictures came or went while this shard ran."
            done = LastRows(ledger.path)
            summary.vanished = sum(
                row["unit"] >= journal.first and "output" in row and not os.path.lexists(out / row["output"])
                for row in (() if mirror_of(out) else done)
            )
        if not shard:
            page = options.report and not summary.stopped
            page = page and bool(summary.counts or not (out / PAGE).exists())
            conclude(done, out, start["view"], summary, report, page)
    report({"event": "end"} | summary.to_dict())
    return summary


@contextmanager
def _at_hand(out: str | Path, prompts: str | Path | None, report: Reporter) -> Iterator[dict[str, Any]]:
    """Give what a run is to take in place of an OUT and a table at addresses; what it made is sent at the end."""
    with tempfile.TemporaryDirectory(prefix="grefine-") as folder, ExitStack() as stack:
        given: dict[str, Any] = {"out": out, "prompts": prompts and fetched(prompts, Path(folder))}
        if is_address(out):
            if names_a_file(out):
                raise ConfigError(f"'{printable(out)}' ends like a picture: OUT at an address is a folder.")
            mirror = stack.enter_context(mirrored(str(out)))
            given |= {
                "out": mirror.local,
                "report": lambda event: report(event | ({"out": out} if "out" in event else {})),
            }
        yield given
        if is_address(out):
            mirror.send_views(*VIEWS)


def _own_work(sources: list[str | Path], out: Path, options: FolderOptions, shard: Shard | None) -> Iterator[WorkItem]:
    items = list_work(sources, out, options)
    return shard.own(items, options.batch_size) if shard else items


Todo = tuple[WorkItem, RefineRecord | None]


class _Run:
    """One start of a run: the batches on their way through reading, refining and writing."""

    def __init__(
        self,
        work: Callable[[], Iterator[WorkItem]],
        out: Path,
        pipe: Any,
        task: Task,
        aids: tuple[LoraShelf | None, ScoreGate | None],
        ledger: Ledger,
        journal: Journal,
        report: Reporter,
    ) -> None:
        self.work, self.out, self.pipe, self.task = work, out, pipe, task
        self.shelf, self.gate = aids
        self.ledger, self.journal, self.report = ledger, journal, report
        self.summary = RunSummary(out, domain=domain_of(pipe), force=task.options.force)
        self.waiting: list[Row] = []
        """Rows of images that were passed over; they go into the journal with the next batch."""
        self.total: int | None = None
        self.started = time.monotonic()
        self.hopeless = 0
        self.afar: Afar | None = None
        """Who does the batches in place of this process."""
        self.broken = ""
        """Why nothing more can be written, once that is so."""

    def go(self, start: Row | None, begun: Callable[[], None]) -> RunSummary:
        """Work until the list is done, the disk is full or the user stops it; `start` goes into the journal first."""
        self.report({"event": "start", "out": str(self.out), "resumed": self.ledger.resumed})
        threading.Thread(target=self._count, daemon=True).start()
        with Interrupt(lambda text: self.report({"event": "note", "text": text})) as interrupt:
            try:
                if start is not None:
                    self.journal.append([start])
                begun()
                if self.afar:
                    self._from_afar(self.afar, interrupt)
                else:
                    self._loop(interrupt)
                if not self.summary.stopped:
                    self._pass_over()
                    if self.summary.counts or not self.ledger.finished:
                        self.journal.append([{"kind": "end"}])
            except DiskFull as error:
                self.summary.stopped = str(error)
            except OSError as error:
                self.summary.stopped = f"The journal cannot be written: {error.strerror or error}."
        self.summary.seconds = time.monotonic() - self.started
        if self.summary.stopped:
            self.summary.left = self._left()
        return self.summary

    def _loop(self, interrupt: Interrupt) -> None:
        batches = self._batches()
        reading: deque[Future[list[Reading]]] = deque()
        writing: deque[Future[list[Row]]] = deque()
        readers = ThreadPoolExecutor(_AHEAD, "grefine-read")
        writer = ThreadPoolExecutor(1, "grefine-write")
        try:
            while True:
                for batch in islice(batches, _AHEAD + 1 - len(reading)):
                    reading.append(readers.submit(read_batch, batch, self.task))
                if not reading:
                    break
                outcomes = refine_batch(self.pipe, reading.popleft().result(), self.task, self.shelf, self.gate)
                self._notice(outcomes)
                passed, self.waiting = self.waiting, []
                writing.append(writer.submit(self._write, outcomes, passed))
                while len(writing) > _AHEAD:
                    self._tell(writing.popleft().result())
                if interrupt.asked or self.summary.stopped:
                    self.summary.interrupted = interrupt.asked
                    self.summary.stopped = self.summary.stopped or "Stopped as asked."
                    break
            while writing:
                self._tell(writing.popleft().result())
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            writer.shutdown(wait=True, cancel_futures=True)

    def _from_afar(self, workers: Afar, interrupt: Interrupt) -> None:
        """Let a cluster do the batches, and journal what comes back."""
        work, begins = list[bytes](), list[Row]()
        for batch in self._batches():
            work.append(packed(batch))
            names, folders = [item.relative for item in batch], {os.path.dirname(item.name) for item in batch}
            begins.append({"kind": "begin", "files": names, "folders": sorted(folders)})
        for first in range(0, len(begins), 1000):
            self.journal.append(begins[first : first + 1000])
        for begin in begins:
            self.ledger.take(begin)
        for rows in workers.rows(work):
            passed, self.waiting = self.waiting, []
            self.journal.append([*passed, *rows])
            self._tell([*passed, *rows])
            failing = all(row.get("unexpected") for row in rows)
            self._count_hopeless(failing, rows[-1]["reason"])
            if interrupt.asked or self.summary.stopped:
                self.summary.interrupted = interrupt.asked
                self.summary.stopped = self.summary.stopped or "Stopped as asked."
                return
        self.ledger.clean(self.out)  # what dead actors left half-written

    def _batches(self) -> Iterator[list[WorkItem]]:
        """Cut the list into batches. Whole batches are done or not, so what is left is cut at the same places."""
        again: list[Todo] = []
        yield from self._cut(self._todo(again))
        # What failed before comes last: the rest stays in the company of an undisturbed run.
        yield from self._cut(again)

    def _todo(self, again: list[Todo]) -> Iterator[Todo]:
        """Yield what is to be done, with the record of a result that is there; put what failed before into `again`."""
        for item in self.work():
            verdict = self.ledger.verdict(item, self.task.options)
            if verdict == "done":
                self.summary.resumed += 1
                continue
            record = None if item.refused or verdict == "work" else own_record(item, self.task.hash_of(item.relative))
            if item.refused or (verdict != "work" and record is None):
                self._skip(item, item.refused or verdict)
            elif self.ledger.failures(item.relative):
                again.append((item, record))
            else:
                yield item, record

    def _cut(self, todo: Iterable[Todo]) -> Iterator[list[WorkItem]]:
        batch: list[WorkItem] = []
        adopted: list[Row] = []
        for item, record in todo:
            adopted += [adopted_row(item, record)] if record is not None else []
            batch.append(item)
            if len(batch) == self.task.options.batch_size:
                yield from self._unless_whole(batch, adopted)
                batch, adopted = [], []
        yield from self._unless_whole(batch, adopted)

    def _unless_whole(self, batch: list[WorkItem], adopted: list[Row]) -> Iterator[list[WorkItem]]:
        """Give a batch to do, or take over its rows when all of its results are there already."""
        if batch and len(adopted) == len(batch):
            self._pass(adopted)
        elif batch:
            yield batch

    def _skip(self, item: WorkItem, reason: str) -> None:
        state = "failed" if item.failed or not item.refused else "skipped"
        self._pass([{"kind": "image", "file": item.relative, "state": state, "reason": f"{reason}."}])

    def _pass(self, rows: list[Row]) -> None:
        self.waiting += rows
        if len(self.waiting) >= 1000:
            self._pass_over()

    def _pass_over(self) -> None:
        rows, self.waiting = self.waiting, []
        if rows:
            self.journal.append(rows)
            self._tell(rows)

    def _write(self, outcomes: list[Outcome], passed: list[Row]) -> list[Row]:
        """Announce one batch, write its files, journal it; on the writer's thread, batch after batch."""
        if self.broken:
            raise DiskFull(self.broken)
        names = [outcome.reading.item.name for outcome in outcomes]
        files = [outcome.reading.item.relative for outcome in outcomes]
        folders = sorted({os.path.dirname(name) for name in names})
        try:
            self.journal.append([{"kind": "begin", "files": files, "folders": folders}])
            rows = write_outcomes(outcomes, self.task)
            self.journal.append([*passed, *rows])
        except (DiskFull, OSError) as error:
            told = (
                str(error) if isinstance(error, DiskFull) else f"Results cannot be written: {error.strerror or error}."
            )
            there = self.out.is_dir()
            self.broken = told if there else f"'{printable(self.out)}' was moved or removed during the run."
            raise DiskFull(self.broken) from error
        return [*passed, *rows]

    def _notice(self, outcomes: list[Outcome]) -> None:
        """Give up when nothing but unexpected failures come, batch after batch."""
        self._count_hopeless(all(outcome.unexpected for outcome in outcomes), outcomes[-1].reason)

    def _count_hopeless(self, failing: bool, reason: str) -> None:
        self.hopeless = self.hopeless + 1 if failing else 0
        if self.hopeless >= _HOPELESS:
            self.summary.stopped = f"{_HOPELESS} batches in a row failed entirely ({reason})"

    def _tell(self, rows: list[Row]) -> None:
        for row in rows:
            shown = {k: v for k, v in row.items() if k not in ("kind", "input")}
            if row["state"] == "failed" and (times := self.ledger.failures(row["file"])):
                self.summary.failed_again += 1
                shown["failed_before"] = times
            self.summary.add(row)
            self.report({"event": "image"} | shown)
        done = self.summary.done + self.summary.counts["failed"]
        spent = time.monotonic() - self.started
        everything = sum(self.summary.counts.values()) + self.summary.resumed
        rate = done / spent if spent else 0.0
        left = None if self.total is None or not rate else max(self.total - everything, 0) / rate
        counts = {state: count for state, count in self.summary.counts.items() if count}
        event = {"done": everything, "total": self.total, "counts": counts, "rate": round(rate, 3)}
        event |= {"resumed": self.summary.resumed, "left_seconds": left and round(left, 1)}
        self.report({"event": "progress"} | event)

    def _count(self) -> None:
        """Count the list beside the work, for the time that is left."""
        with suppress(GRefineError, OSError):
            self.total = sum(1 for _ in self.work())

    def _left(self) -> int:
        with suppress(GRefineError, OSError):
            everything = sum(1 for _ in self.work())
            return max(everything - self.summary.resumed - sum(self.summary.counts.values()), 0)
        return 0


def _warn(gate: ScoreGate | None, report: Reporter) -> None:
    """Say once, aloud, what a gate cannot see; a caller who shows nothing gets a Python warning."""
    if gate is not None and gate.warning:
        report({"event": "note", "text": gate.warning})
        if report is silent:
            warnings.warn(gate.warning, stacklevel=3)


def _lock(out: Path, shard: Shard | None) -> AbstractContextManager[None]:
    """Keep a second run out of the same folder; shards of one run share it."""
    message = f"Another run is writing into '{printable(out)}': wait for it to end."
    return locked(out, "lock", message, shared=shard is not None)


@contextmanager
def _told(report: Reporter) -> Iterator[None]:
    """Tell the reporter when a run breaks off, so that a live display gives the terminal back."""
    try:
        yield
    except BaseException:
        report({"event": "aborted"})
        raise


@contextmanager
def _quiet(pipe: Any) -> Iterator[None]:
    """Hide the pipeline's own progress bar and the decoders' remarks: a bad file gets one line, and that is ours."""
    before = getattr(pipe, "_progress_bar_config", None)
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(disable=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            warnings.filterwarnings("ignore", message="Steering by")  # a note of the run says so
            yield
    finally:
        if before is not None:
            pipe._progress_bar_config = before
        elif hasattr(pipe, "_progress_bar_config"):
            del pipe._progress_bar_config
