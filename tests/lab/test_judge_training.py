"""The judges' truth, losses and recipes on the toy world, each small enough for every run."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from golden_weights import golden_files, load_golden
from typer.testing import CliRunner

from grefine.errors import ConfigError
from grefine.models.mdiqa import DIMENSIONS, MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.training.loop import Budget
from grefine.training.losses import correlation_loss, norm_in_norm, rated_fidelity
from lab.cli import app
from lab.judges.mdiqa import build as build_mdiqa
from lab.judges.mdiqa import spot_losses
from lab.judges.measures import ContentHead, DamageHead, away_from, direction_measures
from lab.judges.moe_agiqa import MoEAGIQASettings, train_moe_agiqa
from lab.judges.moe_agiqa import build as build_moe
from lab.judges.prompts import captions_for, encode, falsify, tell
from lab.judges.recipe import train_judge
from lab.judges.stream import distort, judged
from lab.world.captions import describe
from lab.world.scene import misalign, sample
from lab.world.stream import generator
from lab.world.vocabulary import DEFECT_KINDS, HELD_OUT_DEFECT, build_tokenizer


@pytest.mark.parametrize("path", golden_files("mdiqa*.json"), ids=lambda p: p.stem)
def test_parity_of_losses(path):
    known = load_golden(path)["losses"]
    predicted, label = torch.tensor(known["pred"]), torch.tensor(known["target"])
    found = {
        "norm_in_norm_p1_q2": norm_in_norm(predicted, label),
        "mse": torch.nn.functional.mse_loss(predicted, label),
        "fidelity": rated_fidelity(predicted, label, "released"),
        "plcc": correlation_loss(predicted, label),
        "norm_in_norm_batch_of_one": norm_in_norm(predicted[:1], label[:1]),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(known[name], abs=1e-5), name


def test_every_batch_is_reproducible_and_its_truth_consistent():
    one, two = judged(1, 5, 24), judged(1, 5, 24)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.dimensions, two.dimensions)
    assert not torch.equal(one.images, judged(2, 5, 24).images)
    assert one.images.amin() >= 0
    assert one.images.amax() <= 1
    assert DEFECT_KINDS.index(HELD_OUT_DEFECT) not in one.damaged.kinds
    whole = judged(3, 0, 16, damaged_share=0.0, distorted_share=0.0)
    assert torch.equal(whole.images, whole.clean.images)
    assert (whole.quality == 1).all()
    assert (whole.dimensions == 1).all()
    hurt = judged(3, 0, 16, damaged_share=1.0, distorted_share=0.0)
    assert ((hurt.quality < 1) == (hurt.severity > 0)).all()


def test_a_place_may_count_by_its_share_of_the_picture():
    steep = judged(3, 0, 16, damaged_share=1.0, distorted_share=0.0)
    plain = judged(3, 0, 16, damaged_share=1.0, distorted_share=0.0, local_exponent=1.0)
    assert torch.equal(steep.quality, plain.quality), "the overall quality has its own way"
    assert (plain.dimensions >= steep.dimensions).all()
    expected = 0.7 * (plain.severity / 0.2).clamp(max=1)
    lost = (1 - plain.dimensions).sum(1)
    known = lost > 0
    assert known.any()
    assert torch.allclose(lost[known], expected[known], atol=1e-5)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_distortion_grows_with_its_strength(name):
    clean = judged(4, 0, 8, damaged_share=0.0, distorted_share=0.0).images
    change = []
    for strength in (0.0, 0.3, 1.0):
        spoilt = distort(clean, name, torch.full((8,), strength), generator(1, 1))
        change.append((spoilt - clean).abs().mean().item())
    assert change[0] == 0.0
    assert 0 < change[1] < change[2]


def test_captions_are_judged_against_any_scene():
    rng = random.Random(0)
    scenes = sample(64, generator(9, 0))
    for row in captions_for(scenes, rng):
        own, wrong, other = row
        assert own.alignment == 1.0, own
        assert all(value == 1.0 for _, _, value in own.phrases)
        assert wrong.text != own.text
        assert 0.0 <= other.alignment <= 1.0
    lower = [wrong.alignment < own.alignment for own, wrong, _ in captions_for(scenes, rng)]
    assert sum(lower) / len(lower) > 0.9, "a changed word makes the caption less true"


def test_a_changed_scene_lowers_the_truth_of_its_caption():
    rng, source = random.Random(1), generator(10, 0)
    scenes = sample(40, source)
    captions = [describe(scenes, i, rng) for i in range(40)]
    changed, _, possible = misalign(scenes, "object", source)
    falls = [tell(changed, i, c).alignment < 1.0 for i, c in enumerate(captions)]
    assert sum(f for f, p in zip(falls, possible, strict=True) if p) / int(possible.sum()) > 0.8, (
        "alike objects may stand in for a changed one"
    )


def test_falsify_changes_one_phrase_only():
    rng = random.Random(2)
    scenes = sample(20, generator(11, 0))
    for index in range(20):
        caption = describe(scenes, index, rng)
        wrong = falsify(caption, rng)
        assert wrong.text != caption.text
        assert (wrong.ground, wrong.sky) == (caption.ground, caption.sky)


def test_tokens_know_the_truth_of_their_phrase():
    rng = random.Random(3)
    scenes = sample(4, generator(12, 0))
    told = [row[1] for row in captions_for(scenes, rng)]
    tokenizer = build_tokenizer()
    ids, mask, value, known = encode(tokenizer, told, 32)
    assert ids.shape == mask.shape == value.shape == (4, 32)
    assert known.any(dim=1).all()
    assert not known[mask == 0].any()
    for row, item in enumerate(told):
        assert {round(v, 4) for v in value[row, known[row]].tolist()} <= {round(v, 4) for _, _, v in item.phrases}


def test_versions_show_one_scene_and_single_faults_are_single():
    data = judged(6, 0, 12, damaged_share=1.0, distorted_share=0.0, versions=3)
    assert torch.equal(data.clean.images[:4], data.clean.images[4:8])
    assert torch.equal(data.scenes.noun[:4], data.scenes.noun[8:])
    assert not torch.equal(data.images[:4], data.images[4:8])
    alone = judged(6, 1, 32, damaged_share=0.9, distorted_share=0.5, single_share=1.0)
    assert ((alone.dimensions < 1).sum(1) == 1).all()
    assert (alone.severity == 0).all()


def test_the_cells_of_visible_damage_add_up_to_the_severity():
    data = judged(7, 0, 16, damaged_share=0.7, distorted_share=0.0)
    assert torch.allclose(data.visible(8).mean((1, 2)), data.severity, atol=1e-6)
    assert (data.visible(8)[data.severity == 0] == 0).all()
    assert DamageHead(4)(torch.randn(16, 4, 8, 8), data).isfinite()


def test_the_aid_reads_what_cells_show():
    data = judged(8, 0, 4, damaged_share=0.0, distorted_share=0.0)
    covered, slot = torch.nn.functional.adaptive_avg_pool2d(data.clean.objects.float(), 8).max(1)
    colour = data.scenes.colour[torch.arange(4)[:, None, None], slot]
    aid = ContentHead(3)
    blind = float(aid(torch.zeros(4, 64, 3), data).detach())
    with torch.no_grad():
        aid.read.weight.zero_()
        aid.read.bias.zero_()
        sizes = torch.tensor(aid.sizes)
        aid.read.bias[sizes[0] - 1] = aid.read.bias[sizes[:2].sum() - 1] = aid.read.bias[sizes.sum() - 1] = 3.0
    background = float(aid(torch.zeros(4, 64, 3), data).detach())
    assert background < blind, "most cells show no object"
    assert ((covered > 0.35) & (colour >= 0)).any()


def test_distortions_touch_only_their_pictures():
    data = judged(9, 0, 24, damaged_share=0.0, distorted_share=0.1)
    whole = (data.dimensions == 1).all(1)
    assert whole.any()
    assert torch.equal(data.images[whole], data.clean.images[whole])


def test_a_network_begins_at_the_usual_label():
    model = build_mdiqa().eval()
    scores = model.score(torch.rand(2, 3, 64, 64)).dimensions
    assert all(abs(value.mean().item() - 0.9) < 0.2 for value in scores.values())


def test_directions_are_compared_by_their_angle_alone():
    wanted = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert away_from(5 * wanted + torch.tensor([[0.0], [0.0], [1.0]]), wanted) == pytest.approx(0.0, abs=1e-6)
    assert away_from(-wanted, wanted) == pytest.approx(2.0)
    assert away_from(wanted.flip(1), wanted) == pytest.approx(1.0)
    assert away_from(wanted, torch.zeros(3, 2)) == 1.0, "nothing is wanted, nothing is wrong"


def test_a_gradient_learns_where_the_unspoilt_picture_lies():
    torch.manual_seed(0)
    model = build_mdiqa().train()
    data = judged(13, 0, 12, damaged_share=1.0, distorted_share=0.0, kinds=("noise",))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    astray = []
    for _ in range(20):
        losses = spot_losses(model, data)
        losses["direction"].backward()
        optimiser.step()
        optimiser.zero_grad()
        astray.append(losses["direction"].item())
    assert astray[0] > 0.9, "untrained gradients know nothing"
    assert astray[-1] < 0.75
    assert losses["spots"].isfinite()


def test_the_bundled_mdiqa_points_at_the_unspoilt_picture():
    model = MDIQA.from_pretrained(Path(__file__).parents[2] / "pipelines" / "tiny" / "mdiqa").float().eval()
    found = direction_measures(model, 14, 24)
    untrained = direction_measures(build_mdiqa().eval(), 14, 24)
    assert found["direction_sharpness"] > 0.2
    assert found["direction_noisiness"] > 0.4
    assert max(untrained.values()) < 0.1


def test_a_budget_that_is_too_small_is_said(tmp_path):
    arguments = ["train", "lar-iqa", "-o", str(tmp_path), "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--minutes", "0.0000001"])
    assert "ended after 0 steps, before its first evaluation" in str(done.exception)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lar-iqa", "mdiqa", "moe-agiqa"])
def test_recipes_run_resume_and_write_everything(name, tmp_path):
    found = train_judge(name, tmp_path, steps=2, cpu=True)
    assert found
    folder = tmp_path / name.replace("-", "_")
    assert (folder / "README.md").read_text().startswith("# Tiny")
    assert json.loads((folder / "metrics.json").read_text()).keys() == found.keys()
    train_judge(name, tmp_path, steps=1, cpu=True)
    record = json.loads((tmp_path / "training" / f"{folder.name}.json").read_text())
    assert len(record["runs"]) == 2


def test_a_budget_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="budget"):
        train_judge("mdiqa", tmp_path)


def test_a_convolutional_stem_is_saved_and_loaded(tmp_path):
    model = build_moe(len(build_tokenizer())).eval()
    model.save_pretrained(tmp_path)
    again = MoEAGIQA.from_pretrained(tmp_path).eval()
    crops, view = torch.rand(2, 1, 3, 64, 64), torch.rand(2, 3, 64, 64)
    ids, mask = torch.randint(1, 50, (2, 32)), torch.ones(2, 32, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(model(crops, view, ids, mask).scores, again(crops, view, ids, mask).scores)
    assert type(again.vit.patch_embed.proj).__name__ == "ConvStem"
    with pytest.raises(ConfigError, match="must be 'patch' or 'conv', not 'linear'"):
        MoEAGIQA(stem="linear")


@pytest.mark.slow
def test_looking_first_hands_over_to_prompts(tmp_path):
    settings = MoEAGIQASettings(batch=8, looking=8)
    path = tmp_path / "moe.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in asdict(settings).items()))
    train_judge("moe-agiqa", tmp_path, steps=2, cpu=True, config=path)
    rows = json.loads((tmp_path / "training" / "moe_agiqa.json").read_text())["rows"]
    assert {"damage", "content", "quality", "alignment", "phrase"} <= rows[-1].keys()
    assert json.loads((tmp_path / "moe_agiqa" / "config.json").read_text())["stem"] == "conv"


def test_readers_go_on_alone_while_the_tower_of_crops_stands(tmp_path):
    settings = MoEAGIQASettings(batch=4, looking=0)

    def states():
        return MoEAGIQA.from_pretrained(tmp_path / "moe_agiqa").state_dict()

    train_moe_agiqa(tmp_path, settings, Budget(steps=1), Accelerator(cpu=True))
    before = states()
    alone = replace(settings, crops_stand=True, captions=4)
    train_moe_agiqa(tmp_path, alone, Budget(steps=1), Accelerator(cpu=True))
    moved = {name.split(".")[0] for name, value in states().items() if not torch.equal(value, before[name])}
    assert moved == {"vision", "text", "head"}
