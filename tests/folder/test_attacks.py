"""What a hostile or unlucky folder, file, configuration or journal may try; each test is the attack."""

from __future__ import annotations

import json
import os
import time

import pytest
from small_world import by_file, random_pipeline, rows, run, scene

from grefine.config import load_config
from grefine.errors import ConfigError
from grefine.io.generators.comfyui import read_comfyui
from grefine.io.generators.infotext import read_infotext
from grefine.io.prompts import PromptSources
from grefine.refine.settings import RefineConfig


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    scene(1).save(tmp_path / "in" / "a.png")
    return tmp_path / "in"


def seconds(work):
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def test_giant_comfyui_graphs_cost_little(pipe):
    def graph(samplers):
        nodes = {str(i): {"class_type": "KSampler", "inputs": {"positive": ["t", 0]}} for i in range(samplers)}
        batch = {f"i{i}": [str(i), 0] for i in range(samplers)}
        nodes["t"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a red ball", "clip": ["c", 1]}}
        nodes |= {f"s{i}": {"class_type": "SaveImage", "inputs": batch} for i in range(2)}
        return nodes

    found, spent = seconds(lambda: read_comfyui(json.dumps(graph(3000)), None))
    assert found.prompt == "a red ball"
    assert spent < 2
    many = graph(3000)
    for i in range(3000):  # each sampler has a long way of its own to the words
        many[str(i)]["inputs"]["positive"] = [f"w{i}", 0]
        many[f"w{i}"] = {"class_type": "Reroute", "inputs": {f"any{k}": ["t", 0] for k in range(40)}}
    found, spent = seconds(lambda: read_comfyui(json.dumps(many), None))
    assert found.unsure
    assert spent < 5


def test_a_line_without_end_costs_little():
    _, spent = seconds(lambda: read_infotext("a ball\n" + "word " * 4_000))
    assert spent < 1


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
YAML = {
    "laughs": (f"total_steps: {{{LAUGHS.replace(chr(10), ', ')}}}", "must be a whole number"),
    "laughs for a choice": (f"preserve: {{{LAUGHS.replace(chr(10), ', ')}}}", "must be one of"),
    "a tag": ("total_steps: !!python/object/apply:os.system ['touch owned']", "constructor for the tag"),
    "a recursion": ("total_steps: &x [*x]", "must be a whole number|recursive"),
    "depth": ("total_steps: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "a list as key": ("[1, 2]: 3", "unknown key"),
    "a mapping as key": ("? {a: 1}\n: 3", "unknown key"),
    "a key like a novel": (f"{'k' * 1_000}: 3", "unknown key"),
    "a date that is none": ("total_steps: 2001-99-99", "month|not YAML"),
    "bytes": (b"total_steps: \xff\xfe", "not UTF-8"),
    "control characters": ("total_steps: \x00\x01", "not YAML that can be used"),
    "a list": ("- 1", "must hold `key: value` lines"),
    "a tag as value": ("total_steps: !!binary aGVsbG8=", "must be a whole number"),
    "a set": ("total_steps: !!set {a, b}", "must be a whole number"),
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_configurations_are_one_short_sentence(tmp_path, monkeypatch, name):
    content, match = YAML[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=match) as caught:
        _, spent = seconds(lambda: load_config(path, RefineConfig))
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_a_sidecar_does_not_lead_out_of_its_folder(pipe, source, tmp_path):
    (tmp_path / "secret").write_text("the password is swordfish")
    (source / "a.txt").symlink_to(tmp_path / "secret")
    summary = run(source, tmp_path / "out", pipe)
    row = by_file(tmp_path / "out")["a.png"]
    assert row["prompt"] == ""
    assert "symbolic link out of the image's folder" in row["prompt_unsure"]
    assert summary.unsure_count == 1
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"swordfish" not in path.read_bytes(), path
    assert PromptSources(follow_links=True)._ask("sidecar", picture(source), "a.png").prompt.endswith("swordfish")
    (source / "b.txt").write_text("a ball")
    (source / "a.txt").unlink()
    (source / "a.txt").symlink_to(source / "b.txt")
    assert PromptSources().find(picture(source), "a.png").prompt == "a ball"


def picture(source):
    from grefine.io.images import read_image

    return read_image(source / "a.png")


@pytest.mark.parametrize("length", [247, 251, 255])
def test_the_longest_names_are_refined(pipe, source, tmp_path, length):
    name = "n" * (length - 4) + ".png"
    (source / "a.png").rename(source / name)
    summary = run(source, tmp_path / "out", pipe)
    assert (summary.done, summary.exit_code) == (1, 0), rows(tmp_path / "out")
    state = by_file(tmp_path / "out")[name]["state"]
    assert len(list((tmp_path / "out").glob("panels/*.png"))) == (state == "refined")
