"""The page of plans: every picture with what would be repainted, the worst first."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grefine.errors import PlanError
from grefine.plan_file import OVERLAY
from grefine.report.entry import ReportImage, ReportText
from grefine.report.page import write_page
from grefine.types import RepairPlan

_WORDS = {"keep": "to keep", "repair": "to repair", "new": "to generate anew"}


@dataclass(frozen=True, slots=True)
class PlannedPicture:
    """One picture and what is to be done about it."""

    name: str
    source: str
    plan: Path
    """The path that its plan's files are named by."""
    verdict: str
    """keep, repair or new."""
    wrong: float
    """How much of it is bad or missing, 0..1."""
    prompt: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


Opened = Callable[[PlannedPicture], AbstractContextManager[Path | Image.Image]]


def write_triage(
    out: Path,
    pictures: Sequence[PlannedPicture],
    failed: Sequence[tuple[str, str]],
    facts: Sequence[tuple[str, str]],
    opened: Opened,
) -> Path:
    """Write `out/report.html` and return its path: what is to be kept, repaired or generated anew.

    `opened` gives a planned picture, and has its plan's files on this machine as long as it is open.
    """
    counts = Counter(picture.verdict for picture in pictures)
    parts = [f"{counts[name]:,} {word}" for name, word in _WORDS.items() if counts[name]]
    parts += [f"{len(failed):,} failed"] if failed else []
    text = ReportText(
        title="Plans",
        subtitle="What would be repainted, picture by picture; nothing has been changed.",
        headline=f"{len(pictures) + len(failed):,} pictures: {', '.join(parts)}" if parts else "There was no picture",
        sentences=(
            "The worst come first. Switch a region off in its .plan.json (`on`), change its `prompt` or `strength`, "
            "or paint in its .mask.png; then run `grefine refine SRC -o OUT --plans` with this folder.",
        ),
        facts=tuple(facts),
        missing=tuple(failed),
    )
    worst = sorted(pictures, key=lambda picture: (-picture.wrong, picture.name))
    return write_page(out, ([entry] for entry in _entries(worst, opened)), text, {}, labels=("picture", "plan"))


def _entries(pictures: Sequence[PlannedPicture], opened: Opened) -> Iterator[ReportImage]:
    for picture in pictures:
        with opened(picture) as before:
            yield _entry(picture, before)


def _entry(picture: PlannedPicture, before: Path | Image.Image) -> ReportImage:
    try:
        plan = RepairPlan.load(picture.plan)
        mask = plan.mask if plan.mask.any() else None
    except PlanError:
        mask = None
    return ReportImage(
        name=picture.name,
        before=before,
        after=Path(f"{picture.plan}{OVERLAY}"),
        mask=mask,
        prompt=picture.prompt,
        kept=picture.verdict,
        reason=picture.reason,
        notes=(f"how much is wrong: {picture.wrong:.3f}, the mean of 1 - P + E", *picture.notes),
    )
