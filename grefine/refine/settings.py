"""What a refinement can be told: one record, read from `configs/refine/*.yaml`, checked before anything runs."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grefine.config import build, changed, changes_of, digest, load_config
from grefine.errors import ConfigError
from grefine.indicators.readings import Readings
from grefine.resources import config_file
from grefine.types import RegionKind

STRENGTH_CAP = 0.99
"""Above it SDXL-inpaint starts from pure noise and washes out; below it the image still anchors colour and light."""
STEP = 0.05
"""Strengths are rounded to multiples of it, so that crops share a schedule."""
STAGE_2_STEP = 0.05
"""Strength that a step of stage 2 takes off, at least, where stage 1's take off .05 to .1: finer ones change nothing
that can be seen (docs/method_refine.md)."""
MOST_TRIES = 64
"""At a region. Each takes as long as the first."""
StepsMode = Literal["noise", "executed", "schedule"]
"""How steps and strength make a schedule; see `UNetTraits.steps_mode`."""
_REMOVED: dict[str, dict[str, Any]] = {
    "it is fixed now (docs/method_refine.md); leave the key out.": {
        **{"max_change": 0.06, "split": 0.5, "feather": 0.25, "guard_regions": True, "restore_guidance_scale": 1.0}
    },
    "`mask_threshold` takes a value, or `mean` for the mean of each picture's own badness.": {
        **{"mask_mode": "fixed", "mask_quantile": 0.2}
    },
    "a score counts beyond its own noise; `guard_resolution` is the least that counts.": {"guard_tolerance": 1.0},
    "strengths go by kind of region (docs/method_refine.md); pass strength=... to set one for a call.": {
        **{"strength_noun": 0.9, "strength_attribute": 0.7, "strength_max": 0.95, "strength_step": 0.05}
    },
    "it is a property of the UNet now: `unet_traits` of the pipeline's model_index.json.": {
        **dict.fromkeys(("show_damage", "show_edited", "strength_shown", "steps_shown", "least_change"), None),
        "steps_mode": "executed",
    },
    "`use_aq` takes `vqa` or `vqa=FOLDER` as well as true and false.": {"phrase_judge": "clip"},
    "`guard: all` asks the judges about untouched pictures, too.": {"judge_untouched": False},
    "`gate` takes the value, as well as true and false.": {"p_gate": None},
    "it is measured by `grefine calibrate`; with a value as `gate` it is not asked.": {"worst_gate": None},
    "`reading: paper` is the literal chain.": {
        **{"strength_mode": "region", "strength_min": 0.3, "protect": True, "match_ring": True, "fill": "smooth"},
        "region_prompt": "phrase-first",
    },
}
"""What replaced the settings of earlier versions, and for each the value at which a run is the same without it."""
_RANGES = {
    **{"delta": (0, STRENGTH_CAP), "max_upscale": (1, math.inf)},
    **dict.fromkeys(("gate", "mask_threshold", "min_region_area", "max_area"), (0, 1)),
    **dict.fromkeys(("max_regions", "total_steps", "batch_size"), (1, math.inf)),
    **dict.fromkeys(("context", "emphasis", "dilate", "guard_resolution", "guard_trade"), (0, math.inf)),
}


@dataclass(frozen=True)
class RefineConfig:
    """All choices of one refinement. Empty (None) means: what the pipeline itself was calibrated to or prefers."""

    REMOVED = {key: sentence for sentence, keys in _REMOVED.items() for key in keys}  # no annotation: no setting
    NEUTRAL = {key: value for keys in _REMOVED.values() for key, value in keys.items()}
    NEUTRAL |= {"reading": "grefine", "guidance": None, "candidates": 1}
    """Keys that journals of other times lack or have, and the value at which a run is the same without them: put a new
    setting here, so that a run that was begun before it goes on."""

    reading: str = "grefine"
    """How G-Refine's open places are read: `grefine`, or `paper` for the print by the letter, each with changes after
    it (`paper, a_combine=max`); docs/method_maps.md lists the readings. For who reproduces the paper or its tables."""

    use_pq: bool = True
    """Let perceptual quality (PQ-Map) ask for repairs. Off for who wants nothing but the prompt to be met."""
    use_aq: bool | str = True
    """Let missing phrases (AQ-Map) ask for repairs. CLIP says where they belong and which are missing; at `vqa` the
    model of `vqascore` says which, at `vqa=FOLDER` another, and who says it does not judge the result. Off where
    the prompts are no longer those of the pictures."""
    gate: bool | float = True
    """Leave an image alone that is good on the whole and whose phrases are all met; a value is the p below which it
    counts as perceptually bad, whatever its worst place. Off for who wants weak places of good images repaired."""

    mask_threshold: float | Literal["mean"] | None = None
    """Where 1 - P + E is cut into the mask: a value, or `mean` for the mean of each picture's own. Lower it where bad
    places stay, raise it where good ones are redrawn."""
    dilate: float | None = None
    """How far the mask grows, as a share of the image's shorter side; None: 0.02, or what the pipeline prefers.
    Raise it where the rims of defects stay."""
    context: float = 0.5
    """Room around a bad place, as a share of its size, that the repainter sees. Raise it where
    repaints do not fit what is round them."""
    min_region_area: float = 0.002
    """Smaller parts of the mask (share of the image) are dropped: raise it to leave specks alone, lower it for small
    faults of large pictures."""
    max_regions: int = 6
    """At most so many crops per image, the worst first. Lower it to bound the time that one image takes."""
    max_area: float = 0.35
    """Beyond this share of pixels to be drawn anew the image needs a new generation, not a repair. Lower it to
    sort such images out sooner."""
    max_upscale: float | None = None
    """A crop is enlarged at most so much on its way to the repainter's working size. Raise it for small faces in
    large pictures, lower it where small places come back soft."""

    total_steps: int = 20
    """Denoiser steps of both stages together, half each, counted as executed. Stage 2 runs no more of its half than it
    has use for, two at `delta` 0.1; a call that asks for a number (`num_inference_steps`) gets all of them.
    Lower it for distilled painters (LCM, turbo), raise it where repaints look unfinished."""
    guidance_scale: float | None = None
    """Classifier-free guidance of stage 1. Lower it for distilled painters, or where colours come out too strong."""
    emphasis: float = 0.1
    """What Eq. 7 adds to the weight of the words of a defective phrase. Raise it where missing things stay missing."""
    batch_size: int = 4
    """Crops per denoiser call. Lower it where memory ends, raise it on a large GPU."""
    guidance: Mapping[str, float] | None = None
    """Experimental: steer denoising by gradient towards what judges like, e.g. `{sharpness: 1.0, moe-agiqa: 0.5}`;
    docs/guidance.md has what was measured."""
    candidates: int | str = 1
    """Tries at a region that is drawn anew, or that the first try left no better, of which a judge takes one: `4`, or
    `4 by mdiqa` to say who; `4 by mdiqa.sharpness*2,moe_agiqa` weighs several. Who chooses does not guard. For
    painters whose seeds differ much (docs/guidance.md)."""

    stage1: bool = True
    """Repaint the crops; without it stage 2 alone runs, for a mild clean-up."""
    restorer: str | None = None
    """Stage 2: inpaint, controlnet-tile, refiner or none; none for who wants the masked places redrawn and no more."""
    delta: float = 0.1
    """Strength of stage 2 (Eq. 9). Raise it for pictures that are soft all over, lower it to keep their grain."""
    preserve: Literal["paper", "exact"] = "paper"
    """`paper`: stage 2 sees the whole image and changes a good place visibly only to make it better; `exact`: pixels
    outside the mask stay bit-identical, for who edits on or has to show what was changed."""

    guard: bool | Literal["all"] = True
    """Score before and after and give back the original where nothing was gained; `all` also asks the judges about
    pictures that need nothing, so that every row of results.csv has their values. Off saves its time where somebody
    looks at every result."""
    guard_resolution: float | None = None
    """Least share of a score's range that counts as a change, however quiet the score is. Raise it so
    that only clear gains are kept."""
    guard_trade: float | None = None
    """How much of what is gained on one axis (quality, alignment) may be lost on the other, in shares of the scores'
    ranges: at 0.5 a missing thing that raises alignment by 0.4 may look worse by 0.2. At 0 nothing may fall."""

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= most:
                limit = "" if most == math.inf else f" and at most {most:g}"
                raise ConfigError(f"{name} must be at least {least}{limit}, not {value}.")
        Readings.of(str(self.reading))  # says what is wrong with it
        if not isinstance(self.use_aq, bool) and self.use_aq != "vqa" and not re.match("vqa=.", str(self.use_aq)):
            raise ConfigError(f"use_aq must be true, false, vqa or vqa=FOLDER, not '{self.use_aq}'.")
        if not 1 <= self.tries[0] <= MOST_TRIES:
            raise ConfigError(f"candidates must be 1 to {MOST_TRIES}, or as '4 by mdiqa', not {self.candidates!r}.")

    @property
    def phrase_judge(self) -> str:
        """Who decides which phrases are missing: "clip", "vqa" or "vqa=FOLDER"."""
        return self.use_aq if isinstance(self.use_aq, str) else "clip"

    @property
    def gated(self) -> bool:
        """Whether good images are left alone."""
        return self.gate is not False

    @property
    def tries(self) -> tuple[int, str]:
        """How often a region is drawn (0 for what cannot be read), and who chooses; empty leaves that open."""
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s+by\s+(\S.*?))?\s*", str(self.candidates))
        return (int(match[1]), match[2] or "") if match else (0, "")

    @property
    def literal(self) -> bool:
        """Whether nothing is done that the paper does not have."""
        return self.readings.additions == "none"

    @property
    def readings(self) -> Readings:
        """What `reading` says, place by place."""
        return Readings.of(self.reading)

    def steps(self, painters: tuple[int, int] | None = None, asked: bool = False) -> tuple[int, int]:
        """Return the executed steps of both stages, at least one each where they run, split as another painter's own.

        Stage 2 runs no more than its little noise needs, unless a call asked for a number of steps.
        """
        if not self.stage1:
            first, second = 0, self.total_steps
        elif self.restorer == "none":
            first, second = self.total_steps, 1
        else:
            share = painters[0] / sum(painters) if painters else 0.5
            first = min(max(round(self.total_steps * share), 1), self.total_steps)
            second = max(self.total_steps - first, 1)
        enough = painters or asked or self.literal
        return first, second if enough else min(second, max(1, round(self.delta / STAGE_2_STEP)))


@dataclass(frozen=True)
class Strengths:
    """How strongly a painter redraws, by kind of region; the defaults are SDXL's."""

    noun: float = STRENGTH_CAP
    """Of what is missing, which nothing on the picture shows yet."""
    attribute: float = 0.7
    least: float = 0.3
    """What only looks bad is redrawn as strongly as it is bad, and at least so much."""
    most: float = 0.95
    """Of what only looks bad, as strongly as it may be."""


def one_strength(p: float, a: float | None, reading: Literal["kept", "printed"]) -> float:
    """Return one strength for the whole image from both scores. (Eq. 9)

    The printed factor (p + a) / 2 repaints the best images hardest; read as what is kept, its complement is meant.
    """
    mean = p if a is None else (p + a) / 2
    return min(max(mean if reading == "printed" else 1.0 - mean, STEP), STRENGTH_CAP)


def region_strength(kind: RegionKind, badness: float, strengths: Strengths) -> float:
    """Return a region's strength: what must be drawn anew needs most, what only looks bad as much as it is bad."""
    anew = {"noun": strengths.noun, "attribute": strengths.attribute}
    if kind in anew:
        return anew[kind]
    stepped = round(max(badness, strengths.least) / STEP) * STEP
    return round(min(max(stepped, STEP), strengths.most), 6)


@dataclass(frozen=True)
class UNetTraits:
    """What a UNet was trained to, beside SDXL's own; a property of its weights, stated by their pipeline."""

    damage: bool = False
    """With 9 channels, it sees in those of the masked image what it is to restore: places that only look bad, and all
    of stage 2. Others see a blank under their mask."""
    edited: bool = False
    """It sees what stands where a phrase asks for something else, so that what was not asked to change stays."""
    strength: float = 0.4
    """Most strength for a place that is mended in sight: what is seen need not be guessed."""
    steps: int | None = None
    """Most steps for what is mended in sight, all of stage 2 included: the first prediction decides, and more steps
    drift from it. None: no limit. A call that asks for a number of steps gets it."""
    least_change: float = 0.0
    """What is changed in sight stays exactly as it was where the repaint moves it less than this (on average round a
    pixel, in 0..1)."""
    strengths: Strengths = field(default_factory=Strengths)
    steps_mode: StepsMode = "noise"
    """`noise`: a strength means the same noise for every scheduler and number of steps; `executed`: the end of the
    scheduler's own schedule, which begins at less noise the fewer steps there are; `schedule`: steps of the full
    schedule, of which strength runs a share."""

    def steps_for(self, steps: int, in_sight: bool) -> int:
        """Return how many of a stage's steps run, where the damage is mended in sight or elsewhere."""
        return min(steps, self.steps or steps) if in_sight else steps


PLAIN = UNetTraits()
"""Sees nothing of its source, as all published UNets."""

FALLBACKS: dict[str, Any] = {
    "guidance_scale": 7.5,
    "restorer": "inpaint",
    "max_upscale": 4.0,
    "dilate": 0.02,
    "guard_resolution": 0.01,
    "guard_trade": 0.0,
    "guidance": {},
}
"""What stands where neither the call nor the pipeline says anything. Thresholds fall back on the calibration."""


def read_settings(config: RefineConfig | str | Path | Mapping[str, Any] | None) -> RefineConfig:
    """Return the settings that `config` means: a record, the name of a bundled file, a YAML path, or plain values."""
    if config is None:
        return RefineConfig()
    if isinstance(config, RefineConfig):
        return config
    if isinstance(config, Mapping):
        return build(RefineConfig, dict(config))
    return load_config(config_file("refine", config), RefineConfig)


def resolve(config: RefineConfig, preferred: Mapping[str, Any], overrides: Mapping[str, Any]) -> RefineConfig:
    """Fill what `config` leaves open from the pipeline's own preferences; `overrides` (of the call) win over all."""
    unknown = sorted(set(preferred) - set(FALLBACKS))
    if unknown:
        raise ConfigError(f"refine_defaults may set {', '.join(FALLBACKS)}, not {', '.join(unknown)}.")
    given = {name: value for name, value in overrides.items() if value is not None}
    open_fields = {name for name in FALLBACKS if getattr(config, name) is None and name not in given}
    filled = {name: preferred.get(name, FALLBACKS[name]) for name in open_fields}
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return build(RefineConfig, values | filled | given)


def changed_settings(
    config: str | Path | RefineConfig,
    changes: Sequence[str] = (),
    preserve: str | None = None,
    candidates: str | None = None,
) -> RefineConfig:
    """Return the settings that `config` names with `KEY=VALUE` changes; values are read as YAML."""
    named = {"preserve": preserve, "candidates": candidates}
    values = changes_of(changes) | {name: value for name, value in named.items() if value is not None}
    settings = read_settings(config)
    return changed(settings, values) if values else settings


def settings_digest(values: Mapping[str, Any]) -> str:
    """Return a hash of the settings of a run, as a record or a journal holds them, that new ones do not change."""
    neutral = RefineConfig.NEUTRAL
    return digest({name: value for name, value in values.items() if name not in neutral or value != neutral[name]})


def check_stated(working_size: Any, **mappings: Any) -> None:
    """Refuse what the index of a pipeline states in another form than numbers by name, and a size that is none."""
    for name, stated in mappings.items():
        if stated is not None and not isinstance(stated, Mapping):
            raise ConfigError(f"{name} must be a dictionary, not {stated!r:.60}.")
    if working_size is not None and not (isinstance(working_size, int) and working_size >= 8):
        raise ConfigError(f"working_size must be a side in pixels of at least 8, not {working_size!r:.60}.")


def unet_traits(stated: Mapping[str, Any] | None) -> UNetTraits:
    """Read what a pipeline states of its UNet's traits."""
    return build(UNetTraits, dict(stated or {}), "unet_traits")


def traits_of_call(traits: UNetTraits, config: RefineConfig, asked_steps: bool) -> UNetTraits:
    """Return what counts in one call: the literal chain shows nothing, and who asks for steps gets them."""
    if config.literal:
        return UNetTraits(steps_mode=traits.steps_mode, strengths=traits.strengths)
    return replace(traits, steps=None) if asked_steps else traits
