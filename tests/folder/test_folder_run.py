"""A run from files to files: what comes out, what is kept, what is told."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from small_world import (
    PROMPTS,
    STRANGE,
    by_file,
    config,
    journal_of,
    make_folder,
    random_pipeline,
    rows,
    run,
    scene,
    snapshot,
    tree,
)

from grefine.errors import ConfigError
from grefine.folder.batch import run_batch
from grefine.folder.options import FolderOptions
from grefine.folder.progress import PlainReporter, tell_json
from grefine.folder.task import Task, pipeline_name, weights_fingerprint
from grefine.folder.worklist import list_work
from grefine.io.images import decode_image, encode_image, read_image
from grefine.io.journal import read_journal
from grefine.io.prompts import find_prompt
from grefine.io.record import read_record


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(scope="module")
def done(pipe, tmp_path_factory):
    """One run over a mixed folder, looked at by several tests."""
    root = tmp_path_factory.mktemp("run")
    source = make_folder(root / "in", 12)
    before = snapshot(source)
    events = []
    summary = run(source, root / "out", pipe, report=events.append)
    return source, root / "out", summary, events, before


def test_every_image_comes_out_once_where_it_was(done):
    source, out, summary, _, before = done
    images = {str(p.relative_to(source)) for p in source.rglob("*") if p.suffix != ".txt" and p.is_file()}
    assert images <= set(tree(out))
    assert set(by_file(out)) == images
    assert len(rows(out)) == 12
    assert summary.done == 12
    assert summary.counts["refined"] > 0
    assert summary.counts["beyond"] > 0
    assert summary.exit_code == 0
    assert snapshot(source) == before


def test_rows_say_what_was_done(done):
    _, out, _, _, _ = done
    for file, row in by_file(out).items():
        assert row["prompt"] in PROMPTS
        assert row["prompt_origin"] == ("A1111 infotext" if file.endswith(".png") else "sidecar .txt")
        assert row["reason"]
        assert set(row["scores"]["before"]) >= {"p"}
        assert row["output"] == file
        assert len(row["input"]["sha256"]) == 64


def test_untouched_pictures_keep_their_very_bytes_but_for_the_record(done):
    source, out, _, _, _ = done
    for file, row in by_file(out).items():
        if row["state"] not in ("untouched", "beyond"):
            continue
        old, new = (source / file).read_bytes(), (out / file).read_bytes()
        assert read_image(out / file).rgb.tobytes() == read_image(source / file).rgb.tobytes()
        assert len(new) > len(old)
        if file.endswith(".png"):
            assert new.startswith(old[:-12])


def test_outputs_keep_their_texts_and_gain_one_record(done):
    source, out, _, _, _ = done
    for file, row in by_file(out).items():
        old, new = read_image(source / file), read_image(out / file)
        kept = [t for t in new.embedded.texts if t.key != "grefine"]
        assert kept == list(old.embedded.texts)
        assert len(new.embedded.texts) == len(kept) + 1
        record = read_record(new.embedded)
        assert (record.state, record.reason, record.passes) == (row["state"], row["reason"], 1)
        assert record.source == row["input"]["sha256"]
        assert dict(record.before) == row["scores"]["before"]
        assert find_prompt(new) == find_prompt(old)


def test_refined_pictures_changed_and_have_a_panel(done):
    source, out, _, _, _ = done
    for file, row in by_file(out).items():
        panel = out / "panels" / f"{file}.png"
        assert panel.exists() == (row["state"] == "refined")
        if row["state"] == "refined":
            assert read_image(out / file).rgb.tobytes() != read_image(source / file).rgb.tobytes()
            with Image.open(panel) as drawn:
                assert drawn.width > 3 * 256
                left = drawn.crop((10, 10, 10 + 256, 10 + 256)).resize((32, 32), Image.Resampling.NEAREST)
            assert left.tobytes() == read_image(source / file).rgb.tobytes()


def test_the_table_of_results(done):
    _, out, _, _, _ = done
    lines = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert {line["file"]: line["state"] for line in lines} == {f: r["state"] for f, r in by_file(out).items()}
    assert all(float(line["p_before"]) >= 0 for line in lines)


def test_events(done):
    _, _, summary, events, _ = done
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("image") == 12
    assert events[-1]["counts"]["refined"] == summary.counts["refined"]
    json.dumps(events)


def test_reporters_say_failures_in_one_line(capsys):
    stream = io.StringIO()
    failed = {"event": "image", "state": "failed", "file": STRANGE, "reason": "it is\nbroken."}
    PlainReporter(stream)(failed)
    assert stream.getvalue().count("\n") == 1
    tell_json(failed)
    assert json.loads(capsys.readouterr().out) == failed


def test_running_again_does_nothing_and_adds_no_row(done, pipe):
    source, out, _, _, _ = done
    before, journal = tree(out), journal_of(out).read_bytes()
    again = run(source, out, pipe)
    assert again.resumed == 12
    assert not again.counts
    assert tree(out) == before
    assert journal_of(out).read_bytes() == journal


def test_refining_outputs_again_knows_them(done, pipe, tmp_path):
    _, out, _, _, _ = done
    first = tree(out)
    summary = run(out, tmp_path / "again", pipe)
    assert summary.counts == {"untouched": 12}
    second = tree(tmp_path / "again")
    assert {k: v for k, v in second.items() if k != "results.csv"} == {
        k: v for k, v in first.items() if not k.startswith("panels/") and k != "results.csv"
    }
    assert "Already refined" in rows(tmp_path / "again")[0]["reason"]


def test_an_output_that_was_edited_or_meets_other_settings_is_refined_again(done, pipe, tmp_path):
    _, out, _, _, _ = done
    other = run(out, tmp_path / "other", pipe, seed=7)
    assert other.counts["refined"] > 0
    changed = [f for f, row in by_file(tmp_path / "other").items() if row["state"] == "refined"]
    record = read_record(read_image(tmp_path / "other" / changed[0]).embedded)
    assert (record.passes, record.seed) == (2, 7)
    edited = read_image(out / changed[0])
    (tmp_path / "edited").mkdir()
    turned = edited.rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (tmp_path / "edited" / changed[0].rsplit("/")[-1]).write_bytes(encode_image(turned, edited))
    run(tmp_path / "edited", tmp_path / "edited_out", pipe)
    assert "Already" not in rows(tmp_path / "edited_out")[0]["reason"]


def test_the_unit_of_work_is_a_plain_function(done, pipe, tmp_path):
    source, out, _, _, _ = done
    task = Task(pipeline_name(pipe), weights_fingerprint(pipe), config(), FolderOptions(batch_size=4))
    items = list(list_work([source], tmp_path, task.options))
    found = [row for start in range(0, 12, 4) for row in run_batch(pipe, items[start : start + 4], task)]
    assert {row["file"]: row["state"] for row in found} == {f: r["state"] for f, r in by_file(out).items()}
    expected = {k: v for k, v in tree(out).items() if k != "results.csv"}
    assert tree(tmp_path) == expected


def test_another_batch_size_decides_the_same(done, pipe, tmp_path):
    source, out, _, _, _ = done
    run(source, tmp_path, pipe, batch_size=5)
    for file, row in by_file(out).items():
        assert by_file(tmp_path)[file]["state"] == row["state"]
        if file.endswith(".png"):
            one, two = (np.asarray(read_image(place / file).rgb).astype(int) for place in (out, tmp_path))
            assert np.abs(one - two).max() <= 1


def test_a_changed_configuration_is_noticed(done, pipe):
    source, out, _, _, _ = done
    before = tree(out)
    with pytest.raises(ConfigError, match="the refinement settings changed.*--overwrite always"):
        run(source, out, pipe, settings=config(total_steps=3))
    with pytest.raises(ConfigError, match="the seed changed"):
        run(source, out, pipe, seed=1)
    assert tree(out) == before


def test_formats_suffix_and_alpha(pipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    with_alpha = scene(1)
    with_alpha.putalpha(Image.linear_gradient("L").resize((32, 32)))
    with_alpha.save(source / "a.png")
    scene(2).save(source / "b.jpg", quality=90)
    scene(3).save(source / "c.bmp")
    scene(4).save(source / "d.gif")
    scene(2).save(source / "b.webp")
    run(source, tmp_path / "same", pipe, prompt=PROMPTS[0], suffix="_new")
    assert {p for p in tree(tmp_path / "same") if "/" not in p} == {
        "a_new.png", "b_new.jpg", "c_new.png", "d_new.png", "b_new.webp", "results.csv",
    }  # fmt: skip
    assert read_image(tmp_path / "same/a_new.png").alpha.tobytes() == with_alpha.getchannel("A").tobytes()
    assert read_image(tmp_path / "same/c_new.png").format == "PNG"
    run(source, tmp_path / "webp", pipe, prompt=PROMPTS[0], format="webp")
    names = {p for p in tree(tmp_path / "webp") if "/" not in p}
    assert names == {"a.webp", "b.jpg.webp", "b.webp", "c.webp", "d.webp", "results.csv"}
    assert all(read_image(tmp_path / "webp" / n).format == "WEBP" for n in names if n.endswith("webp"))
    jpeg = run(source, tmp_path / "jpeg", pipe, prompt=PROMPTS[0], format="jpeg")
    assert jpeg.exit_code == 1
    assert "JPEG cannot hold" in by_file(tmp_path / "jpeg")["a.png"]["reason"]
    assert not (tmp_path / "jpeg/a.jpg").exists()


def test_overwrite(pipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c"):
        scene(ord(name)).save(source / f"{name}.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"somebody else's")
    first = run(source, out, pipe)
    assert (first.counts["failed"], first.exit_code) == (1, 1)
    assert (out / "b.png").read_bytes() == b"somebody else's"
    assert "another file stands where its result belongs" in by_file(out)["b.png"]["reason"]
    os.utime(out / "a.png", (1, 1))
    scene(99).save(source / "a.png")
    older = run(source, out, pipe, overwrite="older")
    assert older.done == 1
    assert read_record(read_image(out / "a.png").embedded).source == rows(out)[-1]["input"]["sha256"]
    always = run(source, out, pipe, overwrite="always")
    assert always.done == 3
    assert read_image(out / "b.png").format == "PNG"
    assert len(rows(out)) == 3
    assert len(list((out / ".grefine").glob("journal-*.jsonl"))) == 1


def test_prompts_that_are_missing_or_unclear_are_listed(pipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scene(1).save(source / "none.png")
    scene(2).save(source / "unclear.png")
    (source / "unclear.json").write_text('{"seed": 1}')
    summary = run(source, tmp_path / "out", pipe)
    assert (summary.without_prompt, summary.unsure_count) == (["none.png"], 1)
    text = "\n".join(summary.lines())
    assert "1 had no prompt: only quality was judged." in text
    assert "unclear.png (sidecar .json" in text
    assert by_file(tmp_path / "out")["unclear.png"]["prompt"] == ""


def test_an_image_that_fails_alone_does_not_take_its_batch(pipe, tmp_path, monkeypatch):
    source = make_folder(tmp_path / "in", 4)
    call = type(pipe).__call__
    bad = scene(1).tobytes()

    def moody(self, prompt, image, **options):
        if any(one.tobytes() == bad for one in image):
            raise RuntimeError("the weather\nis bad")
        return call(self, prompt=prompt, image=image, **options)

    monkeypatch.setattr(type(pipe), "__call__", moody)
    summary = run(source, tmp_path / "out", pipe)
    assert summary.counts["failed"] == 1
    assert by_file(tmp_path / "out")["0001.png"]["reason"] == "Refining it failed: RuntimeError: the weather."
    assert summary.done == 3


def test_a_pipeline_that_always_fails_ends_the_run(pipe, tmp_path, monkeypatch):
    source = make_folder(tmp_path / "in", 12)
    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: 1 / 0)
    summary = run(source, tmp_path / "out", pipe, batch_size=1)
    assert "3 batches in a row" in summary.stopped
    assert summary.left >= 6
    assert summary.exit_code == 1


def test_two_runs_do_not_share_a_folder(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 2)
    told = []

    def meddle(event):
        if event["event"] == "image" and not told:
            with pytest.raises(ConfigError, match="Another run"):
                run(source, tmp_path / "out", pipe)
            told.append(True)

    run(source, tmp_path / "out", pipe, report=meddle)
    assert told


def test_wrong_sources(pipe, tmp_path):
    with pytest.raises(ConfigError, match="Nothing to refine"):
        run([], tmp_path / "out", pipe)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="No images in"):
        run(tmp_path / "empty", tmp_path / "out", pipe)
    with pytest.raises(ConfigError, match="missing.png' does not exist"):
        run("missing.png", tmp_path / "out", pipe)
    assert not (tmp_path / "out").exists()
    scene(1).save(tmp_path / "a.png")
    summary = run(["missing.png", tmp_path / "a.png"], tmp_path / "out", pipe)
    assert (summary.counts["failed"], summary.done, summary.exit_code) == (1, 1, 1)
    assert "does not exist" in by_file(tmp_path / "out")["missing.png"]["reason"]


def test_formula_names_are_text_in_the_table(pipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scene(1).save(source / "=cmd.png")
    (source / "=cmd.txt").write_text("+a red ball")
    run(source, tmp_path / "out", pipe)
    line = next(csv.DictReader(io.StringIO((tmp_path / "out/results.csv").read_text())))
    assert (line["file"], line["prompt"]) == ("'=cmd.png", "'+a red ball")


def test_names_of_any_bytes(pipe, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    out = io.BytesIO()
    scene(1).save(out, "PNG")
    (source / STRANGE).write_bytes(out.getvalue())
    stream = io.StringIO()
    summary = run(source, tmp_path / "out", pipe, report=PlainReporter(stream))
    assert summary.done == 1
    assert decode_image((tmp_path / "out" / STRANGE).read_bytes()).format == "PNG"
    assert next(r for r in read_journal(journal_of(tmp_path / "out")) if r["kind"] == "image")["file"] == STRANGE
