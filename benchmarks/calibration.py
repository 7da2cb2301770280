"""The toy world's map rows of one pipeline before and after `grefine calibrate`, and what its gates let through.

Before means the constants that a CLIP starts with; after, a calibration made here on clean scenes that no row shows.

    python benchmarks/calibration.py [--pipeline tiny] [--count 128] [--scenes 256] [-o benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibrate import FALSE_ALARMS, Calibrated, calibrate
from grefine.indicators.calibration import Calibration, needs_repair
from grefine.indicators.load import Maps, load_maps
from grefine.indicators.pq_map import PQMap
from lab.bench import intervals
from lab.bench.cases import Cases, clean_cases, damaged_cases, misaligned_cases
from lab.bench.maps import BATCH, alignment_rows, quality_rows
from lab.bench.report import Row
from lab.world.pictures import pictures_with_captions

SEED = 66_000_007
"""Of the scenes that are calibrated on."""


def views(maps: Maps, constants: Calibration) -> tuple[PQMap, AQMap]:
    """Return both maps over one CLIP with the given constants."""
    clip, tokenizer = maps.pq.clip, maps.aq.text_features.tokenizer
    return (
        PQMap(clip, maps.pq.prompts, calibration=constants, batch_size=BATCH),
        AQMap(clip, tokenizer, calibration=constants, batch_size=BATCH),
    )


def flagged(pq: PQMap, aq: AQMap, cases: Cases) -> list[bool]:
    """Return of each picture whether the gates take it for defective."""
    found = []
    for start in range(0, len(cases), BATCH):
        pictures, prompts = cases.pictures[start : start + BATCH], cases.prompts[start : start + BATCH]
        encoding = pq.encode(pictures)
        pairs = zip(pq(pictures, encoding), aq(pictures, prompts, encoding), strict=True)
        found += [needs_repair(quality, alignment, pq.calibration)[0] for quality, alignment in pairs]
    return found


def gate_rows(pq: PQMap, aq: AQMap, count: int) -> dict[str, Row]:
    """Return the share of clean, damaged and misaligned pictures that the gates take for defective."""
    rows = {"gate.clean": intervals.share(flagged(pq, aq, clean_cases(2 * count, 198)))}
    for name, held_out in (("damaged", False), ("heldout", True)):
        rows[f"gate.{name}"] = intervals.share(flagged(pq, aq, damaged_cases(count, 190 + held_out, held_out)))
    for number, kind in enumerate(("colour", "missing", "object", "texture")):
        rows[f"gate.{kind}"] = intervals.share(flagged(pq, aq, misaligned_cases(kind, count, 192 + number)))
    return rows


def rows_of(maps: Maps, constants: Calibration, count: int) -> dict[str, Row]:
    """Return all rows with the given constants."""
    pq, aq = views(maps, constants)
    return quality_rows(pq, count) | alignment_rows(aq, count) | gate_rows(pq, aq, count)


def measure(pipeline: str, count: int, scenes: int) -> dict[str, Any]:
    """Measure before and after."""
    maps = load_maps(pipeline, fresh=True)
    print(f"calibrating on {scenes} scenes", file=sys.stderr)
    made: Calibrated = calibrate(maps.pq, maps.aq, *pictures_with_captions(scenes, SEED))
    sides = {}
    for name, constants in (("before", Calibration()), ("after", made.calibration)):
        print(f"rows {name}", file=sys.stderr)
        found = rows_of(maps, constants, count)
        sides[name] = {row: [round(v, 5) for v in (r.value, r.low, r.high)] + [r.n] for row, r in found.items()}
    return {
        "pipeline": pipeline,
        "clip_sha256": made.calibration.made_from["clip_sha256"],
        "scenes": scenes,
        "false_alarms_allowed": FALSE_ALARMS,
        "false_alarms": made.report["false_alarms"],
        "warnings": made.warnings,
        "rows": sides,
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the rows side by side."""
    before, after = result["rows"]["before"], result["rows"]["after"]
    alarms = result["false_alarms"]
    lines = [
        f"Pipeline {result['pipeline']} (CLIP {result['clip_sha256'][:12]}), calibrated on {result['scenes']} clean "
        f"scenes to {result['false_alarms_allowed']:.0%} false alarms in all: {alarms['share']:.1%} of those are "
        f"past a gate, {alarms['held_out']:.1%} when left out of the calibration.",
        "",
        "| row | before | 95 % | after | 95 % | n |",
        "|---|---|---|---|---|---|",
    ]
    for name in before:
        lines.append(f"| {name} | {_cells(before[name])} | {_cells(after[name])} | {after[name][3]} |")
    return "\n".join(lines) + "\n"


def _cells(row: Iterable[float]) -> str:
    value, low, high, _ = row
    return f"{value:.3f} | {low:.3f} .. {high:.3f}"


def main() -> None:
    """Run everything and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="tiny")
    parser.add_argument("--count", type=int, default=128, help="pictures per row")
    parser.add_argument("--scenes", type=int, default=256, help="clean scenes to calibrate on")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options.pipeline, options.count, options.scenes)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "calibration.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (options.out / "calibration.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
