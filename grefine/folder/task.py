"""What all batches of a run share (settings, prompts, what names the pipeline), and an image on its way. No state."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine import __version__
from grefine.config import digest
from grefine.folder.options import FolderOptions
from grefine.folder.plans import MaskFolder, PlanFolder
from grefine.folder.worklist import WorkItem
from grefine.indicators.providers import MapSource, Provider
from grefine.io.picture import LoadedImage
from grefine.io.prompts import ChosenPrompt, PromptSources
from grefine.io.record import RefineRecord
from grefine.plan_file import PLAN
from grefine.refine.follow import fingerprint
from grefine.refine.maps import VQA
from grefine.refine.painters.choose import describe_painter
from grefine.refine.settings import RefineConfig, settings_digest
from grefine.scorers.prefilter import GateVerdict, ScoreGate
from grefine.scorers.resolve import fingerprint_of
from grefine.types import RefineResult, RepairPlan


@dataclass(frozen=True)
class Task:
    """One run's choices."""

    pipeline: str
    """Its name, as records show it."""
    weights: str
    """Fingerprint of its components, so that a retrained pipeline is noticed."""
    config: RefineConfig
    options: FolderOptions = field(default_factory=FolderOptions)
    prompts: PromptSources = field(default_factory=PromptSources)
    lora_dir: Path | None = None
    gate: str = ""
    """What tells the run's first judge from others; empty without one."""
    opening: tuple[str, ...] = ()
    """Precision and added judges of the pipeline, where they are not the default."""
    quality_map: MapSource | None = None
    """Who draws the quality maps in place of PQ-Map."""
    alignment_map: MapSource | None = None
    """Who draws the alignment maps in place of AQ-Map."""
    painter: Mapping[str, Any] = field(default_factory=dict)
    """Who redraws in place of SDXL, and how it is told, as a saved pipeline states it."""
    plans: PlanFolder | None = None
    """Plans that were made, and perhaps changed, before."""
    masks: MaskFolder | None = None
    """A person's masks, in place of planned ones or with them."""
    plan_only: bool = False
    """Stop after the plan: nothing is repainted."""
    on_step: Callable[..., dict[str, Any]] | None = None
    """Called after every step, as diffusers calls `callback_on_step_end`."""

    @property
    def drawn_by(self) -> dict[str, str]:
        """Say where maps come from that are not ours: a provider with what was measured of it, or a folder."""
        named = {"quality map": self.quality_map, "alignment map": self.alignment_map}
        return {what: by.told if isinstance(by, Provider) else str(by.folder) for what, by in named.items() if by}

    @property
    def drew(self) -> list[str]:
        """Name who draws the maps in place of ours, and the metrics that see as they do."""
        specs = [by.spec for by in (self.quality_map, self.alignment_map) if isinstance(by, Provider)]
        specs += [VQA] if self.config.use_aq and self.config.phrase_judge != "clip" else []
        return [name for spec in specs for name in dict.fromkeys((spec.name, *spec.judges))]

    @property
    def painter_name(self) -> str:
        """Say who redraws in place of SDXL, and who else does stage 2; empty for SDXL alone."""
        named = [(self.painter, ""), (self.painter.get("restorer") or {}, "stage 2 by ")]
        told = [(by, " ".join(str(one[key]) for key in ("class", "from") if one.get(key))) for one, by in named]
        return "; ".join(by + words for by, words in told if words)

    def hash_of(self, relative: str = "") -> str:
        """Hash of everything that decides how one image with one prompt comes out; of all plans only its own."""
        edit = self.plans.edits.get(f"{relative}{PLAN}", "") if self.plans else ""
        options, loras = self.options, self.lora_dir and str(self.lora_dir)
        values = [settings_digest(asdict(self.config)), self.weights, options.seed, options.force, loras]
        return digest(values + [self.gate] * bool(self.gate) + self._steering(edit))

    def _steering(self, plans: str) -> list[Any]:
        by_hand = {"plans": plans, "masks": self.masks.digest if self.masks else ""}
        named = (self.drawn_by, dict(self.painter), by_hand if any(by_hand.values()) else {})
        steering = [list(self.opening), *filter(None, named)]
        return steering if any(steering) else []

    def header(self, prompts: str) -> dict[str, Any]:
        """Return what a journal notes of its run, and compares when the run goes on; `prompts` names the table."""
        steering = self._steering(self.plans.digest if self.plans else "")
        header = {
            "version": __version__,
            "pipeline": self.pipeline,
            "weights": self.weights,
            "config": settings_digest(asdict(self.config)),
            "options": digest(self.options.changes_results()),
            "seed": self.options.seed,
            "prompts": digest([prompts, self.prompts.common, self.prompts.order]),
            "loras": str(self.lora_dir or ""),
        }
        return header | {name: part for name, part in (("gate", self.gate), ("steering", steering)) if part}


def gate_key(gate: ScoreGate | None) -> str:
    """Return what tells one gate from another, for noticing that it changed; empty without a gate."""
    if gate is None:
        return ""
    state = fingerprint_of(gate.weights) if gate.weights is not None else ""
    return f"{gate.name} {gate.scorer.spec.version} {state}".strip()


def pipeline_name(pipe: Any) -> str:
    """Return the name that a pipeline was loaded by, without folders."""
    loaded_from = getattr(pipe, "name_or_path", "") or pipe.config.get("_name_or_path", "") or type(pipe).__name__
    return Path(str(loaded_from).rstrip("/")).name or type(pipe).__name__


def weights_fingerprint(pipe: Any) -> str:
    """Return a hash over the weights of a pipeline and its painter, to notice other ones."""
    parts = dict(pipe.components)
    for role in ("painter", "restorer"):
        loaded = getattr(getattr(pipe, f"_{role}", None), "pipe", None)
        parts |= {f"{role}.{name}": part for name, part in getattr(loaded, "components", {}).items()}
    return fingerprint(parts)


def painters_of(pipe: Any) -> dict[str, Any]:
    """Return who redraws in place of SDXL, and beside it who does stage 2, as a saved pipeline states them."""
    restorer = describe_painter(getattr(pipe, "_restorer", None))
    return (describe_painter(getattr(pipe, "_painter", None)) or {}) | ({"restorer": restorer} if restorer else {})


@dataclass(frozen=True, slots=True)
class Reading:
    """One image of a batch, read, or why it could not be."""

    item: WorkItem
    data: bytes = b""
    image: LoadedImage | None = None
    digest: str = ""
    state: Mapping[str, int] = field(default_factory=dict)
    """What `WorkItem.state` said before it was read."""
    prompt: ChosenPrompt = ChosenPrompt("", "none")
    record: RefineRecord | None = None
    """What an earlier run wrote into it."""
    known: bool = False
    """True when that run was equal to this one and the picture is still what it wrote."""
    by_hand: RepairPlan | np.ndarray | None = None
    """The plan or the mask that was given for it."""
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image of a batch, refined, or why it was not."""

    reading: Reading
    state: str
    """untouched, refined, kept, beyond (repair) or failed."""
    reason: str
    image: Image.Image | None = None
    """The refined RGB picture; None where the input's own bytes are given back."""
    result: RefineResult | None = None
    seconds: float = 0.0
    unexpected: bool = False
    """True for a failure that is not about the image."""
    foreign: bool = False
    """True for a picture of a world that the pipeline does not know, refused or forced."""
    notes: tuple[str, ...] = ()
    gate: GateVerdict | None = None
    """What the run's first judge said; None without one."""
