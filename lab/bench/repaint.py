"""Rows of the generator alone: the place is known, only the painting is judged."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.refine.plan import JOIN
from grefine.refine.settings import RefineConfig, Strengths, region_strength
from lab.bench import intervals
from lab.bench.cases import Cases, damaged_cases, misaligned_cases
from lab.bench.chain import Outcome, Runner
from lab.bench.report import Row
from lab.bench.verdicts import ATTRIBUTE
from lab.bench_judges.networks import Judges
from lab.tiny.bundle import STRENGTHS
from lab.world.scene import Combinations, Misalignment

ROOM = 2
"""Pixels by which a true mask is widened before it is handed to a pipeline."""


def widened(masks: Tensor, pixels: int = ROOM) -> Tensor:
    """Grow masks (B, H, W) bool by some pixels."""
    return F.max_pool2d(masks[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0


def phrase_first(cases: Cases) -> list[str]:
    """Return the prompts as a plan writes them for a region: the phrase of the wrong object, then the caption."""
    told = zip(cases.captions, cases.slot.tolist(), strict=True)
    return [JOIN.join([caption.thing(slot).text, caption.text]) for caption, slot in told]


def repaint_rows(runner: Runner, judges: Judges, count: int, unseen: bool) -> dict[str, Row]:
    """Measure whether a changed attribute is right after its place was repainted from the phrase."""
    rows = {}
    for number, kind in enumerate(("colour", "object", "texture")):
        rows[f"repaint.{kind}"] = intervals.share(_repainted(runner, judges, kind, count, 40 + number))
    if unseen:
        right: list[bool] = []
        for number, kind in enumerate(("colour", "object")):
            right += _repainted(runner, judges, kind, count // 2, 50 + number, "held_out")
        rows["repaint.heldout_pairs"] = intervals.share(right)
    return rows


def _repainted(
    runner: Runner, judges: Judges, kind: Misalignment, count: int, number: int, combinations: Combinations = "seen"
) -> list[bool]:
    cases = misaligned_cases(kind, count, number, combinations)
    if not len(cases):
        return []
    # At the strength that the pipeline itself would repaint such a place with.
    strength = region_strength("noun" if kind == "object" else "attribute", 1.0, Strengths(**STRENGTHS))
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
    """Return the share of blurred pictures that guidance makes sharper than the same seed without it.

    Beside it stands what there was to gain: how much of the blur, beyond what the judge sees in the clean scenes, is
    left without guidance.
    """
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
