"""What flows between the rooms: frozen records, no behaviour beyond reading themselves.

Maps are `(H, W)` float32 numpy arrays in 0..1 at the image's own size, unless a field says otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from grefine.plan_file import REGION, pack, read_plan, write_plan

DefectKind = Literal["noun", "attribute"]
Attention = Literal["usual", "printed"]
"""Eq. 1's scale: one over the root of the head's width, as released, or over each value's length, as printed."""
FeatureNorm = Literal["token", "channel"]
_CONJUNCTIONS = frozenset({"and", "or", "but", "nor", "plus"})
RegionKind = Literal["noun", "attribute", "perceptual", "user"]
Kept = Literal["original", "repainted", "both", "restored"]
Direction = Literal["higher", "lower"]
Axis = Literal["perceptual", "alignment"]
AXES: tuple[Axis, ...] = ("perceptual", "alignment")
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom exclusive, as PIL counts."""
Weights = tuple[tuple[int, int, float], ...]
"""(start, end, weight) over the characters of a prompt; words that are not named weigh 1."""


def place_of(box: Box) -> tuple[slice, slice]:
    """Return where a box lies in an array `(H, W, ...)`."""
    left, top, right, bottom = box
    return slice(top, bottom), slice(left, right)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a cleaned prompt."""

    text: str
    start: int
    """First character in the cleaned text."""
    end: int
    """One past the last character in the cleaned text."""
    tag: str = "X"
    """Universal part of speech."""
    head: int = -1
    """Index of the governing token; -1 for a root."""
    label: str = "root"
    """Universal dependency relation to the head."""
    weight: float = 1.0
    """Emphasis that the prompt's own syntax gave this word, 1 without."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One noun and the words that belong to it (Eq. 4)."""

    noun: str
    words: tuple[str, ...]
    """All words of the phrase in their order in the prompt, the noun among them."""
    spans: tuple[tuple[int, int], ...]
    """Character ranges in the cleaned text, one per word."""
    ancestor: int
    """Index in the list of phrases of the phrase this one hangs on; its own index for a root (Alg. 1)."""
    weight: float = 1.0
    """Largest emphasis among the words."""
    negated: bool = False
    """True for what the prompt excludes ("no people"): never a thing to add."""
    drawable: bool = True
    """False for style, medium, quality, camera and artist phrases: never a defect."""
    beside: bool = False
    """True for what stands beside its ancestor (in a list, "next to", "under"), not on it or in it."""
    attributes: tuple[str, ...] = ()
    """The words that say how the noun looks ("red", "striped")."""

    @property
    def text(self) -> str:
        """The phrase as it is shown to a text encoder: its words without a conjunction at either end."""
        words = list(self.words)
        while len(words) > 1 and words[0].lower() in _CONJUNCTIONS:
            del words[0]
        while len(words) > 1 and words[-1].lower() in _CONJUNCTIONS:
            del words[-1]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt after cleaning, tagging and parsing."""

    text: str
    """The cleaned prompt; every span counts in it."""
    tokens: tuple[Token, ...]
    phrases: tuple[Phrase, ...]
    truncated: int = 0
    """Number of words that were cut from an over-long prompt."""
    language: str = ""
    """The language of a prompt that is not English; its phrases are not judged, unless `parse` was told to."""
    backend: str = "embedded"

    @property
    def tree(self) -> Any:
        """The dependency forest as an `nltk.DependencyGraph`."""
        from nltk import DependencyGraph

        rows = (f"{t.text}\t{t.tag}\t{t.head + 1}\t{t.label}" for t in self.tokens)
        return DependencyGraph("\n".join(rows), cell_separator="\t", top_relation_label="root")


@dataclass(frozen=True, slots=True)
class QualityMap:
    """Where the image is good (PQ-Map)."""

    values: np.ndarray
    """`(H, W)`, high = good."""
    score: float
    """p in 0..1, from the whole image."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Probability of "good" per factor: overall, technical, rational, natural."""


@dataclass(frozen=True, slots=True)
class PhraseAlignment:
    """How well one phrase is met, and where it would have to be drawn."""

    phrase: Phrase
    a_phs: float
    """Alignment of the full phrase with the image (Eq. 5)."""
    a_pns: float
    """Alignment of its noun alone (Eq. 5)."""
    defect: DefectKind | None
    """"noun": the thing is not there; "attribute": it is, but not as asked; None: met or not judged."""
    region: np.ndarray | None = None
    """`(H, W)` where the repair belongs; None without a defect."""
    claimed: np.ndarray | None = None
    """`(H, W)` where a met phrase is seen; None when it has a defect or was not judged."""
    host: int | None = None
    """Index of the phrase on which the repair belongs; None for a place of its own."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What providers of alignment maps beside AQ-Map ask for."""

    edit: np.ndarray
    """`(H, W)`, high where something has to be drawn; half is the edge of good pictures."""
    share: float | None
    """AQ-Map's weight in the mean of all; None: the worst counts."""
    edge: float
    """AQ-Map's own E that is brought to half."""

    def mixed(self, own: np.ndarray) -> np.ndarray:
        """Return 1 where AQ-Map's E and theirs together lie beyond half, 0 elsewhere."""
        own = np.interp(own, [0.0, self.edge, 1.0 + 1e-6], [0.0, 0.5, 1.0])
        both = np.maximum(own, self.edit) if self.share is None else self.share * own + (1 - self.share) * self.edit
        return (both > 0.5).astype(np.float32)


@dataclass(frozen=True, slots=True)
class AlignmentMap:
    """Where the image misses its prompt (AQ-Map)."""

    values: np.ndarray
    """`(H, W)` A, high = aligned."""
    score: float | None
    """a in 0..1 (Eq. 8); None when the prompt has nothing to judge, so that only p counts."""
    phrases: tuple[PhraseAlignment, ...] = ()
    note: str = ""
    """What the reader should know, e.g. that the prompt was truncated for the text encoder."""
    beside: Beside | None = None
    """What others than AQ-Map ask for; `values` hold it already."""

    @property
    def edit(self) -> np.ndarray:
        """`(H, W)` E = 1 - A, high where something has to be drawn."""
        return 1.0 - self.values

    @property
    def defects(self) -> tuple[PhraseAlignment, ...]:
        """The phrases that are not met."""
        return tuple(p for p in self.phrases if p.defect is not None)


@dataclass(frozen=True, slots=True)
class Region:
    """One crop that stage 1 repaints."""

    box: Box
    """The crop in image pixels, context included."""
    mask: np.ndarray
    """`(box height, box width)` bool, True = repaint."""
    prompt: str
    """What the repainter is asked for: the phrase first, then the caption."""
    strength: float
    """Share of the denoising schedule, 0..1."""
    kind: RegionKind
    reason: str
    """One plain sentence."""
    phrases: tuple[int, ...] = ()
    """Indices of the phrases that asked for it."""
    is_restoration: bool = False
    """What it shows is to be mended, not replaced: it looks bad, and no phrase asks for anything else there."""
    on: bool = True
    """False leaves it as it is."""

    @property
    def place(self) -> tuple[slice, slice]:
        """Where the crop lies in an array `(H, W, ...)`."""
        return place_of(self.box)


def _plain(value: Any) -> Any:
    """Return a value, or those of a tuple, as JSON takes them."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What is to be repainted, how strongly and why. Empty regions: nothing to repair."""

    mask: np.ndarray
    """`(H, W)` bool, True = repaint."""
    regions: tuple[Region, ...]
    prompt: str
    token_weights: Weights = ()
    """Emphasis over the characters of `prompt` (Eq. 7)."""
    note: str = ""
    """Why nothing is planned, or what was left out (too small, too many, too large an area)."""
    restore: bool = False
    """Whether stage 2 has something to mend: the image is bad, even where no single place is."""
    beyond_repair: bool = False
    """True when more would have to be drawn anew than `max_area` allows: it needs a new generation."""
    seed: int | None = None
    """What to seed the repaint with; None leaves it to the call."""
    made_for: Mapping[str, Any] = field(default_factory=dict)
    """What it was planned from: hashes of picture and prompt, pipeline, settings; empty where nobody said."""
    file: str = ""
    """Where it was loaded from, for messages."""
    guidance: Mapping[str, float] = field(default_factory=dict)
    """Preferences that steer the repaint, where the call has none."""

    def save(self, path: str | Path, picture: Any = None) -> Path:
        """Write `PATH.plan.json`, `PATH.mask.png` and, with a PIL `picture`, `PATH.overlay.jpg`; return the first."""
        return write_plan(path, self._values(), self.mask, picture)

    @classmethod
    def load(cls, path: str | Path) -> "RepairPlan":
        """Read what `save` wrote and somebody may have edited; `path` as for `save`, or the JSON itself."""
        return read_plan(path, cls, Region)

    @property
    def digest(self) -> str:
        """Return a hash of all that decides what is painted."""
        values = {name: value for name, value in self._values().items() if name != "made_for"}
        state = sha256(json.dumps(values, sort_keys=True).encode())
        state.update(repr(self.mask.shape).encode() + np.packbits(self.mask).tobytes())
        return state.hexdigest()

    @property
    def edited(self) -> bool:
        """Whether it is no longer what was planned, or nobody said what that was."""
        return self.made_for.get("plan") != self.digest

    def _values(self) -> dict[str, Any]:
        """Return everything but the mask as plain values, in the order of the file."""
        regions = [
            {name: _plain(getattr(region, name)) for name in REGION} | {"pixels": pack(region.mask)}
            for region in self.regions
        ]
        return {
            "note": self.note,
            "prompt": self.prompt,
            "seed": self.seed,
            "restore": bool(self.restore),
            "beyond_repair": self.beyond_repair,
            "emphasis": _plain(tuple(self.token_weights)),
            "regions": regions,
            "made_for": dict(self.made_for),
        } | ({"guidance": dict(self.guidance)} if self.guidance else {})

    @property
    def area(self) -> float:
        """Share of the image that is repainted."""
        return float(self.mask.mean()) if self.mask.size else 0.0


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a reader must know of a metric before believing it."""

    name: str
    direction: Direction = "higher"
    range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest value; infinities for unbounded scores."""
    needs_prompt: bool = False
    needs_reference: bool = False
    licence: str = "Apache-2.0"
    """Terms of code and weights together."""
    weights: str = ""
    """What has to be present, and the command that gets it; empty when nothing is needed."""
    used_in_loop: bool = False
    """True when it made the mask or steered the refinement, so that it proves nothing."""
    axis: Axis | Literal["both", "none"] = "perceptual"
    """What it is about; "none" describes a property that is neither good nor bad by itself, and never decides."""
    version: str = "1"
    description: str = ""
    values: Mapping[str, Axis] = field(default_factory=dict, hash=False)
    """What each of its values is about, by name, the main one first; empty for one value named like the metric."""
    aliases: tuple[str, ...] = ()
    """Other names that people know it by."""
    component: str = ""
    """The component of a pipeline that carries its network; empty when none does."""
    words: bool = False
    """True when that component reads texts, so that a tokenizer is kept beside it."""
    convert: str = ""
    """What `grefine convert` calls its published files; empty when they are used as they are."""
    fetch: str = ""
    """The `grefine fetch` recipe of its weights; empty when there is none."""
    package: str = ""
    """A package that it needs and that grefine does not install."""
    imports: tuple[str, ...] = ()
    """Packages that it needs and that the light install leaves out."""
    noncommercial: bool = False
    """True when it runs only for those who accept non-commercial terms."""
    parts: bool = False
    """True when it judges a part of a picture as it judges a whole one, so that the guard shows it a region alone."""

    def axis_of(self, value: str) -> Axis:
        """Return what one of its values is about; a value of a metric on both counts as perceptual."""
        return self.values.get(value, "alignment" if self.axis == "alignment" else "perceptual")


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What a reader must know of a map that another package draws."""

    name: str
    range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest value that it draws; they are brought to 0..1."""
    high_is: Literal["good", "bad"] = "good"
    licence: str = ""
    """Terms of code and weights together."""
    version: str = "1"
    description: str = ""
    judges: tuple[str, ...] = ()
    """Metrics that see with the same network: where this map drew the mask they do not judge, nor one of its name."""
    noncommercial: bool = False
    """True when it runs only for those who accept non-commercial terms."""


@dataclass(frozen=True, slots=True)
class PainterSpec:
    """What a reader, and the plan, must know of a painter that another package brings."""

    name: str
    side: int = 512
    """Side of the square that crops are brought to."""
    multiple: int = 8
    """What sides of crops are multiples of."""
    words: Any = "phrase first"
    """How it is told: "phrase first", "caption", "instruction", or a mapping of templates for instructions."""
    sees_source: bool = False
    """True when it looks at what lies under the mask; otherwise the place of a missing thing is smoothed first."""
    licence: str = ""
    """Terms of code and weights together."""
    version: str = "1"
    description: str = ""
    noncommercial: bool = False
    """True when it runs only for those who accept non-commercial terms."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One image's values by metric or dimension name."""

    values: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    def keys(self) -> Any:
        """The names, so that `dict(scores)` works."""
        return self.values.keys()


@dataclass(frozen=True, slots=True)
class Decision:
    """Which candidate was kept, and why."""

    kept: Kept
    reason: str
    """One plain sentence."""
    guarded: bool
    """False when no scorer that did not make the mask was present."""
    candidates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Guard scores by candidate: original, repainted, both, restored."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Per score the change that counts as none on this picture; empty without a guard."""


@dataclass(frozen=True, slots=True)
class RefineResult:
    """Everything that is known about one refined image."""

    quality: QualityMap
    alignment: AlignmentMap
    plan: RepairPlan
    before: Scores
    after: Scores
    decision: Decision
    seed: int | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step."""
    prompt: str = ""
    """The prompt as given."""
    warnings: tuple[str, ...] = ()
    moved: float = 0.0
    """Share of the pixels that are not as they were."""
    forced: bool = False
    """True for a picture of a world that the pipeline does not know."""
    painter: str = ""
    """Who redraws: SDXL, a class of diffusers, or the name of a painter of one's own."""
    drawn: tuple[int, ...] = ()
    """Per region how many repaints were drawn."""
    choosing: tuple[str, ...] = ()
    """Who chose among them, where there were several."""

    @property
    def state(self) -> str:
        """What became of it: refined, kept (tried, but not better), untouched, or beyond repair."""
        if self.decision.kept != "original":
            return "refined"
        if len(self.decision.candidates) > 1:
            return "kept"
        return "beyond" if self.plan.beyond_repair else "untouched"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON takes, without the maps."""
        regions = [
            {"box": list(r.box), "kind": r.kind, "strength": r.strength, "prompt": r.prompt, "reason": r.reason}
            for r in self.plan.regions
        ]
        missing = [{"phrase": found.phrase.text, "defect": found.defect} for found in self.alignment.defects]
        return {
            "prompt": self.prompt,
            "p": self.quality.score,
            "a": self.alignment.score,
            "kept": self.decision.kept,
            "reason": self.decision.reason,
            "guarded": self.decision.guarded,
            "before": dict(self.before),
            "after": dict(self.after),
            "missing": missing,
            "regions": regions,
            "moved": self.moved,
            "forced": self.forced,
            "painter": self.painter,
            "drawn": list(self.drawn),
            "choosing": list(self.choosing),
            "seed": self.seed,
            "seconds": dict(self.timings),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        a = "none" if self.alignment.score is None else f"{self.alignment.score:.3f}"
        return (
            f"RefineResult(p={self.quality.score:.3f}, a={a}, regions={len(self.plan.regions)}, "
            f"kept={self.decision.kept!r}, moved={self.moved:.0%}: {self.decision.reason})"
        )

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        names = ("prompt", "p", "a", "kept", "reason", "missing", "moved", "warnings")
        rows = ((name, value) for name, value in self.to_dict().items() if name in names)
        cells = (f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
        return f"<table>{''.join(cells)}</table>"
