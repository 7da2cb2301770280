"""The registry, published files, and tables of scores: what is known, what runs, what is refused and why."""

from __future__ import annotations

import csv
import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError, MetricUnavailable, WeightsCorrupt, WeightsMissing
from grefine.models.lar_iqa import LARIQA
from grefine.scorers.convert import convert_weights, kinds, read_state
from grefine.scorers.files import score_files
from grefine.scorers.registry import PAPER, judge_files, known_metric, metric_specs
from grefine.scorers.resolve import availability, list_metrics, load_scorer, resolve

LAR = {"encoder": "test_efficientnet", "features": 16, "expanded": 16, "reduced": 8, "whole_size": 32, "crop_size": 48}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def lar_folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("lar")
    LARIQA(**LAR).save_pretrained(path)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.jpg"):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_every_metric_says_what_a_reader_needs():
    assert len(PAPER) == 13
    assert set(PAPER) <= set(judge_files())
    for spec in metric_specs():
        assert spec.licence
        assert spec.description
        assert spec.range[0] < spec.range[1]
        assert spec.weights or availability(spec.name)[0], f"{spec.name} needs nothing and does not run"
    assert {s.name for s in metric_specs() if s.needs_prompt} == {
        "moe_agiqa", "clipscore", "pickscore", "imagereward", "hpsv2", "vqascore",
    }  # fmt: skip
    assert [s.name for s in metric_specs() if s.direction == "lower" and s.axis != "none"] == [
        "brisque", "piqe", "niqe", "brisque_severity",
    ]  # fmt: skip


def test_an_unknown_list_is_not_taken_for_the_papers():
    with pytest.raises(ConfigError, match="listed as 'paper'.*not 'papers'"):
        list_metrics("papers")


def test_what_cannot_run_says_why_and_how():
    for row in list_metrics():
        assert row["runs"] or (row["reason"] and row["weights"]), row["name"]
    runs, reason, _ = availability("mdiqa")
    assert not runs
    assert "grefine convert mdiqa" in reason
    assert availability("piqe")[0]


def test_names_are_forgiving_and_unknown_ones_are_not():
    assert known_metric("MoE-AGIQA") == "moe_agiqa"
    assert known_metric("topiq_nr") == "topiq"
    with pytest.raises(ConfigError) as caught:
        known_metric("nope")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'musiq'"):
        load_scorer("muziq")
    with pytest.raises(ConfigError, match="No metric 'nope'; `grefine metrics` lists them$"):
        load_scorer("nope")
    with pytest.raises(ConfigError, match="no device"):
        load_scorer("piqe", device="gpu9")
    with pytest.raises(MetricUnavailable, match="non-commercial"):
        load_scorer("musiq")
    with pytest.raises(WeightsMissing, match="needs"):
        load_scorer("clipscore")
    with pytest.raises(WeightsMissing, match="nothing at"):
        load_scorer("lar_iqa", "/no/such/folder")


def test_weights_are_checked_for_what_they_are(lar_folder, tmp_path):
    assert load_scorer("lar-iqa", lar_folder).spec.name == "lar_iqa"
    with pytest.raises(WeightsCorrupt, match="LARIQA, not a MDIQA"):
        load_scorer("mdiqa", lar_folder)
    with pytest.raises(WeightsCorrupt, match="no config.json"):
        load_scorer("mdiqa", tmp_path)


def test_weights_lying_in_the_cache_are_found(lar_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lar_iqa").symlink_to(lar_folder)
    assert availability("lar_iqa")[0]
    assert load_scorer("lar_iqa").spec.name == "lar_iqa"


class Runs:
    """Something that a pickle would call."""

    def __reduce__(self):
        return print, ("this must never be printed",)


def test_pickles_that_run_something_are_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"params": Runs()}, path)
    with pytest.raises(WeightsCorrupt, match="refused.*more than tensors"):
        read_state(path)
    path.write_bytes(pickle.dumps({"a": Runs()}))
    with pytest.raises(WeightsCorrupt):
        read_state(path)
    assert "never" not in capsys.readouterr().out


def test_a_numpy_loss_in_a_checkpoint_is_harmless(tmp_path):
    path = tmp_path / "best.pth"
    torch.save({"weight": torch.ones(2), "loss": np.float64(0.25)}, path)
    assert read_state(path)["loss"] == 0.25
    with pytest.raises(WeightsMissing):
        read_state(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsCorrupt):
        read_state(tmp_path / "text.pth")


def test_convert_lar_iqa_round_trip(tmp_path):
    """A file as the authors write it becomes a folder that scores the same."""
    model = LARIQA(**LAR).eval()
    published = {}
    back = {"authentic_head.1": "aut_up", "authentic_head.3": "aut_dw", "synthetic_head.1": "syn_up",
            "synthetic_head.3": "syn_dw"}  # fmt: skip
    for key, value in model.state_dict().items():
        for ours, theirs in back.items():
            key = key.replace(ours, theirs)
        published[key.replace("synthetic.", "syntetic.")] = value
    torch.save(published, tmp_path / "lar.pt")
    folder = convert_weights("lar-iqa", [tmp_path / "lar.pt"], tmp_path / "out", options=LAR)
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors"]
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    with torch.no_grad():
        expected = model(*model.views(image)).item()
    assert load_scorer("lar_iqa", folder)([image])[0]["lar_iqa"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigError, match="already holds"):
        convert_weights("lar-iqa", [tmp_path / "lar.pt"], folder)


def test_convert_puts_mdiqas_many_files_together(tmp_path):
    """Backbone and heads in files of their own, prefixes cut off, as released."""
    from golden_mdiqa import geometry, reference_groups
    from golden_weights import golden_files, load_golden, reference_image

    golden = load_golden(golden_files("mdiqa_reduced*.json")[0])
    groups = reference_groups(golden)
    technology = {k: torch.as_tensor(v) for k, v in groups["technology"].items()}
    files = {"net_freeze_backbone.pth": {}, "aes.pth": groups["aesthetic"], "fusion.pth": groups["fusion"]}
    for head in range(5):
        prefix = f"cfanet_heads.{head}."
        part = {k.removeprefix(prefix): v for k, v in technology.items() if k.startswith(prefix)}
        files[f"net_best_koniq10k_val_head{head}_head{head}.pth"] = part
    prefix = "cfanet_backbone."
    files["net_freeze_backbone.pth"] = {
        k.removeprefix(prefix): v for k, v in technology.items() if k.startswith(prefix)
    }
    for name, state in files.items():
        torch.save({"params": {k: torch.as_tensor(v) for k, v in state.items()}}, tmp_path / name)
    paths = [tmp_path / name for name in reversed(files)]
    folder = convert_weights("mdiqa", paths, tmp_path / "out", options=geometry(golden["config"]))
    item = golden["inputs"][0]
    image = Image.fromarray(reference_image(golden["salt"], item["height"], item["width"]))
    found = load_scorer("mdiqa", folder)([image])[0]
    known = golden["outputs"][item["name"]]
    assert found["mdiqa.overall"] == pytest.approx(known["overall"], abs=1e-5)
    assert found["mdiqa.sharpness"] == pytest.approx(known["dimension_scores"]["sharpness"], abs=1e-4)
    with pytest.raises(WeightsMissing, match="technology"):
        convert_weights("mdiqa", [tmp_path / "aes.pth"], tmp_path / "half")


def test_convert_says_what_is_missing(tmp_path):
    assert tuple(kinds()) == ("moe-agiqa", "mdiqa", "lar-iqa", "reward", "pq")
    torch.save({"reward_model_state_dict": {}, "regressor_model_state_dict": {}, "loss": 0.1}, tmp_path / "best.pth")
    with pytest.raises(WeightsMissing, match="augreg_in21k_ft_in1k"):
        convert_weights("moe-agiqa", [tmp_path / "best.pth"], tmp_path / "moe")
    with pytest.raises(ConfigError, match="did you mean 'mdiqa'"):
        convert_weights("mdiq", [tmp_path / "best.pth"], tmp_path / "x")
    assert not (tmp_path / "moe").exists(), "nothing is written when nothing can be"


def test_score_files_resumes_and_says_what_failed(images, lar_folder, tmp_path):
    out = tmp_path / "scores.csv"
    calls = []

    class Counting:
        def __init__(self):
            self.inner = load_scorer("lar_iqa", lar_folder)
            self.spec = self.inner.spec

        def __call__(self, pictures, prompts=None):
            calls.append(len(pictures))
            return self.inner(pictures, prompts)

    judges = [resolve(Counting())]
    first = score_files([images], judges, out=out)
    assert (len(first.rows), first.failed, sum(calls)) == (3, 0, 3)
    again = score_files([images], judges, out=out)
    assert (again.reused, sum(calls)) == (3, 3), "nothing is scored twice"
    unloaded = replace(judges[0], load=lambda: pytest.fail("every value is known, so nobody needs the judge"))
    assert score_files([images], [unloaded], out=out).reused == 3
    assert [r["lar_iqa"] for r in again.rows] == [r["lar_iqa"] for r in first.rows]
    Image.new("RGB", (48, 48), "red").save(images / "b.png")
    (images / "d.png").write_bytes(b"no picture")
    third = score_files([images], judges, out=out)
    assert (third.reused, sum(calls), third.failed) == (2, 4, 1)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert rows[3]["lar_iqa"] == ""
    assert "d.png" in rows[3]["note"]
    assert score_files([images], [resolve(Counting(), device="other")], out=out).reused == 0


def test_score_files_refuses_what_it_cannot_write(images, tmp_path):
    with pytest.raises(ConfigError, match="csv or .json"):
        score_files([images], [], out=tmp_path / "scores.xlsx")
    with pytest.raises(ImageError, match="no file or folder"):
        score_files([tmp_path / "nowhere"], [])
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="no table of scores"):
        score_files([images], [], out=tmp_path / "mine.csv")


def test_commands(images, lar_folder):
    listed = CliRunner().invoke(app, ["metrics", "--paper", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == list(PAPER)
    run = ["score", str(images), "--metrics", "piqe,lar-iqa", "--weights", f"lar-iqa={lar_folder}"]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 3
    assert all(float(row["piqe"]) >= 0 for row in rows)
    (images / "bad.png").write_bytes(b"")
    assert CliRunner().invoke(app, run).exit_code == 1
    with pytest.raises(ConfigError, match="METRIC=PATH"):
        CliRunner().invoke(app, ["score", str(images), "--metrics", "piqe", "--weights", "x"], catch_exceptions=False)


@pytest.mark.parametrize("kind", ["lar-iqa", "reward", "pq", "moe-agiqa", "mdiqa"])
def test_files_of_anything_else_are_not_converted(tmp_path, kind):
    """A text, and tensors of other names and shapes: one sentence, no dump, nothing written."""
    (tmp_path / "text.pth").write_text("i am a text")
    torch.save({"cls_token": torch.zeros(3), "weight": torch.zeros(2, 2), "params": 7}, tmp_path / "other.pth")
    for name in ("text.pth", "other.pth"):
        with pytest.raises((WeightsCorrupt, WeightsMissing)) as caught:
            convert_weights(kind, [tmp_path / name], tmp_path / "out")
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
