"""`python -m lab bench`: all rows, in the order in which the method works."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from grefine.indicators.aq_map import AQMap
from grefine.indicators.domain_check import domain_of
from grefine.indicators.load import load_clip, load_tokenizer
from grefine.indicators.pq_map import PQMap
from grefine.refine.vae import decode_latents, encode_images
from lab.bench import intervals
from lab.bench.cases import (
    CHANGED,
    Cases,
    Outcome,
    Runner,
    clean_cases,
    damaged_cases,
    misaligned_cases,
    pictures_of,
    quantised,
    quiet_pipeline,
    widened,
)
from lab.bench.maps import BATCH, alignment_rows, quality_rows, scorer_rows
from lab.bench.repaint import early_pipeline, exact_row, native_cases, repaint_rows, sharpness_rows
from lab.bench.report import Report
from lab.bench.verdicts import Verdict, judge, outcome_rows, outside_rows, records, repair_rows, saved_rows
from lab.bench_judges.networks import Judges, TieBands, check_judges, tie_bands
from lab.world.vocabulary import HELD_OUT_DEFECT, TRAINING_DEFECTS

ABLATIONS = {
    "pq_aq": {},
    "aq": {"use_pq": False},
    "pq": {"use_aq": False},
    "stage1": {"restorer": "none"},
}
"""The paper's Table 8: which map asks for repairs, and what stage 2 adds; all without the guard."""


@dataclass(frozen=True)
class Sizes:
    """Pictures per row."""

    maps: int = 256
    scorers: int = 192
    repaint: int = 64
    """Per attribute."""
    damaged: int = 64
    heldout: int = 32
    """Damaged by the kind that training never shows."""
    misaligned: int = 20
    """Per kind of misalignment."""
    by_kind: int = 48
    """Of each kind of defect, where kinds are told apart; none in a quick run."""
    clean: int = 96
    judges: int = 400
    native: int = 32


QUICK = Sizes(32, 24, 6, 6, 2, 2, 0, 8, 100, 6)
"""What a build machine has time for; its intervals are as wide as they look."""


@dataclass
class Bench:
    """One run over one pipeline."""

    pipe: Any
    sizes: Sizes
    run: Runner
    judges: Judges
    bands: TieBands
    report: Report

    def verdicts(self, name: str, cases: Cases, images: Tensor, out: Outcome | None = None) -> list[Verdict]:
        """Judge one run and keep its raw rows."""
        found = judge(self.judges, self.bands, cases, images)
        self.report.raw += records(name, cases, found, out.results if out else ())
        return found

    def through_vae(self, images: Tensor) -> Tensor:
        """Return pictures after one pass through the autoencoder, which is all that a refinement at least costs."""
        vae = self.pipe.vae
        latents = [encode_images(vae, part * 2 - 1, self.pipe.device) for part in images.split(self.run.batch)]
        parts = [(decode_latents(vae, part) / 2 + 0.5).clamp(0, 1).float().cpu() for part in latents]
        return quantised(torch.cat(parts))

    def perfectly_painted(self, cases: Cases) -> Tensor:
        """Return what a painter without fault could make: the true places show the clean scene, once coded."""
        return torch.where(widened(cases.masks)[:, None], self.through_vae(cases.clean), cases.images)


def bench_toyworld(
    pipeline: str,
    quick: bool,
    seed: int,
    device: str | None,
    native: Path | None,
    contrastive: Path | None,
    gallery: Path | None,
    say: Callable[[str], None],
) -> Report:
    """Measure a pipeline of the toy world."""
    began, cpu = time.monotonic(), time.process_time()
    sizes, report, judges = QUICK if quick else Sizes(), Report(), Judges.load()
    pipe = quiet_pipeline(pipeline)
    if device:
        pipe = pipe.to(device)
    say("judges: their own accuracy and tie bands")
    bands = tie_bands(judges, sizes.judges // 2)
    bench = Bench(pipe, sizes, Runner(pipe, seed, say=say), judges, bands, report)
    for name, value in check_judges(judges, sizes.judges).items():
        report.add({f"referee.{name}": intervals.share_of(value, sizes.judges)})
    say("maps")
    eyes = {"calibration": pipe.config.calibration, "batch_size": BATCH}
    report.add(quality_rows(PQMap(pipe.clip, pipe.pq_prompts, **eyes), sizes.maps))
    report.add(alignment_rows(AQMap(pipe.clip, pipe.clip_tokenizer, **eyes), sizes.maps))
    if contrastive is None:
        report.absent["contrastive.aq.*"] = "no CLIP trained without masks was given (--contrastive FOLDER)"
    else:
        aq = AQMap(load_clip(contrastive), load_tokenizer(contrastive), calibration={"phrase_score": "peak"})
        report.add(alignment_rows(aq, sizes.maps, "contrastive."))
    say("quality networks")
    report.add(scorer_rows({scorer.spec.name: scorer for scorer in pipe.judges()}, sizes.scorers))
    report.add(repaint_rows(bench.run, judges, sizes.repaint))
    if pipe.mdiqa is not None:
        report.add(sharpness_rows(bench.run, judges, sizes.repaint))
    for name in ("moe_agiqa", "mdiqa", "lar_iqa"):
        if getattr(pipe, name) is None:
            report.absent[f"rows of {name}"] = f"the pipeline has no {name}"
    _chain_rows(bench, gallery)
    _native_rows(bench, native)
    report.about |= {
        "pipeline": str(pipeline) if not Path(pipeline).is_dir() else Path(pipeline).name,
        "quick": quick,
        "seed": seed,
        "tie band distance": round(bands.distance, 5),
        "tie band visible": round(bands.visible, 5),
        "seconds": round(time.monotonic() - began, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
    }
    return report


def defective_cases(sizes: Sizes) -> Cases:
    """Return what is to be repaired: damage of known kinds, of the held-out kind, and misalignments."""
    damaged = [damaged_cases(sizes.damaged, 90), damaged_cases(sizes.heldout, 91, held_out=True)]
    changed = [misaligned_cases(kind, sizes.misaligned, 92 + i) for i, kind in enumerate(CHANGED)]
    return Cases.cat(damaged + changed)


def _chain_rows(bench: Bench, gallery: Path | None) -> None:
    report, run, bad = bench.report, bench.run, defective_cases(bench.sizes)
    good = clean_cases(bench.sizes.clean, 98)
    everything = Cases.cat([bad, good])
    guarded, open_ = run("guarded", everything), run("without guard", everything, guard=False)
    for name, out in (("", guarded), ("noguard.", open_)):
        found = bench.verdicts(f"{name or 'guarded.'}whole", everything, out.images, out)
        whole, prefix = found[: len(bad)], f"{name}whole."
        report.add(outcome_rows(whole, prefix))
        held_out = [i for i in bad.perceptual if bad.kinds[i] == HELD_OUT_DEFECT]
        for group, members in ("perceptual", bad.perceptual), ("alignment", bad.misaligned), ("heldout", held_out):
            report.add(outcome_rows([whole[i] for i in members], f"{prefix}{group}."))
        for kind in CHANGED:
            report.add({f"{prefix}fixed.{kind}": intervals.share([v.fixed for v in whole if v.kind == kind])})
        report.add(repair_rows(whole, f"{prefix}repair."))
        report.add(outcome_rows(found[len(bad) :], f"{name}clean.", ("untouched", "worse")))
        report.add(outside_rows(bench.judges, bench.bands, bad, out.images[: len(bad)], name))
        if not name and gallery:
            draw_gallery(gallery, everything, out, found)
    rows, raw = saved_rows(run, good)
    report.add(rows)
    report.raw += raw
    report.about["guarded"] = any(result.decision.guarded for result in guarded.results)
    stage1, domain = run("stage 1 alone", bad, guard=False, restorer="none"), domain_of(bench.pipe)
    refused = [domain is not None and domain.is_foreign(picture) for picture in everything.pictures]
    report.add({"exact": exact_row(bad, stage1), "world.refused": intervals.share(refused)})
    _control_rows(bench, bad)
    for name, config in ABLATIONS.items():
        known = {"pq_aq": open_, "stage1": stage1}.get(name)
        out = known or run(f"ablation {name}", bad, config=config, guard=False)
        found = bench.verdicts(f"ablation.{name}", bad, out.images[: len(bad)])
        report.add(outcome_rows(found, f"ablation.{name}.") | repair_rows(found, f"ablation.{name}.repair."))
    _kind_rows(bench)


def control_masks(cases: Cases) -> dict[str, Tensor]:
    """Return the true places, as many wrong ones (another picture's), and the whole picture."""
    true = widened(cases.masks)
    return {"oracle": true, "random": true.roll(len(true) // 2 + 1, 0), "full": torch.ones_like(true)}


def _control_rows(bench: Bench, bad: Cases) -> None:
    """Measure what the chain has to beat: nothing at all, the autoencoder alone, wrong places, all, the true ones."""
    images = {"identity": bad.images, "vae": bench.through_vae(bad.images), "perfect": bench.perfectly_painted(bad)}
    for name, masks in control_masks(bad).items():
        images[name] = bench.run(f"{name} mask", bad, masks=masks, guard=False).images
    for name, after in images.items():
        found = bench.verdicts(f"control.{name}", bad, after)
        rows = repair_rows(found, "repair.")
        bench.report.add(outcome_rows(found, f"control.{name}."))
        bench.report.add({f"control.{name}.{key}": row for key, row in rows.items()})
        if name == "oracle":
            bench.report.add(rows)


def _kind_rows(bench: Bench) -> None:
    """Tell the kinds apart, with as many pictures of each: guarded, open, in the true places, without fault."""
    count, run = bench.sizes.by_kind, bench.run
    if not count:
        bench.report.absent["*.kind.*"] = "not part of a quick run"
        return
    kinds = (*TRAINING_DEFECTS, HELD_OUT_DEFECT)
    parts = [damaged_cases(count, 1400 + i, kinds=(kind,)) for i, kind in enumerate(kinds)]
    cases = Cases.cat(parts + [misaligned_cases(kind, count, 1410 + i) for i, kind in enumerate(CHANGED)])
    guarded, open_ = run("kinds, guarded", cases), run("kinds, without guard", cases, guard=False)
    placed = run("kinds, true places", cases, masks=widened(cases.masks), guard=False)
    ways = {"whole.": guarded.images, "noguard.whole.": open_.images, "control.oracle.": placed.images}
    for prefix, images in (ways | {"control.perfect.": bench.perfectly_painted(cases)}).items():
        found = bench.verdicts(f"{prefix}kind", cases, images, guarded if prefix == "whole." else None)
        for kind in dict.fromkeys(cases.kinds):
            names = ("improved", "worse") if prefix == "whole." else ("improved",)
            bench.report.add(outcome_rows([v for v in found if v.kind == kind], f"{prefix}kind.{kind}.", names))


def _native_rows(bench: Bench, folder: Path | None) -> None:
    if folder is None:
        bench.report.absent["native.*"] = "no early checkpoint was given (--native FOLDER)"
        return
    early = early_pipeline(bench.pipe, folder)
    early.set_progress_bar_config(disable=True)
    cases = native_cases(early, bench.judges, bench.sizes.native, bench.run.seed)
    if not len(cases):
        bench.report.absent["native.*"] = "the early checkpoint made no mistake that the judge could see"
        return
    for name, guard in (("native.", None), ("noguard.native.", False)):
        out = bench.run(name, cases, guard=guard)
        bench.report.add(outcome_rows(bench.verdicts(name, cases, out.images, out), name))


ENLARGE = 2
COLUMNS = ("before", "1 - P + E", "repainted", "after", "clean scene")
MARGIN, LINE = 6, 14


def draw_gallery(
    path: Path, cases: Cases, out: Outcome, verdicts: Sequence[Verdict], most: int = 18, across: int = 2
) -> None:
    """Write one strip of five pictures per case, spread over all kinds, `across` strips side by side."""
    rows = _spread(cases.kinds, most)
    side = int(cases.images.shape[-1]) * ENLARGE
    width, height = len(COLUMNS) * (side + 2) + MARGIN, side + LINE + MARGIN
    lines = -(-len(rows) // across)
    sheet = Image.new("RGB", (across * width + MARGIN, lines * height + LINE + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for strip in range(across):
        for column, title in enumerate(COLUMNS):
            pen.text((MARGIN + strip * width + column * (side + 2), 2), title, fill="black")
    before, after, clean = (pictures_of(images) for images in (cases.images, out.images, cases.clean))
    for place, index in enumerate(rows):
        left, top = MARGIN + (place % across) * width, LINE + MARGIN + (place // across) * height
        result = out.results[index]
        heat = np.clip(1.0 - result.quality.values + result.alignment.edit, 0, 1)
        strip = (before[index], _heat(heat), _marked(before[index], result.plan.mask), after[index], clean[index])
        for column, picture in enumerate(strip):
            large = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(large, (left + column * (side + 2), top))
        pen.text((left, top + side), _words(cases, verdicts[index], index, result.decision.kept), fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _words(cases: Cases, verdict: Verdict, index: int, kept: str) -> str:
    state = "improved" if verdict.improved else "worse" if verdict.worse else "same"
    return f"{verdict.kind}, kept {kept}: {state}. {cases.captions[index].text}"[:104]


def _spread(kinds: Sequence[str], most: int) -> list[int]:
    """Return row numbers that take turns over the kinds."""
    by_kind: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(index)
    turns = max(map(len, by_kind.values()), default=0)
    chosen = [rows[turn] for turn in range(turns) for rows in by_kind.values() if turn < len(rows)]
    return sorted(chosen[:most])


def _heat(values: np.ndarray) -> Image.Image:
    """Show 0..1 from dark blue over red to pale yellow."""
    stops = np.array([[24, 28, 66], [142, 36, 92], [232, 92, 60], [252, 236, 160]], dtype=float)
    at = np.clip(values, 0, 1) * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    share = (at - low)[..., None]
    return Image.fromarray((stops[low] * (1 - share) + stops[low + 1] * share).astype(np.uint8))


def _marked(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """Show the picture with all but the repainted places faded."""
    pixels = np.asarray(picture, dtype=float)
    return Image.fromarray(np.where(mask[..., None], pixels, 255 - (255 - pixels) * 0.25).astype(np.uint8))
