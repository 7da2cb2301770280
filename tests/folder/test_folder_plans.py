"""Plans and masks as files: there and back, changed, refused, and edited by a script that means no good."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from PIL import Image
from small_world import PROMPTS, by_file, config, make_folder, random_pipeline, rows, scene

from grefine.errors import ConfigError, PlanError
from grefine.folder.options import FolderOptions
from grefine.folder.planning import plan_folder
from grefine.folder.runner import refine_folder
from grefine.types import RepairPlan

OPTIONS = FolderOptions(batch_size=4, report=False, panels=False)


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(scope="module")
def planned(pipe, tmp_path_factory):
    root = tmp_path_factory.mktemp("plans")
    source = make_folder(root / "in", 6)
    return source, plan_folder(source, root / "plans", pipe, config=config(), options=OPTIONS)


@pytest.fixture(scope="module")
def name(planned):
    """A picture with something to repaint."""
    pictures = [picture for _, picture in planned[1].planned]
    found = [p.name for p in pictures if p.kept == "repair" and p.name.endswith(".png") and "/" not in p.name]
    assert RepairPlan.load(planned[1].out / found[0]).regions
    return found[0]


def refine(source, out, pipe, **given):
    return refine_folder(source, out, pipe, config=config(), options=OPTIONS, **given)


@pytest.fixture
def copied(planned, tmp_path):
    shutil.copytree(planned[1].out, tmp_path / "plans")
    return planned[0], tmp_path / "plans"


def change(plans, name, **values):
    file = plans / f"{name}.plan.json"
    known = json.loads(file.read_text())
    regions = values.pop("region", {})
    for region in known["regions"]:
        region.update(regions)
    file.write_text(json.dumps(known | values))


def test_unchanged_plans_give_the_bytes_of_a_direct_run(planned, pipe, tmp_path):
    source, summary = planned
    assert summary.counts["repair"]
    assert not summary.failed
    assert (summary.out / "report.html").is_file()
    refine(source, tmp_path / "direct", pipe)
    refine(source, tmp_path / "with", pipe, plans=summary.out)
    assert any(row["state"] == "refined" for row in rows(tmp_path / "direct"))
    for name in by_file(tmp_path / "direct"):
        assert (tmp_path / "direct" / name).read_bytes() == (tmp_path / "with" / name).read_bytes()


def test_a_region_that_is_off_leaves_the_picture_and_the_run_is_another(copied, name, pipe, tmp_path):
    source, plans = copied
    change(plans, name, region={"on": False})
    refine(source, tmp_path / "out", pipe, plans=plans)
    assert by_file(tmp_path / "out")[name]["state"] == "untouched"
    with pytest.raises(ConfigError, match="plans or masks"):
        refine(source, tmp_path / "out", pipe)


def test_a_painted_mask_is_repainted_and_nothing_else(copied, name, pipe, tmp_path):
    source, plans = copied
    mask = np.zeros((32, 32), np.uint8)
    mask[4:12, 4:12] = 255
    Image.fromarray(mask).save(plans / f"{name}.mask.png")
    refine(source, tmp_path / "out", pipe, plans=plans)
    before = np.asarray(Image.open(source / name).convert("RGB"))
    after = np.asarray(Image.open(tmp_path / "out" / name).convert("RGB"))
    moved = (before != after).any(axis=2)
    assert moved.any()
    assert not (moved & (mask == 0)).any()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"schema": 9}, "schema 9"),
        ({"made_for": {"picture": "0", "seed": 0}}, "another picture"),
        ({"made_for": {"seed": 0, "settings": {"max_regions": 6}}}, "plan again"),
        ({"region": {"strength": 5}}, "strength"),
        ({"region": {"box": [0, 0, 99, 9]}}, "box"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name_and_alone(copied, name, pipe, tmp_path, values, sentence):
    source, plans = copied
    change(plans, name, **values)
    summary = refine(source, tmp_path / "out", pipe, plans=plans)
    row = by_file(tmp_path / "out")[name]
    assert row["state"] == "failed"
    assert name in row["reason"]
    assert sentence in row["reason"]
    assert summary.counts["failed"] == 1


def test_masks_of_any_size_and_alpha_with_and_without_our_maps(pipe, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        scene(len(name)).save(tmp_path / "in" / f"{name}.png")
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[8:24, 8:24, 3] = 255
    Image.fromarray(layer).save(tmp_path / "masks" / "a.png")
    refine(tmp_path / "in", tmp_path / "out", pipe, masks=tmp_path / "masks")
    found = by_file(tmp_path / "out")
    assert found["a.png"]["area"] == pytest.approx(64 / 1024)
    assert "no mask for 'b.png'" in found["b.png"]["reason"]
    refine(tmp_path / "in", tmp_path / "both", pipe, masks=tmp_path / "masks", add_masks=True)
    both = by_file(tmp_path / "both")
    assert both["b.png"]["state"] != "failed"
    assert both["a.png"]["area"] >= found["a.png"]["area"]


def nonsense(dice, plans, name):
    """Change a plan as a careless person, or a bad script, would."""
    file, mask = plans / f"{name}.plan.json", plans / f"{name}.mask.png"
    kind = dice.randrange(6)
    if kind == 0:
        change(plans, name, region={"on": dice.random() < 0.5, "prompt": dice.choice(["", "a cat", "x " * 2000])})
    elif kind == 1:
        change(plans, name, region={dice.choice(["strength", "box", "phrases", "pixels"]): dice.choice(JUNK)})
    elif kind == 2:
        change(plans, name, **{dice.choice(["seed", "regions", "made_for", "emphasis", "new"]): dice.choice(JUNK)})
    elif kind == 3:
        drawn = np.random.default_rng(dice.randrange(9999)).integers(0, 2, (4, 4), np.uint8) * 255
        size = dice.choice([(32, 32), (32, 32), (33, 32)])
        Image.fromarray(drawn).resize(size, Image.Resampling.NEAREST).save(mask)
    elif kind == 4:
        data = bytearray(file.read_bytes())
        data[dice.randrange(len(data))] = dice.randrange(256)
        file.write_bytes(data)
    else:
        mask.write_bytes(mask.read_bytes()[: dice.randrange(60)])


JUNK = [
    None,
    -1,
    0.5,
    10**30,
    float("nan"),
    "\ud800",
    "AAAA",
    [],
    [1, 2],
    {"a": 1},
    True,
    [[0, 3, 1.5]],
    [0, 0, 32, 32],
]


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_plans_edited_by_a_script_give_results_or_one_sentence(planned, name, pipe, tmp_path, count):
    dice = random.Random(count)
    source, summary = planned
    states = []
    picture, text = Image.open(source / name).convert("RGB"), PROMPTS[int(name[:4]) % 4]
    for _ in range(count):
        for ending in (".plan.json", ".mask.png"):
            shutil.copy(summary.out / f"{name}{ending}", tmp_path)
        nonsense(dice, tmp_path, name)
        try:
            out = pipe(text, picture, config=config(), plan=RepairPlan.load(tmp_path / name))
            assert out.images[0].size == picture.size
            states.append("")
        except PlanError as error:
            states.append(str(error))
    assert len(states) == count
    assert "" in states
    assert any(states)
    assert all("\n" not in sentence and len(sentence) < 400 for sentence in states)


def test_a_plan_that_is_too_large_says_so(tmp_path):
    with (tmp_path / "a.plan.json").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(PlanError, match=r"^'.*a\.plan\.json' is too large for a plan\.$"):
        RepairPlan.load(tmp_path / "a")


def test_every_verdict_of_the_page_has_a_colour_and_no_gain_is_claimed(planned):
    text = (planned[1].out / "report.html").read_text()
    assert all(f".d-{verdict} {{" in text for verdict in ("keep", "repair", "new"))
    assert "how much is wrong: 0." in text
    assert '"metrics":[]' in text.replace(" ", "")
