"""The joint page of a comparison, and what pages know of outputs that `grefine refine` made."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter

from grefine.evaluate.compare import compare_refiners
from grefine.evaluate.run import evaluate_folders
from grefine.evaluate.views import headline_of
from grefine.io.images import CONTAINERS, encode_image, pixel_digest, read_image
from grefine.io.journal import Journal
from grefine.io.record import KEY, RefineRecord
from grefine.io.run_files import layer_path
from grefine.report.entry import RefineRecords

EVIL = "<b onclick=x>'&"


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


@pytest.fixture
def joint(folders, judges, make_judge, tmp_path):
    before, after, prompts = folders(9, lambda image, i: image.filter(ImageFilter.GaussianBlur(2)))
    third = make_judge("contrast", lambda x: x.std())
    found = compare_refiners(
        [before], out=tmp_path / "out", outputs={EVIL: after}, metrics=[*judges, third], prompts=prompts,
        group="generator", noise_images=4,
    )  # fmt: skip
    return found, tmp_path / "out" / "report.html"


def test_one_page_holds_every_method(joint):
    found, path = joint
    page = path.read_text(encoding="utf-8")
    data = data_of(path)
    assert data["labels"] == ["original", "identity", "blur", "sharpen", EVIL]
    assert "Only sharpen clearly helped" in page
    assert "Worse: blur, &lt;b onclick=x&gt;&#39;&amp;." in page
    assert "<b onclick" not in page
    assert data["first"] == 3
    assert len(data["index"]) == 9
    for name, _, _, gains in data["index"]:
        assert len(gains) == 4
        assert gains[0] == [0.0, None, 0.0, 0.0, 0.0]
        assert gains[1][0] == pytest.approx(found.analyses["blur"].axes[0].per_image[name], abs=1e-6)
    made = data["chunks"][0][0]["made"]
    assert len({entry["after"] for entry in made}) == 4
    assert made[0]["after"] == data["chunks"][0][0]["before"]


def test_the_table_carries_the_papers_marks(joint):
    found, path = joint
    page = path.read_text(encoding="utf-8")
    table = page[page.index('class="wide-table"') :]
    rows = {
        re.search(r'scope="row">(.*?)</th>', row).group(1): re.findall(r'<td class="([^"]*)"', row)
        for row in re.findall(r"<tr.*?</tr>", table[: table.index("</table>")], re.DOTALL)[1:]
    }
    for method, cells in found.table.rows:
        shown = rows[method.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;")]
        for cell, classes in zip(cells, shown, strict=True):
            assert ("best" in classes, "second" in classes, "fell" in classes) == (cell.best, cell.second, cell.worse)
    assert 'edges</span> <abbr title="higher is better">↑' in table
    assert 'softness</span> <abbr title="lower is better">↓' in table


def test_radars_and_forests_have_all_methods(joint):
    _, path = joint
    page = path.read_text(encoding="utf-8")
    radars = re.findall(r'<svg class="radar".*?</svg>', page, re.DOTALL)
    assert len(radars) == 3  # one per generator
    for radar in radars:
        assert {int(k) for k in re.findall(r'class="series s(\d)"', radar)} == {0, 1, 2, 3, 4}
        drawn = re.findall(r'class="series s(\d)"', radar)
        assert drawn[-1] == "0", "the original lies on top, so that an equal method does not hide it"
    forests = re.findall(r'<svg class="forest".*?</svg>', page, re.DOTALL)
    assert len(forests) == 1 + 3  # one axis was judged, and three metrics
    assert forests[0].count('class="row axis') == 4
    assert page.count('href="reports/') == 4


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ({"a": "better", "b": "worse"}, "Only a clearly helped"),
        ({"a": "better", "b": "better", "c": "worse"}, "a and b clearly helped"),
        ({"a": "better", "b": "better", "c": "better"}, "a, b and c clearly helped"),
        ({"a": "mixed", "b": "no change"}, "No method clearly helped"),
        ({"a": "unclear"}, "a did not clearly help"),
        ({"a": "better"}, "a clearly helped"),
        ({"a": "no evidence"}, "Nothing here may judge"),
    ],
)
def test_headlines(verdicts, text):
    assert headline_of(verdicts) == text


def fake_run(folders):
    """Write AFTER as a run of `grefine refine` leaves it: records in the files, a journal and maps beside them."""
    before, after, _ = folders(3, lambda image, i: image.filter(ImageFilter.SHARPEN), names="sub/{0}.png")
    (after / "panels/sub").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(after / "panels/sub/0.png.png")
    rows = []
    for index in range(3):
        name = f"sub/{index}.png"
        source = hashlib.sha256((before / name).read_bytes()).hexdigest()
        image = read_image(after / name)
        png = encode_image(image.rgb, image, "PNG")
        record = RefineRecord(
            "1", "tiny", "c", 0, "refined", f"reason {index}", kept="both", guarded=True, source=source,
            pixels=pixel_digest(png, "PNG"),
        )  # fmt: skip
        (after / name).write_bytes(CONTAINERS["PNG"].put_text(png, KEY, record.to_text()))
        asked = {"text": "a red ball", "weights": [[2, 5, 1.1], [6, 10, 1.1]]}
        decided = {"state": "refined", "reason": f"reason {index}", "source": str(before / name)}
        row = {"kind": "image", "file": name, "output": name, "input": {"sha256": source}, "asked": asked}
        rows.append(row | decided)
        for layer in ("quality", "mask"):
            path = layer_path(after, name, layer)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (8, 8), (index, 0, 0, 9)).save(path)
    with Journal(after / ".grefine/journal.jsonl") as journal:
        journal.append(rows)
    return before, after


def test_an_evaluation_shows_the_maps_of_the_run(folders, judges, tmp_path):
    before, after = fake_run(folders)
    found = evaluate_folders(before, after, metrics=judges, out=tmp_path / "out", noise_images=0)
    assert not found.pairing.only_after, "the run's own panels are no results"
    rows = [row["made"][0] for row in data_of(tmp_path / "out/report.html")["chunks"][0]]
    assert all(set(row["layers"]) == {"quality", "mask"} for row in rows)
    assert len({row["layers"]["mask"] for row in rows}) == 3
    assert [row["reason"] for row in rows] == ["reason 0", "reason 1", "reason 2"]
    assert rows[0]["prompt"] == "a red ball"
    assert rows[0]["emphasis"] == [[2, 10, 1.1]]
    assert rows[0]["guarded"] is True
    assert data_of(tmp_path / "out/report.html")["index"][0][2] == ["both"]


def test_maps_of_other_inputs_are_not_shown(folders, judges, tmp_path):
    before, after = fake_run(folders)
    Image.new("RGB", (48, 48), "red").save(before / "sub/1.png")
    evaluate_folders(before, after, metrics=judges, out=tmp_path / "out", noise_images=0)
    rows = [row["made"][0] for row in data_of(tmp_path / "out/report.html")["chunks"][0]]
    assert [bool(row["layers"]) for row in rows] == [True, False, True]
    assert rows[1]["reason"] == "reason 1"
    assert "1 refined image(s) came from other inputs" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize("asked", ["text", {"text": 3}, {"weights": [[1, 2]]}, {"weights": "ab"}, [1]])
def test_a_journal_that_somebody_else_wrote_costs_only_the_emphasis(folders, asked):
    before, after = fake_run(folders)
    rows = [json.loads(line) for line in (after / ".grefine/journal.jsonl").read_text().splitlines()]
    rows[0]["asked"] = asked
    (after / ".grefine/journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = RefineRecords().about(before / "sub/0.png", after / "sub/0.png")
    assert found["reason"] == "reason 0"
    assert "emphasis" not in found


def test_a_comparison_keeps_the_maps_of_its_own_grefine(folders, judges, tmp_path):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from components import save_tiny

    torch.manual_seed(0)
    before, _, prompts = folders(2)
    options = {
        "out": tmp_path / "out", "refiners": ("grefine", "identity"), "metrics": judges, "prompts": prompts,
        "models": {"grefine": str(save_tiny(tmp_path / "tiny"))}, "steps": 2, "noise_images": 0,
    }  # fmt: skip
    compare_refiners([before], **options)
    rows = data_of(tmp_path / "out/report.html")["chunks"][0]
    assert all("quality" in row["made"][0]["layers"] for row in rows)
    assert all(row["made"][0]["reason"] for row in rows)
    assert not any(row["made"][1]["layers"] for row in rows)
    again = data_of(tmp_path / "out/report.html")
    compare_refiners([before], **options)
    assert data_of(tmp_path / "out/report.html") == again
