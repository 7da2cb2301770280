"""How many steps stage 2 has use for: the toy world's referee over the same pictures with ten, four, two and none.

    python -m benchmarks.stage2_steps [--count 24] [--blind]

Own maps, no guard, ten steps of stage 1 in every row. `--blind` hides from tiny's UNet what it mends, as from SDXL's.
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import torch

from benchmarks.refine import load
from grefine.refine.settings import RefineConfig
from lab.bench.cases import Cases, Runner, clean_cases, damaged_cases, misaligned_cases
from lab.bench.verdicts import judge
from lab.bench_judges.networks import Judges, tie_bands

HEAD = "| steps | good harmed | damage improved | made worse | distance left | colour mended | made worse | moved |"


def main() -> None:
    """Print one row for each number of steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--count", type=int, default=24, help="good pictures; as many of a wrong colour, twice damaged"
    )
    parser.add_argument("--blind", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    count, pipe, judges = given.count, load(), Judges.load()
    if given.blind:
        pipe.register_to_config(unet_traits=dict(pipe.config["unet_traits"]) | {"damage": False, "edited": False})
    kinds = (clean_cases(count, 103), damaged_cases(2 * count, 101), misaligned_cases("colour", count, 102))
    cases, bands, first = Cases.cat(list(kinds)), tie_bands(judges, 64), None
    print(f"{HEAD}\n{'| ---: ' * 8}|")
    for steps in (10, 4, 2, 0):
        with patch.object(RefineConfig, "steps", lambda *_, steps=steps: (10, max(steps, 1))):
            restorer = None if steps else "none"
            after = Runner(pipe)("stage 2", cases, num_inference_steps=20, guard=False, restorer=restorer).images
        first = after if first is None else first
        verdicts = judge(judges, bands, cases, after)
        good, damaged, coloured = (verdicts[a:b] for a, b in ((0, count), (count, 3 * count), (3 * count, None)))
        cells = [
            sum(v.worse for v in good),
            sum(v.improved for v in damaged),
            sum(v.worse for v in damaged),
            f"{sum(v.after for v in damaged) / sum(v.before for v in damaged):.4f}",
            sum(v.improved for v in coloured),
            sum(v.worse for v in coloured),
            f"{float((after - first).square().mean().sqrt()):.3f}",
        ]
        print(f"| {steps} | " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
