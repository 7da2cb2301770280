"""A small stand-in of `comfy_api.latest`, written from its documentation: schemas that are checked, nothing that runs.

It holds what the pack uses: typed inputs and outputs, `Schema` with its rules, `NodeOutput`, the hidden values of a
run, and a saver of PNG files that writes the hidden graph beside the pixels.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo


@dataclass
class Socket:
    id: str
    display_name: str = ""
    tooltip: str = ""
    optional: bool = False
    is_output_list: bool = False
    default: Any = None
    options: Any = None
    multiline: bool = False
    min: Any = None
    max: Any = None
    io_type: str = ""


def kind(name: str) -> Any:
    made = type(
        name, (Socket,), {"__init__": lambda self, id, **more: Socket.__init__(self, id, io_type=name, **more)}
    )
    return SimpleNamespace(io_type=name, Input=made, Output=made)


@dataclass
class Schema:
    node_id: str
    display_name: str = ""
    category: str = ""
    inputs: list[Socket] = field(default_factory=list)
    outputs: list[Socket] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    hidden: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Ids are unique among inputs and outputs together, as ComfyUI demands."""
        ids = [socket.id for socket in (*self.inputs, *self.outputs)]
        assert len(set(ids)) == len(ids), ids


class ComfyNode:
    hidden: Any = None


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, block_execution: str | None = None) -> None:
        self.args, self.ui, self.block_execution = args, ui, block_execution


class ExecutionBlocker:
    def __init__(self, message: str | None) -> None:
        self.message = message


class ComfyExtension:
    pass


class ImageSaveHelper:
    folder = Path()

    @staticmethod
    def get_save_images_ui(images: Any, filename_prefix: str, cls: Any) -> Any:
        hidden, results = cls.hidden, []
        for number, image in enumerate(images, 1):
            told = PngInfo()
            told.add_text("prompt", json.dumps(hidden.prompt))
            name = f"{filename_prefix}_{number:05}_.png"
            pixels = np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)
            Picture.fromarray(pixels).save(ImageSaveHelper.folder / name, pnginfo=told)
            results.append({"filename": name, "subfolder": "", "type": "output"})
        return SimpleNamespace(results=results)


def install(folder: Path) -> None:
    """Put the stand-in where `import comfy_api.latest` looks; pictures are saved into the folder."""
    ImageSaveHelper.folder = folder
    io = SimpleNamespace(
        Schema=Schema, ComfyNode=ComfyNode, NodeOutput=NodeOutput, Custom=kind,
        Image=kind("IMAGE"), Mask=kind("MASK"), String=kind("STRING"), Boolean=kind("BOOLEAN"), Int=kind("INT"),
        Float=kind("FLOAT"), Combo=kind("COMBO"),
    )  # fmt: skip
    modules = {
        "comfy_api": {},
        "comfy_api.latest": {"io": io, "ui": SimpleNamespace(ImageSaveHelper=ImageSaveHelper)}
        | {"ComfyExtension": ComfyExtension},
        "comfy_execution": {},
        "comfy_execution.graph_utils": {"ExecutionBlocker": ExecutionBlocker},
        "folder_paths": {"get_output_directory": lambda: str(folder)},
    }
    for name, content in modules.items():
        sys.modules[name] = module = ModuleType(name)
        vars(module).update(content)
