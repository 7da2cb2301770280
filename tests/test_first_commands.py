"""What a new user runs first: demo, doctor, settings."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.demo import has_display
from grefine.cli.main import app
from grefine.config import build
from grefine.errors import ConfigError
from grefine.refine import settings as settings_file
from grefine.refine.settings import RefineConfig
from grefine.resources import bundled


def invoke(*words: str, **environment: str):
    return CliRunner().invoke(app, [*words], env=environment, terminal_width=100)


def test_demo_opens_its_page_only_where_somebody_can_see_it(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for terminal, display, seen in ((True, ":0", True), (True, "", False), (False, ":0", False)):
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda terminal=terminal: terminal))
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert has_display() == seen


def test_demo_writes_a_page_and_names_it(tmp_path):
    done = invoke("demo", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    page = tmp_path / "out" / "report.html"
    assert str(page.resolve()) in done.output
    assert page.is_file()
    before = bundled("examples") / "images"
    results = (tmp_path / "out").glob("*.png")
    changed = {p.name for p in results if Image.open(p).tobytes() != Image.open(before / p.name).tobytes()}
    assert "01_clean.png" not in changed
    assert len(changed) >= 3


def test_doctor_without_anything_fetched(tmp_path):
    done = invoke("doctor", "--json", GREFINE_CACHE=str(tmp_path))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["pipelines"]["tiny"] == {"ready": True, "calibrated": True, "missing": [], "get": []}
    assert found["pipelines"]["sdxl"]["get"] == ["grefine fetch sdxl"]
    assert not found["pipelines"]["sdxl"]["ready"]
    assert not any(found["fetched"].values())
    assert found["judges"]["piqe"]["ready"]
    assert found["judges"]["mdiqa"]["with"] == ["tiny"]
    assert "grefine fetch imagereward" in found["judges"]["imagereward"]["note"]
    assert found["devices"][-1]["name"] == "cpu"
    assert found["packages"]["torch"]
    text = invoke("doctor", GREFINE_CACHE=str(tmp_path)).output
    assert "`grefine fetch sdxl`" in text
    assert "for toy scenes only" in text


def test_doctor_sees_the_cache(tmp_path):
    (tmp_path / "mdiqa").mkdir()
    (tmp_path / "mdiqa" / "config.json").write_text("{}")
    found = json.loads(invoke("doctor", "--json", GREFINE_CACHE=str(tmp_path)).stdout)
    assert found["judges"]["mdiqa"]["ready"]
    assert found["cache"] == found["cache"] | {"folder": str(tmp_path), "used": 2}


def test_settings_lists_every_field_with_its_text():
    rows = {row["name"]: row for row in json.loads(invoke("settings", "--json").stdout)}
    assert list(rows) == [field.name for field in dataclasses.fields(RefineConfig)]
    tree = ast.parse(Path(settings_file.__file__).read_text())
    (body,) = [node.body for node in tree.body if getattr(node, "name", "") == "RefineConfig"]
    assert all(row["meaning"] for row in rows.values())
    told = {row["meaning"] for row in rows.values()}
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = " ".join(node.value.value.split())
            assert text in told or "Empty (None)" in text or text.startswith("Keys ")
    assert rows["preserve"]["allowed"] == "paper or exact"
    assert rows["dilate"]["default"].startswith("0.02")


@pytest.mark.parametrize("field", dataclasses.fields(RefineConfig), ids=lambda f: f.name)
def test_settings_tells_limits_that_hold(field):
    (row,) = json.loads(invoke("settings", field.name, "--json").stdout)
    limits = re.search(r"lie in ([\d.]+)\.\.([\d.]+)$", row["allowed"])
    for value in map(float, limits.groups()) if limits else ():
        with pytest.raises(ConfigError):
            build(RefineConfig, {field.name: value + (0.001 if value else -0.001)})


def test_an_unknown_setting_has_a_neighbour():
    done = invoke("settings", "delt")
    assert isinstance(done.exception, ConfigError)
    assert "did you mean 'delta'" in str(done.exception)


def test_completion_can_be_installed():
    assert "--install-completion" in invoke("--help").output
