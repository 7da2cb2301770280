"""The light install: inspect, guard and gate run on what it brings, and grefine asks for nothing else on the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image

from grefine import Inspector
from grefine.models.reward import RewardModel

ROOT = Path(__file__).parents[2]
PICTURE, PROMPT = ROOT / "examples" / "images" / "05_blur.png", "two dotted green cones on the beach"
IMPORTED = {
    "PIL": "pillow",
    "numpy": "numpy",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "torch": "torch",
    "transformers": "transformers",
    "yaml": "pyyaml",
}
"""What the code of these paths imports, and the distribution that brings it."""
HIDE = """
import builtins, json, sys
from importlib.machinery import PathFinder

hidden, asked = set(json.loads(sys.argv.pop(1))), set()

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
ordinary = builtins.__import__

def noting(name, globals=None, *rest, **more):
    found = ordinary(name, globals, *rest, **more)
    if (globals or {}).get("__name__", "").partition(".")[0] == "grefine":
        asked.add(name.partition(".")[0])
    return found

builtins.__import__ = noting
"""
LOOK = """
from PIL import Image, ImageFilter
from grefine import Inspector, choose, load_scorer
from grefine.scorers.prefilter import read_gate

picture, prompt = Image.open(sys.argv[1]).convert("RGB"), sys.argv[2]
seen = Inspector("tiny", "default")([picture], [prompt])[0]
decision = choose(picture, picture.filter(ImageFilter.GaussianBlur(1)), prompt, [load_scorer("piqe")])[0]
verdict = read_gate("brisque_severity:40").look([picture], [prompt])[0]
builtins.__import__ = ordinary
print(json.dumps({"asked": sorted(asked - sys.stdlib_module_names), "seen": seen.to_dict(), "kept": decision.kept,
                  "passed": verdict.passed, "loaded": sorted(hidden & {n.partition(".")[0] for n in sys.modules})}))
"""


def requirements(of: str = "") -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"][of] if of else project["dependencies"]


def names(lines: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def left_out() -> list[str]:
    """The packages that only the full install brings, by the name that is imported."""
    spelled = {"open_clip_torch": "open_clip"}
    return [spelled.get(name, name) for name in sorted(names(requirements("full")) - names(requirements()))]


def run_light(code: str, *words: str) -> subprocess.CompletedProcess:
    hidden = json.dumps([name for name in left_out() if name not in ("tqdm", "jinja2")])  # transformers brings these
    command = [sys.executable, "-c", HIDE + code, hidden, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def light():
    done = run_light(LOOK, str(PICTURE), PROMPT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_these_paths_import_the_measured_list(light):
    assert light["loaded"] == []
    assert set(light["asked"]) - {"grefine"} == set(IMPORTED)
    assert set(IMPORTED.values()) <= names(requirements())
    assert {"diffusers", "timm", "open_clip", "accelerate", "torchvision"} <= set(left_out())


def test_no_version_of_what_others_share():
    shared = {"torch", "transformers", "numpy", "pillow", "safetensors", "scipy", "huggingface_hub", "pyyaml"}
    assert shared <= {line for line in requirements() if re.fullmatch(r"[\w-]+", line)}


def test_light_networks_see_what_the_full_ones_see(light):
    picture = Image.open(PICTURE).convert("RGB")
    assert light["seen"] == Inspector("tiny")([picture], [PROMPT])[0].to_dict()
    assert light["kept"] == "original"
    assert light["passed"] is False


def test_a_judge_of_the_prompt_gives_the_same_rating(tmp_path):
    rating = (
        "import torch\nfrom grefine.models.reward import RewardModel\n"
        "model, ids = RewardModel.from_pretrained(FOLDER), torch.arange(1, 9)[None]\n"
        "pixels = torch.linspace(-1, 1, 3072)\n"
        "told = model(pixels.view(1, 3, 32, 32), ids, torch.ones_like(ids)).item()\n"
    ).replace("FOLDER", repr(str(tmp_path)))
    text = {"text_width": 32, "text_depth": 2, "text_heads": 2, "text_hidden": 64, "vocabulary": 100, "positions": 64}
    sight = {"image_size": 32, "vision_width": 32, "vision_depth": 2, "vision_heads": 2, "rating_widths": (16, 8)}
    torch.manual_seed(0)
    RewardModel(**text, **sight, text_length=8).save_pretrained(tmp_path)
    here: dict = {}
    exec(rating, here)
    done = run_light(rating + "builtins.__import__ = ordinary\nprint(told)")
    assert float(done.stdout) == pytest.approx(here["told"], abs=1e-6), done.stderr


@pytest.mark.parametrize("words", [("refine", str(PICTURE), "-o", "never", "--pipeline", "tiny"), ("score", str(PICTURE), "--metrics", "lar_iqa", "--pipeline", "tiny")], ids=["refine", "score"])  # fmt: skip  # noqa: E501
def test_what_is_left_out_is_named(words):
    done = run_light("sys.argv[0] = 'grefine'\nfrom grefine.cli.main import main\nmain()", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch(
        r"grefine: This needs the package '\w+', which is not installed: `pip install 'grefine\[full\]'` brings "
        r"everything\.",
        done.stderr.strip(),
    )


def test_what_a_metric_lacks_is_named_before_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    done = run_light("sys.argv[0] = 'grefine'\nfrom grefine.cli.main import main\nmain()", "metrics", "--json")
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row["next"] for row in json.loads(done.stdout)}
    full = dict.fromkeys(("hpsv2", "moe_agiqa", "lar_iqa", "mdiqa"), "install grefine[full]")
    fetched = {name: f"fetch {name}" for name in ("clipscore", "pickscore", "imagereward", "vqascore")}
    expected = full | fetched | {"brisque": "--weights brisque=PATH", "niqe": "runs", "piqe": "runs"}
    assert {name: found[name] for name in expected} == expected
    assert sum(step == "runs" for step in found.values()) >= 6


def test_the_api_names_it_too():
    done = run_light("from grefine import GRefinePipeline")
    assert "PackageMissing: This needs the package 'diffusers'" in done.stderr
