"""`python -m lab bench | plans | train | house`: what makes and measures the embedded pipeline; not in the wheel."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from grefine.cli.main import run
from grefine.errors import ConfigError
from grefine.io.atomic import write_text
from grefine.resources import bundled

app = typer.Typer(
    name="lab", help="Make and measure the embedded pipeline.", no_args_is_help=True, add_completion=False
)
train_app = typer.Typer(no_args_is_help=True, help="Make weights, from seeds, resumably.")
app.add_typer(train_app, name="train")

PIPELINE = typer.Option("tiny", help="A pipeline of the toy world: a bundled name or a folder.")
OUT = typer.Option(Path("runs/tiny"), "--out", "-o", help="Folder of the result; what lies there is resumed.")
MINUTES = typer.Option(None, help="Budget by the clock.")
STEPS = typer.Option(None, help="Budget in steps; exactly reproducible.")
SEED = typer.Option(None, help="In place of the configuration's.")
DEVICE = typer.Option(None, help="cpu keeps off an accelerator that is present.")


@app.command()
def bench(
    pipeline: str = PIPELINE,
    quick: bool = typer.Option(False, help="Few pictures per row, kinds not told apart: a minute on two cores."),
    json_: Path = typer.Option(None, "--json", help="Write the rows as JSON (docs/toyworld.md has the schema)."),
    raw: Path = typer.Option(None, help="Write one JSON line per judged picture."),
    gallery: Path = typer.Option(None, help="Write before, map, mask, after and truth as one PNG."),
    native: Path = typer.Option(None, help="An early checkpoint (unet, text encoders) whose failures are repaired."),
    contrastive: Path = typer.Option(None, help="A CLIP trained without masks (clip, clip_tokenizer), to compare."),
    seed: int = typer.Option(0, help="Of every refinement."),
    device: str = typer.Option(None, help="Where the pipeline runs, e.g. cuda."),
) -> None:
    """Maps, repaints and the whole chain on scenes of the toy world, judged by nets that no pipeline loads."""
    from lab.bench.run import bench_toyworld

    report = bench_toyworld(pipeline, quick, seed, device, native, contrastive, gallery, say)
    typer.echo(report.markdown(), nl=False)
    if json_:
        write_text(json_, json.dumps(report.to_dict(), indent=1) + "\n")
    if raw:
        write_text(raw, "".join(json.dumps(record) + "\n" for record in report.raw))


@app.command()
def plans(count: int = typer.Option(200, min=5, help="Cases per world, as many of each kind.")) -> None:
    """Plans from true maps of the toy world and of a second one that nothing was made for: are they right?"""
    from lab.plan_rules import table

    typer.echo(table(count), nl=False)


@app.command()
def candidates(
    pipeline: str = PIPELINE,
    count: int = typer.Option(400, help="Pictures."),
    tries: int = typer.Option(4, help="Repaints drawn of each region."),
    seed: int = typer.Option(0),
) -> None:
    """What choosing among repaints wins where they are drawn anew, by who chooses."""
    from lab.bench.guidance import candidate_rows

    for line in candidate_rows(pipeline, count, tries, seed, say):
        typer.echo(line)


@app.command()
def steer(count: int = typer.Option(64, help="Pictures, half damaged, half that miss their captions.")) -> None:
    """Steering by gradient beside none, by the referee: one line of JSON per way."""
    from lab.bench.guidance import steering_rows

    steering_rows(count, lambda row: typer.echo(json.dumps(row)))


@app.command()
def costs(
    pipeline: str = PIPELINE,
    count: int = typer.Option(32, help="Pictures, half damaged, half that miss their captions."),
    plot: Path = typer.Option(None, help="Write the curve as a PNG."),
) -> None:
    """What tries at a region and steering cost, in CPU seconds per picture."""
    from lab.bench.guidance import cost_rows

    cost_rows(pipeline, count, plot, typer.echo)


@app.command()
def house() -> None:
    """Print the measures of the package: lines, what the commands import, circles, settings, names."""
    from lab.house import measures

    for name, value in measures().items():
        typer.echo(f"{name:42} {value}")


@train_app.command()
def tiny(
    out: Path = OUT,
    minutes: float | None = MINUTES,
    steps: int | None = STEPS,
    parts: str = typer.Option(
        "", help="Comma-separated: vae, clip, unet, decoder, finisher (all without), or controls: contrastive, early."
    ),
    seed: int | None = SEED,
    device: str | None = DEVICE,
    again: bool = typer.Option(False, help="Train the bundled pipeline once more: its parts, settings and time."),
    bundle: bool = typer.Option(True, help="Calibrate and assemble the pipeline folder afterwards."),
) -> None:
    """Train the embedded pipeline on the toy world, or go on training it."""
    from lab.tiny.recipe import CONTROLS, train_again, train_tiny

    names, cpu = [name.strip() for name in parts.split(",") if name.strip()], device == "cpu"
    if again and (minutes or steps or names or seed is not None):
        raise ConfigError("--again takes budget, parts and seeds from the bundled records: leave them out.")
    if again:
        found = train_again(out, bundled("pipelines") / "tiny" / "training", cpu)
    else:
        found = train_tiny(out, minutes=minutes, steps=steps, parts=names, seed=seed, cpu=cpu)
    whole = all((out / name).is_dir() for name in ("vae", "unet", "clip", "pq_prompts"))
    if bundle and whole and not found.keys() <= CONTROLS.keys():
        from lab.tiny.recipe import assemble

        assemble(out)
        typer.echo(f"pipeline: {out}", err=True)
    for part, metrics in found.items():
        tell(metrics, f"{part}: ")


def judge_command(name: str) -> Callable[..., None]:
    """Return the command that trains one of tiny's judges."""

    def judge(
        out: Path = OUT,
        config: Path | None = typer.Option(None, help=f"A YAML file in place of lab/configs/tiny/{name}.yaml."),
        minutes: float | None = MINUTES,
        steps: int | None = STEPS,
        seed: int | None = SEED,
        device: str | None = DEVICE,
    ) -> None:
        from lab.judges.recipe import train_judge

        tell(train_judge(name, out, config=config, minutes=minutes, steps=steps, seed=seed, cpu=device == "cpu"))

    judge.__doc__ = f"Train tiny's {name} on scenes with known truth, or go on training it."
    return judge


def map_command(name: str) -> Callable[..., None]:
    """Return the command that fits one map to toy scenes."""

    def fit(
        out: Path = OUT,
        pipeline: str = typer.Option("tiny", help="Whose CLIP and prompts are begun with."),
        minutes: float | None = MINUTES,
        steps: int | None = STEPS,
        seed: int | None = SEED,
        device: str | None = DEVICE,
    ) -> None:
        from lab.map_sources import fit_map

        found = fit_map(name, out, pipeline, minutes=minutes, steps=steps, seed=seed, cpu=device == "cpu")
        for when in ("before", "after"):
            tell(found[when], f"{when}: ")

    fit.__doc__ = f"Fit the {name.upper()}-Map to endless toy scenes."
    return fit


for _name in ("moe-agiqa", "mdiqa", "lar-iqa"):
    train_app.command(_name)(judge_command(_name))
for _name in ("pq", "aq"):
    train_app.command(_name)(map_command(_name))


@train_app.command()
def domain(
    out: Path = typer.Option(Path("runs/domain"), "--out", "-o", help="Folder of the network."),
    photographs: list[Path] = typer.Option([], help="Folders of photographs, beside GREFINE_DATA/kodak."),
    held_out: list[Path] = typer.Option([], help="Folders of pictures that are only measured."),
    measure: bool = typer.Option(False, "--measure", help="Train nothing; measure the network in OUT."),
    count: int = typer.Option(256, help="Held-out pictures per group of the measurement."),
) -> None:
    """Train the network that tells toy scenes from everything else, and print its error rates on held-out pictures."""
    from lab import domain as domain_net

    kodak = [Path(os.environ["GREFINE_DATA"]) / "kodak"] if os.environ.get("GREFINE_DATA") else []
    if not (folders := [*kodak, *photographs]):
        raise ConfigError("No photographs to tell scenes from: set GREFINE_DATA, or give --photographs DIR.")
    if not measure:
        domain_net.train_domain(out, folders)
    typer.echo(domain_net.measure(out, folders, held_out, count))


@train_app.command("natural-scenes")
def natural_scenes(
    out: Path = typer.Option(Path("runs/natural_scenes.safetensors"), "--out", "-o", help="The file to write."),
    places: list[Path] = typer.Option(
        [], "--photographs", help="Photographs, or folders of them, beside GREFINE_DATA/kodak."
    ),
) -> None:
    """Compute the statistics of photographs that niqe and brisque_severity are made from."""
    from lab.natural_scenes import photographs, sample, statistics, write

    images = photographs(places)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, statistics([sample(image) for image in images.values()]), [*images])
    typer.echo(f"{out}: statistics of {len(images)} photographs")


@train_app.command("judges")
def bench_judges(
    out: Path = typer.Option(
        Path("runs/judges"), "--out", "-o", help="Folder of weights; what lies there is resumed."
    ),
    minutes: float = typer.Option(4.0, help="Budget by the clock; at least 4 for usable judges."),
    seed: int = typer.Option(0),
) -> None:
    """Train the benchmark's own judges, which no pipeline ever loads."""
    from lab.bench_judges.train import train_judges

    tell(train_judges(out, minutes, seed))


@train_app.command()
def parser(
    ud: Path = typer.Option(..., "--ud", help="Folder of UD English-EWT: en_ewt-ud-train.conllu or .conllu.gz."),
    out: Path = typer.Option(Path("parser.npz"), "--out", "-o", help="The file to write."),
    seed: int = typer.Option(0, help="Of every random choice; the same seed gives the same file."),
) -> None:
    """Train tagger, parser and labeller of the embedded parser (one core, some minutes)."""
    from lab.parser.recipe import train_parser

    typer.echo(f"{out}  {train_parser(ud, out, seed, progress=say):,} bytes")


def say(line: str) -> None:
    typer.echo(line, err=True)


def tell(found: dict[str, Any], what: str = "") -> None:
    """Print the measured numbers in one line."""
    numbers = (f"{key} {value:.3f}" for key, value in found.items() if isinstance(value, float))
    typer.echo(what + ", ".join(numbers))


def main() -> None:
    """Run the command line; every known failure is one sentence on stderr."""
    run(app)
