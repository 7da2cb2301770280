"""What a refinement can be told: one record, read from `configs/refine/*.yaml`, checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from grefine.config import build, load_config
from grefine.errors import ConfigError
from grefine.resources import config_file

MaskMode = Literal["fixed", "mean", "otsu", "quantile"]
STRENGTH_CAP = 0.99
"""Above it SDXL-inpaint starts from pure noise and washes out; below it the image still anchors colour and light."""


@dataclass(frozen=True)
class RefineConfig:
    """All choices of one refinement. Empty (None) means: what the pipeline itself was calibrated to or prefers."""

    REMOVED: ClassVar[dict[str, str]] = {
        "max_change": "stage 2 now leaves a good place as it was unless it got better; leave the key out.",
    }
    """Keys of earlier versions, and what replaced them."""

    use_pq: bool = True
    """Let perceptual quality (PQ-Map) ask for repairs."""
    use_aq: bool = True
    """Let missing phrases (AQ-Map) ask for repairs."""

    gate: bool = True
    """Leave an image alone that is good on the whole and whose phrases are all met."""
    p_gate: float | None = None
    """p below which an image counts as perceptually bad."""
    worst_gate: float | None = None
    """Quality of the worst place below which an image counts as perceptually bad."""
    mask_mode: MaskMode = "fixed"
    """How 1 - P + E is cut into the mask: at a value, at its mean, by Otsu, or the worst `mask_quantile` of it."""
    mask_threshold: float | None = None
    """Cut for `mask_mode: fixed`."""
    mask_quantile: float = 0.2
    protect: bool = True
    """Do not draw one phrase over cells that another, met phrase claims."""
    dilate: float | None = None
    """How far the mask grows, as a share of the image's shorter side; None: 0.02, or what the pipeline prefers."""

    min_region_area: float = 0.002
    """Smaller parts of the mask (share of the image) are dropped."""
    max_regions: int = 6
    """At most so many crops per image, the worst first."""
    max_area: float = 0.35
    """Beyond this share of pixels to be drawn anew the image needs a new generation, not a repair."""
    max_upscale: float | None = None
    """A crop is enlarged at most so much on its way to the repainter's working size."""
    context: float = 0.5
    """Room around a bad place, as a share of its size, that the repainter sees."""

    strength_mode: Literal["region", "deficit", "literal"] = "region"
    """Per region by kind; or 1 - (p + a) / 2 for all; or the formula's literal (p + a) / 2 (Eq. 9)."""
    strength_noun: float = 0.9
    strength_attribute: float = 0.7
    strength_shown: float | None = None
    """Most for a place that is mended with its damage in sight (`show_damage`): what is seen need not be guessed."""
    strength_min: float = 0.3
    strength_max: float = 0.95
    strength_step: float = 0.05
    """Strengths are rounded to multiples of it, so that crops share a schedule."""

    total_steps: int = 20
    """Denoiser steps of both stages together, counted as executed."""
    split: float = 0.5
    """Share of them for stage 1."""
    steps_shown: int | None = None
    """Most steps for what is mended with its damage in sight, all of stage 2 included: the first prediction decides,
    and more steps drift from it. None: no limit, or what the pipeline prefers, unless the call asks for steps."""
    steps_mode: Literal["noise", "executed", "schedule"] | None = None
    """`noise`: every step counts, and a strength means the same noise for every scheduler and number of steps;
    `executed`: every step counts, at the end of the scheduler's own schedule; `schedule`: steps of the full schedule,
    of which strength runs a share. None: noise, or what the pipeline prefers."""
    guidance_scale: float | None = None
    """Classifier-free guidance of stage 1."""
    restore_guidance_scale: float = 1.0
    """The same for stage 2, and for places that are mended with their damage in sight; 1: none."""
    emphasis: float = 0.1
    """What Eq. 7 adds to the weight of the words of a defective phrase."""
    region_prompt: Literal["phrase-first", "caption"] = "phrase-first"
    fill: Literal["smooth", "none"] = "smooth"
    """What replaces the old content before a missing thing is drawn."""
    show_damage: bool | None = None
    """Let a 9-channel UNet see, in its masked-image channels, what it is to restore: places that only look bad, and
    all of stage 2. Only for UNets that learned it; None: false, or what the pipeline prefers."""
    show_edited: bool | None = None
    """Let it also see what stands where a phrase asks for something else, so that what was not asked to change stays.
    Only for UNets that learned it; None: false, or what the pipeline prefers."""
    feather: float = 0.25
    """Share of a mask's thickness over which the repaint fades in, inside the mask only."""
    least_change: float | None = None
    """What is changed in sight (`show_edited`) stays exactly as it was where the repaint moves it less than this (on
    average round a pixel, in 0..1). None: 0, or what the pipeline prefers."""
    match_ring: bool = True
    """Shift a repaint's colour so that the ring around it agrees with the picture."""
    batch_size: int = 4
    """Crops per denoiser call."""

    stage1: bool = True
    restorer: str | None = None
    """Stage 2: inpaint, controlnet-tile, refiner or none."""
    delta: float = 0.1
    """Strength of stage 2 (Eq. 9)."""
    preserve: Literal["paper", "exact"] = "paper"
    """`paper`: stage 2 sees the whole image and changes a good place visibly only to make it better; `exact`: pixels
    outside the mask stay bit-identical."""

    guard: bool = True
    """Score before and after and give back the original where nothing was gained."""
    guard_tolerance: float = 1.0
    """How many times its own noise a score must move to count."""
    guard_resolution: float | None = None
    """Least share of a score's range that counts as a change, however quiet the score is."""
    guard_trade: float | None = None
    """How much of what is gained on one axis (quality, alignment) may be lost on the other, in shares of the scores'
    ranges: at 0.5 a missing thing that raises alignment by 0.4 may look worse by 0.2. At 0 nothing may fall."""
    guard_regions: bool = True
    """Judge every repainted region by itself before judging the whole."""

    def __post_init__(self) -> None:
        for name in ("strength_noun", "strength_attribute", "strength_shown", "strength_min", "strength_max", "delta"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= STRENGTH_CAP:
                raise ConfigError(f"{name} must lie in 0..{STRENGTH_CAP}, not {value}.")
        shares = ("p_gate", "worst_gate", "mask_threshold", "mask_quantile", "min_region_area", "max_area")
        for name in (*shares, "split", "feather", "least_change"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is a share and must lie in 0..1, not {value}.")
        for name in ("max_regions", "total_steps", "steps_shown", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}.")
        guards = ("guard_tolerance", "guard_resolution", "guard_trade")
        for name in ("context", "emphasis", "dilate", *guards, "restore_guidance_scale"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if self.max_upscale is not None and self.max_upscale < 1.0:
            raise ConfigError(f"max_upscale must be at least 1, not {self.max_upscale}.")
        if self.strength_min > self.strength_max:
            raise ConfigError(f"strength_min {self.strength_min} is above strength_max {self.strength_max}.")
        if not 0.0 < self.strength_step <= 0.5:
            raise ConfigError(f"strength_step must lie in 0..0.5, not {self.strength_step}.")

    @property
    def steps(self) -> tuple[int, int]:
        """Executed steps of stage 1 and stage 2, at least one each."""
        if not self.stage1:
            return 0, self.total_steps
        first = self.total_steps if self.restorer == "none" else round(self.total_steps * self.split)
        first = min(max(first, 1), self.total_steps)
        return first, max(self.total_steps - first, 1)

    def steps_for(self, steps: int, mended: bool) -> int:
        """Return how many of a stage's steps run, where the damage is mended in sight or elsewhere."""
        return min(steps, self.steps_shown or steps) if mended else steps


FALLBACKS: dict[str, Any] = {
    "steps_mode": "noise",
    "guidance_scale": 7.5,
    "restorer": "inpaint",
    "max_upscale": 4.0,
    "dilate": 0.02,
    "show_damage": False,
    "show_edited": False,
    "least_change": 0.0,
    "strength_shown": 0.4,
    "steps_shown": None,
    "guard_resolution": 0.01,
    "guard_trade": 0.0,
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
        raise ConfigError(
            f"A pipeline's refine_defaults cannot set {', '.join(unknown)}: only {', '.join(FALLBACKS)} are left open."
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    open_fields = {name for name in FALLBACKS if getattr(config, name) is None and name not in given}
    if "total_steps" in given:  # who asks for a number of steps gets it
        open_fields -= {"steps_shown"}
    filled = {name: preferred.get(name, FALLBACKS[name]) for name in open_fields}
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return build(RefineConfig, values | filled | given)
