"""Says of pictures that are only looked at whether the pipeline knows their world; maps are drawn all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.refine.world import World, read_world, roundtrip_error
from grefine.resources import pipeline_folder


def world_note(pipeline: str | Path, device: str | None = None) -> Callable[[Image.Image], str]:
    """Return a function that gives one sentence for a picture of another world, and nothing for one of its own.

    Only the autoencoder is loaded, and only where the pipeline states a world. Pipelines that are no folder here (Hub
    ids, published weights) state none that could be read.
    """
    stated = _stated(pipeline)
    if stated is None:
        return lambda image: ""
    from diffusers import AutoencoderKL

    folder, world, side = stated
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    place = torch.device(device or "cpu")
    vae = vae.to(place).eval()

    @torch.no_grad()
    def note(image: Image.Image) -> str:
        error = roundtrip_error(vae, np.asarray(image.convert("RGB")), side, place)
        if error <= world.max_roundtrip:
            return ""
        return (
            f"not a picture of the world that this pipeline knows ('{world.name}'; error {error:.3f}, its own stay "
            f"below {world.max_roundtrip:.3f}), so its maps mean nothing here: use --pipeline {world.instead}."
        )

    return note


def _stated(pipeline: str | Path) -> tuple[Path, World, int] | None:
    folder = pipeline_folder(pipeline)
    if folder is None or not (folder / "model_index.json").is_file() or not (folder / "vae").is_dir():
        return None
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    world, side = read_world(index.get("world")), index.get("working_size")
    return None if world is None or not side else (folder, world, int(side))
