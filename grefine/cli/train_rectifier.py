"""`grefine train rectifier`: calibrate a judge from a ranking."""

from pathlib import Path

import typer


def rectifier(
    config: str = typer.Option("rectifier", help="A YAML file or the name of a bundled one (configs/train)."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the calibrated judge."),
    pool: Path = typer.Option(None, help="Folder that holds one folder of outputs per ranked method."),
    ranking: Path = typer.Option(None, help="Scores by method, as `grefine rank fit --json` prints them."),
    set_: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change one setting of --config."),
    judge: str = typer.Option(None, help="Metric that is frozen: five_level or one of the registry."),
    weights: Path = typer.Option(None, help="The judge's folder of weights."),
    epochs: int = typer.Option(None, help="In place of the configuration's."),
    seed: int = typer.Option(None, help="In place of the configuration's."),
    device: str = typer.Option(None, help="cpu or cuda."),
    as_json: bool = typer.Option(False, "--json", help="Print the last measurements as JSON."),
) -> None:
    """Learn (alpha, beta) on a frozen judge from a ranking of methods, mixed with rated pictures (Eq. 3-6)."""
    import dataclasses
    import json

    from grefine.config import changed, changes_of, load_config
    from grefine.resources import config_file
    from grefine.training.rectifier import RectifierConfig, train_rectifier

    given = {"pool": pool and str(pool), "ranking": ranking and str(ranking), "epochs": epochs, "seed": seed}
    given |= {"device": device}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = load_config(config_file("train", config), RectifierConfig)
    settings = changed(settings, changes_of(set_) | chosen)
    named = {"metric": judge, "weights": weights and str(weights)}
    source = dataclasses.replace(settings.judge, **{k: v for k, v in named.items() if v is not None})
    settings = dataclasses.replace(settings, judge=source)
    trained = train_rectifier(settings, out, lambda line: typer.echo(line, err=True))
    last = trained.history[-1]
    typer.echo(json.dumps(last) if as_json else "  ".join(f"{name} {value:.4f}" for name, value in last.items()))
