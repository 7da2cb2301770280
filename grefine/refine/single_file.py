"""Checkpoints kept in one file: what such a file holds, and which folder on this machine says how to build it."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open

from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing
from grefine.indicators.recipe import INDEX, assembled_folder, recipe_folder
from grefine.resources import pipeline_folder

Shapes = dict[str, tuple[int, ...]]
UNET = "model.diffusion_model."
PARTS = {
    "unet": (UNET,),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("conditioner.embedders.0.transformer.",),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
"""How the names of each part's weights begin in a file of SDXL's original layout."""
OTHERS = {
    "cond_stage_model.": "a Stable Diffusion 1 or 2 checkpoint",
    "conditioner.embedders.0.model.": "the SDXL refiner (`pipe.use_refiner(...)` takes one that diffusers has loaded)",
}
"""What a file is that holds weights of such names."""
PASS_A_FOLDER = (
    f"Pass config=FOLDER, a local SDXL pipeline in diffusers' layout ({INDEX}, unet/config.json, tokenizer/ and so "
    "on; its weights are not needed), or run `grefine fetch sdxl` once with a network."
)


def load_single_file(
    file: str, config: str | Path | None, nearby: Iterable[str | Path], local_files_only: bool, **kwargs: Any
) -> Any:
    """Return diffusers' SDXL pipeline of one file; whatever tells on this machine how it is built is used first."""
    if not Path(file).is_file():
        raise WeightsMissing(f"There is no file '{file}': give the path of an SDXL checkpoint (.safetensors).")
    shapes = read_shapes(Path(file))
    check_sdxl(file, shapes, given=kwargs)
    folder = find_config(file, shapes, config, nearby, local_files_only or constants.HF_HUB_OFFLINE)
    asked = {"config": folder, "local_files_only": local_files_only} | kwargs
    try:
        if folder is not None and not {"unet", "original_config"} & kwargs.keys():
            # The UNet with the file's own number of input channels, whichever its folder names.
            passed = {name: value for name, value in kwargs.items() if name not in PARTS}
            channels = shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 4))[1]
            passed |= {"in_channels": channels, "local_files_only": True}
            asked["unet"] = UNet2DConditionModel.from_single_file(file, config=folder, subfolder="unet", **passed)
        pipe = StableDiffusionXLInpaintPipeline.from_single_file(file, **asked)
    except Exception as error:  # diffusers raises what its readers meet: nothing narrower covers them
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = "" if folder is not None else f" {PASS_A_FOLDER}"
        raise ConfigError(f"'{file}' could not be read as an SDXL file: {lines[0].rstrip('.')}.{hint}") from error
    if "vae" not in kwargs and pipe.vae is not None:
        # The folder may describe a VAE that is safe in half precision; the file's own overflows there.
        pipe.vae.register_to_config(force_upcast=True)
    return pipe


def read_shapes(file: Path) -> Shapes:
    """Read the names and shapes of a file's weights, not the weights."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsCorrupt(f"'{file}' is damaged, or no .safetensors file: give one of SDXL.") from error


def check_sdxl(file: str, shapes: Shapes, given: Mapping[str, Any]) -> None:
    """Refuse a file that is not SDXL's, by the names of its weights."""
    found = {name for name, starts in PARTS.items() if any(key.startswith(starts) for key in shapes)}
    next_step = "give an SDXL checkpoint with 4 (ordinary) or 9 (inpainting) input channels."
    other = next((kind for start, kind in OTHERS.items() if any(key.startswith(start) for key in shapes)), "")
    if other or not found:
        raise ConfigError(f"'{file}' is {other or 'no SDXL checkpoint in the original one-file layout'}: {next_step}")
    missing = [name for name in PARTS if name not in found and name not in given]
    if missing:
        example = ", ".join(f"{name}=..." for name in missing)
        raise ConfigError(f"'{file}' holds no {', '.join(missing)}: pass what it lacks ({example}), or {next_step}")


def find_config(
    file: str, shapes: Shapes, config: str | Path | None, nearby: Iterable[str | Path], offline: bool
) -> str | None:
    """Return the folder that says how a file's parts are built; None where diffusers may ask the Hub for it."""
    if config is not None:
        if not (Path(config) / INDEX).is_file() or not describes(Path(config), shapes):
            raise ConfigError(f"config='{config}' describes no UNet of the widths of '{file}'. {PASS_A_FOLDER}")
        return str(config)
    for known in nearby:
        folder, recipe = None, recipe_folder(known)
        if recipe is not None:
            with contextlib.suppress(WeightsMissing):
                folder = assembled_folder(recipe)
        folder = folder or pipeline_folder(known)
        if folder is not None and describes(folder, shapes):
            return str(folder)
    if offline:
        raise WeightsMissing(f"How '{file}' is built is not known here, and no network may be asked. {PASS_A_FOLDER}")
    return None


def describes(folder: Path, shapes: Shapes) -> bool:
    """Say whether a pipeline folder's UNet has the widths of a file's."""
    known = folder / "unet" / "config.json"
    if not known.is_file():
        return False
    if f"{UNET}input_blocks.0.0.weight" not in shapes:  # a UNet of one's own is given beside the file
        return True
    geometry = json.loads(known.read_text(encoding="utf-8"))
    reads = [name for name in shapes if name.startswith(UNET) and name.endswith("attn2.to_k.weight")]
    words = {shapes[name][1] for name in reads}
    first = shapes[f"{UNET}input_blocks.0.0.weight"][0]
    return geometry.get("block_out_channels", [None])[0] == first and words == {geometry.get("cross_attention_dim")}
