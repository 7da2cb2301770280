"""Plan many pictures without changing any: a plan for each, and one page that sorts them by how much is wrong."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import GRefineError, PlanError
from grefine.folder.batch import plan_batches
from grefine.folder.mirror import at_hand, mirror_of, on_this_machine
from grefine.folder.options import FolderOptions
from grefine.folder.ready import make_ready, thresholds
from grefine.folder.views import PAGE, picture_before
from grefine.folder.worklist import WorkItem, list_work
from grefine.indicators.domain_check import DomainCheck, domain_of
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.plan_file import MASK, OVERLAY, PLAN
from grefine.refine.settings import RefineConfig
from grefine.report.entry import ReportImage, ReportText
from grefine.report.page import write_page
from grefine.types import RepairPlan

_WORDS = {"keep": "to keep", "repair": "to repair", "new": "to generate anew"}


@dataclass
class PlanSummary:
    """What was planned."""

    out: str | Path
    planned: list[tuple[float, ReportImage]] = field(default_factory=list)
    """How much of every picture is bad or missing, 0..1, and what the page shows of it; `kept` is what to do."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Pictures without a plan, and why."""
    kept: int = 0
    """Plans that were there already and were left as they are."""
    domain: DomainCheck | None = None
    """The one world that the pipeline knows."""

    @property
    def counts(self) -> Counter[str]:
        """Pictures by what is to be done: keep, repair, new."""
        return Counter(image.kept for _, image in self.planned)

    @property
    def told(self) -> str:
        """The counts in words; empty where there was no picture."""
        counts = self.counts
        parts = [f"{counts[name]:,} {word}" for name, word in _WORDS.items() if counts[name]]
        return ", ".join([*parts, f"{len(self.failed):,} failed"] if self.failed else parts)

    def lines(self) -> list[str]:
        """Return the summary as a person reads it."""
        lines = [f"{self.told or 'nothing to plan'}. Plans: {printable(self.out)} (look at report.html)"]
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
    """
    asked = {name: value for name, value in locals().items() if name not in ("sources", "out", "prompts")}
    named = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if is_address(out) or is_address(prompts):
        with on_this_machine(out, prompts, PAGE, "report_files") as (folder, table):
            summary = plan_folder(named, folder, prompts=table, **asked)
        summary.out = out
        return summary
    out = Path(out)
    options = replace(options or FolderOptions(), again=True)  # an output of ours is a picture like any other
    ready = make_ready(named, out, options, asked | {"prompts": prompts})
    pipe, task = ready.pipe, ready.task
    summary, mirror = PlanSummary(out, domain=None if options.force else domain_of(pipe)), mirror_of(out)
    pipe.set_progress_bar_config(disable=True)
    with thresholds(pipe, task, out, lambda: list_work(named, out, options), say):
        work = _without_plan(list_work(named, out, options), out, summary, options)
        for outcomes in plan_batches(pipe, work, task):
            for outcome in outcomes:
                reading, result = outcome.reading, outcome.result
                if result is None:
                    summary.failed.append((reading.item.relative, outcome.reason))
                    continue
                result.plan.save(out / reading.item.relative, reading.image.rgb if reading.image else None)
                summary.planned.append(_planned(reading.item, result.plan, reading.prompt.prompt))
                if mirror:
                    mirror.give(*_files(reading.item.relative))
            seconds = max(outcome.seconds for outcome in outcomes)
            say(f"{len(summary.planned) + len(summary.failed)} planned, {seconds:.2f} s per picture")
    count = len(summary.planned) + len(summary.failed)
    text = ReportText(
        title="Plans",
        subtitle="What would be repainted, picture by picture; nothing has been changed.",
        headline=f"{count:,} pictures: {summary.told}" if count else "There was no picture",
        sentences=(
            "The worst come first. Switch a region off in its .plan.json (`on`), change its `prompt` or `strength`, "
            "or paint in its .mask.png; then run `grefine refine SRC -o OUT --plans` with this folder.",
        ),
        facts=(
            ("pipeline", task.pipeline),
            ("seed", str(options.seed)),
            ("plans", mirror.address if mirror else str(out)),
        ),
        missing=tuple((printable(name), reason) for name, reason in summary.failed),
    )
    write_page(out, _entries(out, summary.planned), text, {}, labels=("picture", "plan"))
    return summary


def _files(relative: str) -> list[str]:
    """Return the names of a plan's files; the plan itself comes last, so that one that is there is whole."""
    return [f"{relative}{ending}" for ending in (MASK, OVERLAY, PLAN)]


def _without_plan(
    items: Iterable[WorkItem], out: Path, summary: PlanSummary, options: FolderOptions
) -> Iterator[WorkItem]:
    """Yield what has no plan yet."""
    mirror = mirror_of(out)
    for item in items:
        name = f"{item.relative}{PLAN}"
        if item.refused:
            summary.failed += [(item.relative, item.refused)] if item.failed else []
        elif options.overwrite == "always" or not (mirror.has(name) if mirror else (out / name).exists()):
            yield item
        else:
            try:
                with at_hand(out, _files(item.relative)):
                    plan = RepairPlan.load(out / name)
                summary.planned.append(_planned(item, plan, plan.prompt))
                summary.kept += 1
            except GRefineError as error:
                summary.failed.append((item.relative, str(error)))


def _planned(item: WorkItem, plan: RepairPlan, prompt: str) -> tuple[float, ReportImage]:
    repairs = plan.restore or any(region.on for region in plan.regions)
    wrong = plan.made_for.get("wrong")
    wrong = float(wrong) if isinstance(wrong, (int, float)) else 0.0
    regions = (f"region {n}: {r.prompt} (strength {r.strength:.2f})" for n, r in enumerate(plan.regions, 1))
    return wrong, ReportImage(
        name=printable(item.relative),
        before=str(item.source),
        after=item.relative,
        prompt=prompt,
        kept="new" if plan.beyond_repair else "repair" if repairs else "keep",
        reason=" ".join(region.reason for region in plan.regions if region.on) or plan.note,
        notes=(f"how much is wrong: {wrong:.3f}, the mean of 1 - P + E", *regions),
    )


def _entries(out: Path, pictures: list[tuple[float, ReportImage]]) -> Iterator[list[ReportImage]]:
    """Yield what the page shows, the worst first."""
    for _, image in sorted(pictures, key=lambda picture: (-picture[0], picture[1].name)):
        source, relative = str(image.before), str(image.after)
        with at_hand(out, _files(relative)):
            try:
                mask = RepairPlan.load(out / relative).mask
            except PlanError:
                mask = np.zeros((1, 1), bool)
            overlay = out / f"{relative}{OVERLAY}"
            shown = {"before": picture_before(source), "after": overlay, "mask": mask if mask.any() else None}
            yield [replace(image, **shown)]
