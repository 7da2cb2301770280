"""A plan in plain words: what would be done, why, and what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from grefine.refine.regions import working_size
from grefine.refine.settings import RefineConfig, UNetTraits
from grefine.types import RefineResult

HEAP_BLOCK = 2**25
"""Largest block that glibc may keep in its heap; what is larger goes back to the machine at once."""


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
    said = (
        f"Memory: weights {_bytes(total)}; with enable_model_cpu_offload() about {_bytes(largest)} of them at a time"
    )
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
