"""Thresholds that a folder sets by itself, on toy pictures: `python benchmarks/self_calibration.py` prints the table.

`--seed` draws other pictures; the rule was chosen on those of 300, so other seeds are what it is worth.

tiny's calibration is taken away; folders of 96 toy pictures, of which 10, 30 and 50 % are bad (half damaged, half
misaligned), calibrate it anew. Counted on other pictures: good ones that the gate leaves alone, and bad ones that it
sends to a repair; beside the calibration that is shipped, and the uncalibrated defaults.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibrate import self_calibrate
from grefine.indicators.calibration import Calibration, needs_repair
from grefine.indicators.load import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.indicators.pq_map import PQMap
from lab.bench.cases import CHANGED, Cases, clean_cases, damaged_cases, misaligned_cases

FOLDER = 96
SHARES = (0.0, 0.1, 0.3, 0.5)


@dataclass(frozen=True)
class Parts:
    """What both maps are built from."""

    clip: object
    prompts: object
    tokenizer: object

    def maps(self, calibration: Calibration) -> tuple[PQMap, AQMap]:
        pq = PQMap(self.clip, self.prompts, calibration=calibration, batch_size=32)  # type: ignore[arg-type]
        return pq, AQMap(self.clip, self.tokenizer, calibration=calibration, batch_size=32)  # type: ignore[arg-type]


def bad_cases(count: int, seed: int) -> Cases:
    """Return half damaged and half misaligned pictures, every kind of misalignment as often."""
    each = max(1, round(count / 2 / len(CHANGED)))
    changed = [misaligned_cases(kind, each, seed + 1 + i) for i, kind in enumerate(CHANGED)]
    return Cases.cat([damaged_cases(count - each * len(CHANGED), seed), *changed])


def sent(parts: Parts, calibration: Calibration, cases: Cases) -> list[bool]:
    """Say of each picture whether the gate sends it to a repair."""
    pq, aq = parts.maps(calibration)
    found = zip(pq(cases.pictures), aq(cases.pictures, cases.prompts), strict=True)
    return [needs_repair(quality, alignment, calibration)[0] for quality, alignment in found]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seed", type=int, default=300, help="Of all pictures; at least 100 apart from another.")
    seed = asked.parse_args().seed
    parts = Parts(load_clip("tiny"), load_prompts("tiny"), load_tokenizer("tiny"))
    good, bad = clean_cases(128, seed + 1), bad_cases(128, seed + 10)
    damaged = len(bad.perceptual)
    print("| calibration | left out | good left alone | damage found | misalignment found |")
    print("| --- | ---: | ---: | ---: | ---: |")

    def row(name: str, calibration: Calibration, left_out: str) -> None:
        alone, found = sent(parts, calibration, good), sent(parts, calibration, bad)
        cells = [alone.count(False) / len(alone), sum(found[:damaged]) / damaged]
        cells += [sum(found[damaged:]) / (len(found) - damaged)]
        print(f"| {name} | {left_out} | " + " | ".join(f"{cell:.0%}" for cell in cells) + " |", flush=True)

    row("shipped", stored_calibration("tiny"), "")
    row("none", Calibration(), "")
    for share in SHARES:
        spoilt = bad_cases(round(FOLDER * share), seed + 30) if share else None
        fine = clean_cases(FOLDER - (len(spoilt) if spoilt else 0), seed + 2)
        folder = Cases.cat([fine, spoilt]) if spoilt else fine
        done, left_out = self_calibrate(*parts.maps(Calibration()), lambda at=folder: at.pictures, folder.prompts)
        name = f"itself, {(len(spoilt) if spoilt else 0) / FOLDER:.0%} bad"
        row(name, done.calibration, f"{left_out} of {len(folder)}")


if __name__ == "__main__":
    main()
