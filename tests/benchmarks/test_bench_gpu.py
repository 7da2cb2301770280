"""The script for a GPU runs whole on a CPU, at tiny sizes, and its results say what was and was not measured."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import gpu

TINY = ["--device", "cpu"]


def test_a_step_under_every_option(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu.main([*TINY, "--only", "step", "--out", str(out)]) == 0
    done = json.loads(out.read_text())
    assert done["about"]["date"]
    assert done["about"]["cpu"]
    assert done["geometry"] == {"width": 0.1, "side": 64, "device": "cpu", "dtype": "float32"}
    assert {"as loaded", "channels_last", "channels_last, fused QKV"} < set(done["step"])


@pytest.mark.slow
def test_refining_comes_to_its_end(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu.main([*TINY, "--side", "32", "--only", "refine", "--out", str(out)]) == 0, out.read_text()
    done = json.loads(out.read_text())["refine"]
    assert {row["what"].split(",")[0] for row in done["rows"]} >= {"clean", "paper", "exact"}
    assert all(row["ours"] > 0 and math.isfinite(row["ratio"]) for row in done["rows"])
    assert done["tables"][0]["rows"][-1][0] == "10 guided + 10 plain"


@pytest.mark.slow
def test_all_sections_run_whole(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu.main([*TINY, "--minutes", "60", "--out", str(out)]) == 0, out.read_text()
    done = json.loads(out.read_text())
    assert done["fp16"]["half alone"]["finite"] is False
    assert done["fp16"]["marked for upcasting"]["finite"] is True
    assert {"judge moe_agiqa", "judge mdiqa", "maps, one look", "refine, guidance"} <= set(done["judges"])
    assert done["judges"]["refine, guidance"]["most_MiB"] > 0
    assert done["painters"]["own"]["moved_share"] > 0.1
    assert done["painters"]["StableDiffusionInpaintPipeline"]["moved_share"] > 0.1
    assert all(math.isfinite(row["ratio"]) for row in done["refine"]["rows"])


def test_what_has_no_time_or_fails_is_said_and_the_rest_goes_on(tmp_path, monkeypatch):
    def broken(geometry, rounds, tune):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setitem(gpu.SECTIONS, "fp16", broken)
    monkeypatch.setitem(gpu.SECTIONS, "judges", lambda geometry, rounds, tune: {"kept": 1})
    out = tmp_path / "gpu.json"
    assert gpu.main([*TINY, "--only", "fp16,judges", "--out", str(out)]) == 1
    done = json.loads(out.read_text())
    assert done["fp16"]["failed"] == "RuntimeError: CUDA out of memory"
    assert done["judges"]["kept"] == 1
    assert gpu.main([*TINY, "--only", "step", "--minutes", "-1", "--out", str(out)]) == 1
    assert "were over" in json.loads(out.read_text())["step"]["not measured"]


def test_no_device_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err
