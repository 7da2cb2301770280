"""A judge is one file and one line of the list, or one entry point of another package: nothing else has to know it."""

from __future__ import annotations

import ast
import csv
import importlib
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine import evaluate_folders, load_scorer
from grefine.cli.main import app
from grefine.fetching import fetch_names
from grefine.scorers import registry
from grefine.scorers.prefilter import read_gate
from grefine.scorers.protocol import Scorer

sys.path.insert(0, str(Path(__file__).parent.parent))

HOUSE = Path(registry.__file__).parent.parent
PAGE = (HOUSE.parent / "docs" / "judges.md").read_text(encoding="utf-8")
JUDGE = next(block for block in PAGE.split("```") if "class Redness" in block).removeprefix("python\n")
"""The judge that the documentation shows."""


def known(name: str) -> dict[str, object] | None:
    listed = CliRunner().invoke(app, ["metrics", "--json"])
    return next((row for row in json.loads(listed.stdout) if row["name"] == name), None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of foreign code, and a redness that no earlier test has imported."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "redness.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "redness", raising=False)
    yield folder
    sys.modules.pop("redness", None)


@pytest.fixture
def images(tmp_path):
    for folder, red in (("before", 40), ("after", 200)):
        (tmp_path / folder).mkdir()
        for index in range(6):
            Image.new("RGB", (24, 24), (red + index, 90, 90)).save(tmp_path / folder / f"{index}.png")
    return tmp_path


def everywhere(images: Path) -> None:
    """See redness in the list, in `score`, in the first look, in the guard and in an evaluation."""
    row = known("redness")
    assert row is not None
    assert row["runs"]
    done = CliRunner().invoke(app, ["score", str(images / "before"), "--metrics", "Redness,piqe"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(r["redness"]) for r in rows] == pytest.approx([(40 + i) / 255 for i in range(6)])
    pictures = [Image.open(images / folder / "0.png") for folder in ("before", "after")]
    verdicts = read_gate("redness:0.5").look(pictures, ["", ""])
    assert [verdict.passed for verdict in verdicts] == [False, True]
    found = evaluate_folders(images / "before", images / "after", metrics="redness,piqe")
    assert found.analysis.metrics[0].metric == "redness"
    assert found.analysis.metrics[0].gain.mean == pytest.approx(160 / 255)
    from components import pipeline

    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    settings = {"total_steps": 2, "restorer": "none"}
    result = pipeline()("a red ball", noisy, Image.fromarray(mask), config=settings, scorers=["redness"]).results[0]
    assert set(result.decision.candidates) == {"original", "repainted"}
    assert all("redness" in scores for scores in result.decision.candidates.values())
    assert result.before["redness"] == pytest.approx(float(np.asarray(noisy)[..., 0].mean() / 255))


def test_a_file_and_a_line_are_all_that_a_judge_needs(home, images, monkeypatch):
    assert known("redness") is None
    monkeypatch.setattr(registry, "JUDGES", (*registry.JUDGES, "redness"))
    everywhere(images)


def installed(home: Path, entry: str, name: str = "redness-judge") -> None:
    """What pip leaves behind of a package with one entry point."""
    record = home / f"{name.replace('-', '_')}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[grefine.judges]\nthis = {entry}\n")


def test_a_package_brings_a_judge_by_its_entry_point(home, images, monkeypatch):
    installed(home, "redness")
    everywhere(images)
    assert load_scorer("redness").spec.name == "redness"
    monkeypatch.undo()
    assert known("redness") is None


def test_a_package_that_does_not_work_is_left_out_and_never_takes_a_name_of_ours(home):
    (home / "thief.py").write_text(JUDGE.replace('name="redness"', 'name="piqe"'))
    installed(home, "no_such_module", "broken-judge")
    installed(home, "thief", "thief-judge")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = registry.judge_files()
    assert files["piqe"].__name__ == "grefine.scorers.piqe"
    assert any("'no_such_module' of another package was left out" in str(w.message) for w in caught)
    sys.modules.pop("thief", None)


def test_listing_loads_no_network_library():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from grefine.cli.main import app\n"
        "done = CliRunner().invoke(app, ['metrics', '--pipeline', 'tiny'])\n"
        "assert done.exit_code == 0, done.output\n"
        "assert 'lar_iqa' in done.stdout\n"
        "heavy = {'torch', 'torchvision', 'diffusers', 'transformers', 'open_clip'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", list(registry.judge_files()))
def test_a_file_holds_what_its_spec_promises(name):
    from grefine.pipeline import GRefinePipeline

    file = registry.judge_files()[name]
    spec = file.SPEC
    assert spec.name == name
    assert callable(file.load)
    assert not spec.fetch or spec.fetch in fetch_names()
    assert not spec.convert or callable(file.convert)
    if spec.component:
        assert spec.component in GRefinePipeline._optional_components
        assert callable(file.wrap)
    assert all(value == name or value.startswith(f"{name}.") for value in spec.values)


def test_the_names_of_values_are_those_of_the_networks():
    from grefine.models.mdiqa import DIMENSIONS

    values = registry.judge_file("mdiqa").SPEC.values
    assert list(values) == ["mdiqa.overall", *(f"mdiqa.{name}" for name in DIMENSIONS)]
    for name in ("mdiqa", "moe_agiqa", "lar_iqa"):
        scorer = load_scorer(name, "tiny")
        assert isinstance(scorer, Scorer)
        assert set(getattr(scorer, "values", (name,))) <= {name, *scorer.spec.values}


def test_no_other_file_names_a_judge():
    """Prose may; code may not, but for the pipeline's components, what steers, and the recipes that train."""
    allowed = {"pipeline.py", "refine/guidance.py", "refine/loading.py", "cli/train.py"}
    names = set(registry.judge_files())
    own = {Path(importlib.util.find_spec(entry.partition(":")[0]).origin) for entry in registry.JUDGES}
    for path in HOUSE.rglob("*.py"):
        inside = path.relative_to(HOUSE).as_posix()
        if path in own | {Path(registry.__file__)} or inside in allowed or inside.startswith(("models/", "training/")):
            continue
        texts = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not names & {text for text in texts if isinstance(text, str)}, inside
