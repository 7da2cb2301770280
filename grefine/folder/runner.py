"""Refine many images: list, read, refine, write and journal together, and go on where an earlier start ended."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from grefine.cluster import Cluster, leave, work_on
from grefine.errors import ConfigError
from grefine.folder import ledger
from grefine.folder.batch import plan_batches
from grefine.folder.ledger import Shard
from grefine.folder.loop import Start
from grefine.folder.mirror import mirror_of, on_this_machine, open_journal
from grefine.folder.options import FORMATS, FolderOptions, Overwrite
from grefine.folder.progress import Reporter, choose_reporter, notes_to, silent
from grefine.folder.ready import Ready, make_ready, thresholds
from grefine.folder.summary import RunSummary
from grefine.folder.views import PAGE, VIEWS, conclude, form_of, view_of
from grefine.folder.workers import RefineWorker, given_afar, refine_with_workers
from grefine.folder.worklist import WorkItem, expand_stdin, list_work
from grefine.folder.write import row_of
from grefine.indicators.domain_check import domain_of
from grefine.io.atomic import PARTIAL_PREFIX
from grefine.io.content import content_hash
from grefine.io.images import SUFFIXES
from grefine.io.journal import Row
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.prompts import ORDER
from grefine.io.run_files import JOURNAL, STATE_FOLDER, LastRows
from grefine.refine.settings import RefineConfig
from grefine.scorers.prefilter import ScoreGate


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
        out: The folder of results in the tree of the sources, or one file (`.png`, `.jpg`, `.webp`) for one image.
        pipeline: A loaded `GRefinePipeline`, or what `from_pretrained` takes.
        config: Settings of the refinement: a record, the name of a bundled file, a YAML path, or plain values.
        options: How files are found, named and written; `seed`, `overwrite`, `force` and `limit` stand in it, too.
        prompts: A table of prompts (CSV, TSV, JSONL, JSON).
        prompt: The prompt of every image for which nothing else gives one.
        name_column: The table's column of file names.
        prompt_column: The table's column of prompts.
        prompt_order: Where prompts are looked for, first answer wins: table, sidecar, metadata; or prompt, for all.
        lora_dir: Folder of the LoRAs that prompts name; without it they are ignored.
        gate: A cheap first judge as NAME:VALUE; images that reach the value are left alone, without maps.
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
        engine: `shard I/N` (or `shard`, as SLURM or torchrun say) for one of N processes; `ray` for a cluster.
        workers: Start so many shards on this machine, wait for them and merge.
        cluster: Which cluster and what of it, for `engine="ray"`.
        quality_map: A provider of quality maps by name, or a folder with a map for every picture.
        alignment_map: The same in place of AQ-Map.
        plans: A folder that `grefine plan` wrote and somebody may have edited; followed in place of planning.
        masks: A folder (or address) of masks by the names of the pictures, white = repaint, in place of planned ones.
        add_masks: Repaint what the masks mark and what our maps find; a picture without a mask is planned alone.
        seed: Of the noise; 0 without it.
        overwrite: never (the default), older or always.
        force: Refine images that the pipeline does not know; every result says so.
        limit: Only so many images from the beginning of the list.
        dry_run: Draw the maps and plan, write nothing; the summary's `planned` says what would be done.
        report: Called with an event (a dict) for all that happens, in place of a line of progress on stderr
            (`grefine.folder.progress.silent` shows nothing).
    """
    asked = {name: value for name, value in locals().items() if name not in ("sources", "engine", "workers")}
    named = expand_stdin([sources] if isinstance(sources, (str, Path)) else list(sources))
    on_ray = engine == "ray"
    cluster = asked["cluster"] = (cluster or Cluster()) if on_ray else None
    if cluster:
        # This process only deals: it holds the weights to name them, in the precision of the actors.
        half = dtype == "auto" and cluster.gpus_per_worker
        asked |= {"device": "cpu", "dtype": "bf16" if half else dtype}
    shard = None if on_ray else ledger.read_engine(engine)
    if not named:
        raise ConfigError("Nothing to refine: give files, folders or an @list of them.")
    report = report or choose_reporter()
    chosen = {"seed": seed, "overwrite": overwrite, "force": force, "limit": limit}
    options = replace(options or FolderOptions(), **{k: v for k, v in chosen.items() if v is not None})  # type: ignore[arg-type]
    if dry_run and is_address(out):
        out = "dry-run"  # nothing is written, so nothing there is looked at
    one_file = Path(out).suffix.lower() in SUFFIXES and not Path(out).is_dir()
    if (shard or workers or on_ray) and one_file:
        raise ConfigError(f"'{printable(out)}' is one file, which cannot be shared: leave --engine and --workers out.")
    if (shard or workers or on_ray) and options.overwrite == "always":
        raise ConfigError("--overwrite always begins a run anew, which one of its shards cannot: give another OUT.")
    if workers and not dry_run:
        if shard:
            raise ConfigError("--workers starts the shards itself: leave --engine out.")
        return refine_with_workers(refine_folder, workers, named, out, asked)

    def as_asked(event: dict[str, Any]) -> None:
        """Call OUT as the user does, whichever folder is worked in."""
        report(event | ({"out": str(out)} if "out" in event else {}))

    told = report if report is silent else as_asked
    if is_address(out) or is_address(prompts):
        if is_address(out) and one_file:
            raise ConfigError(f"'{printable(out)}' ends like a picture: OUT at an address is a folder.")
        with on_this_machine(out, prompts, *VIEWS) as (folder, table):
            given = {"out": folder, "prompts": table, "report": told if is_address(out) else report}
            summary = refine_folder(named, engine=engine, **asked | given)
        summary.out = out
        return summary
    asked["device"] = ledger.own_device(device) if shard else asked["device"]
    if one_file and not dry_run:
        decided = ("out", "options", "seed", "overwrite", "force", "limit", "dry_run", "report")
        same = {name: value for name, value in asked.items() if name not in decided}
        return _refine_file(named, Path(out), options, partial(refine_folder, named, report=told, **same))
    dataset = form_of(options.dataset, str(named[0]))
    ready = make_ready(named, out, options, asked)
    with _quiet(ready.pipe):
        return _preview(ready, named, report) if dry_run else _run(named, ready, shard, dataset, asked, report)


def _refine_file(
    sources: Sequence[str | Path], out: Path, options: FolderOptions, work: Callable[..., RunSummary]
) -> RunSummary:
    """Let `work` refine one image beside its place, and put the result there."""
    name, form, source = printable(out), SUFFIXES[out.suffix.lower()], Path(sources[0])
    if len(sources) > 1 or source.is_dir() or str(source).startswith("@"):
        raise ConfigError(f"'{name}' ends like a picture, so -o is one file: give one image, or a folder for many.")
    if form not in FORMATS.values():
        raise ConfigError(f"'{name}': results are written as .png, .jpg or .webp.")
    if os.path.lexists(out) and (options.overwrite != "always" or (source.exists() and out.samefile(source))):
        raise ConfigError(f"'{name}' is there already: --overwrite always replaces it, unless it is the input.")
    if not out.parent.is_dir():
        raise ConfigError(f"'{printable(out.parent)}', where '{out.name}' belongs, is no folder: make it first.")
    options = replace(options, format=form.lower(), suffix="", panels=False, report=False, overwrite="never")
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=out.parent) as folder:
        summary = work(out=folder, options=options)
        for row in LastRows(Path(folder) / STATE_FOLDER / JOURNAL):
            if row.get("output"):
                os.replace(Path(folder) / row["output"], out)
    summary.out = out
    return summary


def _preview(ready: Ready, sources: list[str | Path], report: Reporter) -> RunSummary:
    """Plan every picture as if OUT were empty; the summary's `planned` holds a row for each."""
    pipe, task, out = ready.pipe, ready.task, ready.out
    planned: list[Row] = []
    summary = RunSummary(out, domain=domain_of(pipe), force=task.options.force, planned=planned)
    everything = partial(list_work, sources, out, replace(task.options, limit=None))
    with tempfile.TemporaryDirectory() as folder, thresholds(pipe, task, Path(folder), everything, notes_to(report)):
        for outcomes in plan_batches(pipe, list_work(sources, out, task.options), task, ready.shelf, ready.gate):
            for row in (row_of(outcome, "", 0.0, task.options.seed) for outcome in outcomes):
                planned.append({name: row[name] for name in row if name not in ("moved", "noise", "output")})
                summary.add(planned[-1])
    return summary


def _run(
    sources: list[str | Path],
    ready: Ready,
    shard: Shard | None,
    dataset: str,
    asked: Mapping[str, Any],
    report: Reporter,
) -> RunSummary:
    """Do what is left to do, and write what is shown of the run."""
    task, out, options, say = ready.task, ready.out, ready.task.options, notes_to(report)
    header = task.header(content_hash(ready.table.path) if ready.table else "")
    view = view_of(task, ready.gate, ready.pipe) | ({"dataset": dataset} if dataset else {})
    start = {"kind": "run", "header": header, "settings": asdict(task.config), "view": view}

    def work() -> Iterator[WorkItem]:
        items = list_work(sources, out, options)
        return shard.own(items, options.batch_size) if shard else items

    with ledger.run_lock(out, shared=shard is not None), ExitStack() as stack:
        stack.enter_context(_told(report))
        beginning = stack.enter_context(ExitStack())
        if shard:
            beginning.enter_context(ledger.one_at_a_time(out))
            text = f"Another process works on shard {shard} of '{printable(out)}': give each its own number."
            stack.enter_context(ledger.locked(out, shard.lock, text))
            start |= {"shard": ledger.share_of(shard, sources, options)}
        ledger.refuse_unmerged(out, shard)
        warning = ready.gate.warning if ready.gate else ""
        for note in filter(None, (*ready.notes, warning)):
            say(note)
        if warning and report is silent:
            warnings.warn(warning, stacklevel=2)
        everything = partial(list_work, sources, out, replace(options, limit=None))
        stack.enter_context(thresholds(ready.pipe, task, out, everything, say))
        known = ledger.open_ledger(out, header, options, shard)
        if options.overwrite == "never":
            known.check_inputs(work())
        with open_journal(known.path, out) as journal:
            if journal.repaired:
                say(f"After an earlier end, {journal.repaired}")
            rows_of = None
            if asked["cluster"]:
                rows_of = partial(work_on, asked["cluster"], RefineWorker, given_afar(asked, ready, header))
                stack.callback(leave)
            run = Start(work, ready, known, journal, report, rows_of)
            summary = run.go(start if shard or known.header is None else None, beginning.close)
            done = LastRows(known.path)
            summary.vanished = sum(
                row["unit"] >= journal.first and "output" in row and not os.path.lexists(out / row["output"])
                for row in (() if mirror_of(out) else done)
            )
        if not shard:
            page = options.report and not summary.stopped
            page = page and bool(summary.counts or not (out / PAGE).exists())
            conclude(done, out, view, summary, report, page)
    report({"event": "end"} | summary.to_dict())
    return summary


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
    before = dict(getattr(pipe, "_progress_bar_config", {}))
    pipe.set_progress_bar_config(disable=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            warnings.filterwarnings("ignore", message="Steering by")  # a note of the run says so
            yield
    finally:
        pipe.set_progress_bar_config(**before)
