"""Refiners side by side: the same images, seeds and steps, one table in the form of the paper's Table 2."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from grefine.errors import ConfigError
from grefine.evaluate.baselines import Restore, Run, check_run, make_outputs
from grefine.evaluate.pairs import image_files, match_names, read_prompting
from grefine.evaluate.results import ORIGINAL, Comparison
from grefine.evaluate.scoring import Progress, judge_stages, steered_by, wanted_metrics
from grefine.evaluate.views import write_comparison
from grefine.opening import Opening
from grefine.refine.settings import RefineConfig, read_settings
from grefine.scorers.protocol import Scorer


def compare_refiners(
    sources: Sequence[str | Path],
    *,
    out: str | Path,
    refiners: Sequence[str] | Mapping[str, Restore | str] = ("identity", "blur", "sharpen"),
    outputs: Mapping[str, str | Path] | None = None,
    prompts: str | Path | None = None,
    metrics: str | Path | Sequence[str | Scorer] = (),
    group: str | None = None,
    pipeline: str | Path | None = None,
    models: Mapping[str, str] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    steps: int = 20,
    strength: float | Mapping[str, float] = 0.3,
    config: RefineConfig | str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    offload: str = "none",
    judges: Sequence[str] = (),
    guidance: Mapping[str, float] | None = None,
    used_in_loop: Iterable[str] = (),
    noise_images: int | None = None,
    allow_noncommercial: bool = False,
    force: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Run refiners over the same images, add outputs of other tools, and judge all of them alike.

    What is not said here is as in `evaluate_folders`; steps, seed and dtype hold for every refiner.

    Args:
        sources: image files and folders.
        out: gets `outputs/METHOD/`, the tables, `report.html` of all methods, and one per method in `reports/METHOD/`.
        refiners: names (`baselines.REFINERS`), or name → name or callable of your own.
        outputs: method → folder with what another tool made of the same images, paired by relative path.
        pipeline: takes judges from it, its p and a for the thirds, and is the refiner `grefine`.
        models: refiner → folder or Hub id, in place of the default.
        judges: NAME or NAME=DIR of judges for the guard of grefine's own pipeline.
        guidance: what steers it, e.g. {"sharpness": 1.0}.
        strength: of image-to-image refiners, or refiner → its own ("" → all others'); for `grefine` it replaces the
            planned ones.
        config: settings of grefine, as a call of the pipeline takes them.
    """
    out, outputs = Path(out), outputs or {}
    originals = gather(sources)
    chosen = dict(refiners) if isinstance(refiners, Mapping) else {name: name for name in refiners}
    if twice := sorted(set(chosen) & set(outputs) | ({*chosen, *outputs} & {ORIGINAL})):
        raise ConfigError(f"'{twice[0]}' names two methods: rename the entry of --outputs.")
    if not chosen and not outputs:
        raise ConfigError("There is nothing to compare with: name refiners, or outputs as NAME=DIR.")
    strengths = dict(strength) if isinstance(strength, Mapping) else {"": strength}
    common = strengths.pop("", 0.3)
    for name in set(strengths) - {*chosen, *chosen.values()}:
        raise ConfigError(f"--strength names '{name}', which is no refiner of this comparison: {', '.join(chosen)}.")
    opening = Opening(device, dtype, offload, tuple(judges), allow_noncommercial)
    settings = None if config is None else read_settings(config)
    models = ({} if pipeline is None else {"grefine": str(pipeline)}) | dict(models or {})
    run = Run(steps, common, strengths, device, models, force, opening, guidance, settings)
    check_run((name for name in chosen.values() if isinstance(name, str)), run)
    wanted, prompting = wanted_metrics(metrics), read_prompting(originals, prompts, group)
    made, failed = make_outputs(originals, chosen, prompting.prompts, run, out / "outputs", seed, progress)
    notes = []
    for method, folder in outputs.items():
        right = image_files(folder)
        made[method] = {name: right[other] for name, other in match_names(originals, right).items()}
        if len(made[method]) < len(originals):
            notes.append(f"'{folder}' has outputs for {len(made[method])} of {len(originals)} images.")
    methods = {name: files for name, files in made.items() if files}
    if not methods:
        raise ConfigError(f"No refiner gave an output: {next(iter(failed.values()), 'no outputs were found')}")
    shared = [name for name in originals if all(name in files for files in methods.values())]
    if not shared:
        raise ConfigError("The methods have no image in common: give outputs of the same images under the same names.")
    notes += [f"{name} gave no output and is left out." for name in made if name not in methods]
    if len(shared) < len(originals):
        notes.append(f"Compared on the {len(shared)} of {len(originals)} images that every method has.")
    stages = {ORIGINAL: originals} | methods
    judged = judge_stages(
        {stage: {name: known[name] for name in shared} for stage, known in stages.items()},
        prompting,
        wanted,
        out=out,
        noise_images=noise_images,
        seed=seed,
        force=force,
        progress=progress,
        notes=notes,
        pipeline=pipeline,
        device=device,
        weights=weights,
        used_in_loop={*used_in_loop, *(name for method in made.values() for name in steered_by(method.values()))},
        allow_noncommercial=allow_noncommercial,
    )
    result = replace(Comparison(**vars(judged)), failed=failed | dict(judged.failed))
    write_comparison(result, out, report=report)
    return result


def gather(sources: Sequence[str | Path]) -> dict[str, Path]:
    """Return the images that files and folders mean, by name; several folders keep their own names in front."""
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        inside = {source.name: source} if source.is_file() else image_files(source)
        for name, path in inside.items():
            key = f"{source.name}/{name}" if len(sources) > 1 and source.is_dir() else name
            if key in found:
                raise ConfigError(f"'{found[key]}' and '{path}' would both be called '{key}': compare them apart.")
            found[key] = path
    if not found:
        raise ConfigError("There are no images to compare: give image files or folders that hold some.")
    return found
