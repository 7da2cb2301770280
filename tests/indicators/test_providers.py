"""Maps and judges of another package, and folders of maps, from the command line to the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError
from grefine.indicators.providers import MapFolder, Provider, map_files, maps_of, open_source
from grefine.io.run_files import run_rows
from grefine.types import MapSpec

sys.path.insert(0, str(Path(__file__).parent.parent))

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
SETTINGS = ["gate=false", "use_aq=false", "mask_threshold=mean", "max_area=0.6", "max_regions=1", "total_steps=2"]
SETTINGS += ["restorer=none"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from components import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The example package as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def plugged(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("grefine_flatness", None)


def picture(side: int = 32) -> Image.Image:
    """Noise, with a flat square in its middle."""
    values = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    values[8:24, 8:24] = 128
    return Image.fromarray(values)


def pictures(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        picture().save(folder / name)
    return folder


def invoke(*arguments):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    return CliRunner().invoke(app, [*map(str, arguments), *options])


def rows(out: Path) -> list[dict]:
    return [row for row in run_rows(out / ".grefine" / "journal.jsonl") if row["kind"] == "image"]


def test_the_example_package_reaches_refine_and_its_page(plugged, tiny, tmp_path):
    source, out = pictures(tmp_path / "in"), tmp_path / "out"
    chosen = ("--pipeline", tiny, "--quality-map", "flatness", "--judge", "texture", "--judge", "piqe")
    done = invoke("refine", source, "-o", out, *chosen)
    assert done.exit_code == 0, done.output
    reasons = {row["file"]: row["reason"] for row in rows(out)}
    assert sorted(reasons) == ["a.png", "sub/b.png"]
    said = "The map came from flatness, which does not judge it; left out: texture."
    assert all(said in reason for reason in reasons.values()), reasons
    scored = [row["scores"]["before"] for row in rows(out)]
    assert all("piqe" in values and not {"texture", "p"} & set(values) for values in scored)
    page = (out / "report.html").read_text()
    assert said in page
    assert "flatness 1" in page
    words = ["evaluate", source, out, "-o", tmp_path / "judged", "--metrics", "texture,metric_q,piqe", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    assert "(judged by metric_q)" in line, line
    assert "texture" in page
    with pytest.raises(ConfigError, match="who draws the maps"):
        raise invoke("refine", source, "-o", out, "--pipeline", tiny, "--judge", "piqe").exception


def test_the_example_package_reaches_map_metrics_and_evaluate(plugged, tiny, tmp_path):
    source, out = pictures(tmp_path / "in"), tmp_path / "maps"
    done = invoke("map", source, "-o", out, "--pipeline", tiny, "--quality-map", "flatness")
    assert done.exit_code == 0, done.output
    drawn = np.load(out / "a.quality.npy")
    assert drawn[12:20, 12:20].mean() < 0.2 < 0.5 < drawn[:4].mean()
    listed = json.loads(CliRunner().invoke(app, ["metrics", "--json"]).stdout)
    assert next(row for row in listed if row["name"] == "texture")["runs"]
    arguments = ["evaluate", source, source, "-o", tmp_path / "page", "--metrics", "texture,piqe"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert any("texture" in file.read_text() for file in (tmp_path / "page").glob("*.html"))


def coloured(saturation: float, side: int = 64) -> Image.Image:
    """Bright red noise with a square in its middle of the saturation that `paleness` reads as so much."""
    values = np.random.default_rng(0).integers(0, 60, (side, side, 3), dtype=np.uint8)
    values[..., 0] = 250
    values[16:48, 16:48] = (200, *(round(200 * (1 - saturation * 127 / 255)),) * 2)
    return Image.fromarray(values)


@pytest.mark.parametrize("chosen", ["paleness", "aq*1,paleness*9", "paleness,paleness"])
def test_alignment_maps_reach_every_command_and_are_measured(chosen, plugged, tiny, tmp_path, monkeypatch):
    """Good pictures are .4 at their palest: a .45 that was repainted before is let alone then, a grey one is not."""
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    source, good = tmp_path / "in", tmp_path / "good"
    for folder, pictures in ((source, {"pale": 0.45, "grey": 0.0}), (good, dict.fromkeys(map(str, range(20)), 0.4))):
        folder.mkdir()
        for name, saturation in pictures.items():
            coloured(saturation).save(folder / f"{name}.png")
    settings = [f"--set={one}" for one in ("use_pq=false", "mask_threshold=0.5", "max_area=0.6", "restorer=none")]
    settings += ["--set=total_steps=2", "--force"]
    call = lambda *words: CliRunner().invoke(app, [str(word) for word in words])  # noqa: E731
    maps = ("--prompt", "a red ball", "--pipeline", tiny, "--alignment-map", chosen, *settings)

    def states(name: str) -> dict[str, str]:
        done = call("refine", source, "-o", tmp_path / name, "--judge", "piqe", *maps)
        assert done.exit_code == 0, done.output
        return {row["file"]: row["state"] for row in rows(tmp_path / name)}

    before = states("before")
    assert set(before.values()) <= {"refined", "kept"}, before
    page = (tmp_path / "before" / "report.html").read_text()
    assert "paleness 1, not measured on good pictures" in page
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("image,prompt\n" + "".join(f"{i}.png,a red ball\n" for i in range(20)))
    measured = call("calibrate", "--alignment-map", "paleness", "--images", good, "--prompts", prompts)
    assert measured.exit_code == 0, measured.output
    edge = json.loads(measured.stdout)["badness"]
    assert edge == pytest.approx(0.6, abs=0.01)
    after = states("after")
    assert (after["pale.png"], after["grey.png"]) == ("untouched", before["grey.png"])
    reason = next(row["reason"] for row in rows(tmp_path / "after") if row["file"] == "grey.png")
    page = (tmp_path / "after" / "report.html").read_text()
    assert "which does not judge it" in reason
    assert reason in page
    assert f"paleness 1, good pictures reach {edge:.3g}" in page
    drawn = call("map", source, "-o", tmp_path / "maps", *maps)
    assert drawn.exit_code == 0, drawn.output
    asked = {name: 1 - np.load(tmp_path / "maps" / f"{name}.alignment.npy")[20:44, 20:44] for name in ("pale", "grey")}
    assert asked["pale"].max() == 0 < asked["grey"].min() == 1
    planned = call("plan", source, "-o", tmp_path / "plans", *maps)
    assert planned.exit_code == 0, planned.output
    plans = {path.name.partition(".")[0]: path for path in (tmp_path / "plans").rglob("*.plan.json")}
    assert json.loads(plans["grey"].read_text())["regions"]
    assert not json.loads(plans["pale"].read_text())["regions"]
    judged = call("evaluate", source, tmp_path / "after", "-o", tmp_path / "page", "--metrics", "piqe,metric_q")
    assert judged.exit_code == 0, judged.output
    assert "grey.png" in (tmp_path / "page" / "report.html").read_text()


def test_what_aq_says_of_phrases_stays_when_others_draw_beside_it(plugged):
    from components import pipeline

    from grefine.indicators.aq_map import parsed_prompt
    from grefine.refine.maps import MapDrawer

    pq, aq = pipeline().own_maps()
    image, prompt = coloured(0.3), parsed_prompt("a red ball on grass")
    (own,) = aq([image], [prompt])
    theirs = 1 - open_source("alignment", "paleness").values([image], [prompt.text])[0]
    edge = aq.calibration.mask_threshold
    scaled = np.interp(own.edit, [0, edge, 1], [0, 0.5, 1])
    for named, mixed in (("aq,paleness", np.maximum(scaled, theirs)), ("aq*3,paleness*1", (3 * scaled + theirs) / 4)):
        drawer = MapDrawer.of(pq, aq, None, named)
        ((_, found),) = drawer([image], [prompt])
        assert [one.phrase for one in found.phrases] == [one.phrase for one in own.phrases]
        assert np.array_equal(found.edit, mixed > 0.5)
        assert drawer.drawn_by[0].name.endswith(" paleness")
        assert "a" not in drawer.scores([image], [prompt])[0]
    with pytest.raises(ConfigError, match="this pipeline has none"):
        MapDrawer.of(pq, None, None, "aq,paleness")
    for wrong in ("aq,aq", "aq,paleness,aq"):
        with pytest.raises(ConfigError, match="aq stands once, beside others"):
            open_source("alignment", wrong)


def test_a_folder_of_maps_is_read_name_by_name(tiny, tmp_path):
    """Each picture under its own map; one without costs no other its turn."""
    source, maps = pictures(tmp_path / "in"), tmp_path / "maps"
    picture().save(source / "none.png")
    (maps / "sub").mkdir(parents=True)
    bad = np.ones((32, 32), np.float32)
    bad[8:24, 8:24] = 0
    np.save(maps / "a.npy", bad)
    Image.new("L", (32, 32), 255).save(maps / "sub" / "b.png")
    out = tmp_path / "out"
    arguments = ("--pipeline", tiny, "--quality-map", maps)
    done = invoke("refine", source, "-o", out, *arguments, "--set", "guard=false")
    assert done.exit_code == 1, done.output
    states = {row["file"]: (row["state"], row["reason"]) for row in rows(out)}
    assert states["a.png"][0] == "refined"
    assert states["sub/b.png"][0] == "untouched"
    assert states["none.png"][0] == "failed"
    assert "has no quality map for 'none.png': add 'none.npy'" in states["none.png"][1]
    mapped = invoke("map", source, "-o", tmp_path / "drawn", *arguments)
    assert mapped.exit_code == 1
    assert "has no quality map for 'none.png'" in mapped.stderr
    assert np.array_equal(np.load(tmp_path / "drawn" / "a.quality.npy"), bad)


def test_alignment_maps_of_a_folder_fit_a_batch_of_which_some_have_prompts(tiny, tmp_path):
    source, maps = pictures(tmp_path / "in"), tmp_path / "maps"
    (source / "a.txt").write_text("a red ball")
    maps.mkdir()
    for name in ("a", "b"):
        np.save(maps / f"{name}.alignment.npy", np.ones((32, 32), np.float32))
    done = invoke("refine", source, "-o", tmp_path / "out", "--pipeline", tiny, "--alignment-map", maps)
    assert done.exit_code == 0, done.output
    assert len(rows(tmp_path / "out")) == 2


def test_one_file_takes_the_judges_and_maps_of_a_folder(plugged, tiny, tmp_path):
    source = pictures(tmp_path / "in") / "a.png"
    arguments = ("refine", source, "-o", tmp_path / "one.png", "--pipeline", tiny)
    with pytest.raises(ConfigError, match="No metric 'nope'"):
        raise invoke(*arguments, "--judge", "nope").exception
    with pytest.raises(ConfigError, match="'nope' is no folder and no provider"):
        raise invoke(*arguments, "--quality-map", "nope").exception


def test_a_provider_in_python_by_name(plugged):
    from components import pipeline

    found = pipeline()(image=picture(), quality_map="flatness", plan_only=True, config={"gate": False}).results[0]
    assert found.quality.values[12:20, 12:20].mean() < 0.2


def provider(drawn, **spec) -> Provider:
    return Provider("quality", MapSpec("theirs", **spec), lambda images: [drawn] * len(images))


def test_what_a_provider_declares_is_held_against_what_it_draws():
    (found,) = provider(np.full((32, 32), 25.0), range=(0, 100), high_is="bad")([picture()])
    assert found.score == pytest.approx(0.75)
    with pytest.raises(ImageError, match="ranges from 25 to 25; it declares 0..1"):
        provider(np.full((32, 32), 25.0))([picture()])
    with pytest.raises(ImageError, match="finite numbers"):
        provider(np.full((32, 32), np.nan))([picture()])
    with pytest.raises(ImageError, match="resize it first"):
        provider(np.ones((16, 32)))([picture()])
    with pytest.raises(ConfigError, match="a map for each image"):
        Provider("quality", MapSpec("theirs"), lambda images: [])([picture()])


def test_names_that_mean_nothing_are_answered_with_what_is_there(plugged, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"installed: flatness\); did you mean 'flatness'"):
        open_source("quality", "flatnes")
    with pytest.raises(ConfigError, match="--alignment-map: 'flatness' is no folder and no provider"):
        open_source("alignment", "flatness")
    closed = SimpleNamespace(SPEC=MapSpec("closed", licence="CC BY-NC", noncommercial=True), load=lambda device: None)
    map_files("quality")["closed"] = closed
    try:
        with pytest.raises(ConfigError, match="non-commercial terms .CC BY-NC."):
            open_source("quality", "closed")
        assert open_source("quality", "closed", allow_noncommercial=True).spec is closed.SPEC
    finally:
        del map_files("quality")["closed"]


def test_in_a_folder_the_tree_comes_before_the_bare_name(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/a.npy", "b.quality.png", "b.png"):
        (tmp_path / name).touch()
    found = maps_of(MapFolder("quality", tmp_path), ["a.jpg", "sub/a.jpg", "else/a.jpg", "b.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.png", "sub/a.npy", "a.png", "b.quality.png"]
