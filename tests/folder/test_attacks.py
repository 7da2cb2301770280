"""What a hostile or unlucky folder, file, configuration or journal may try; each test is the attack."""

from __future__ import annotations

import json
import os
import shutil
import time
from functools import partial
from itertools import islice

import pytest
from small_world import by_file, config, journal_of, make_folder, random_pipeline, rows, run, scene

from grefine.config import load_config
from grefine.errors import ConfigError, PromptError
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.folder.worklist import list_work
from grefine.io.generators.comfyui import read_comfyui
from grefine.io.generators.infotext import read_infotext
from grefine.io.prompt_table import read_prompt_table
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


def test_out_that_is_moved_or_emptied_during_a_run_is_no_success(pipe, tmp_path):
    source, out = make_folder(tmp_path / "in", 12), tmp_path / "out"

    def at_the_first_image(act):
        seen = []

        def report(event):
            if event["event"] == "image" and not seen:
                seen.append(act())

        return report

    moved = run(source, out, pipe, report=at_the_first_image(lambda: out.rename(tmp_path / "elsewhere")))
    assert "moved or removed during the run" in moved.stopped
    assert moved.exit_code == 1
    again = run(source, tmp_path / "elsewhere", pipe)
    assert again.exit_code == 0
    assert again.done + again.resumed == 12

    def empty():
        for path in out.glob("*.*"):
            path.unlink()

    emptied = run(source, out, pipe, report=at_the_first_image(empty), batch_size=2)
    assert emptied.vanished > 0
    assert emptied.exit_code == 1
    assert f"{emptied.vanished} results are gone again" in "\n".join(emptied.lines())
    assert run(source, out, pipe, batch_size=2).exit_code == 0


ODD = [
    None,
    7,
    -1,
    1e400,
    True,
    "",
    "../../victim",
    "/etc/passwd",
    "\ud800",
    [],
    [None],
    {},
    {"before": 3},
    "x" * 10_000,
]


def edited(journal):
    """Every value of every row, replaced by every odd one, and left out."""
    units = [json.loads(line) for line in journal.read_text().splitlines()]
    for at, row in enumerate(units):
        for key in row:
            for value in [*ODD, "missing"]:
                changed = [dict(r) for r in units]
                changed[at] = {k: v for k, v in row.items() if k != key} | ({} if value == "missing" else {key: value})
                yield f"{row.get('kind')} {key} {value!r:.20}", "".join(json.dumps(r) + "\n" for r in changed)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_edited_journals_cost_no_more_than_doing_it_again(pipe, source, tmp_path, every):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    kept = victim / ".grefine-partial-of-somebody"
    kept.write_text("mine")
    options = FolderOptions(panels=False)
    work = partial(refine_folder, source, out, pipe, config=config(stage1=False), options=options)
    work()
    journal = journal_of(out)
    whole = journal.read_bytes()
    refused, count = set(), 0
    for name, text in islice(edited(journal), 0, None, every):  # every odd value is among a quarter
        count += 1
        journal.write_text(text)
        try:
            summary = work()
        except ConfigError as error:
            refused.add(str(error).partition(" holds ")[2][:16])
            continue
        finally:
            for aside in journal.parent.glob("journal.jsonl.damaged"):
                aside.unlink()
        assert summary.counts["failed"] == 0, name
        assert summary.done + summary.resumed == 1, name
        assert not summary.unwritten, name
    assert count > 300 / every
    # What was said of the settings no longer agrees; an entry of another picture is not taken for this one.
    assert refused <= {"results of other"}
    assert kept.read_text() == "mine"
    journal.write_bytes(whole)
    assert work().resumed == 1


def test_a_journal_that_is_a_link_or_a_pipe_is_refused(pipe, source, tmp_path):
    out = tmp_path / "out"
    run(source, out, pipe)
    target = tmp_path / "target"
    target.write_text("precious\n")
    journal_of(out).unlink()
    journal_of(out).symlink_to(target)
    with pytest.raises(ConfigError, match="no ordinary file"):
        run(source, out, pipe)
    journal_of(out).unlink()
    os.mkfifo(journal_of(out))
    with pytest.raises(ConfigError, match="no ordinary file"):
        run(source, out, pipe)
    shutil.rmtree(out / ".grefine")
    (out / ".grefine").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="symbolic link"):
        run(source, out, pipe)
    assert target.read_text() == "precious\n"


def test_a_folder_in_the_place_of_a_result_fails_alone(pipe, source, tmp_path):
    scene(2).save(source / "b.png")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    for overwrite in ("never", "always"):
        summary = run(source, tmp_path / "out", pipe, overwrite=overwrite)
        assert (summary.counts["failed"], summary.exit_code, summary.stopped) == (1, 1, "")
        assert (tmp_path / "out" / "b.png").is_file()


def test_a_source_folder_does_not_write_among_the_panels(pipe, source, tmp_path):
    (source / "panels").mkdir()
    shutil.copy(source / "a.png", source / "panels" / "a.png.png")
    found = {
        item.relative: (item.refused, item.failed) for item in list_work([source], tmp_path / "o", FolderOptions())
    }
    assert found["a.png"] == ("", False)
    assert "the run's own pictures" in found["panels/a.png.png"][0]
    assert run(source, tmp_path / "out", pipe).exit_code == 1


def test_a_quote_that_is_never_closed_is_named(tmp_path):
    table = tmp_path / "p.csv"
    table.write_text('file,prompt\na.png,"a red ball\nb.png,a blue box\n')
    with pytest.raises(PromptError, match="a quote is never closed"):
        read_prompt_table(table)


def test_two_folders_of_one_name_are_refused(tmp_path):
    for one in ("a", "b"):
        (tmp_path / one / "x").mkdir(parents=True)
    with pytest.raises(ConfigError, match="Two folders are called 'x'"):
        list(list_work([tmp_path / "a/x", tmp_path / "b/x"], tmp_path / "out", FolderOptions()))
