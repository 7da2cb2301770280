"""The native split: defects that nobody drew, the real failures of an early checkpoint of the generator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from grefine.errors import ConfigError
from lab.bench.cases import Cases, clean_cases, quantised
from lab.bench.chain import Runner
from lab.bench.repaint import phrase_first, widened
from lab.bench_judges.networks import Judges
from lab.tiny.unet import KINDS

SETTINGS = (
    "force_zeros_for_empty_prompt",
    "requires_aesthetics_score",
    "working_size",
    "calibration",
    "refine_defaults",
)


def early_pipeline(pipe: Any, folder: Path) -> Any:
    """Return a pipeline that paints with the early checkpoint in `folder` (unet, text_encoder, text_encoder_2)."""
    lacking = [name for name in KINDS if not (folder / name / "config.json").is_file()]
    if lacking:
        raise ConfigError(
            f"'{folder}' is no early checkpoint: it lacks {', '.join(lacking)}. Give a folder with "
            f"{', '.join(KINDS)}, as `python -m lab train tiny` leaves them."
        )
    early = {name: kind.from_pretrained(folder / name) for name, kind in KINDS.items()}
    early = {name: part.to(pipe.device, pipe.unet.dtype) for name, part in early.items()}
    settings = {key: value for key, value in pipe.config.items() if key in SETTINGS}
    return type(pipe)(**(pipe.components | early), **settings)


def native_cases(early: Any, judges: Judges, count: int, seed: int) -> Cases:
    """Let the early checkpoint paint one object of each scene anew and keep the pictures in which it failed.

    It failed where the attribute judge reads another colour or thing than the caption asks for.
    """
    good = clean_cases(3 * count, 80)
    rows, slot = torch.arange(len(good)), good.scenes.present.float().argmax(1)
    masks = good.objects[rows, slot]
    asked = replace(good, slot=slot, masks=masks, kinds=["native"] * len(good))
    options = {"masks": widened(masks), "strength": 0.95, "guard": False, "restorer": "none"}
    out = Runner(early, seed)("early checkpoint", asked, prompts=phrase_first(asked), **options)
    painted = replace(asked, images=quantised(out.images), masks=widened(masks))
    failed = ~judges.read(painted.images, painted.scenes).right(painted.scenes)[rows, slot, :2].all(1)
    return painted[failed.nonzero()[:count, 0].tolist()]
