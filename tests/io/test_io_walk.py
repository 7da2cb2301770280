"""Every command lists the same pictures: the same suffixes, nothing hidden, nothing that a run keeps for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ImageError
from grefine.evaluate.pairs import image_files
from grefine.folder.options import FolderOptions
from grefine.folder.worklist import list_work
from grefine.indicators.sources import list_pictures
from grefine.io.images import SUFFIXES
from grefine.io.walk import pictures_below, pictures_of
from grefine.ranking.features import images_in

FORMATS = {".jpe": "JPEG", ".jfif": "JPEG", ".apng": "PNG", ".pgm": "PPM"}


@pytest.fixture
def run(tmp_path) -> Path:
    """OUT of a run: results of every suffix, one in a folder, and the maps and panels that the run keeps."""
    out = tmp_path / "out"
    results = [f"{number:02}{suffix}" for number, suffix in enumerate(SUFFIXES)]
    kept = [".grefine/maps/00.png.quality.png", "panels/00.png", "report_files/00.webp", ".hidden/00.png", ".00.png"]
    for name in [*results, "sub/99.PNG", *kept]:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("L" if path.suffix == ".pgm" else "RGB", (24, 20), 90)
        picture.save(path, FORMATS.get(path.suffix.lower()))
    (out / "notes.txt").write_text("no picture")
    return out


def test_every_command_lists_the_results_and_nothing_else(run):
    expected = sorted([*(f"{number:02}{suffix}" for number, suffix in enumerate(SUFFIXES)), "sub/99.PNG"])
    assert [relative for _, relative in pictures_of([run])] == expected
    assert [picture.relative for picture in list_pictures([run])] == expected
    assert list(image_files(run)) == expected
    works = list_work([run], run.parent / "elsewhere", FolderOptions())
    assert sorted(item.relative for item in works) == expected
    assert sorted(path.name for path in images_in(run).values()) == expected[:-1]
    done = CliRunner().invoke(app, ["score", str(run), "--metrics", "piqe"])
    assert [line.split(",")[0] for line in done.stdout.splitlines()[1:]] == [str(run / name) for name in expected]


def test_panels_are_only_those_of_a_run(tmp_path):
    (tmp_path / "panels").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "panels" / "a.png")
    assert pictures_below(tmp_path) == [tmp_path / "panels" / "a.png"]


def test_a_file_is_taken_as_given_and_once(run):
    file = run / "sub" / "99.PNG"
    assert pictures_of([file, run / "sub", str(file)]) == [(file, "99.PNG")]
    with pytest.raises(ImageError, match="no file or folder"):
        pictures_of([run / "nowhere"])
    (run / "empty").mkdir()
    with pytest.raises(ImageError, match="looked for"):
        pictures_of([run / "empty"])
