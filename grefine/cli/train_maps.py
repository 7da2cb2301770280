"""`grefine train pq` and `aq`: fit both maps to opinion scores of one's own pictures."""

import json
from collections.abc import Callable
from pathlib import Path

import typer

_DOC = {
    "pq": "Fit PQ-Map's learned prompts to opinions on quality (the CLIP stays as it is), or go on fitting them.",
    "aq": "Fit the CLIP of AQ-Map to opinions on how well pictures show their prompts, or go on fitting it.",
}


def map_command(name: str) -> Callable[..., None]:
    """Return the command that trains one map."""

    def train(
        out: Path = typer.Option(..., "--out", "-o", help="Folder of the result; what lies there is resumed."),
        data: str = typer.Option(..., help="TABLE.csv: image, mos, prompt (docs/maps.md); or NAME:FOLDER."),
        images: Path = typer.Option(None, help="Folder that the CSV's names are relative to; its own without."),
        pipeline: str = typer.Option("tiny", help="Bundled name, folder, Hub id, or 'released'."),
        config: str = typer.Option(None, help=f"YAML file or a name in configs/train/{name}."),
        minutes: float = typer.Option(None, help="Budget by the clock."),
        steps: int = typer.Option(None, help="Budget in steps. Neither: what is left of the epochs over the CSV."),
        seed: int = typer.Option(None, help="In place of the configuration's."),
        device: str = typer.Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = typer.Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        from grefine.training.maps.train import train_map

        given = {"data": data, "images": images, "config": config, "minutes": minutes, "steps": steps, "seed": seed}
        said = {"cpu": device == "cpu", "progress": lambda line: typer.echo(line, err=True)}
        found = train_map(name, out, pipeline, **given, **said)
        if as_json:
            typer.echo(json.dumps(found, indent=1))
        else:
            for when in ("before", "after"):
                typer.echo(f"{when}: " + ", ".join(f"{key} {value:.3f}" for key, value in found[when].items()))
        typer.echo("Thresholds belong to the weights they were measured on: run `grefine calibrate` next.", err=True)

    train.__doc__ = _DOC[name]
    return train
