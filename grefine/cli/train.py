"""`grefine train RECIPE`: make weights, from seeds, resumably."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from grefine.cli.train_judges import JUDGES, judge_command
from grefine.cli.train_maps import map_command
from grefine.cli.train_parser import parser as train_parser
from grefine.cli.train_rectifier import five_level as train_five_level
from grefine.cli.train_rectifier import rectifier as train_rectifier
from grefine.cli.train_restorer import restorer as train_restorer

train_app = typer.Typer(no_args_is_help=True, help="Train a recipe: the embedded pipeline, maps, judges, parser.")


@train_app.command()
def tiny(
    out: Path = typer.Option(Path("runs/tiny"), "--out", "-o", help="Pipeline folder; what lies there is resumed."),
    minutes: float | None = typer.Option(None, help="Budget by the clock for all parts together."),
    steps: int | None = typer.Option(None, help="Budget in steps for each part; exactly reproducible."),
    parts: str = typer.Option(
        "",
        help="Comma-separated: vae, clip, unet, decoder (all without), or the controls contrastive and early.",
    ),
    again: bool = typer.Option(False, help="Train the bundled pipeline once more: its parts, settings and time."),
    seed: int | None = typer.Option(None, help="In place of the seeds of configs/train/tiny."),
    device: str | None = typer.Option(None, help="cpu keeps off an accelerator that is present."),
    bundle: bool = typer.Option(True, help="Calibrate and assemble the pipeline folder afterwards."),
    as_json: bool = typer.Option(False, "--json", help="Print the last evaluation of every part as JSON."),
) -> None:
    """Train the embedded pipeline on the toy world, or go on training it."""
    from grefine.errors import ConfigError
    from grefine.resources import bundled
    from grefine.training.tiny.recipe import CONTROLS, train_again, train_tiny

    names = [name.strip() for name in parts.split(",") if name.strip()]
    if again and (minutes or steps or names or seed is not None):
        raise ConfigError("--again takes budget, parts and seeds from the bundled records: leave them out.")
    if not again and (minutes is None) == (steps is None):
        raise ConfigError("Give a budget: --minutes N or --steps N, or --again.")
    if again:
        found = train_again(out, bundled("pipelines") / "tiny" / "training", device == "cpu")
    else:
        found = train_tiny(out, minutes=minutes, steps=steps, parts=names, seed=seed, cpu=device == "cpu")
    if (
        bundle
        and not found.keys() <= CONTROLS.keys()
        and all((out / name).is_dir() for name in ("vae", "unet", "clip", "pq_prompts"))
    ):
        from grefine.training.tiny.bundle import assemble

        assemble(out)
        typer.echo(f"pipeline: {out}", err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        for part, metrics in found.items():
            typer.echo(
                f"{part}: "
                + ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float))
            )


@train_app.command()
def judges(
    out: Path = typer.Option(
        Path("runs/judges"), "--out", "-o", help="Folder of weights; what lies there is resumed."
    ),
    minutes: float = typer.Option(4.0, help="Budget by the clock; at least 4 for usable judges."),
    seed: int = typer.Option(0),
) -> None:
    """Train the benchmark's own judges, which no pipeline ever loads."""
    from grefine.training.referees import train_judges

    for name, value in train_judges(out, minutes, seed).items():
        typer.echo(f"{name} {value:.3f}")


train_app.command("parser")(train_parser)
train_app.command("rectifier")(train_rectifier)
train_app.command("five-level")(train_five_level)
train_app.command("restorer")(train_restorer)
for _name in JUDGES:
    train_app.command(_name)(judge_command(_name))
for _name in ("pq", "aq"):
    train_app.command(_name)(map_command(_name))
