"""What a stored pipeline would plan with, read without loading its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grefine.indicators.components import stored_config
from grefine.refine.painters.families import family_named
from grefine.refine.settings import RefineConfig, UNetTraits, resolve, traits_of_call, unet_traits

SDXL_SIDE = 1024
"""Working side of the published SDXL weights."""


def stored_settings(pipeline: str | Path, config: RefineConfig) -> tuple[RefineConfig, int, UNetTraits]:
    """Return the settings that `config` means for a pipeline, the side that it repaints at, and what its UNet sees."""
    index = stored_config(pipeline)
    preferred = index.get("refine_defaults") or {}
    traits = traits_of_call(unet_traits(index.get("unet_traits"), preferred), config, asked_steps=False)
    painter = index.get("painter") or {}
    family = family_named(str(painter.get("class")))
    if family is not None:
        traits = UNetTraits(strengths=family.strengths)
    side = index.get("working_size") or painter.get("side") or (family.side if family else _side(pipeline))
    return resolve(config, preferred, {}), int(side), traits


def _side(pipeline: str | Path) -> int:
    unet, vae = stored_config(pipeline, "unet"), stored_config(pipeline, "vae")
    return working_side(unet, vae) if unet and vae else SDXL_SIDE


def working_side(unet: Any, vae: Any) -> int:
    """Return the side in pixels that a UNet was trained at, from its configuration and that of its autoencoder."""
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
