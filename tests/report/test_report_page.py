"""The page as text: nothing runs that is not ours, nothing is fetched, everything is said."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from grefine.errors import ImageError
from grefine.folder.views import RefineTally, write_refine_report
from grefine.report.entry import ReportImage, ReportText
from grefine.report.media import FOLDER, layer_png, layers_of
from grefine.report.page import joined_emphasis, write_page
from grefine.types import MetricSpec

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


def write_gallery(out, images, text, specs=None, **options):
    return write_page(out, ([image] for image in images), text, specs or {}, **options)


def entries(count, **facts):
    for index in range(count):
        before = Image.new("RGB", (32, 24), (index * 7 % 256, 40, 90))
        after = Image.new("RGB", (32, 24), (index * 7 % 256, 200, 90))
        yield ReportImage(f"{index:04d}.png", before, after, **facts)


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_hostile_text_stays_text(tmp_path):
    image = ReportImage(
        EVIL, Image.new("RGB", (20, 20)), Image.new("RGB", (20, 20), "red"),
        prompt=EVIL, reason=EVIL, group=EVIL, notes=(EVIL,), scores={EVIL: (0.1, 0.2)}, emphasis=((0, 9, 1.1),),
    )  # fmt: skip
    text = ReportText(EVIL, EVIL, EVIL, facts=((EVIL, EVIL),), missing=((EVIL, EVIL),), notes=(EVIL,))
    page = write_gallery(tmp_path, [image], text, specs={EVIL: MetricSpec(EVIL)}).read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<img" not in page
    assert data_of(tmp_path / "report.html")["chunks"][0][0]["made"][0]["prompt"] == EVIL


def test_only_our_script_may_run_and_nothing_is_fetched(tmp_path):
    page = write_gallery(tmp_path, entries(2), ReportText("t")).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy
    assert not re.search(r"https?://", page)


def test_few_pictures_lie_inside_and_many_beside_the_page(tmp_path):
    inside = data_of(write_gallery(tmp_path / "few", entries(5), ReportText("t")))
    assert len(inside["media"]) == 10
    assert not (tmp_path / "few" / FOLDER).exists()
    beside = data_of(write_gallery(tmp_path / "many", entries(450), ReportText("t"), inline_bytes=2000))
    assert beside["media"] == {}
    assert beside["chunks"] is None
    assert len(beside["index"]) == 450
    files = {p.name for p in (tmp_path / "many" / FOLDER).iterdir()}
    assert {"page-0.js", "page-1.js", "page-2.js"} <= files
    rows = json.loads(
        re.match(r"grefinePage\(2,(.*)\)\n", (tmp_path / "many" / FOLDER / "page-2.js").read_text()).group(1)
    )
    assert len(rows) == 50
    assert rows[0]["before"] in files


def test_a_smaller_report_clears_its_own_leftovers_only(tmp_path):
    write_gallery(tmp_path, entries(30), ReportText("t"), inline_bytes=0)
    (tmp_path / FOLDER / "mine.webp").write_bytes(b"keep")
    write_gallery(tmp_path, entries(3), ReportText("t"), inline_bytes=0)
    files = [p.name for p in (tmp_path / FOLDER).iterdir()]
    assert len(files) == 3 * 2 + 1 + 1
    assert "mine.webp" in files


def test_the_same_report_twice_is_the_same_file(tmp_path):
    pages = [write_gallery(tmp_path / n, entries(4), ReportText("t")).read_bytes() for n in "ab"]
    assert pages[0] == pages[1]


def test_layers_show_bad_places(tmp_path):
    quality = np.ones((40, 60), np.float32)
    quality[:10] = 0.0
    with Image.open(__import__("io").BytesIO(layer_png("quality", quality))) as layer:
        alpha = np.asarray(layer)[..., 3]
    assert layer.size == (60, 40)
    assert alpha[5, 5] > 200
    assert alpha[30, 30] == 0
    with Image.open(__import__("io").BytesIO(layer_png("mask", np.ones((1024, 512), bool)))) as layer:
        assert layer.size == (128, 256)
    for kind, values in (("heat", quality), ("quality", quality[0]), ("mask", np.full((3, 3), np.nan))):
        with pytest.raises(ImageError):
            layer_png(kind, values)


def test_a_refinement_run_counts_decisions_and_claims_nothing(tmp_path):
    facts = {"scores": {"mdiqa.overall": (0.4, 0.6)}, "noise": {"mdiqa.overall": 0.05}, "guarded": True}
    mask = np.zeros((24, 32), bool)
    mask[:5] = True
    images = [
        *entries(3, kept="both", reason="Both gained.", mask=mask, **facts),
        *entries(2, kept="untouched", reason="Nothing to repair.", **facts),
        *entries(1, kept="kept", reason="No candidate was better.", mask=mask, **facts),
    ]
    tally = RefineTally()
    tally.leave_out("failed", "x.png", "is empty")
    tally.leave_out("skipped", "y", "is a `link`")
    page = write_refine_report(tmp_path, iter(images), tally)
    text = page.read_text(encoding="utf-8")
    assert "8 images: 1 failed, 3 refined, 2 untouched, 1 original kept, 1 skipped</h1>" in text
    assert "`" not in text[: text.index("<script")]
    assert "<code>link</code>" in text
    assert data_of(page)["index"][0][3][0][2] == pytest.approx(4.0, abs=1e-3)
    assert "2 images had nothing to repair" in text
    assert "For One image the refined picture" not in text
    assert "prove nothing" in text
    assert "It helped" not in text
    assert data_of(page)["metrics"] == [{"name": "mdiqa.overall", "lower": False, "loop": True, "band": 0.0}]
    assert "is empty" in text


def test_maps_of_a_refine_result_are_the_same_stored_or_not(tmp_path):
    from grefine.types import (
        AlignmentMap,
        Decision,
        Phrase,
        PhraseAlignment,
        QualityMap,
        RefineResult,
        Region,
        RepairPlan,
        Scores,
    )

    shape = (24, 32)
    field = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(shape)
    phrase = PhraseAlignment(Phrase("ball", ("red", "ball"), ((2, 5), (6, 10)), 0), 0.2, 0.8, "attribute", field)
    region = Region((0, 0, 32, 24), np.ones(shape, bool), "red ball", 0.65, "attribute", "The ball is not red.")
    result = RefineResult(
        QualityMap(field, 0.6), AlignmentMap(field, 0.5, (phrase,)),
        RepairPlan(np.ones(shape, bool), (region,), "a red ball", ((2, 10, 1.1),)),
        Scores({"lar_iqa": 0.4}), Scores({"lar_iqa": 0.7}), Decision("repainted", "lar_iqa gained 0.3.", True),
    )  # fmt: skip
    pictures = Image.new("RGB", (32, 24)), Image.new("RGB", (32, 24), "red")
    for index, (name, data) in enumerate(layers_of(result).items()):
        (tmp_path / f"{name}.png").write_bytes(data)
        assert index < 3
    stored = {name: tmp_path / f"{name}.png" for name in ("quality", "alignment", "mask")}
    arrays = {"quality": field, "alignment": field, "mask": result.plan.mask}
    found = [ReportImage(name, *pictures, **layers) for name, layers in (("a.png", arrays), ("b.png", stored))]
    rows = data_of(write_refine_report(tmp_path / "out", found, RefineTally()))["chunks"][0]
    first, second = (row["made"][0] for row in rows)
    assert first["layers"] == second["layers"]
    assert set(first["layers"]) == {"quality", "alignment", "mask"}


def test_neighbouring_words_are_emphasised_as_one_phrase():
    prompt = "a tree and a pink ball"
    parts = [(0, 1, 1.1), (13, 17, 1.1), (11, 12, 1.1), (18, 22, 1.2), (2, 6, 1.1)]
    assert joined_emphasis(prompt, parts) == [(0, 6, 1.1), (11, 17, 1.1), (18, 22, 1.2)]
