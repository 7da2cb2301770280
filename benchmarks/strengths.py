"""At which noise a strength begins: `python benchmarks/strengths.py` prints the table of docs/method_refine.md.

Rows are schedulers with SDXL's settings and numbers of executed steps; each cell is the first timestep and its noise
(sigma = sqrt((1 - a) / a), a being the cumulative alpha), by `steps_mode: noise`, and by `executed` in brackets.
"""

from __future__ import annotations

import warnings
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler

from grefine.errors import ConfigError
from grefine.refine.strength import choose_timesteps

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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print("\n".join(table()))
