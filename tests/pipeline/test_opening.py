"""How a command opens a pipeline: precision, offloading, added judges; and who is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from components import pipeline
from PIL import Image

from grefine.cli.main import main
from grefine.errors import ConfigError
from grefine.opening import Opening, choose_dtype, missing_judges, open_pipeline, read_preferences
from grefine.refine.settings import RefineConfig


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [("auto", "cpu", torch.float32), ("bf16", "cpu", torch.bfloat16), ("fp32", "cuda", torch.float32),
     ("fp16", "cuda", torch.float16), ("auto", "mps", torch.float16)],
)  # fmt: skip
def test_precision(name, device, expected):
    assert choose_dtype(name, device) == expected


@pytest.mark.parametrize(
    ("opening", "words"),
    [
        (Opening(dtype="fp16"), "fp16 on a CPU"),
        (Opening(dtype="fp8"), "auto, fp32, fp16, bf16, not 'fp8'"),
        (Opening(offload="model"), "needs one: give --device cuda"),
        (Opening(offload="disk"), "none, model, sequential"),
        (Opening(device="cuda"), "no usable GPU"),
        (Opening(judges=("clipqa",)), "did you mean 'clipiqa'"),
    ],
)
def test_what_cannot_be_is_one_sentence(opening, words):
    if opening.device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=words):
        open_pipeline("tiny", opening)


CRAMPED = """
import re, resource
from grefine.errors import ConfigError
from grefine.opening import Opening, open_pipeline

held = open_pipeline("tiny", Opening())  # so that every library is loaded, and none of its memory free again
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20,) * 2)
try:
    open_pipeline("tiny", Opening())
except ConfigError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account of memory")
def test_no_memory_for_the_precision_is_one_sentence():
    done = subprocess.run([sys.executable, "-c", CRAMPED], capture_output=True, text=True)
    assert "'tiny' in float32 does not fit into the memory of cpu: use --dtype bf16" in done.stdout, done.stderr


WITHOUT_HOOKS = """
import sys
sys.modules |= {"accelerate": None, "peft": None}  # as where neither is installed; peft cannot be without it
from grefine.errors import ConfigError
from grefine.opening import Opening, open_pipeline

try:
    open_pipeline("tiny", Opening(device="meta", offload="model"))
except ConfigError as error:
    print(error)
"""


def test_offload_without_accelerates_hooks_is_one_sentence():
    done = subprocess.run([sys.executable, "-c", WITHOUT_HOOKS], capture_output=True, text=True)
    assert "--offload needs the package accelerate: `pip install accelerate`." in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--offload=model", "--offload spares a GPU's memory and needs one: give --device cuda, or leave it out."),
        ("--dtype=fp16", "fp16 on a CPU is slow and overflows: use --dtype fp32, or bf16 where memory is short."),
    ],
)  # fmt: skip
def test_what_a_cpu_cannot_is_one_sentence_of_the_command(tmp_path, option, sentence, monkeypatch, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    command = ["refine", tmp_path / "a.png", "-o", tmp_path / "out", "--prompt", "a ball", option]
    command += ["--pipeline", "tiny"]
    monkeypatch.setattr(sys, "argv", ["grefine", *map(str, command)])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("grefine: ")]
    assert said == [f"grefine: {sentence}"]
    assert not (tmp_path / "out").exists()


def test_precision_arrives_and_the_maps_keep_theirs():
    pipe = open_pipeline("tiny", Opening(dtype="bf16"))
    assert pipe.unet.dtype == pipe.mdiqa.dtype == torch.bfloat16
    assert pipe.clip.dtype == torch.float32


def test_added_judges_join_or_replace_the_pipelines_own():
    pipe = open_pipeline("tiny", Opening(judges=("piqe", "lar_iqa=tiny")))
    names = [judge.spec.name for judge in pipe.judges()]
    assert sorted(names) == ["lar_iqa", "mdiqa", "moe_agiqa", "piqe"]
    assert [judge.spec.name for judge in pipe.judges(steered=("lar_iqa",))] == ["moe_agiqa", "mdiqa", "piqe"]


def test_a_loaded_pipeline_keeps_its_precision():
    pipe = pipeline()
    assert open_pipeline(pipe, Opening()) is pipe
    with pytest.raises(ConfigError, match="a pipeline that is not loaded yet"):
        open_pipeline(pipe, Opening(dtype="bf16"))


def test_who_is_missing_is_said():
    assert missing_judges(open_pipeline("tiny", Opening())) == ""
    assert "No judge of quality and the prompt" in missing_judges(pipeline())
    judged = open_pipeline(pipeline(), Opening(judges=("piqe",)))
    assert "No judge of the prompt beside the maps" in missing_judges(judged)
    assert "the prompt" in missing_judges(open_pipeline("tiny", Opening()), RefineConfig(guidance={"moe-agiqa": 1.0}))
    chosen = missing_judges(open_pipeline("tiny", Opening()), config=RefineConfig(candidates="4 by moe_agiqa"))
    assert "No judge of the prompt beside the maps" in chosen, "who chooses does not decide"


def test_preferences():
    assert read_preferences(["sharpness:1", "moe-agiqa:-0.5"]) == {"sharpness": 1.0, "moe-agiqa": -0.5}
    with pytest.raises(ConfigError, match="takes NAME:NUMBER, not 'sharp'"):
        read_preferences(["sharp"])
