"""`grefine train restorer`: small restorers that MDIQA tunes by named dimensions, and what an outsider sees of it."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def restorer(
    weights: list[str] = typer.Option(..., help="sharpness=1,noisiness=0; given twice, both are compared."),
    mdiqa: Path = typer.Option(..., help="Folder of the MDIQA that judges."),
    out: Path = typer.Option(Path("runs/restorer"), "--out", "-o", help="What lies there is resumed."),
    steps: int = typer.Option(400, help="Steps on fidelity alone, from which every weighting starts."),
    tune: int = typer.Option(200, help="Steps under each weighting."),
    loss_weight: float = typer.Option(0.1, help="Of MDIQA beside the mean absolute error."),
    seed: int = typer.Option(21),
    device: str | None = typer.Option(None, help="cpu keeps off an accelerator that is present."),
    as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
) -> None:
    """Train restorers of toy pictures under weightings of MDIQA's dimensions and measure them by pixel formulas."""
    from accelerate import Accelerator

    from grefine.models.mdiqa import MDIQA
    from grefine.scorers.builders import component
    from grefine.training.loop import Budget
    from grefine.training.restorer import RestorerSettings, compare_weightings, parse_weights

    asked = {text.replace(",", "_").replace("=", "-"): parse_weights(text) for text in weights}
    found = compare_weightings(
        out,
        asked,
        component(MDIQA, mdiqa, "cpu"),
        base=Budget(steps=steps),
        tuned=Budget(steps=tune),
        settings=RestorerSettings(loss_weight=loss_weight, seed=seed),
        accelerator=Accelerator(cpu=device == "cpu"),
    )
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, values in found.items():
        shown = (f"{key} {v['value'] if isinstance(v, dict) else v:.4f}" for key, v in values.items())
        if name != "pairs":
            typer.echo(f"{name}: " + ", ".join(shown))
    for name, pair in found["pairs"].items():
        parts = (f"{key} in {v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}] of {v['n']}" for key, v in pair.items())
        typer.echo(f"{name}: " + ", ".join(parts))
