"""`grefine train mdiqa|lar-iqa|moe-agiqa`: quality networks, on the toy world or on rated pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer


def judge_command(name: str) -> Callable[..., None]:
    """Return the command that trains one judge."""

    def judge(
        world: str | None = typer.Option(
            None, help="toy: endless scenes with known truth, for the embedded pipeline."
        ),
        data: list[str] = typer.Option([], help="NAME:FOLDER of a published set, or TABLE.csv; more than once."),
        config: str | None = typer.Option(None, help=f"A YAML file or a name of configs/train/{name}."),
        start: list[str] = typer.Option([], help="PART=WEIGHTS to begin with, in place of the configuration's."),
        out: Path = typer.Option(
            Path("runs/tiny"), "--out", "-o", help="Folder of judges; what lies there is resumed."
        ),
        minutes: float | None = typer.Option(None, help="Budget by the clock."),
        steps: int | None = typer.Option(None, help="Budget in steps; exactly reproducible."),
        repeats: int = typer.Option(1, help="How many splits of the data are trained, one after the other."),
        seed: int | None = typer.Option(None, help="In place of the configuration's."),
        device: str | None = typer.Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        from grefine.errors import ConfigError

        if bool(data) == (world is not None):
            raise ConfigError("Give either --world toy or --data NAME:FOLDER (or a table) with --config.")
        budget = {"minutes": minutes, "steps": steps, "seed": seed, "cpu": device == "cpu"}
        if data:
            typer.echo(_on_data(name, data, config, out, start, repeats, as_json, budget))
            return
        from grefine.training.judges.recipe import train_judge

        if world != "toy":
            raise ConfigError(f"--world must be toy, not '{world}'.")
        if start or repeats != 1:
            raise ConfigError("--start and --repeats belong to --data; the toy world needs neither.")
        found = train_judge(name, out, config=config, **budget)
        numbers = {key: value for key, value in found.items() if isinstance(value, float)}
        plain = ", ".join(f"{key} {value:.3f}" for key, value in numbers.items())
        typer.echo(json.dumps(found, indent=1) if as_json else plain)

    judge.__doc__ = f"Train {name} on pictures that people rated, or a small one on scenes with known truth."
    return judge


def _on_data(
    name: str,
    data: list[str],
    config: str | None,
    out: Path,
    start: list[str],
    repeats: int,
    as_json: bool,
    budget: dict,
) -> str:
    from grefine.errors import ConfigError
    from grefine.training.judges.rated.catalogue import train_on_data
    from grefine.training.judges.rated.report import lines_of

    if config is None:
        raise ConfigError(f"--data needs --config: a YAML file or a name of configs/train/{name} (docs/training.md).")
    found = train_on_data(
        name,
        data,
        config,
        out,
        start=start,
        repeats=repeats,
        progress=lambda line: typer.echo(line, err=True),
        **budget,
    )
    return json.dumps(found, indent=1) if as_json else "\n".join(lines_of(found))


JUDGES = ("moe-agiqa", "mdiqa", "lar-iqa")
