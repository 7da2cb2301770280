"""Plan many pictures without changing any: a plan for each, and one page that sorts them by how much is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError
from grefine.folder.batch import Reading, plan_batch, read_batch
from grefine.folder.options import FolderOptions
from grefine.folder.task import Task, pipeline_name, weights_fingerprint
from grefine.folder.thresholds import thresholds
from grefine.folder.worklist import WorkItem, list_work
from grefine.indicators.domain_check import DomainCheck, domain_of
from grefine.indicators.providers import open_sources
from grefine.io.picture import printable
from grefine.io.prompt_table import read_prompt_table
from grefine.io.prompts import PromptSources
from grefine.opening import Opening, open_pipeline
from grefine.plan_file import PLAN
from grefine.refine.settings import RefineConfig, read_settings
from grefine.report.triage import PlannedPicture, write_triage
from grefine.types import RepairPlan


@dataclass
class PlanSummary:
    """What was planned."""

    out: Path
    planned: list[PlannedPicture] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Pictures without a plan, and why."""
    kept: int = 0
    """Plans that were there already and were left as they are."""
    domain: DomainCheck | None = None
    """The one world that the pipeline knows."""

    @property
    def counts(self) -> Counter[str]:
        """Pictures by what is to be done: keep, repair, new."""
        return Counter(picture.verdict for picture in self.planned)

    def lines(self) -> list[str]:
        """Return the summary as a person reads it."""
        words = {"keep": "to keep", "repair": "to repair", "new": "to generate anew"}
        counts = [f"{self.counts[name]:,} {word}" for name, word in words.items() if self.counts[name]]
        counts += [f"{len(self.failed):,} failed"] if self.failed else []
        lines = [f"{', '.join(counts) or 'nothing to plan'}. Plans: {printable(self.out)} (look at report.html)"]
        lines += [f"{self.kept:,} plans were there already; --overwrite makes them anew."] if self.kept else []
        known = self.domain.reason if self.domain else ""
        lines += [f"  {printable(name)}: {reason}" for name, reason in self.failed if reason != known]
        foreign = sum(reason == known for _, reason in self.failed)
        told = self.domain.told(foreign, len(self.planned) + len(self.failed), False) if self.domain else ""
        return [*lines, told] if told else lines


def plan_folder(
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    pipeline: Any,
    *,
    config: RefineConfig | str | Path | Mapping[str, Any] | None = None,
    options: FolderOptions | None = None,
    prompts: str | Path | None = None,
    prompt: str | None = None,
    quality_map: str | Path | None = None,
    alignment_map: str | Path | None = None,
    allow_noncommercial: bool = False,
    device: str | None = None,
    dtype: str = "auto",
    painter: str | Path | None = None,
    painter_class: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> PlanSummary:
    """Write a plan of every picture into `out`, and a page of all; a plan that is there stays as it is.

    Args are those of `refine_folder`; `options.overwrite="always"` makes plans anew that are there.

    Raises:
        ConfigError: no pictures, or settings that cannot be used.
    """
    named = [sources] if isinstance(sources, (str, Path)) else list(sources)
    out, options, settings = Path(out), options or FolderOptions(), read_settings(config)
    table = read_prompt_table(prompts) if prompts is not None else None
    if next(list_work(named, out, options), None) is None:
        raise ConfigError("No images to plan: give images, folders, or an @list of paths.")
    drawn = open_sources(quality_map, alignment_map, device or "cpu", allow_noncommercial)
    opening = Opening(device, dtype, "none", (), allow_noncommercial, str(painter or ""), painter_class or "")
    pipe = open_pipeline(pipeline, opening)
    found = PromptSources(table, prompt, follow_links=options.follow_links)
    name = pipeline_name(pipe)
    task = Task(name, weights_fingerprint(pipe), settings, options, found, None, "", tuple(opening.key()), {}, *drawn)
    domain = domain_of(pipe) if not options.force else None
    summary = PlanSummary(out, domain=domain)
    pipe.set_progress_bar_config(disable=True)
    with thresholds(pipe, task, out, lambda: list_work(named, out, options), say):
        work = _work(list_work(named, out, options), summary, options)
        while items := list(islice(work, options.batch_size)):
            fit: list[Reading] = []
            for reading in read_batch(items, task):
                strange = domain is not None and reading.image is not None and domain.is_foreign(reading.image.rgb)
                if reading.image is None or (strange and domain is not None):
                    summary.failed.append(
                        (reading.item.relative, reading.failure or (domain.reason if domain else ""))
                    )
                else:
                    fit.append(reading)
            start = time.perf_counter()
            for reading, plan in plan_batch(fit, pipe, task):
                if isinstance(plan, str):
                    summary.failed.append((reading.item.relative, plan))
                    continue
                plan.save(out / reading.item.relative, reading.image.rgb if reading.image else None)
                summary.planned.append(_planned(reading.item, out, plan, reading.prompt.prompt))
            if fit:
                spent = time.perf_counter() - start
                say(f"{len(summary.planned) + len(summary.failed)} planned, {spent / len(fit):.2f} s per picture")
    facts = [("pipeline", name), ("seed", str(options.seed)), ("plans", str(out))]
    write_triage(out, summary.planned, [(printable(name), reason) for name, reason in summary.failed], facts)
    return summary


def _work(items: Iterable[WorkItem], summary: PlanSummary, options: FolderOptions) -> Iterator[WorkItem]:
    """Yield what has no plan yet."""
    for item in items:
        if item.refused and item.failed:
            summary.failed.append((item.relative, item.refused))
        elif not item.refused:
            file = summary.out / f"{item.relative}{PLAN}"
            if options.overwrite == "always" or not file.exists():
                yield item
                continue
            try:
                plan = RepairPlan.load(file)
                summary.planned.append(_planned(item, summary.out, plan, plan.prompt))
                summary.kept += 1
            except GRefineError as error:
                summary.failed.append((item.relative, str(error)))


def _planned(item: WorkItem, out: Path, plan: RepairPlan, prompt: str) -> PlannedPicture:
    repairs = plan.restore or any(region.on for region in plan.regions)
    wrong = plan.made_for.get("wrong")
    return PlannedPicture(
        name=printable(item.relative),
        source=item.source,
        plan=out / item.relative,
        verdict="new" if plan.beyond_repair else "repair" if repairs else "keep",
        wrong=float(wrong) if isinstance(wrong, (int, float)) else 0.0,
        prompt=prompt,
        reason=" ".join(region.reason for region in plan.regions if region.on) or plan.note,
        notes=tuple(f"region {n}: {r.prompt} (strength {r.strength:.2f})" for n, r in enumerate(plan.regions, 1)),
    )
