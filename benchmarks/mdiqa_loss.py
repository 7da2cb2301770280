"""MDIQA as a tunable loss: restorers under two weightings, judged by pixel formulas that no network had a part in.

    python benchmarks/mdiqa_loss.py --mdiqa FOLDER      six CPU-minutes; writes results/mdiqa_loss.json, .md

Sharpness against noisiness: under the first the restored edges must be sharper, under the second less noise must be
left, each in more than half of the test pictures (95 % interval above one half). Exit 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from accelerate import Accelerator

from grefine.models.mdiqa import MDIQA
from grefine.scorers.component import load_component
from grefine.training.loop import Budget
from lab.restorer import RestorerSettings, compare_weightings

WEIGHTINGS = {
    "control": None,
    "sharpness": {"sharpness": 1.0, "noisiness": 0.0},
    "noisiness": {"sharpness": 0.0, "noisiness": 1.0},
}


def main() -> int:
    """Train, measure, write, and say whether each weighting moved as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mdiqa", type=Path, required=True, help="folder of the MDIQA that judges")
    parser.add_argument("--out", type=Path, default=Path("runs/mdiqa_loss"), help="folder of the restorers")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--steps", type=int, default=400, help="on fidelity alone")
    parser.add_argument("--tune", type=int, default=200, help="under each weighting")
    parser.add_argument("--loss-weight", type=float, default=0.1)
    given = parser.parse_args()
    settings = RestorerSettings(loss_weight=given.loss_weight)
    found = compare_weightings(
        given.out,
        WEIGHTINGS,
        load_component(MDIQA, given.mdiqa, "cpu"),
        base=Budget(steps=given.steps),
        tuned=Budget(steps=given.tune),
        settings=settings,
        accelerator=Accelerator(cpu=True),
    )
    found["setting"] = {"steps": given.steps, "tune": given.tune, "loss_weight": given.loss_weight}
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "mdiqa_loss.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.results / "mdiqa_loss.md").write_text(page(found), encoding="utf-8")
    pair = found["pairs"]["sharpness against noisiness"]
    return 0 if pair["sharper"]["low"] > 0.5 and pair["noisier"]["low"] > 0.5 else 1


def page(found: dict) -> str:
    """Return the result as Markdown."""
    rows = "\n".join(
        f"| {name} | {found[name]['edges']:.4f} | {found[name]['noise']:.4f} | {found[name]['error']:.4f} |"
        for name in ("base", *WEIGHTINGS)
    )
    pair = found["pairs"]["sharpness against noisiness"]
    told = {key: f"{v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for key, v in pair.items()}
    setting = found["setting"]
    return f"""# MDIQA as a tunable loss

One restorer of toy pictures, {setting["steps"]} steps on fidelity alone, {setting["tune"]} under each weighting of
`MDIQALoss` (weight {setting["loss_weight"]} beside the mean absolute error), the same pictures for both. Measured on
{pair["sharper"]["n"]} test pictures by pixel formulas: `edges` is the share of the true gradient (1 is as sharp as the
truth; noise does not count), `noise` what fine detail is left where the truth is flat.

| weighting | edges | noise | error |
| --- | --- | --- | --- |
{rows}

Under sharpness the picture is sharper than under noisiness in {told["sharper"]} of all pictures, and noisier in
{told["noisier"]}.

    python benchmarks/mdiqa_loss.py --mdiqa FOLDER
"""


if __name__ == "__main__":
    sys.exit(main())
