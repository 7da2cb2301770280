"""`grefine compare`: several refiners on the same images, in one table."""

import json
from pathlib import Path

from typer import Argument, Exit, Option, echo

from grefine.cli.passing import pick, tell


def compare(
    src: list[Path] = Argument(help="Images and folders of images."),
    out: Path = Option(..., "--out", "-o", help="Folder for outputs, tables and reports."),
    refiners: str = Option(
        "identity,blur,sharpen",
        help="With commas: grefine, sdxl, sdxl-refiner, sd, instruct-pix2pix, sd-upscale, swin2sr, identity, blur, "
        "sharpen.",
    ),
    outputs: list[str] = Option([], metavar="NAME=DIR", help="What another tool made; may be repeated."),
    model: list[str] = Option([], metavar="REFINER=DIR", help="Folder or Hub id of a refiner; may be repeated."),
    prompts: Path = Option(None, help="Table of prompts by file name: CSV, TSV, JSONL or JSON."),
    metrics: str = Option("", help="A preset, a YAML file, or names with commas; empty: all."),
    group: str = Option(None, help="Column of --prompts to report by, or 'folder'."),
    pipeline: str = Option(None, help="Take the judges of this pipeline, and sort the inputs by its p and a."),
    weights: list[str] = Option([], metavar="METRIC=PATH", help="Weights of a metric; may be repeated."),
    used_in_loop: str = Option("", help="Metrics, with commas, that steered a refiner: no evidence."),
    steps: int = Option(20, help="Executed denoising steps of every refiner."),
    strength: list[str] = Option(
        [], metavar="V|REFINER:V", help="Of image-to-image refiners (0.3), or of one of them; may be repeated."
    ),
    config: str = Option(None, help="Settings of grefine: a bundled name (default, paper, ...) or a YAML file."),
    set_: list[str] = Option([], "--set", metavar="KEY=VALUE", help="Change one setting of grefine."),
    noise_images: int = Option(None, help="Inputs on which each metric's own noise is measured; 0: none."),
    allow_noncommercial: bool = Option(False, help="Accept metrics whose terms are non-commercial."),
    force: bool = Option(False, help="Also judge pictures of a world that the judges do not know; it is said."),
    report: bool = Option(True, help="Write a report per method."),
    seed: int = Option(0),
    device: str = Option("cpu", help="cpu, cuda, ..."),
    dtype: str = Option("auto", help="Of the refiners: auto, fp32, fp16 or bf16."),
    offload: str = Option("none", help="Of grefine: none, model or sequential."),
    judge: list[str] = Option([], metavar="NAME[=DIR]", help="A judge for grefine's guard; may be repeated."),
    guidance: list[str] = Option(
        [], metavar="NAME:VALUE", help="Experimental: steer grefine by gradient, e.g. sharpness:1."
    ),
    verbose: bool = Option(False, "--verbose", "-v", help="Also say why each metric that did not run did not."),
    as_json: bool = Option(False, "--json", help="Print the comparison as JSON."),
) -> None:
    """Refine, score and count; started again, it makes and computes only what is missing."""
    given = dict(locals())
    from grefine.config import assignments
    from grefine.evaluate.compare import compare_refiners
    from grefine.evaluate.tables import to_markdown
    from grefine.evaluate.views import as_data, count_lines
    from grefine.opening import read_preferences
    from grefine.refine.settings import changed_settings
    from grefine.scorers.registry import split_names
    from grefine.scorers.resolve import absent

    passed = pick(given, "out metrics prompts group pipeline steps noise_images allow_noncommercial force report seed")
    passed |= pick(given, "device dtype offload") | {"judges": judge}
    passed |= {"refiners": split_names(refiners), "used_in_loop": split_names(used_in_loop)}
    passed |= {"outputs": assignments(outputs, "--outputs"), "models": assignments(model, "--model")}
    passed |= {"weights": assignments(weights, "--weights"), "guidance": read_preferences(guidance)}
    result = compare_refiners(
        src,
        strength=read_preferences([e if ":" in e else f":{e}" for e in strength], "--strength"),
        config=changed_settings(config or "default", set_) if config or set_ else None,
        progress=tell,
        **passed,
    )
    failed = [f"{name} did not run: {why}" for name, why in result.failed.items()]
    for line in (*result.notes, *absent(result.unavailable, verbose or bool(metrics)), *failed):
        tell(line)
    if result.forced:
        tell(result.forced)
    echo(json.dumps(as_data(result)) if as_json else "\n".join([to_markdown(result.table), *count_lines(result)]))
    raise Exit(1 if result.failed else 0)
