"""Rows of the generator alone: the place is known, only the painting is judged; and the failures of an early one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grefine.errors import ConfigError
from grefine.refine.plan import JOIN
from grefine.refine.settings import RefineConfig, Strengths, region_strength
from lab.bench import intervals
from lab.bench.cases import Cases, Outcome, Runner, clean_cases, damaged_cases, misaligned_cases, quantised, widened
from lab.bench.report import Row
from lab.bench.verdicts import ATTRIBUTE
from lab.bench_judges.networks import Judges
from lab.tiny.recipe import STATED
from lab.tiny.unet import KINDS
from lab.world.scene import Combinations, Misalignment


def phrase_first(cases: Cases) -> list[str]:
    """Return the prompts as a plan writes them for a region: the phrase of the wrong object, then the caption."""
    told = zip(cases.captions, cases.slot.tolist(), strict=True)
    return [JOIN.join([caption.thing(slot).text, caption.text]) for caption, slot in told]


def repaint_rows(runner: Runner, judges: Judges, count: int) -> dict[str, Row]:
    """Measure whether a changed attribute is right after its place was repainted from the phrase."""
    rows = {}
    for number, kind in enumerate(("colour", "object", "texture")):
        rows[f"repaint.{kind}"] = intervals.share(_repainted(runner, judges, kind, count, 40 + number))
    pairs = enumerate(("colour", "object"))
    unseen = [_repainted(runner, judges, kind, count // 2, 50 + number, "held_out") for number, kind in pairs]
    return rows | {"repaint.heldout_pairs": intervals.share(sum(unseen, []))}


def _repainted(
    runner: Runner, judges: Judges, kind: Misalignment, count: int, number: int, combinations: Combinations = "seen"
) -> list[bool]:
    cases = misaligned_cases(kind, count, number, combinations)
    if not len(cases):
        return []
    # At the strength that the pipeline itself would repaint such a place with.
    strength = region_strength(
        "noun" if kind == "object" else "attribute", 1.0, Strengths(**STATED["unet_traits"]["strengths"])
    )
    alone = {"strength": strength, "guard": False, "restorer": "none"}
    out = runner(f"repaint {kind}", cases, masks=widened(cases.masks), prompts=phrase_first(cases), **alone)
    rows = torch.arange(len(cases))
    return judges.read(out.images, cases.scenes).right(cases.scenes)[rows, cases.slot, ATTRIBUTE[kind]].tolist()


def exact_row(cases: Cases, out: Outcome) -> Row:
    """Return the share of repainted pictures whose pixels outside the mask are bit-identical after stage 1."""
    same = []
    for before, after, result in zip(cases.images, out.images, out.results, strict=True):
        if result.plan.regions:
            outside = torch.from_numpy(~np.asarray(result.plan.mask))
            same.append(bool((before[:, outside] == after[:, outside]).all()))
    return intervals.share(same)


def sharpness_rows(runner: Runner, judges: Judges, count: int) -> dict[str, Row]:
    """Return the share of blurred pictures that guidance makes sharper than the same seed, and what blur was left."""
    cases = damaged_cases(count, 60, kinds=("blur",))
    # Steering takes all steps of a stage; the other run gets as many, so that they differ in nothing else.
    alike = {"num_inference_steps": RefineConfig().total_steps, "guard": False, "restorer": "none"}
    masks = widened(cases.masks)
    plain = runner("without guidance", cases, masks=masks, **alike)
    steered = runner("guided to sharpness", cases, masks=masks, guidance={"sharpness": 1.0}, **alike)
    clean, before, after = (judges.blur(images).numpy() for images in (cases.clean, cases.images, plain.images))
    return {
        "guide.sharpness": intervals.share(judges.blur(steered.images).numpy() < after),
        "guide.blur_left": intervals.ratio(after - clean, before - clean),
    }


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
        made = "`python -m lab train tiny --parts early` makes one"
        raise ConfigError(f"'{folder}' is no early checkpoint: it lacks {', '.join(lacking)}; {made}.")
    early = {name: kind.from_pretrained(folder / name) for name, kind in KINDS.items()}
    early = {name: part.to(pipe.device, pipe.unet.dtype) for name, part in early.items()}
    settings = {key: value for key, value in pipe.config.items() if key in SETTINGS}
    return type(pipe)(**(pipe.components | early), **settings)


def native_cases(early: Any, judges: Judges, count: int, seed: int) -> Cases:
    """Let the early checkpoint paint one object of each scene anew; keep those that the judge reads otherwise."""
    good = clean_cases(3 * count, 80)
    rows, slot = torch.arange(len(good)), good.scenes.present.float().argmax(1)
    masks = good.objects[rows, slot]
    asked = replace(good, slot=slot, masks=masks, kinds=["native"] * len(good))
    options = {"masks": widened(masks), "strength": 0.95, "guard": False, "restorer": "none"}
    out = Runner(early, seed)("early checkpoint", asked, prompts=phrase_first(asked), **options)
    painted = replace(asked, images=quantised(out.images), masks=widened(masks))
    failed = ~judges.read(painted.images, painted.scenes).right(painted.scenes)[rows, slot, :2].all(1)
    return painted[failed.nonzero()[:count, 0].tolist()]
