"""Folders in, verdict, tables and report out; with judges that really measure pixels."""

from __future__ import annotations

import csv
import json
import math
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from stored_rows import read_rows
from typer.testing import CliRunner

from grefine import evaluate_folders
from grefine.errors import ConfigError, MetricUnavailable
from grefine.evaluate.tables import values_of
from grefine.evaluate.views import summary


def test_identity_is_no_change_and_a_blurred_copy_is_worse(folders, judges, blur, tmp_path):
    same = evaluate_folders(*folders(8)[:2], metrics=judges)
    assert same.verdict == "no change"
    assert all(m.gain.mean == 0 and m.gain.tie == 8 for m in same.analysis.metrics)
    values = values_of(same.rows)
    assert set(values["psnr"]["after"].values()) == {100.0}
    blurred = evaluate_folders(*folders(8, blur)[:2], metrics=judges)
    assert blurred.verdict == "worse"
    assert all(m.gain.loss == 8 for m in blurred.analysis.metrics)
    assert blurred.analysis.negative_optimisations == (2, 2)
    assert blurred.sentences[0] == "It made things worse."


def test_the_offline_preset_needs_no_weights_and_sees_blur(folders, blur):
    before, after, _ = folders(8)
    for index, path in enumerate(sorted(before.iterdir())):
        large = Image.open(path).resize((128, 128), Image.Resampling.NEAREST)
        large.save(path)
        blur(large, index).save(after / path.name)
    result = evaluate_folders(before, after, metrics="offline", noise_images=4)
    assert result.verdict == "worse"
    assert result.analysis.axes[0].metrics == ("brisque_severity", "piqe", "metric_q")
    silent = {m.metric: m.unfit for m in result.analysis.metrics if not m.evidence}
    assert silent == {"niqe": True, "blur_effect": False, "noise_level": False, "colourfulness": False}, (
        "one patch of a drawing"
    )


def test_everything_is_written_and_the_long_table_is_the_truth(folders, judges, blur, tmp_path):
    before, after, prompts = folders(9, blur, names="{0:02d}/=cmd,{0}.png")
    out = tmp_path / "out"
    result = evaluate_folders(before, after, prompts=prompts, metrics=judges, group="generator", out=out)
    assert {p.name for p in out.iterdir()} == {
        "scores.csv", "scores.jsonl", "table.md", "table.tex", "table.csv", "images.csv", "summary.json",
        "report.html",
    }  # fmt: skip
    assert tuple(read_rows(out / "scores.csv")) == result.rows
    found = json.loads((out / "summary.json").read_text())
    assert found["verdict"] == "worse"
    assert set(found["groups"]) == {"A", "B", "C"}
    assert result.prompting.prompts["03/=cmd,3.png"] == "a ball number 3"
    with (out / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["worse_on"] for row in rows] == ["2"] * 9
    assert float(rows[0]["edges_after"]) < float(rows[0]["edges_before"])
    assert "softness ↓" in (out / "table.md").read_text()


def test_twice_computes_nothing(folders, judges, tmp_path):
    before, after, _ = folders(7, lambda image, i: image.rotate(90))
    first = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out", noise_images=3)
    assert first.computed == sum(j.calls for j in judges) + 7
    calls = sum(j.calls for j in judges)
    assert calls == 2 * (7 + 7 + 3), "on pictures with noise only one of the three probes stays unseen"
    second = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out", noise_images=3)
    assert second.computed == 0
    assert second.rows == first.rows
    assert sum(j.calls for j in judges) == calls
    # A changed file is scored again, and only that one.
    Image.new("RGB", (48, 48), "red").save(after / "03.png")
    third = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out", noise_images=3)
    assert third.computed == 2 + 1


def test_a_killed_run_goes_on(folders, make_judge, tmp_path):
    class Killed(BaseException):
        pass

    before, after, _ = folders(20, lambda image, i: image.rotate(180))
    judge = make_judge("m", np.mean)
    measure, seen = judge.measure, []

    def dies(x):
        if len(seen) == 25:
            raise Killed
        seen.append(1)
        return measure(x)

    judge.measure = dies
    with pytest.raises(Killed):
        evaluate_folders(before, after, metrics=[judge], out=tmp_path / "out", noise_images=0)
    judge.measure, judge.calls = measure, 0
    result = evaluate_folders(before, after, metrics=[judge], out=tmp_path / "out", noise_images=0)
    assert judge.calls == 40 - 16  # One batch of 16 had been written.
    fresh = evaluate_folders(before, after, metrics=[make_judge("m", np.mean)], noise_images=0)
    assert result.rows == fresh.rows


def test_nan_and_failing_metrics_leave_the_rest(folders, judges, make_judge):
    before, after, _ = folders(8, lambda image, i: image.rotate(90))

    def sometimes(x):
        return math.nan if int(x.sum()) % 3 == 0 else x.mean()

    def never(x):
        raise RuntimeError("no memory\nsecond line")

    def refuses(x):
        raise MetricUnavailable("not today.")

    extra = [make_judge("nan", sometimes), make_judge("broken", never), make_judge("refuses", refuses)]
    result = evaluate_folders(before, after, metrics=[*judges, *extra])
    assert [m.metric for m in result.analysis.metrics][:2] == ["edges", "softness"]
    assert result.unavailable["broken"] == "RuntimeError: no memory"
    assert any(note.startswith("nan gave no number for") for note in result.notes)
    assert any("not today." in note for note in result.notes)
    json.dumps(summary(result), allow_nan=False)


def test_all_equal_scores(folders, make_judge, tmp_path):
    before, after, _ = folders(7, lambda image, i: image.rotate(90))
    result = evaluate_folders(before, after, metrics=[make_judge("flat", lambda x: 1.0)], out=tmp_path / "out")
    assert result.verdict == "no change"
    assert result.analysis.metrics[0].gain.p == 1.0


def test_one_image(folders, judges, tmp_path):
    before, after, _ = folders(1, lambda image, i: image.rotate(90))
    result = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out")
    assert result.verdict in ("unclear", "no change")
    assert any("too few" in sentence for sentence in result.sentences)


def test_unreadable_files_are_named_and_left_out(folders, judges, tmp_path):
    before, after, _ = folders(6)
    (after / "02.png").write_bytes((after / "02.png").read_bytes()[:200])
    result = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out")
    assert list(result.failed) == ["02.png"]
    assert len(result.files["before"]) == 5
    for path in (*before.iterdir(), *after.iterdir()):
        path.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="No pair of images can be read"):
        evaluate_folders(before, after, metrics=judges)


def test_other_sizes_follow_the_stated_rule(folders, judges):
    before, after, _ = folders(6, lambda image, i: image.resize((96, 96), Image.Resampling.NEAREST))
    result = evaluate_folders(before, after, metrics=judges)
    assert any("6 images have another size" in note for note in result.notes)
    assert min(values_of(result.rows)["psnr"]["after"].values()) > 20


def test_prompts_for_strangers_and_from_metadata(folders, make_judge, tmp_path):
    before, after, prompts = folders(6)
    with prompts.open("a") as file:
        file.write("ghost.png,nobody,A\n")
    judge = make_judge("fit", np.mean, needs_prompt=True, axis="alignment")
    result = evaluate_folders(before, after, prompts=prompts, metrics=[judge])
    assert any("1 prompts name no image" in note and "ghost.png" in note for note in result.notes)
    assert result.analysis.axes[1].gain.n == 6
    bare = evaluate_folders(before, after, metrics=[judge])
    assert bare.unavailable["fit"].startswith("needs prompts")
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a lone ball\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 48x48")
    Image.open(before / "00.png").save(before / "00.png", pnginfo=info)
    some = evaluate_folders(before, after, metrics=[judge])
    assert some.prompting.prompts == {"00.png": "a lone ball"}
    assert any("needs a prompt, and there is none for 5 images" in note for note in some.notes)


def test_outputs_name_what_steered_them(folders, make_judge):
    from grefine.io.record import KEY, RefineRecord

    before, after, _ = folders(6)
    record = RefineRecord("0.1.0", "tiny", "x", 0, "refined", "ok", True, after={"mdiqa.overall": 0.5})
    for path in after.iterdir():
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEY, record.to_text())
        Image.open(path).save(path, pnginfo=info)
    result = evaluate_folders(before, after, metrics=[make_judge("mdiqa", np.mean), make_judge("free", np.mean)])
    assert {m.metric: m.spec.used_in_loop for m in result.analysis.metrics} == {"mdiqa": True, "free": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metrics": "piqq"}, "did you mean"),
        ({"metrics": ["piqq"]}, "No metric 'piqq'"),
        ({"metrics": (), "group": "generator"}, "is a column of the prompt table"),
        ({"pipeline": "nowhere"}, "no pipeline 'nowhere'"),
        ({"weights": {"nonsense": "x"}}, "No metric 'nonsense'"),
    ],
)
def test_arguments_that_cannot_be_used(folders, arguments, words):
    with pytest.raises(ConfigError, match=words):
        evaluate_folders(*folders(2)[:2], **arguments)


def test_a_metric_without_weights_is_named_not_dropped(folders, judges):
    result = evaluate_folders(*folders(3)[:2], metrics=[*judges, "lar_iqa"])
    assert "lar_iqa needs" in result.unavailable["lar_iqa"]


def test_command_line(folders, tmp_path, monkeypatch):
    from grefine.cli.main import app

    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    before, after, _ = folders(3)
    run = ["evaluate", str(before), str(after), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*run, "--metrics", "lar_iqa"])
    assert done.exit_code == 0, done.output
    assert "Nothing here may judge." in done.stdout
    assert "lar_iqa did not run" in done.stderr
    done = CliRunner().invoke(app, [*run, "--metrics", "lar_iqa", "--json"])
    assert json.loads(done.stdout)["verdict"] == "no evidence"
    os.truncate(after / "01.png", 50)
    done = CliRunner().invoke(app, [*run, "--metrics", "lar_iqa"])
    assert done.exit_code == 1
    assert "01.png" in done.stderr


@pytest.mark.parametrize("name", ["offline", "paper13", "alignment", "judges"])
def test_presets_name_registered_metrics(name):
    from grefine.evaluate.scoring import wanted_metrics
    from grefine.scorers.registry import known_metric

    names = wanted_metrics(name)
    assert [known_metric(metric) for metric in names] == list(names)
