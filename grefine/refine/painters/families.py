"""What is known of the families of diffusers' pipelines that paint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from grefine.config import build, load_config
from grefine.refine.painters.phrasing import Style
from grefine.refine.settings import Strengths
from grefine.resources import bundled

FLOW = Strengths(noun=1.0, attribute=0.85, least=0.5, most=1.0)
"""For flow models, whose pictures move late in the schedule; grefine's own choice, not measured on real weights."""


@dataclass(frozen=True)
class Family:
    """What is known of one family's pipelines."""

    name: str
    classes: tuple[str, ...]
    """Its pipelines in diffusers, the one that inpaints first; the others are brought to it, their parts shared."""
    since: str
    """The first release of diffusers that has it."""
    licence: str
    """Of the published weights."""
    side: int = 1024
    """Where the pipeline does not say what size it was trained at."""
    rule: Literal["floor", "rest"] = "rest"
    """How steps and strength make executed steps: int(n·s), or n − int(n − n·s)."""
    cell: int = 2
    """Sides are multiples of so many cells of the VAE."""
    guided_by: str = "guidance_scale"
    """The argument of classifier-free, or embedded, guidance."""
    guidance: float | None = None
    """Its default; None: the argument is not passed."""
    negative: str | None = None
    """Negative prompt where the caller gives none and guidance needs one."""
    negated_by: str = "guidance_scale"
    """The argument that makes use of a negative prompt when it is above 1; empty: none does."""
    strengths: Strengths = FLOW
    steps: tuple[int, int] = (28, 8)
    """Executed steps of stage 1 and of stage 2."""
    distilled: tuple[int, int] | None = None
    """Those of a checkpoint that says `is_distilled`, which needs no guidance either."""
    restorer: str = "inpaint"
    """Stage 2 where nobody chose one."""
    words: Style = "phrase first"
    sees_source: bool = False
    """It is shown what lies under the mask as a reference."""
    fp16: bool = True
    """False where half precision breaks it."""
    resizes: bool = False
    """It works at a size of its own choice; its crops are brought back to theirs."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Passed with every call."""


@dataclass(frozen=True)
class _Table:
    families: dict[str, Mapping[str, Any]]


@cache
def families() -> tuple[Family, ...]:
    """Return the table of families, `configs/painters/families.yaml`."""
    table = load_config(bundled("configs") / "painters" / "families.yaml", _Table)
    return tuple(build(Family, {"name": name, **told}, name) for name, told in table.families.items())


def family_named(class_name: str) -> Family | None:
    """Return the family that a class of pipelines belongs to."""
    return next((family for family in families() if class_name in family.classes), None)
