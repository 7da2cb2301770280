"""MDIQA as a tunable loss: restorers under two weightings, judged by pixel formulas that no network had a part in.

    python benchmarks/mdiqa_loss.py --mdiqa FOLDER      three CPU-minutes; writes results/mdiqa_loss.json, .md

All begin as the same restorer; a control goes on with fidelity alone for as many steps on the same pictures. Under
sharpness the edges must be sharper than the control's, under noisiness less noise must be left, each in more than half
of the test pictures (95 % interval above one half). Exit 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

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
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--steps", type=int, default=400, help="on fidelity alone")
    parser.add_argument("--tune", type=int, default=200, help="under each weighting")
    parser.add_argument("--loss-weight", type=float, default=0.1)
    given = parser.parse_args()
    settings = RestorerSettings(loss_weight=given.loss_weight)
    found = compare_weightings(
        WEIGHTINGS,
        load_component(MDIQA, given.mdiqa, "cpu"),
        base=Budget(steps=given.steps),
        tuned=Budget(steps=given.tune),
        settings=settings,
    )
    found["setting"] = {"steps": given.steps, "tune": given.tune, "loss_weight": given.loss_weight}
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "mdiqa_loss.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.results / "mdiqa_loss.md").write_text(page(found), encoding="utf-8")
    return 0 if all(low > 0.5 for _, low, _ in told(found).values()) else 1


def told(found: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Return by weighting the share of pictures in which it did what it says against the control, and the interval."""
    pairs = found["pairs"]
    # Which way round a pair stands follows the order of WEIGHTINGS: the control is first.
    less_sharp = pairs["control against sharpness"]["sharper"]
    noisier = pairs["control against noisiness"]["noisier"]
    return {
        "sharpness": tuple(1 - less_sharp[key] for key in ("value", "high", "low")),  # pyright: ignore[reportReturnType]
        "noisiness": tuple(noisier[key] for key in ("value", "low", "high")),  # pyright: ignore[reportReturnType]
    }


def page(found: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    rows = "\n".join(
        f"| {name} | {found[name]['edges']:.4f} | {found[name]['noise']:.4f} | {found[name]['error']:.4f} |"
        for name in ("base", *WEIGHTINGS)
    )
    shares = {name: f"{value:.3f} [{low:.3f}, {high:.3f}]" for name, (value, low, high) in told(found).items()}
    setting, count = found["setting"], found["pairs"]["control against sharpness"]["sharper"]["n"]
    return f"""# MDIQA as a tunable loss

One restorer of toy pictures: {setting["steps"]} steps on fidelity alone, then {setting["tune"]} under each weighting
of `MDIQALoss` (weight {setting["loss_weight"]} beside the mean absolute error) on the same pictures; `control` goes on
with fidelity alone. Measured on {count} test pictures by pixel formulas: `edges` is the share of the true gradient (1
is as sharp as the truth; noise does not count), `noise` what fine detail is left where the truth is flat.

| weighting | edges | noise | error |
| --- | --- | --- | --- |
{rows}

Share of pictures in which a weighting does what it says, held against the control [95 %]: sharpness leaves a sharper
picture in {shares["sharpness"]}, noisiness a less noisy one in {shares["noisiness"]}.

    python benchmarks/mdiqa_loss.py --mdiqa FOLDER
"""


if __name__ == "__main__":
    sys.exit(main())
