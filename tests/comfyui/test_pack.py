"""The pack's nodes: their schemas, what they do with tensors, and what they say of bad input."""

from __future__ import annotations

import ast
import asyncio
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from grefine.evaluate.judges import steered_by
from grefine.folder.runner import refine_folder
from grefine.io.generators.comfyui import read_comfyui
from grefine.io.images import pixel_digest, read_image
from grefine.io.prompts import find_prompt
from grefine.io.record import read_record
from tests.comfyui.conftest import PACK
from tests.comfyui.stand_in import ExecutionBlocker

IMAGES = PACK.parent / "images"
BLUR, CONES = IMAGES / "05_blur.png", "two dotted green cones on the beach"
CLEAN = IMAGES / "01_clean.png"
SHARED = {"device": "cpu", "looks_only": False}


def tensor(*paths: Path) -> torch.Tensor:
    """Pictures as Load Image gives them."""
    return torch.stack([torch.from_numpy(np.array(Image.open(p).convert("RGB"))).float() / 255 for p in paths])


def run(node, **inputs):
    return node.execute(**inputs).args


@pytest.fixture(scope="module")
def nodes(pack):
    return SimpleNamespace(**{node.__name__: node for node in asyncio.run(_listed(pack))})


async def _listed(pack):
    return await (await pack.comfy_entrypoint()).get_node_list()


def test_schemas(nodes):
    schemas = {name: node.define_schema() for name, node in vars(nodes).items()}
    assert list(schemas) == ["Inspect", "Guard", "Gate", "PlanToConditioning", "Refine", "Save"]
    for name, schema in schemas.items():
        schema.check()
        asked = vars(nodes)[name].execute.__func__.__wrapped__.__code__
        assert {one.id for one in schema.inputs} == set(asked.co_varnames[1 : asked.co_argcount])
        assert schema.node_id.startswith("GRefine")
        assert schema.category == "grefine"
        assert schema.description
    kinds = {name: [one.io_type for one in schema.outputs] for name, schema in schemas.items()}
    assert kinds["Inspect"] == ["MASK", "SEGS", "IMAGE", "STRING", "STRING", "BOOLEAN", "GREFINE_PLAN"]
    assert kinds["Guard"] == ["IMAGE", "BOOLEAN", "STRING", "STRING", "GREFINE_RECORD"]


def test_the_registrys_rules():
    known = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert known["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName"}
    assert "comfyui" not in (known["project"]["name"] + known["tool"]["comfy"]["DisplayName"]).lower()
    assert len(known["project"]["version"].split(".")) == 3
    calls = {
        ast.unparse(call.func)
        for path in PACK.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
    }
    assert not {name for name in calls if name in ("eval", "exec") or name.startswith(("subprocess", "os.system"))}


def test_inspect(nodes):
    image = tensor(BLUR, CLEAN)
    prompt = CONES
    mask, segs, heat, phrases, scores, needs, plans = run(
        nodes.Inspect, image=image, prompt=prompt, pipeline="tiny", force=False, **SHARED
    )
    assert mask.shape == (2, 64, 64)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert heat.shape == image.shape
    assert 0 <= heat.min() <= heat.max() <= 1
    assert needs[0] is True
    assert json.loads(scores[0])["p"] < 0.5
    assert "dotted green cones" in phrases[0]
    shape, places = segs[0]
    assert shape == (64, 64)
    assert len(places) == len(plans[0].regions) > 0
    drawn = torch.zeros(64, 64)
    for place in places:
        left, top, right, bottom = place.crop_region
        assert place.cropped_image.shape == (1, bottom - top, right - left, 3)
        assert place.cropped_mask.shape == (bottom - top, right - left)
        assert place.control_net_wrapper is None
        box = place.bbox
        assert left <= box[0] < box[2] <= right
        assert top <= box[1] < box[3] <= bottom
        drawn[top:bottom, left:right] += torch.from_numpy(place.cropped_mask)
    assert torch.equal(drawn.clamp(max=1), mask[0])


def test_plan_to_conditioning(nodes, pack):
    *_, plans = run(nodes.Inspect, image=tensor(BLUR), prompt=CONES, pipeline="tiny", force=False, **SHARED)
    words, masks, denoise, wildcard = run(nodes.PlanToConditioning, plan=plans[0], joined=False)
    regions = plans[0].regions
    assert words == [region.prompt for region in regions]
    assert torch.equal(sum(masks).clamp(max=1)[0], torch.from_numpy(plans[0].mask).float())
    assert denoise == [region.strength for region in regions]
    assert wildcard.startswith(f"[LAB]\n[{regions[0].kind}1] ")
    words, masks, denoise, _ = run(nodes.PlanToConditioning, plan=plans[0], joined=True)
    assert len(words) == len(masks) == len(denoise) == 1
    *_, plans = run(nodes.Inspect, image=tensor(CLEAN), prompt="a scene", pipeline="tiny", force=False, **SHARED)
    assert not plans[0].regions
    assert isinstance(run(nodes.PlanToConditioning, plan=plans[0], joined=False)[0][0], ExecutionBlocker)


def test_guard_gives_back_what_it_chose_bit_for_bit(nodes):
    before = tensor(CLEAN, BLUR) * 0.999 + 0.0003  # not on the grid of 8 bits
    after = before.roll(1, 0)
    better, is_new, reason, scores, record = run(
        nodes.Guard, before=before, after=after, prompt=CONES, judges="mdiqa, lar-iqa", pipeline="tiny", **SHARED
    )
    assert is_new == [False, True]
    assert torch.equal(better, torch.stack([before[0], after[1]]))
    assert reason[1].startswith("Kept what was repainted: lar_iqa rose")
    assert "Nobody here judged how well the prompt is met." in reason[0]
    assert json.loads(scores[0]).keys() == {"before", "after", "noise"}
    assert [one.state for one in record] == ["kept", "refined"]
    assert record[0].moved == 0.0 < record[1].moved


def test_gate(nodes):
    images = tensor(CLEAN, BLUR, CLEAN)
    good, bad, good_at, bad_at, lines = run(
        nodes.Gate, images=images, prompt="", gate="lar_iqa:0.5", pipeline="tiny", device="cpu"
    )
    assert (good_at, bad_at) == ("0,2", "1")
    assert torch.equal(good, images[[0, 2]])
    assert torch.equal(bad, images[[1]])
    assert lines.splitlines()[1].startswith("1: bad, lar_iqa ")
    asked = {"prompt": "", "gate": "lar_iqa:-99", "pipeline": "tiny", "device": "cpu"}
    assert isinstance(run(nodes.Gate, images=images, **asked)[1], ExecutionBlocker)


@pytest.fixture(scope="module")
def refined(nodes):
    image = tensor(BLUR, CLEAN) * 0.9999
    asked = {"prompt": CONES, "pipeline": "tiny", "config": "default", "seed": 0, "force": False}
    return image, run(nodes.Refine, image=image, **asked, **SHARED)


def test_refine_leaves_every_other_pixel_bit_for_bit(refined):
    image, (new, record, reason, _) = refined
    changed = (new != image).any(-1).float().mean((1, 2))
    assert [one.moved for one in record] == pytest.approx(changed.tolist(), abs=1e-4)
    assert record[0].state == "refined"
    assert record[0].moved > 0
    assert reason[0] == record[0].reason
    assert new.shape == image.shape
    assert 0 <= new.min() <= new.max() <= 1


def test_a_mask_of_ones_own(nodes):
    image, mask = tensor(CLEAN) * 0.9999, torch.zeros(64, 64)
    mask[20:40, 20:40] = 1
    asked = {"prompt": CONES, "pipeline": "tiny", "config": "default", "seed": 0, "force": False, "mask": mask}
    new, record, *_ = run(nodes.Refine, image=image, **asked, **SHARED)
    assert record[0].area == pytest.approx(mask.mean().item(), abs=1e-4)


def test_saved_pictures_carry_their_record_and_grefine_knows_it(nodes, refined, saved, tmp_path):
    _, (new, record, *_) = refined
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "05_blur.png"}},
        "2": {"class_type": "GRefineRefine", "inputs": {"image": ["1", 0], "prompt": CONES, "pipeline": "tiny"}},
        "3": {"class_type": "GRefineSave", "inputs": {"images": ["2", 0], "record": ["2", 1]}},
    }
    nodes.Save.hidden = SimpleNamespace(prompt=graph)
    nodes.Save.execute(images=new, record=record, filename_prefix="mine")
    for number, one in enumerate(record, 1):
        path = saved / f"mine_{number:05}_.png"
        found = read_record(read_image(path).embedded)
        assert found is not None
        assert (found.reason, found.prompt, found.passes) == (one.reason, CONES, 1)
        assert found.pixels == pixel_digest(path.read_bytes(), "PNG")
        assert json.loads(Image.open(path).text["prompt"]) == graph
    assert steered_by([saved / "mine_00001_.png"]) == {"moe_agiqa", "mdiqa", "lar_iqa"}
    done = refine_folder([saved / "mine_00001_.png"], tmp_path / "again", pipeline="tiny")
    assert done.counts["untouched"] == 1
    again = read_record(read_image(tmp_path / "again" / "mine_00001_.png").embedded)
    assert again is not None
    assert again.passes == 1


GRAPHS = {
    "guard": {"9": ("GRefineGuard", {"before": ["2", 0], "after": ["4", 0], "prompt": "a red fox"})},
    "a prompt from elsewhere": {
        "8": ("PrimitiveString", {"value": "a red fox"}),
        "9": ("GRefineGuard", {"before": ["2", 0], "after": ["4", 0], "prompt": ["8", 0]}),
    },
    "plan": {
        "7": ("GRefineInspect", {"image": ["2", 0], "prompt": "a red fox"}),
        "8": ("GRefinePlan", {"plan": ["7", 6], "joined": False}),
        "5": ("CLIPTextEncode", {"clip": ["0", 1], "text": ["8", 0]}),
        "9": ("VAEDecode", {"samples": ["3", 0]}),
    },
    "gate without words": {"9": ("GRefineGate", {"images": ["2", 0], "prompt": ""})},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_reader_of_graphs_knows_the_nodes(name):
    first = {
        "0": ("CheckpointLoaderSimple", {}),
        "1": ("CLIPTextEncode", {"clip": ["0", 1], "text": "a red fox"}),
        "2": ("KSampler", {"positive": ["1", 0]}),
        "5": ("CLIPTextEncode", {"clip": ["0", 1], "text": "fur"}),
        "3": ("KSampler", {"positive": ["5", 0], "latent_image": ["2", 0]}),
        "4": ("VAEDecode", {"samples": ["3", 0]}),
        "10": ("SaveImage", {"images": ["9", 0]}),
    }
    graph = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in (first | GRAPHS[name]).items()}
    found = read_comfyui(json.dumps(graph), None)
    assert found is not None
    assert (found.prompt, found.unsure) == ("a red fox", "")


BAD = [
    ("Inspect", {"image": {"samples": torch.zeros(1, 4, 2, 8, 8)}}, "image is a latent (of a video"),
    ("Inspect", {"image": torch.zeros(1, 5, 64, 64, 3)}, "image is of shape (1, 5, 64, 64, 3)"),
    ("Inspect", {"image": torch.full((1, 64, 64, 3), torch.nan)}, "values that are no numbers"),
    ("Inspect", {"image": torch.zeros(0, 64, 64, 3)}, "image holds no picture"),
    ("Inspect", {"prompt": "  "}, "prompt is empty"),
    ("Inspect", {"pipeline": "no-such"}, "'no-such' has no model_index.json"),
    ("Inspect", {"pipeline": ""}, "pipeline is empty"),
    ("Inspect", {"image": torch.rand(1, 64, 64, 3)}, "Not a picture of the toy world"),
    ("Guard", {"after": torch.zeros(2, 64, 64, 3)}, "before holds 1 pictures and after 2"),
    ("Guard", {"after": torch.zeros(1, 32, 64, 3)}, "before is 64x64 with 3 channels and after 64x32"),
    ("Guard", {"judges": "imagereward"}, "run `grefine fetch imagereward` once"),
    ("Guard", {"judges": "pique"}, "did you mean 'piqe'?"),
    ("Guard", {"judges": " "}, "judges is empty"),
    ("Guard", {"prompt": ""}, "prompt is empty"),
    ("Gate", {"gate": "piqe"}, "takes NAME:VALUE"),
    (
        "Gate",
        {"gate": "moe_agiqa:3", "pipeline": "tiny", "prompt": ""},
        "prompt is empty, and moe_agiqa.quality:3 compares",
    ),
    ("Refine", {"mask": torch.zeros(1, 32, 32)}, "mask has the shape (1, 32, 32) but the picture is 64x64"),
    ("Refine", {"mask": torch.zeros(3, 64, 64)}, "mask holds 3 masks for 1 pictures"),
    ("Refine", {"pipeline": "no-such"}, "no-such"),
    ("Save", {"images": torch.zeros(2, 64, 64, 3)}, "images holds 2 pictures and record tells of 1"),
]


@pytest.mark.parametrize(("name", "changes", "said"), BAD, ids=[f"{name}-{said[:20]}" for name, _, said in BAD])
def test_bad_input_is_one_sentence_of_the_nodes_own(nodes, name, changes, said, monkeypatch, tmp_path):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    image = tensor(CLEAN)
    good = {
        "Inspect": {"image": image, "prompt": CONES, "pipeline": "tiny", "force": False, **SHARED},
        "Guard": {"before": image, "after": image, "prompt": CONES, "judges": "piqe", "pipeline": "", **SHARED},
        "Gate": {"images": image, "prompt": CONES, "gate": "piqe:35", "pipeline": "", "device": "cpu"},
        "Refine": {"image": image, "prompt": CONES, "pipeline": "tiny", "config": "default", "seed": 0, "force": False}
        | SHARED,
        "Save": {"images": image, "record": [None], "filename_prefix": "x"},
    }
    with pytest.raises(Exception, match=f"^{name}: ") as told:
        run(vars(nodes)[name], **good[name] | changes)
    assert type(told.value).__name__ == "NodeError"
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("path", sorted((PACK / "example_workflows").glob("*.json")), ids=lambda p: p.stem)
def test_example_workflows_use_the_nodes_as_they_are(nodes, path):
    schemas = {node.define_schema().node_id: node.define_schema() for node in vars(nodes).values()}
    drawn = json.loads(path.read_text())
    ours = [node for node in drawn["nodes"] if node["type"] in schemas]
    assert ours
    for node in ours:
        schema = schemas[node["type"]]
        assert [one["name"] for one in node["outputs"]] == [one.id for one in schema.outputs]
        assert {one["name"] for one in node["inputs"]} == {one.id for one in schema.inputs}


def test_a_saved_picture_carries_its_workflow_and_its_record():
    picture = PACK / "example_workflows" / "guard_blurred.png"
    drawn, texts = json.loads((PACK / "example_workflows" / "guard.json").read_text()), Image.open(picture).text
    assert json.loads(texts["workflow"]) == drawn
    record = read_record(read_image(picture).embedded)
    assert record is not None
    assert record.state == "refined"
    assert find_prompt(read_image(picture)).prompt == record.prompt
