"""Every recipe on rated pictures runs at tiny size, goes on exactly where it was, and refuses other settings."""

from __future__ import annotations

import csv
import json
import random
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, GRefineError
from grefine.resources import bundled, config_file
from grefine.training.datasets.table import read_table
from grefine.training.judges.catalogue import JUDGES, train_on_data
from grefine.training.judges.lar import batch_pearson
from grefine.training.judges.moe import AblatedHead, Ablation, MainStage, MoERecipe, freeze_until
from grefine.training.judges.pool import Order, Pool, loaded
from grefine.training.judges.stage import Schedule, rate_of
from lab.world.vocabulary import build_tokenizer

DIMENSIONS = ["brightness", "colorfulness", "contrast", "noisiness", "sharpness", "color", "composition", "content"]
LIKE_OTHERS = ("aesthetic", "synthetic", "mlp", "v1")
"""Recipes of the same stage as one that every run tests."""
CONFIGS = [
    pytest.param(
        judge,
        path.stem,
        id=f"{judge}-{path.stem}",
        marks=[pytest.mark.slow] if path.stem.startswith(LIKE_OTHERS) else [],
    )
    for judge in JUDGES
    for path in sorted((bundled("configs") / "train" / judge).glob("*.yaml"))
]

FROZEN = dict.fromkeys(("vit", "vit_prior", "reward", "technology", "aesthetic", "clip"), "random")
TOKENIZER = str(bundled("pipelines") / "tiny" / "moe_agiqa")
MOE = {
    "crop_size": 32, "crop_patch": 8, "crop_width": 16, "crop_heads": 2, "taps": [0, 1], "image_size": 32,
    "patch_size": 8, "vision_width": 16, "vision_depth": 2, "vision_heads": 2, "text_width": 16, "text_depth": 2,
    "text_heads": 2, "text_hidden": 16, "vocabulary": len(build_tokenizer()), "positions": 32, "text_length": 16,
    "width": 16, "heads": 2, "prior_hidden": 8, "crops": 2,
}  # fmt: skip
RESNET = {"channels": [8, 8, 12, 16], "stem_width": 4}
MDIQA = {
    "backbone": "test_resnet", "backbone_options": RESNET, "width": 8, "heads": 2, "hidden": 16, "gate_width": 4,
    "weight_backbone": "test_resnet", "weight_backbone_options": RESNET, "weight_width": 8, "local_heads": 2,
    "local_hidden": 8, "clip_layers": [1, 1, 1, 1], "clip_width": 4, "clip_head_width": 32, "clip_tokens": 16,
    "clip_size": 64,
}  # fmt: skip
NET = {key: MDIQA[key] for key in ("backbone", "backbone_options", "width", "heads", "hidden", "gate_width")}
FIVE_LEVEL = {
    "embed_dim": 32, "patch_size": 32, "vision_width": 64, "vision_layers": 1, "vision_heads": 1, "text_width": 64,
    "text_layers": 1, "text_heads": 1, "windows": 1,
}  # fmt: skip
LAR = {"encoder": "test_efficientnet", "encoder_options": {"output_stride": 8}, "features": 8, "whole_size": 32}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write forty grey pictures that are the better the brighter they are, with prompts and nine dimensions."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(40):
        mos = 1 + number % 20 / 5
        pixels = rng.normal(mos * 40, 20, (48 + number % 3, 48, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append([f"{number}.png", mos, f"a red ball {number % 10}", f"ref{number % 8}", *[mos] * 9])
    path = folder / "own.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "mos", "prompt", "reference", *DIMENSIONS, "light"], *lines])
    return path


def tiny(judge, name, folder, table, **changes):
    """Write a bundled recipe with a small network, small batches and nothing to fetch; return its path."""
    recipe = yaml.safe_load(config_file(f"train/{judge}", name).read_text())
    stage = recipe["stage"]
    given = recipe.get("geometry", {})
    if judge == "moe-agiqa":
        keys = ("crop_size", "crop_patch", "crop_width", "crop_heads")
        small = {key: MOE[key] for key in keys} | {"prior_depth": 3} if stage == "prior" else dict(MOE)
        if stage == "main":
            small |= {key: given[key] for key in ("experts", "chosen") if key in given}
            small |= {"prior_depth": 2} if "prior_depth" in given else {}
            recipe["tokenizer"] = TOKENIZER
    elif judge == "mdiqa":
        small = MDIQA if stage == "fusion" else NET
        recipe |= {"crop": 40, "every": 2}
        for key in ("train_side", "test_side", "test_crop"):
            if recipe.get(key):
                recipe[key] = 40
        if recipe.get("trunk_steps"):
            recipe["trunk_steps"] = 2
    elif judge == "five-level":
        small = FIVE_LEVEL
        recipe["windows"] = 1
    else:
        small = LAR | {"crop_size": 48}
        if stage == "merged":
            small |= {"expanded": 8, "reduced": 8, "branch_head": given["branch_head"]}
    recipe |= {"geometry": small, "start": FROZEN if judge in ("moe-agiqa", "mdiqa") else {}, "batch": 4}
    if recipe["split"]["kind"] in ("folds", "parts"):
        recipe["split"] = {"kind": "prompt"}
    path = folder / f"{judge}-{name}.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


def weights(folder):
    from safetensors.torch import load_file

    return {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.mark.parametrize(("judge", "name"), CONFIGS)
def test_bundled_recipe_runs_resumes_and_refuses(judge, name, tmp_path, table):
    config = tiny(judge, name, tmp_path, table)
    said: list[str] = []
    found = train_on_data(judge, [str(table)], config, tmp_path / "out", steps=2, cpu=True, progress=said.append)
    assert any("train" in line and "test" in line for line in said)
    columns = 5 if name == "technical" else 4 if name == "aesthetic" else 1
    assert len(found) == columns
    record = json.loads(next((tmp_path / "out" / "training").glob("*.json")).read_text())
    folder = tmp_path / "out" / record["name"]
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["measured"].keys() == found.keys()
    leak = stored["leakage"][0]
    assert (leak["train"] + leak["test"], leak["files"]["shared"]) == (40, 0)
    assert leak["test"] == next(iter(found.values()))["n"]
    first = next(iter(found.values()))
    if columns == 1:
        assert {"plcc", "srcc", "krcc", "rmse_raw", "mae_raw"} <= first.keys()
        predicted = list(csv.DictReader((folder / "predictions.csv").open()))
        errors = [abs(4.8 * float(row["predicted"]) - float(row["opinion"])) for row in predicted]
        assert first["mae_raw"] == pytest.approx(np.mean(errors))
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    assert len(rows) == columns * leak["test"]
    chosen = (stored["recipe"]["watch"], stored["recipe"]["keep"]) == ("test", "best")
    assert any("flatters the numbers" in line for line in said) == chosen

    train_on_data(judge, [str(table)], config, tmp_path / "out", steps=1, cpu=True)
    record = json.loads(next((tmp_path / "out" / "training").glob("*.json")).read_text())
    assert len(record["runs"]) == 2
    other = tiny(judge, name, tmp_path, table, batch=5)
    with pytest.raises(ConfigError, match="was trained with batch=4, now it is 5") as error:
        train_on_data(judge, [str(table)], other, tmp_path / "out", steps=1, cpu=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("judge", "name"),
    [
        ("moe-agiqa", "v2"),
        pytest.param("mdiqa", "technical", marks=pytest.mark.slow),
        ("lar-iqa", "kan"),
    ],
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(judge, name, tmp_path, table):
    config = tiny(judge, name, tmp_path, table, keep="last")
    train_on_data(judge, [str(table)], config, tmp_path / "whole", steps=5, cpu=True)
    for steps in (2, 3):
        train_on_data(judge, [str(table)], config, tmp_path / "parts", steps=steps, cpu=True)
    name = next((tmp_path / "whole" / "training").glob("*.json")).stem
    whole, parts = weights(tmp_path / "whole" / name), weights(tmp_path / "parts" / name)
    for key, value in whole.items():
        assert torch.allclose(value.float(), parts[key].float(), atol=1e-6), key


def test_a_network_learns_what_people_said(tmp_path, table):
    """Brighter is better here: a few dozen steps must find it on pictures that were held out."""
    changes = {"batch": 8, "optimiser": {"kind": "adamw", "learning_rate": 2e-3}, "schedule": {"kind": "constant"}}
    config = tiny("lar-iqa", "mlp", tmp_path, table, **changes)
    found = train_on_data("lar-iqa", [str(table)], config, tmp_path / "out", steps=30, cpu=True)
    assert found["own.mos"]["srcc"] > 0.8
    assert found["own.mos"]["intervals"]["srcc"][0] < found["own.mos"]["srcc"]


def test_stages_hand_over(tmp_path, table):
    """What the first stages write, the second begins with."""
    out = tmp_path / "out"
    data = [str(table)]
    train_on_data("lar-iqa", data, tiny("lar-iqa", "authentic", tmp_path, table), out, steps=1, cpu=True)
    merged = tiny("lar-iqa", "mlp", tmp_path, table, optimiser={"learning_rate": 0.0}, schedule={"kind": "constant"})
    start = [f"authentic={out / 'authentic'}"]
    train_on_data("lar-iqa", data, merged, out, steps=1, start=start, cpu=True)
    first, second = weights(out / "authentic"), weights(out / "lar_iqa")
    for key, value in first.items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(value, second[f"authentic.{key}"]), key

    train_on_data("moe-agiqa", data, tiny("moe-agiqa", "prior", tmp_path, table), out, steps=1, cpu=True)
    main = tiny("moe-agiqa", "v2", tmp_path, table)
    settings = yaml.safe_load(main.read_text())
    settings["geometry"] |= {"prior_depth": 3}
    main.write_text(yaml.safe_dump(settings))
    train_on_data("moe-agiqa", data, main, out, steps=1, start=[f"vit_prior={out / 'vit_prior'}"], cpu=True)
    first, second = weights(out / "vit_prior"), weights(out / "moe_agiqa")
    assert all(torch.equal(value, second[f"vit_prior.{key}"]) for key, value in first.items())
    with pytest.raises(GRefineError, match="another geometry"):
        train_on_data("moe-agiqa", data, main, tmp_path / "b", steps=1, start=[f"vit={out / 'authentic'}"], cpu=True)
    with pytest.raises(GRefineError, match="train that stage first"):
        train_on_data("moe-agiqa", data, main, tmp_path / "c", steps=1, start=["vit=nowhere"], cpu=True)


def test_the_five_level_judge_goes_on_from_a_folder(tmp_path, table):
    from grefine.errors import WeightsMissing

    out = tmp_path / "out"
    config = tiny("five-level", "paper", tmp_path, table)
    train_on_data("five-level", [str(table)], config, out, steps=1, cpu=True)
    still = tiny("five-level", "paper", tmp_path, table, optimiser={"learning_rate": 0.0})
    start = [f"clip={out / 'five_level'}"]
    train_on_data("five-level", [str(table)], still, tmp_path / "again", steps=1, start=start, cpu=True)
    first, second = weights(out / "five_level"), weights(tmp_path / "again" / "five_level")
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    for changes, start, sentence in (({"geometry": {}}, [], "OpenAI's CLIP"), ({}, ["clip=nowhere"], "weight file")):
        config = tiny("five-level", "paper", tmp_path, table, **changes)
        with pytest.raises(WeightsMissing, match=sentence):
            train_on_data("five-level", [str(table)], config, tmp_path / "no", steps=1, start=start, cpu=True)


def test_several_splits_are_summarised(tmp_path, table):
    config = tiny("lar-iqa", "mlp", tmp_path, table)
    found = train_on_data("lar-iqa", [str(table)], config, tmp_path / "out", steps=1, repeats=2, cpu=True)
    assert {"srcc", "srcc_mean", "srcc_deviation"} <= found["own.mos"].keys()
    stored = json.loads((tmp_path / "out" / "repeats.json").read_text())
    tests = [
        list(csv.DictReader((tmp_path / "out" / f"repeat-{n}" / "lar_iqa" / "predictions.csv").open())) for n in (0, 1)
    ]
    assert {row["image"] for row in tests[0]} != {row["image"] for row in tests[1]}
    assert len(stored["splits"]) == 2


TABLE_5 = (
    "ablation={prompt: false, mixture: false}",
    "ablation={image: false, mixture: false}",
    "ablation={mixture: false}",
)
LADDER = [("v1", change) for change in TABLE_5] + [
    ("v2", "geometry={crop_size: 64}"),
    ("v2", "geometry={taps: [1]}"),
    ("v2", "frozen_share=0.3"),
    ("v2", "geometry={experts: 2, chosen: 1}"),
]
"""One row of each of MoE-AGIQA's Tables 5 to 9 that is neither v1 nor v2, at tiny size."""


@pytest.mark.parametrize(("name", "change"), LADDER)
def test_the_papers_ladder_is_a_setting_of_the_recipes(name, change, tmp_path, table):
    config = tiny("moe-agiqa", name, tmp_path, table)
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("\n", f"\n{table.parent}/").rpartition("\n")[0])
    known = {"changes": [change], "tests": [str(other)], "steps": 1, "cpu": True}
    found = train_on_data("moe-agiqa", [str(table)], config, tmp_path / "out", **known)
    assert found["other.mos"]["n"] == 40, "the other set is measured whole"
    recipe = json.loads((tmp_path / "out" / "moe_agiqa" / "metrics.json").read_text())["recipe"]
    key, _, value = change.partition("=")
    wanted = yaml.safe_load(value)
    assert recipe[key] == ({**recipe[key], **wanted} if isinstance(wanted, dict) else wanted)
    whole = train_on_data("moe-agiqa", [str(table)], config, tmp_path / "whole", steps=1, cpu=True)
    assert whole["own.mos"]["rmse"] != found["own.mos"]["rmse"]


@pytest.mark.parametrize(
    ("judge", "name", "part"),
    [("moe-agiqa", "v2", "vit_prior"), ("moe-agiqa", "v1", "reward"), ("mdiqa", "fusion", "clip")],
)
def test_a_frozen_part_does_not_stay_at_random_unasked(judge, name, part, tmp_path, table):
    config = tiny(judge, name, tmp_path, table)
    settings = yaml.safe_load(config.read_text())
    del settings["start"][part]
    config.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=f"'{part}' is frozen and would stay at random"):
        train_on_data(judge, [str(table)], config, tmp_path / "out", steps=1, cpu=True)


def test_a_branch_rates_another_set(tmp_path, table):
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("\n", f"\n{table.parent}/").rpartition("\n")[0])
    config = tiny("lar-iqa", "synthetic", tmp_path, table)
    known = {"changes": ["color_spaces=[HSV, RGB]"], "tests": [str(other)], "steps": 1, "cpu": True}
    found = train_on_data("lar-iqa", [str(table)], config, tmp_path / "out", **known)
    assert found["other.mos"]["n"] == 40
    branch = tmp_path / "out" / "synthetic"
    rows = list(csv.DictReader((branch / "predictions.csv").open()))
    given = ["score", str(table.parent), "--metrics", "lar_iqa", "--weights", f"lar_iqa={branch}"]

    def scored(*more):
        done = CliRunner().invoke(app, [*given, *more])
        assert done.exit_code == 0, done.output
        return {Path(r["path"]).name: float(r["lar_iqa"]) for r in csv.DictReader(done.stdout.splitlines())}

    in_hsv, in_rgb, smaller = scored(), scored("--color-space", "RGB"), scored("--crop-size", "40")
    for row in rows:
        assert in_hsv[row["image"]] == pytest.approx(float(row["predicted"]), abs=1e-4)
    assert all(in_hsv[name] != in_rgb[name] != smaller[name] for name in in_hsv)
    (branch / "part.json").write_text("{}")
    done = CliRunner().invoke(app, given)
    assert done.exit_code
    assert "holds no branch of LAR-IQA" in str(done.exception) + done.output


@pytest.mark.slow
def test_open_clip_gives_a_part_its_weights(tmp_path):
    import open_clip

    from grefine.models.mdiqa_fusion import ClipSemantics
    from grefine.training.judges.stage import begin_with

    torch.manual_seed(0)
    given = open_clip.create_model("RN50")
    torch.save(given.state_dict(), tmp_path / "rn50.pt")
    semantics = ClipSemantics((3, 4, 6, 3), 64, 64, 1024, 224, 8)
    begin_with(semantics.visual, {"clip": f"open_clip:RN50/{tmp_path / 'rn50.pt'}"}, "clip", frozen=True)
    assert torch.equal(semantics.visual.layer4[0].conv1.weight, given.visual.layer4[0].conv1.weight)
    with pytest.raises(GRefineError, match="could not give 'RN50' with 'nowhere'"):
        begin_with(semantics.visual, {"clip": "open_clip:RN50/nowhere"}, "clip")


def test_frozen_half_of_the_published_network():
    """The published code freezes 310 tensors of both encoders (and 14 that are never used) and trains 300."""
    from grefine.models.reward import text_encoder, vision_encoder

    with torch.device("meta"):
        text = text_encoder(768, 12, 12, 3072, 30524, 512, 1024)
        vision = vision_encoder(224, 16, 1024, 24, 16)
    below = ["embeddings.", *(f"encoder.layer.{n}." for n in range(6))]
    freeze_until(text, below, "encoder.layer.6.attention.self.query.weight")
    below = ["embeddings.", *(f"encoder.layers.{n}." for n in range(12))]
    freeze_until(vision, below, "encoder.layers.12.layer_norm1.weight")
    tensors = [*text.parameters(), *vision.parameters()]
    assert sum(not p.requires_grad for p in tensors) == 310
    assert sum(p.requires_grad for p in tensors) == 300


def test_published_learning_rates():
    saw = rate_of(Schedule("cosine-steps", 50), per_epoch=7)
    assert [round(saw(step), 6) for step in (0, 25, 50, 75, 100)] == [1.0, 0.5, 0.0, 0.5, 1.0]
    epochs = rate_of(Schedule("cosine-epochs", 50), per_epoch=10)
    assert epochs(0) == epochs(9) == 1.0
    assert epochs(250) == pytest.approx(0.5)
    warm = rate_of(Schedule("warm-cosine", 20, 5), per_epoch=10)
    assert warm(0) == 0
    assert warm(25) == pytest.approx(0.5)
    assert warm(50) == 1.0
    assert 0.2 < warm(99 + 1) / 1 < 0.9, "at the end of ten epochs the rate is far from zero"
    assert warm(200) == pytest.approx(0.0)


def test_orders_follow_seed_and_step_alone(table):
    data = read_table(table)
    pool = Pool([data, data], ["mos", "sharpness"], [range(20), range(20, 40)])
    assert torch.allclose(pool.labels[:, 0], torch.tensor(data.labels()))
    order = Order(pool, 4, 1, "columns")
    assert [part.column for part in order.parts(0)] == [0, 1]
    assert order.parts(0)[0].rows != order.parts(0)[1].rows
    again = Order(pool, 4, 1, "columns")
    assert again.parts(13) == order.parts(13)
    assert again.parts(3) == order.parts(3)
    seen = [row for step in range(order.per_epoch) for row in order.parts(step)[0].rows]
    assert sorted(seen) == list(range(40))
    each = Order(Pool([data, data], ["mos"], [range(20), range(20, 32)]), 4, 1, "each")
    assert each.per_epoch == 3
    assert [part.source for part in each.parts(5)] == [0, 1]
    by_set = Order(pool, 4, 1, "sets", passes=2)
    assert by_set.per_epoch == 20
    for step in range(by_set.per_epoch):
        part = by_set.parts(step)[0]
        assert {pool.sources[row] for row in part.rows} == {part.source}


def test_what_is_read_ahead_is_dropped_at_the_end(table):
    pool, cut = Pool([read_table(table)], ["mos"], [range(40)]), []

    def view(image, row, rng):
        cut.append(row)
        time.sleep(0.02)
        return {"number": torch.tensor(len(cut))}

    batches = loaded(pool, Order(pool, 20, 0), view, 0, 0)
    ((batch, views, labels),) = next(batches)
    batches.close()
    assert len(batch.rows) == len(views["number"]) == len(labels) == 20
    assert len(cut) < 32, "of the second step no more than what was being read"


def test_batch_pearson_has_the_published_divisors():
    x = torch.tensor([1.0, 2.0, 4.0, 7.0])
    assert float(batch_pearson(3 * x - 1, x)) == pytest.approx(1 - 1 / 4, abs=1e-4)
    assert float(batch_pearson(-x, x)) == pytest.approx(-(1 - 1 / 4), abs=1e-4)
    assert float(batch_pearson(x, torch.ones(4))) == 1.0


@pytest.mark.parametrize("kept", [Ablation(image=False), Ablation(prompt=False)])
def test_an_ablated_network_does_not_use_what_was_taken(kept):
    from grefine.models.moe_agiqa import MoEAGIQA

    torch.manual_seed(0)
    model = MoEAGIQA(**MOE).eval()
    model.head = AblatedHead(model.head, kept)
    crops, view = torch.rand(2, 3, 3, 32, 32), torch.rand(2, 3, 32, 32)
    ids, mask = torch.randint(1, 300, (2, 16)), torch.ones(2, 16, dtype=torch.long)
    with torch.no_grad():
        base = model(crops, view, ids, mask).scores
        other_text = model(crops, view, ids.flip(1), mask).scores
        other_crops = model(crops.flip(-1), view, ids, mask).scores
    assert base.shape == (2, 3, 1)
    assert torch.equal(base, other_text) == (not kept.prompt)
    assert torch.equal(base, other_crops) == (not kept.image)
    with pytest.raises(ConfigError, match="must leave"):
        Ablation(image=False, prompt=False)


def test_data_that_cannot_train(tmp_path, table):
    folder = table.parent
    config = tiny("moe-agiqa", "v1", tmp_path, table)
    bare = folder / "bare.csv"
    bare.write_text("image,mos\n" + "".join(f"{n}.png,{n}\n" for n in range(1, 30)))
    plain = tiny("moe-agiqa", "v1", tmp_path, table, split={"kind": "random"})
    with pytest.raises(ConfigError, match="without a prompt"):
        train_on_data("moe-agiqa", [str(bare)], plain, tmp_path / "o", steps=1, cpu=True)
    technical = tiny("mdiqa", "technical", tmp_path, table, split={"kind": "random"})
    with pytest.raises(ConfigError, match="no scores 'brightness'"):
        train_on_data("mdiqa", [str(bare)], technical, tmp_path / "o", steps=1, cpu=True)
    with pytest.raises(ConfigError, match="Two data sets are called 'own'"):
        train_on_data("moe-agiqa", [str(table)] * 2, config, tmp_path / "o", steps=1, cpu=True)
    big = tiny("moe-agiqa", "v1", tmp_path, table, batch=1000)
    with pytest.raises(ConfigError, match="do not fill one batch of 1000"):
        train_on_data("moe-agiqa", [str(table)], big, tmp_path / "o", steps=1, cpu=True)
    with pytest.raises(ConfigError, match="did you mean 'v1'"):
        train_on_data("moe-agiqa", [str(table)], "v11", tmp_path / "o", steps=1, cpu=True)
    with pytest.raises(ConfigError, match="--start takes NAME=VALUE"):
        train_on_data("moe-agiqa", [str(table)], config, tmp_path / "o", steps=1, start=["vit"], cpu=True)


def test_the_command(tmp_path, table):
    config = tiny("lar-iqa", "mlp", tmp_path, table)
    arguments = ["train", "lar-iqa", "--data", str(table), "--config", str(config), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--steps", "2", "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["own.mos"]["n"] == 8
    assert "share a prompt with training" in done.stderr
    for given, sentence in (
        (["--minutes", "0.0000001"], "before its first evaluation"),
        (["--steps", "0"], "above zero"),
        (["--data", "nowhere.csv"], "Cannot read the table"),
    ):
        done = CliRunner().invoke(app, [*arguments, "--device", "cpu", *given])
        assert done.exit_code != 0
        assert sentence in str(done.exception), (given, done.output, done.exception)
        assert "\n" not in str(done.exception)


def test_views_are_the_same_for_the_same_random_source(table):
    recipe = MoERecipe(geometry=MOE, tokenizer=TOKENIZER, epochs=1, start=FROZEN)
    data = read_table(table)
    stage = MainStage(recipe, [data])
    image = Image.open(data.rows[0].path).convert("RGB")
    one, two, other = (stage.view(image, data.rows[0], random.Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one["crops"], two["crops"])
    assert not torch.equal(one["crops"], other["crops"])
    assert one["crops"].shape == (3, 3, 32, 32)
    assert asdict(recipe)["crops"] == 3
    assert Path(data.rows[0].path).is_file()
