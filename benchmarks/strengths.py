"""At which noise a strength begins: `python -m benchmarks.strengths [flow]` prints the tables of the documentation.

That of docs/method_refine.md has schedulers with SDXL's settings and numbers of executed steps as rows; each cell is
the first timestep and its noise (sigma = sqrt((1 - a) / a), a being the cumulative alpha), by `steps_mode: noise`, and
by `executed` in brackets. That of docs/painters.md (`flow`) has the families that flow.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2_klein_inpaint import compute_empirical_mu

from benchmarks.toy_painters import build
from grefine.errors import ConfigError
from grefine.refine.denoise import choose_timesteps
from grefine.refine.painters.diffusers import executed, painter_of
from grefine.refine.painters.families import families

SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Euler": (EulerDiscreteScheduler, {"timestep_spacing": "leading"}),
    "DPM++ 2M": (DPMSolverMultistepScheduler, {"timestep_spacing": "leading"}),
    "DDIM": (DDIMScheduler, {"timestep_spacing": "leading", "clip_sample": False}),
    "LCM": (LCMScheduler, {"timestep_spacing": "leading"}),
}
STRENGTHS = (0.1, 0.5, 0.7, 0.9, 0.95, 0.99)
STEPS = (4, 10, 20)


def cell(kind: Any, options: dict[str, Any], steps: int, strength: float, mode: str) -> str:
    """Return the first timestep and its noise; a dash where the scheduler cannot run so many steps there."""
    scheduler = kind(**SDXL, **options)
    try:
        first = round(float(choose_timesteps(scheduler, steps, strength, "cpu", mode)[0][0]))
    except ConfigError:
        return "-"
    alpha = float(scheduler.alphas_cumprod[first])
    return f"{first}, {((1 - alpha) / alpha) ** 0.5:.2f}"


def table() -> list[str]:
    """Return the lines of the table."""
    lines = ["| scheduler | steps | " + " | ".join(f"{strength:g}" for strength in STRENGTHS) + " |"]
    lines.append("| --- | ---: |" + " --- |" * len(STRENGTHS))
    for name, (kind, options) in SCHEDULERS.items():
        for steps in STEPS:
            pairs = [[cell(kind, options, steps, s, mode) for mode in ("noise", "executed")] for s in STRENGTHS]
            lines.append(f"| {name} | {steps} | " + " | ".join(f"{new} ({old})" for new, old in pairs) + " |")
    return lines


SHIFTED = {"use_dynamic_shifting": True, "base_shift": 0.5, "base_image_seq_len": 256}
FLUX = SHIFTED | {"max_shift": 1.15, "max_image_seq_len": 4096}
FLOWS: dict[str, dict[str, Any]] = {
    "sd3": {"shift": 3.0},
    "flux": FLUX,
    "flux-kontext": FLUX,
    "flux2-klein": SHIFTED,
    "qwen-image": SHIFTED | {"max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02},
    "z-image": {"shift": 3.0},
}
"""Per family what the scheduler of its published weights is set to; a recipe brings its own with the weights."""
CELLS = 64 * 64
"""Packed cells of a crop of 1024 pixels, by which a shift is chosen."""
FLOW_STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0)


def flow_noise(name: str, steps: int, strength: float) -> float:
    """Return the share of noise in what a family's first executed step is given."""
    pipe, arguments = build(name)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(**FLOWS[name])
    total = painter_of(pipe, arguments=arguments).schedule(steps, strength)
    config = pipe.scheduler.config
    mu = None
    if name == "flux2-klein":
        mu = compute_empirical_mu(CELLS, total)
    elif config.use_dynamic_shifting:
        mu = calculate_shift(
            CELLS, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
        )
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / total, total), mu=mu)
    return float(np.asarray(pipe.scheduler.sigmas)[total - executed("rest", total, strength)])


def flow_table() -> list[str]:
    """Return the lines of the table of families that flow, SDXL's below them in the same measure."""
    lines = ["| family | steps | " + " | ".join(f"{strength:g}" for strength in FLOW_STRENGTHS) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(FLOW_STRENGTHS))
    for name in FLOWS:
        family = next(one for one in families() if one.name == name)
        for steps in dict.fromkeys(family.distilled or family.steps):
            noises = [flow_noise(name, steps, strength) for strength in FLOW_STRENGTHS]
            lines.append(f"| {name} | {steps} | " + " | ".join(f"{noise:.2f}" for noise in noises) + " |")
    scheduler = EulerDiscreteScheduler(**SDXL, timestep_spacing="leading")
    shares = []
    for strength in FLOW_STRENGTHS:
        first = round(float(choose_timesteps(scheduler, 10, min(strength, 0.99), "cpu", "noise")[0][0]))
        sigma = ((1 - scheduler.alphas_cumprod[first]) / scheduler.alphas_cumprod[first]) ** 0.5
        shares.append(float(sigma / (1 + sigma)))
    lines.append("| sdxl (ours) | 10 | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return lines


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print("\n".join(flow_table() if sys.argv[1:] == ["flow"] else table()))
