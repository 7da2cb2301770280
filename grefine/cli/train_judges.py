"""`grefine train mdiqa|lar-iqa|moe-agiqa|five-level`: quality networks, on pictures that people rated."""

import json
from collections.abc import Callable
from pathlib import Path

import typer


def judge_command(name: str) -> Callable[..., None]:
    """Return the command that trains one judge."""

    def judge(
        data: list[str] = typer.Option(..., help="NAME:FOLDER of a published set, or TABLE.csv; more than once."),
        config: str = typer.Option(..., help=f"A YAML file or a name of configs/train/{name} (docs/training.md)."),
        start: list[str] = typer.Option([], help="PART=WEIGHTS to begin with, in place of the configuration's."),
        set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
        test: list[str] = typer.Option([], help="A further set, as --data, that only measures; more than once."),
        out: Path = typer.Option(
            Path("runs/judges"), "--out", "-o", help="Folder of judges; what lies there is resumed."
        ),
        minutes: float | None = typer.Option(None, help="Budget by the clock."),
        steps: int | None = typer.Option(None, help="Budget in steps; exactly reproducible."),
        repeats: int = typer.Option(1, help="How many splits of the data are trained, one after the other."),
        seed: int | None = typer.Option(None, help="In place of the configuration's."),
        device: str | None = typer.Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        from grefine.training.judges.catalogue import train_on_data
        from grefine.training.judges.run import lines_of

        found = train_on_data(
            name,
            data,
            config,
            out,
            start=start,
            changes=set_,
            tests=test,
            repeats=repeats,
            progress=lambda line: typer.echo(line, err=True),
            minutes=minutes,
            steps=steps,
            seed=seed,
            cpu=device == "cpu",
        )
        typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines_of(found)))

    judge.__doc__ = f"Train {name} on pictures that people rated."
    return judge


JUDGES = ("moe-agiqa", "mdiqa", "lar-iqa", "five-level")
