"""`grefine train RECIPE`: make weights from rated or ranked pictures, from seeds, resumably."""

import json
from collections.abc import Callable
from pathlib import Path

import typer
from typer import Option, echo

from grefine.cli.passing import chosen, pick, tell

train = typer.Typer(no_args_is_help=True, help="Train the maps or a judge on your own rated pictures.")
JUDGES = ("moe-agiqa", "mdiqa", "lar-iqa", "five-level")
MAPS = {
    "pq": "Fit PQ-Map's learned prompts to opinions on quality (the CLIP stays as it is), or go on fitting them.",
    "aq": "Fit the CLIP of AQ-Map to opinions on how well pictures show their prompts, or go on fitting it.",
}


@train.command()
def rectifier(
    config: str = Option("rectifier", help="A YAML file or the name of a bundled one (configs/train)."),
    out: Path = Option(..., "--out", "-o", help="Folder of the calibrated judge."),
    pool: Path = Option(None, help="Folder that holds one folder of outputs per ranked method."),
    ranking: Path = Option(None, help="Scores by method, as `grefine rank fit --json` prints them."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    judge: str = Option(None, help="Metric that is frozen: five_level or one of the registry."),
    weights: Path = Option(None, help="The judge's folder of weights."),
    epochs: int = Option(None, help="In place of the configuration's."),
    seed: int = Option(None, help="In place of the configuration's."),
    device: str = Option(None, help="cpu or cuda."),
    as_json: bool = Option(False, "--json", help="Print the last measurements as JSON."),
) -> None:
    """Learn (alpha, beta) on a frozen judge from a ranking of methods, mixed with rated pictures (Eq. 3-6)."""
    options = locals() | {"metric": judge, "pool": pool and str(pool), "ranking": ranking and str(ranking)}
    given = chosen(options, "pool ranking epochs seed device")
    source = chosen(options | {"weights": weights and str(weights)}, "metric weights")
    from dataclasses import replace

    from grefine.config import changed, changes_of, load_config
    from grefine.resources import config_file
    from grefine.training.rectifier import RectifierConfig, train_rectifier

    settings = load_config(config_file("train", config), RectifierConfig)
    settings = changed(settings, changes_of(set_) | given)
    settings = replace(settings, judge=replace(settings.judge, **source))
    last = train_rectifier(settings, out, tell).history[-1]
    echo(json.dumps(last) if as_json else "  ".join(f"{name} {value:.4f}" for name, value in last.items()))


def judge_command(name: str) -> Callable[..., None]:
    """Return the command that trains one judge."""

    def judge(
        data: list[str] = Option(..., help="NAME:FOLDER of a published set, or TABLE.csv; more than once."),
        config: str = Option(..., help=f"A YAML file or a name of configs/train/{name} (docs/training.md)."),
        start: list[str] = Option([], help="PART=WEIGHTS to begin with, in place of the configuration's."),
        set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
        test: list[str] = Option([], help="A further set, as --data, that only measures; more than once."),
        out: Path = Option(Path("runs/judges"), "--out", "-o", help="Folder of judges; what lies there is resumed."),
        minutes: float | None = Option(None, help="Budget by the clock."),
        steps: int | None = Option(None, help="Budget in steps; exactly reproducible."),
        repeats: int = Option(1, min=1, help="How many splits of the data are trained, one after the other."),
        seed: int | None = Option(None, help="In place of the configuration's."),
        device: str | None = Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        given = pick(locals(), "start repeats minutes steps seed")
        from grefine.training.judges.catalogue import lines_of, train_on_data

        told = {"changes": set_, "tests": test, "cpu": device == "cpu", "progress": tell}
        found = train_on_data(name, data, config, out, **told, **given)
        echo(json.dumps(found, indent=1) if as_json else "\n".join(lines_of(found)))

    judge.__doc__ = f"Train {name} on pictures that people rated."
    return judge


def map_command(name: str) -> Callable[..., None]:
    """Return the command that trains one map."""

    def train(
        out: Path = Option(..., "--out", "-o", help="Folder of the result; what lies there is resumed."),
        data: str = Option(..., help="TABLE.csv: image, mos, prompt (docs/maps.md); or NAME:FOLDER."),
        images: Path = Option(None, help="Folder that the CSV's names are relative to; its own without."),
        pipeline: str = Option("tiny", help="Bundled name, folder, Hub id, or 'released'."),
        config: str = Option(None, help=f"YAML file or a name in configs/train/{name}."),
        minutes: float = Option(None, help="Budget by the clock."),
        steps: int = Option(None, help="Budget in steps. Neither: what is left of the epochs over the CSV."),
        seed: int = Option(None, help="In place of the configuration's."),
        device: str = Option(None, help="cpu keeps off an accelerator that is present."),
        as_json: bool = Option(False, "--json", help="Print the measurements as JSON."),
    ) -> None:
        given = pick(locals(), "data images config minutes steps seed")
        from grefine.training.maps.train import train_map

        found = train_map(name, out, pipeline, **given, cpu=device == "cpu", progress=tell)
        if as_json:
            echo(json.dumps(found, indent=1))
        else:
            for when in ("before", "after"):
                echo(f"{when}: " + ", ".join(f"{key} {value:.3f}" for key, value in found[when].items()))
        tell("Thresholds belong to the weights they were measured on: run `grefine calibrate` next.")

    train.__doc__ = MAPS[name]
    return train


for _name in JUDGES:
    train.command(_name)(judge_command(_name))
for _name in MAPS:
    train.command(_name)(map_command(_name))
