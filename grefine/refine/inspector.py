"""Look at pictures as a refinement would, without a diffusion model, and say in words what one would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.indicators.aq_map import parsed_prompt
from grefine.indicators.domain_check import domain_at
from grefine.indicators.draw import describe
from grefine.indicators.load import load_maps, stored_config
from grefine.refine.maps import AlignmentProvider, MapDrawer, QualityProvider
from grefine.refine.painters.families import family_named
from grefine.refine.plan import Findings, Planner
from grefine.refine.regions import working_side, working_size
from grefine.refine.settings import RefineConfig, UNetTraits, read_settings, resolve, traits_of_call, unet_traits
from grefine.types import AlignmentMap, QualityMap, RefineResult, RepairPlan

HEAP_BLOCK = 2**25
"""Largest block that glibc may keep in its heap; what is larger goes back to the machine at once."""
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


def explain_result(
    result: RefineResult, config: RefineConfig, calibrated: bool, traits: UNetTraits, steps: tuple[int, int]
) -> str:
    """Describe one image's plan, one fact per line; `steps` are those of both stages."""
    plan, alignment = result.plan, result.alignment
    height, width = plan.mask.shape
    a = "; no prompt to judge." if alignment.score is None else f", alignment a = {alignment.score:.2f}."
    lines = [f"Image {width}x{height}, quality p = {result.quality.score:.2f}{a}"]
    for phrase in alignment.phrases:
        if phrase.defect is not None:
            fault = "is missing" if phrase.defect == "noun" else "is there, but not as asked"
            lines.append(f"  '{phrase.phrase.text}' {fault} (phrase {phrase.a_phs:.2f}, noun {phrase.a_pns:.2f}).")
    if not plan.regions:
        lines.append(f"Nothing is repainted. {plan.note}".rstrip())
    else:
        count = f"{len(plan.regions)} region{'s' if len(plan.regions) > 1 else ''}"
        lines.append(f"{count} covering {plan.area:.1%} of the image would be repainted. {plan.note}".rstrip())
    for index, region in enumerate(plan.regions):
        left, top, right, bottom = region.box
        lines.append(
            f"  {index + 1}. crop {right - left}x{bottom - top} at ({left}, {top}), strength {region.strength:.2f}, "
            f"as '{region.prompt}': {region.reason}"
        )
    if plan.regions:
        runs = {traits.steps_for(steps[0], traits.damage and region.is_restoration) for region in plan.regions}
        lines.append(f"Stage 1 runs {' or '.join(map(str, sorted(runs)))} steps per region.")
        if config.tries[0] > 1:
            lines.append(f"What is drawn anew, or is no better after the first try, gets {config.tries[0]} tries.")
    if (plan.restore or not config.gated) and config.restorer != "none":
        where = "inside the mask only" if config.preserve == "exact" else "on the whole image, but good places stay"
        second = traits.steps_for(steps[1], traits.damage)
        lines.append(f"Stage 2 ({config.restorer}) runs {second} steps at strength {config.delta:g}, {where}.")
    lines.append("The guard would compare before and after." if config.guard else "The guard is off.")
    if not calibrated:
        lines.append("The maps' thresholds are uncalibrated guesses (`grefine calibrate` measures them).")
    return "\n".join(lines)


def memory_estimate(
    components: Mapping[str, Any], results: Sequence[RefineResult], config: RefineConfig, side: int, multiple: int
) -> str:
    """Say roughly how much memory the call takes: weights exactly, working memory by rule of thumb."""
    sizes = {
        name: sum(p.numel() * p.element_size() for p in part.parameters())
        for name, part in components.items()
        if isinstance(part, torch.nn.Module)
    }
    total, largest = sum(sizes.values()), max(sizes.values(), default=0)
    crops = [region.box for result in results for region in result.plan.regions]
    sides = [working_size(b[3] - b[1], b[2] - b[0], side, multiple) for b in crops] or [(side, side)]
    height, width = max(sides, key=lambda size: size[0] * size[1])
    vae = components.get("vae")
    said = f"Memory: weights {_bytes(total)}; with enable_model_cpu_offload() about {_bytes(largest)} at a time"
    if not getattr(getattr(vae, "config", None), "block_out_channels", None):
        return f"{said}; up to {config.batch_size} crops are redrawn at once."
    said += f"; about {_bytes(decoding_memory(vae, height, width))} more to decode a crop at {width}x{height}, "
    return f"{said}one after the other; up to {config.batch_size} crops are denoised at once."


def decoding_memory(vae: Any, height: int, width: int) -> int:
    """Return the bytes that decoding one picture takes: four times the VAE's widest activations, or five in the heap.

    `python benchmarks/vae_memory.py` measures it.
    """
    upcast = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    widest = height * width * 2 * vae.config.block_out_channels[0] * (4 if upcast else vae.dtype.itemsize)
    return (4 if widest > HEAP_BLOCK else 5) * widest


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**29 else f"{count / 2**20:.0f} MB"
