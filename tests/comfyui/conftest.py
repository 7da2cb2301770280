"""The pack as ComfyUI loads it: a folder under a name of its own, beside a stand-in of ComfyUI's interface."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.comfyui import stand_in

PACK = Path(__file__).parents[2] / "examples" / "comfyui"


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="session")
def pack(saved):
    before = set(sys.modules)
    stand_in.install(saved)
    spec = importlib.util.spec_from_file_location("grefine_pack", PACK / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["grefine_pack"] = module
    spec.loader.exec_module(module)
    yield module
    for name in {n for n in sys.modules if n.startswith(("comfy", "grefine_pack", "folder_paths"))} - before:
        del sys.modules[name]
