"""What ships in pipelines/tiny says nothing of the machine that made it, and stays small."""

from __future__ import annotations

import json

from grefine.resources import bundled

TINY = bundled("pipelines") / "tiny"


def test_no_configuration_tells_where_it_was_made():
    for path in TINY.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "_name_or_path" not in json.loads(text), path.name
        assert '": "/' not in text, path.name


def test_it_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) < 24 * 2**20
