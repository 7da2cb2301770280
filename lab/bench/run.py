"""`python -m lab bench`: all rows, in the order in which the method works."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grefine.indicators.domain_check import domain_of
from lab.bench import intervals
from lab.bench.cases import CHANGED, Cases, clean_cases, damaged_cases, misaligned_cases
from lab.bench.chain import Outcome, Runner
from lab.bench.controls import ABLATIONS, ablation, control_masks, perfectly_painted, through_vae
from lab.bench.gallery import draw_gallery
from lab.bench.maps import alignment_rows, eyes_of, quality_rows
from lab.bench.native import early_pipeline, native_cases
from lab.bench.repaint import exact_row, repaint_rows, sharpness_rows
from lab.bench.report import Report
from lab.bench.scorer_rows import add_scorer_rows
from lab.bench.unharmed import outside_rows, saved_rows
from lab.bench.verdicts import Verdict, clean_rows, judge, outcome_rows, records, repair_rows
from lab.bench_judges.check import TieBands, check_judges, tie_bands
from lab.bench_judges.networks import Judges
from lab.world.vocabulary import HELD_OUT_DEFECT, TRAINING_DEFECTS

Say = Callable[[str], None]


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
    controls: tuple[str, ...] = ("oracle", "random", "full")
    ablations: tuple[str, ...] = tuple(ABLATIONS)


QUICK = Sizes(32, 24, 6, 6, 2, 2, 0, 8, 100, 6, ("oracle",), ())
"""What a build machine has time for; its intervals are as wide as they look."""


@dataclass
class Bench:
    """One run over one pipeline."""

    pipe: Any
    sizes: Sizes
    runner: Runner
    judges: Judges
    bands: TieBands
    report: Report

    def verdicts(self, run: str, cases: Cases, images: torch.Tensor, out: Outcome | None = None) -> list[Verdict]:
        """Judge one run and keep its raw rows."""
        found = judge(self.judges, self.bands, cases, images)
        self.report.raw += records(run, cases, found, out.results if out else ())
        return found


def bench_toyworld(
    pipeline: str = "tiny",
    *,
    quick: bool = False,
    seed: int = 0,
    device: str | None = None,
    native: Path | None = None,
    contrastive: Path | None = None,
    gallery: Path | None = None,
    say: Say = lambda line: None,
) -> Report:
    """Measure a pipeline of the toy world."""
    from grefine.pipeline import GRefinePipeline

    began, cpu = time.monotonic(), time.process_time()
    sizes = QUICK if quick else Sizes()
    pipe = GRefinePipeline.from_pretrained(pipeline)
    if device:
        pipe = pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    judges = Judges.load()
    say("judges: their own accuracy and tie bands")
    bands = tie_bands(judges, sizes.judges // 2)
    bench = Bench(pipe, sizes, Runner(pipe, seed, say=say), judges, bands, Report())
    _judge_rows(bench)
    eyes = eyes_of(pipe)
    say("maps")
    if eyes.pq is not None:
        bench.report.add(quality_rows(eyes.pq, sizes.maps))
    bench.report.add(alignment_rows(eyes.aq, sizes.maps))
    _contrastive_rows(bench, contrastive)
    say("quality networks")
    add_scorer_rows(bench.report, pipe, sizes.scorers)
    bench.report.add(repaint_rows(bench.runner, judges, sizes.repaint, unseen=not quick))
    _sharpness(bench)
    _chain_rows(bench, gallery)
    _native_rows(bench, native)
    bench.report.about |= {
        "pipeline": str(pipeline) if not Path(pipeline).is_dir() else Path(pipeline).name,
        "quick": quick,
        "seed": seed,
        "tie band distance": round(bands.distance, 5),
        "tie band visible": round(bands.visible, 5),
        "seconds": round(time.monotonic() - began, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
    }
    return bench.report


def _judge_rows(bench: Bench) -> None:
    count = bench.sizes.judges
    for name, value in check_judges(bench.judges, count).items():
        bench.report.add({f"referee.{name}": intervals.share_of(value, count)})


def _contrastive_rows(bench: Bench, folder: Path | None) -> None:
    if folder is None:
        bench.report.absent["contrastive.aq.*"] = "no CLIP trained without masks was given (--contrastive FOLDER)"
        return
    from grefine.indicators.aq_map import AQMap
    from grefine.indicators.components import load_clip, load_tokenizer

    aq = AQMap(load_clip(folder), load_tokenizer(folder), calibration={"phrase_score": "peak"})
    bench.report.add(alignment_rows(aq, bench.sizes.maps, "contrastive."))


def _sharpness(bench: Bench) -> None:
    if bench.pipe.mdiqa is None:
        without = "the pipeline has no mdiqa to guide with"
        bench.report.absent |= dict.fromkeys(("guide.sharpness", "guide.blur_left"), without)
        return
    bench.report.add(sharpness_rows(bench.runner, bench.judges, bench.sizes.repaint))


def defective_cases(sizes: Sizes) -> Cases:
    """Return what is to be repaired: damage of known kinds, of the held-out kind, and misalignments."""
    damaged = [damaged_cases(sizes.damaged, 90), damaged_cases(sizes.heldout, 91, held_out=True)]
    changed = [misaligned_cases(kind, sizes.misaligned, 92 + i) for i, kind in enumerate(CHANGED)]
    return Cases.cat(damaged + changed)


def _chain_rows(bench: Bench, gallery: Path | None) -> None:
    report, run, bad = bench.report, bench.runner, defective_cases(bench.sizes)
    good = clean_cases(bench.sizes.clean, 98)
    everything = Cases.cat([bad, good])
    guarded, open_ = run("guarded", everything), run("without guard", everything, guard=False)
    for name, out in (("", guarded), ("noguard.", open_)):
        found = bench.verdicts(f"{name or 'guarded.'}whole", everything, out.images, out)
        report.add(_whole_rows(bad, found[: len(bad)], name))
        report.add(clean_rows(found[len(bad) :], f"{name}clean."))
        report.add(outside_rows(bench.judges, bench.bands, bad, out.images[: len(bad)], name))
        if not name and gallery:
            draw_gallery(gallery, everything, out, found)
    rows, raw = saved_rows(run, good)
    report.add(rows)
    report.raw += raw
    report.about["guarded"] = any(result.decision.guarded for result in guarded.results)
    stage1 = run("stage 1 alone", bad, guard=False, restorer="none")
    report.add({"exact": exact_row(bad, stage1), "world.refused": intervals.share(_refused(bench, everything))})
    _control_rows(bench, bad)
    _ablation_rows(bench, bad, {"pq_aq": open_, "stage1": stage1})
    _kind_rows(bench)


def _whole_rows(bad: Cases, found: list[Verdict], prefix: str) -> dict[str, Any]:
    rows = outcome_rows(found, f"{prefix}whole.")
    groups = {"perceptual": bad.perceptual, "alignment": bad.misaligned}
    groups["heldout"] = [i for i in bad.perceptual if bad.kinds[i] == "smear"]
    for name, members in groups.items():
        rows |= outcome_rows([found[i] for i in members], f"{prefix}whole.{name}.")
    for kind in CHANGED:
        rows[f"{prefix}whole.fixed.{kind}"] = intervals.share([v.fixed for v in found if v.kind == kind])
    own = repair_rows([found[i] for i in bad.perceptual], f"{prefix}whole.repair.")
    return rows | own


def _kind_rows(bench: Bench) -> None:
    """Tell the kinds apart, with as many pictures of each: guarded, open, in the true places, without fault."""
    count, run = bench.sizes.by_kind, bench.runner
    if not count:
        bench.report.absent["*.kind.*"] = "not part of a quick run"
        return
    parts = [
        damaged_cases(count, 1400 + i, kinds=(kind,)) for i, kind in enumerate((*TRAINING_DEFECTS, HELD_OUT_DEFECT))
    ]
    cases = Cases.cat(parts + [misaligned_cases(kind, count, 1410 + i) for i, kind in enumerate(CHANGED)])
    guarded, open_ = run("kinds, guarded", cases), run("kinds, without guard", cases, guard=False)
    placed = run("kinds, true places", cases, masks=control_masks(cases)["oracle"], guard=False)
    ways = {"whole.": guarded.images, "noguard.whole.": open_.images, "control.oracle.": placed.images}
    for prefix, images in (ways | {"control.perfect.": perfectly_painted(run, cases)}).items():
        found = bench.verdicts(f"{prefix}kind", cases, images, guarded if prefix == "whole." else None)
        for kind in dict.fromkeys(cases.kinds):
            rows = outcome_rows([v for v in found if v.kind == kind], f"{prefix}kind.{kind}.")
            bench.report.add(rows if prefix == "whole." else {k: v for k, v in rows.items() if k.endswith("improved")})


def _refused(bench: Bench, cases: Cases) -> list[bool]:
    """Whether the pipeline's own test takes pictures of the toy world for something else."""
    domain = domain_of(bench.pipe)
    return [domain is not None and domain.is_foreign(picture) for picture in cases.pictures]


def _control_rows(bench: Bench, bad: Cases) -> None:
    images: dict[str, torch.Tensor] = {
        "identity": bad.images,
        "vae": through_vae(bench.runner, bad),
        "perfect": perfectly_painted(bench.runner, bad),
    }
    for name, masks in control_masks(bad).items():
        if name in bench.sizes.controls:
            images[name] = bench.runner(f"{name} mask", bad, masks=masks, guard=False).images
        else:
            bench.report.absent[f"control.{name}.*"] = "not part of a quick run"
    for name, after in images.items():
        found = bench.verdicts(f"control.{name}", bad, after)
        bench.report.add(outcome_rows(found, f"control.{name}."))
        rows = repair_rows([found[i] for i in bad.perceptual], f"control.{name}.repair.")
        bench.report.add(rows)
        if name == "oracle":
            bench.report.add({key.removeprefix("control.oracle."): row for key, row in rows.items()})


def _ablation_rows(bench: Bench, bad: Cases, known: dict[str, Outcome]) -> None:
    for name in ABLATIONS:
        if name not in bench.sizes.ablations:
            bench.report.absent[f"ablation.{name}.*"] = "not part of a quick run"
            continue
        images = known[name].images[: len(bad)] if name in known else ablation(bench.runner, name, bad).images
        found = bench.verdicts(f"ablation.{name}", bad, images)
        bench.report.add(outcome_rows(found, f"ablation.{name}."))
        bench.report.add(repair_rows([found[i] for i in bad.perceptual], f"ablation.{name}.repair."))


def _native_rows(bench: Bench, folder: Path | None) -> None:
    if folder is None:
        bench.report.absent["native.*"] = "no early checkpoint was given (--native FOLDER)"
        return
    early = early_pipeline(bench.pipe, folder)
    early.set_progress_bar_config(disable=True)
    cases = native_cases(early, bench.judges, bench.sizes.native, bench.runner.seed)
    if not len(cases):
        bench.report.absent["native.*"] = "the early checkpoint made no mistake that the judge could see"
        return
    for name, guard in (("native.", None), ("noguard.native.", False)):
        out = bench.runner(name, cases, guard=guard)
        bench.report.add(outcome_rows(bench.verdicts(name, cases, out.images, out), name))
