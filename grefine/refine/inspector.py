"""Look at pictures as a refinement would, and change nothing: no diffusion model is loaded for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.indicators.aq_map import parsed_prompt
from grefine.indicators.domain_check import domain_at
from grefine.indicators.draw import describe
from grefine.indicators.load import load_maps, stored_config
from grefine.refine.maps import AlignmentProvider, MapDrawer, QualityProvider
from grefine.refine.painters.families import family_named
from grefine.refine.plan import Findings, Planner
from grefine.refine.regions import working_side
from grefine.refine.settings import RefineConfig, UNetTraits, read_settings, resolve, traits_of_call, unet_traits
from grefine.types import AlignmentMap, QualityMap, RepairPlan

SDXL_SIDE = 1024
"""Working side of the published SDXL weights."""


@dataclass(frozen=True)
class Inspected:
    """What was found in one picture, and what a refinement would do about it."""

    quality: QualityMap
    alignment: AlignmentMap
    plan: RepairPlan
    calibrated: bool
    """Whether the thresholds were measured on good pictures."""
    forced: str = ""
    """What is said of a picture that the pipeline does not know."""

    @property
    def needs_repair(self) -> bool:
        """Whether a refinement would change it, or would say that it needs a new generation."""
        return bool(self.plan.regions) or self.plan.restore or self.plan.beyond_repair

    @property
    def badness(self) -> np.ndarray:
        """`(H, W)` in 0..1, the worse of 1 - P and E at every pixel."""
        return np.maximum(1.0 - self.quality.values, self.alignment.edit)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values, without the maps."""
        known = {"forced": self.forced} if self.forced else {}
        known |= describe(self.quality, self.alignment, self.plan.mask, self.calibrated)
        return known | {"mask_note": self.plan.note}


class Inspector:
    """Both maps of a pipeline, its thresholds and its settings.

    Args:
        pipeline: a bundled name, a folder, a Hub id, or "released".
        config: settings as a call of the pipeline takes them.
        device: where to run; None leaves it on the CPU.
        calibration: a JSON file in place of the stored one.
    """

    def __init__(
        self,
        pipeline: str | Path,
        config: RefineConfig | str | Path | None = None,
        *,
        device: str | None = None,
        calibration: str | Path | None = None,
    ) -> None:
        given, index = read_settings(config), stored_config(pipeline)
        self.settings = resolve(given, index.get("refine_defaults") or {}, {})
        self.traits = traits_of_call(unet_traits(index.get("unet_traits")), given, asked_steps=False)
        painter = index.get("painter") or {}
        family = family_named(painter["class"]) if painter.get("class") else None
        side = index.get("working_size") or painter.get("side")
        if family is not None:
            self.traits, side = UNetTraits(strengths=family.strengths), side or family.side
        elif not side:
            unet, vae = stored_config(pipeline, "unet"), stored_config(pipeline, "vae")
            side = working_side(unet, vae) if unet and vae else SDXL_SIDE
        self.side, self.readings = int(side), self.settings.readings
        self.maps = load_maps(pipeline, device=device, calibration=calibration, readings=self.readings)
        self.domain = domain_at(pipeline)

    def __call__(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        quality_map: QualityProvider | None = None,
        alignment_map: AlignmentProvider | None = None,
        force: bool = False,
    ) -> list[Inspected]:
        """Return what is found in pictures; an empty prompt leaves perceptual quality alone to be judged.

        Raises:
            WorldMismatch: a picture that the pipeline does not know, unless forced.
        """
        if self.domain is not None and not force:
            self.domain.demand(images)
        drawer = MapDrawer.of(self.maps.pq, self.maps.aq, quality_map, alignment_map, self.settings.phrase_judge)
        parsed = [parsed_prompt(prompt, self.readings) for prompt in prompts]
        found = []
        for image, words, (quality, alignment) in zip(images, parsed, drawer(images, parsed), strict=True):
            planner = Planner(self.settings, drawer.calibration, self.side, self.traits)
            plan = planner.plan(Findings(quality, alignment, words))
            foreign = self.domain is not None and self.domain.is_foreign(image)
            forced = self.domain.forced if self.domain is not None and foreign else ""
            found.append(Inspected(quality, alignment, plan, self.maps.calibration.calibrated, forced))
        return found

    def scores(self, images: Sequence[Image.Image], prompt: str) -> list[dict[str, float]]:
        """Return p of pictures, and a where the prompt has something to judge."""
        words = parsed_prompt(prompt, self.readings) if prompt.strip() else None
        drawer = MapDrawer.of(self.maps.pq, self.maps.aq, None, None, self.settings.phrase_judge)
        return drawer.scores(images, [words] * len(images))
