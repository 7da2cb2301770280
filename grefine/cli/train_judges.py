"""`grefine train mdiqa|lar-iqa|moe-agiqa`: the small quality networks of the embedded pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer


def judge_command(name: str) -> Callable[..., None]:
    """Return the command that trains one judge."""

    def judge(
        world: str = typer.Option(..., help="What it is trained on: toy."),
        out: Path = typer.Option(
            Path("runs/tiny"), "--out", "-o", help="Folder of judges; what lies there is resumed."
        ),
        minutes: float | None = typer.Option(None, help="Budget by the clock."),
        steps: int | None = typer.Option(None, help="Budget in steps; exactly reproducible."),
        seed: int | None = typer.Option(None, help="In place of the seed of configs/train/tiny."),
        device: str | None = typer.Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        from grefine.errors import ConfigError
        from grefine.training.judges.recipe import train_judge

        if world != "toy":
            raise ConfigError(f"--world must be toy, not '{world}'.")
        found = train_judge(name, out, minutes=minutes, steps=steps, seed=seed, cpu=device == "cpu")
        if as_json:
            typer.echo(json.dumps(found, indent=1))
        else:
            numbers = {key: value for key, value in found.items() if isinstance(value, float)}
            typer.echo(", ".join(f"{key} {value:.3f}" for key, value in numbers.items()))

    judge.__doc__ = f"Train a small {name} on scenes with known truth, or go on training it."
    return judge


JUDGES = ("moe-agiqa", "mdiqa", "lar-iqa")
