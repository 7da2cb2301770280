"""A pipeline as a command opens it: where it runs, in which precision, and who judges beside its own judges."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from grefine.errors import ConfigError, GRefineError, nearest
from grefine.io.places import here
from grefine.refine.settings import RefineConfig
from grefine.scorers.resolve import check_device, load_scorer

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OFFLOADS = ("none", "model", "sequential", "group")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a pipeline is loaded; the defaults leave it on the CPU in float32."""

    device: str | None = None
    dtype: str = "auto"
    """auto, fp32, fp16 or bf16; auto is float32 on a CPU, and bfloat16 (float16 on older ones) on a GPU."""
    offload: str = "none"
    """none, model, sequential or group: parts that do not run wait in the machine's memory instead of the GPU's."""
    judges: tuple[str, ...] = ()
    """NAME or NAME=DIR of judges for the guard beside the pipeline's own."""
    allow_noncommercial: bool = False
    painter: str = ""
    """Who redraws in place of SDXL: a recipe, the name of an installed painter, a folder, or a Hub id."""
    painter_class: str = ""
    """The class of diffusers that a folder or Hub id is loaded as; empty: what its index says."""
    restorer: str = ""
    """Another painter for stage 2, named as `painter` is."""

    def key(self) -> list[str]:
        """Return what of it decides results, to tell runs apart; empty for the defaults on a CPU."""
        chosen = choose_dtype(self.dtype, self.device or "cpu")
        return [*([] if chosen == torch.float32 else [str(chosen)]), *self.judges]


def choose_dtype(name: str, device: str) -> torch.dtype:
    """Return the precision that a name means on a device."""
    if name not in ("auto", *DTYPES):
        raise ConfigError(f"dtype must be auto, {', '.join(DTYPES)}, not '{name}'{nearest(name, DTYPES)}")
    on_cpu = torch.device(device).type == "cpu"
    if name == "fp16" and on_cpu:
        raise ConfigError("fp16 on a CPU is slow and overflows: use --dtype fp32, or bf16 where memory is short.")
    if name != "auto":
        return DTYPES[name]
    if on_cpu:
        return torch.float32
    return torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float16


def open_pipeline(pipeline: Any, opening: Opening) -> Any:
    """Load a pipeline, or take a loaded one, and give it its judges."""
    if isinstance(pipeline, torch.nn.Module) or hasattr(pipeline, "components"):
        if opening.dtype != "auto" or opening.offload != "none" or opening.painter or opening.restorer:
            raise ConfigError("dtype, offload, painter and restorer are for a pipeline that is not loaded yet.")
        pipe = pipeline
    else:
        pipe = _load(str(pipeline), opening)
    if opening.judges:
        where, entries = opening.device or "cpu", [entry.partition("=") for entry in opening.judges]
        terms = opening.allow_noncommercial
        pipe.use_judges(*(load_scorer(name, path or None, where, terms) for name, _, path in entries))
    return pipe


def read_preferences(entries: Sequence[str], option: str = "--guidance") -> dict[str, float]:
    """Return what `NAME:NUMBER` entries of an option mean."""
    found: dict[str, float] = {}
    for entry in entries:
        name, _, value = entry.partition(":")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise ConfigError(f"{option} takes NAME:NUMBER, not '{entry}'.") from error
    return found


def missing_judges(pipe: Any, config: RefineConfig | None = None) -> str:
    """Say which axis is left to the maps because no judge of it is there, or it steers or chooses; empty if none."""
    from grefine.refine.candidates import open_chooser
    from grefine.refine.guidance import axes_of, taken_axes

    config = config or RefineConfig()
    steers = pipe.read_guidance(config.guidance).steers if config.guidance else ()
    left = pipe.judges(steered=steers)
    taken = taken_axes(pipe.judges(), left, steers)
    if taken:
        return taken
    choosing = open_chooser(config, left, pipe).names("any")
    axes = axes_of([judge for judge in left if judge.spec.name not in choosing])
    lacking = [word for axis, word in (("perceptual", "quality"), ("alignment", "the prompt")) if axis not in axes]
    if not lacking:
        return ""
    return (
        f"No judge of {' and '.join(lacking)} beside the maps: there the guard judges by the maps that made the mask "
        "(`grefine fetch` brings a recipe's judges, --judge NAME[=DIR] adds others)."
    )


def _load(name: str, opening: Opening) -> Any:
    from grefine.indicators.recipe import recipe_folder
    from grefine.indicators.released import NAMES
    from grefine.pipeline import GRefinePipeline
    from grefine.refine.loading import is_out_of_memory
    from grefine.refine.painters.choose import open_painter

    device = opening.device or "cpu"
    check_device(device)
    dtype = choose_dtype(opening.dtype, device)
    if opening.offload not in OFFLOADS:
        raise ConfigError(f"offload must be one of {', '.join(OFFLOADS)}, not '{opening.offload}'.")
    if opening.offload != "none" and torch.device(device).type == "cpu":
        raise ConfigError("--offload spares a GPU's memory and needs one: give --device cuda, or leave it out.")
    if opening.offload != "none" and find_spec("accelerate") is None:
        raise ConfigError("--offload needs the package accelerate: `pip install accelerate`.")
    name = str(here(name))
    try:
        load: dict[str, Any] = {"device": device, "allow_noncommercial": opening.allow_noncommercial, "dtype": dtype}
        painter = open_painter(opening.painter, opening.painter_class or None, **load) if opening.painter else None
        if painter is not None and (name in NAMES or recipe_folder(name) is not None):
            # Of a recipe its own painter is not loaded for its maps and judges.
            pipe = GRefinePipeline.from_pipe(painter, maps=name)
            pipe.register_to_config(_name_or_path=name)
        else:
            pipe = GRefinePipeline.from_pretrained(name, dtype=dtype)
            if painter is not None:
                pipe.use_painter(painter)
        if opening.restorer:
            pipe.use_restorer(opening.restorer, **load)
        if opening.offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        elif opening.offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=device)
        elif opening.offload == "group":
            pipe.enable_group_offload(onload_device=torch.device(device), offload_type="leaf_level")
        elif opening.device:
            pipe = pipe.to(device)
    except GRefineError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"'{name}' in {str(dtype).removeprefix('torch.')} does not fit into the memory of {device}: use "
            "--dtype bf16, and on a GPU --offload model or --offload sequential."
        ) from error
    return pipe
