"""What is known of the families of diffusers' pipelines that paint, and how painters want to be told what to draw."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, Self, get_args

from grefine.config import build, load_config
from grefine.errors import ConfigError, nearest
from grefine.refine.settings import Strengths
from grefine.resources import bundled
from grefine.types import AlignmentMap, PhraseAlignment, RepairPlan

Style = Literal["phrase first", "caption", "instruction"]
TEMPLATES = {
    "noun": "Add {thing}{place}.",
    "part": "Add {part} to {host}.",
    "attribute": "Make {bare} {attributes}.",
    "other": "Change this place so that it shows {thing}.",
    "perceptual": "Restore this place.",
    "user": "{caption}",
    "whole": "Restore this picture.",
}
"""Instructions for edit models: a missing thing, a missing part of a thing, a thing that looks otherwise than asked,
any other defect of a phrase, a place that looks bad, a place that a person marked, and stage 2."""
_FIELDS = {"thing", "place", "part", "host", "bare", "attributes", "caption"}
_ARTICLE = re.compile(r"^(a|an|the|one|some)\s+", re.IGNORECASE)
_BEFORE = re.compile(r"^(with|on|in|of|at|under|near|by|inside|behind|beside|over)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Phrasing:
    """A style, and the sentences of instructions."""

    style: Style = "phrase first"
    templates: Mapping[str, str] = field(default_factory=lambda: dict(TEMPLATES))

    @classmethod
    def of(cls, words: Any, default: Style) -> Self:
        """Read what `words=` means: a style, or templates that replace some of ours."""
        if words is None:
            return cls(default)
        if isinstance(words, Mapping):
            return cls("instruction", TEMPLATES | _checked(words))
        if words not in get_args(Style):
            styles = ", ".join(get_args(Style))
            raise ConfigError(f"words must be one of {styles}, or a mapping of templates, not {words!r}.")
        return cls(words)

    def reword(self, plan: RepairPlan, alignment: AlignmentMap) -> RepairPlan:
        """Return a plan whose regions are asked for in this style."""
        if self.style == "phrase first":
            return plan
        regions = []
        for region in plan.regions:
            if self.style == "caption":
                prompt = plan.prompt
            elif region.phrases:
                prompt = " ".join(self._ask(alignment, index, plan.prompt) for index in region.phrases)
            else:
                kind = "user" if region.kind == "user" and plan.prompt else "perceptual"
                prompt = self.templates[kind].format(caption=plan.prompt)
            regions.append(replace(region, prompt=prompt))
        return replace(plan, regions=tuple(regions))

    def whole(self, caption: str) -> str:
        """Return what stage 2 is told."""
        return self.templates["whole"].format(caption=caption) if self.style == "instruction" else caption

    def _ask(self, alignment: AlignmentMap, index: int, caption: str) -> str:
        asked = alignment.phrases[index]
        phrase = asked.phrase
        words = dict.fromkeys(_FIELDS, "") | {"thing": _BEFORE.sub("", phrase.text), "caption": caption}
        words["attributes"] = " and ".join(phrase.attributes)
        words["bare"] = f"the {phrase.noun}"
        if asked.host is not None and not phrase.beside:
            host = alignment.phrases[asked.host].phrase
            words |= {"part": _ARTICLE.sub("", words["thing"]), "host": f"the {host.noun}"}
            return self.templates["part"].format(**words)
        if asked.defect == "noun":
            words["place"] = _place_of(asked, alignment, caption)
            return self.templates["noun"].format(**words)
        return self.templates["attribute" if phrase.attributes else "other"].format(**words)


def _place_of(asked: PhraseAlignment, alignment: AlignmentMap, caption: str) -> str:
    """Return where the prompt itself puts a thing: the phrase right behind it, when it says a place."""
    end = asked.phrase.spans[-1][1] if asked.phrase.spans else -1
    for other in alignment.phrases:
        start = other.phrase.spans[0][0] if other.phrase.spans else -2
        text = other.phrase.text
        says_a_place = _BEFORE.match(text) or text.lower().startswith(("next to ", "in front of ", "on top of "))
        if start > end >= 0 and not caption[end:start].strip() and says_a_place:
            return f" {text}"
    return ""


def _checked(words: Mapping[str, Any]) -> dict[str, str]:
    """Return templates whose names and fields are known."""
    for name, text in words.items():
        if name not in TEMPLATES or not isinstance(text, str):
            raise ConfigError(f"words: no template '{name}', only {', '.join(TEMPLATES)}{nearest(name, TEMPLATES)}")
        try:
            text.format(**dict.fromkeys(_FIELDS, ""))
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"words: '{name}' may name {', '.join(sorted(_FIELDS))}: {error}.") from error
    return dict(words)


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
