"""The CSV form of a set of rated pictures, and the one sentence for each way in which it can be wrong."""

from __future__ import annotations

import pytest
from PIL import Image

from grefine.errors import ConfigError
from grefine.training.datasets.table import read_table


def table(folder, text, pictures=("a.png", "b.png", "c.png")):
    for name in pictures:
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(folder / name)
    path = folder / "rated.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_table(tmp_path):
    heading = "\ufeffimage,mos,prompt,reference,sharpness"
    text = "\n".join([heading, 'a.png,4.5,"a cat, sleeping",one,80', "b.png,3,,one,20", "", "c.png,0,,,5"])
    found = read_table(table(tmp_path, text))
    assert found.name == "rated"
    assert [row.path.name for row in found.rows] == ["a.png", "b.png", "c.png"]
    assert found.columns == ("mos", "sharpness")
    assert found.rows[0].prompt == "a cat, sleeping"
    assert [row.content for row in found.rows] == ["one", "one", ""]
    assert found.labels() == [1.0, 3 / 4.5, 0.0]
    assert found.labels("sharpness") == [1.0, 0.25, 5 / 80]


def test_pictures_may_lie_elsewhere(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    table(folder, "")
    path = tmp_path / "labels.csv"
    path.write_text("image,mos\na.png,1\nb.png,2\n")
    assert len(read_table(path, folder)) == 2
    with pytest.raises(ConfigError, match="2 of 2 pictures"):
        read_table(path)


def test_the_same_row_twice_counts_once(tmp_path):
    assert len(read_table(table(tmp_path, "image,mos\na.png,1\na.png,1\nb.png,2\n"))) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,mos\na.png,1\nb.png,2\nc.png,2\na.png,3\n", r"names 'a.png' twice with different scores of 'mos'"),
        ("image,mos\na.png,1\ngone.png,2\nlost.png,2\n", r"2 of 3 pictures .* missing, first '.*gone.png'"),
        ("image,mos\na.png,1\nb.png,good\n", r"line 3: the score 'good' in column 'mos' is no number"),
        ("image,mos\na.png,1\nb.png,nan\n", r"line 3: the score 'nan'"),
        ("image,mos\na.png,1\nb.png,\n", r"line 3: the score ''"),
        ("image,mos,blur\na.png,1,2\nb.png,1,x\n", r"'x' in column 'blur'"),
        ("image,mos\na.png,1,2\n", r"line 2 has 3 cells, its heading 2"),
        ("image,score\na.png,1\n", r"no column 'mos'; its heading says image, score"),
        ("imgae,mos\na.png,1\n", r"no column 'image'.*did you mean 'imgae'"),
        ("", r"no column 'image'; its heading says nothing"),
        ("image,mos\na.png,1\n", r"rates 1 pictures"),
        ("image,mos\n,1\n", r"line 2 names no image"),
    ],
)
def test_one_sentence_for_each_fault(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        read_table(table(tmp_path, text))
    assert "\n" not in str(error.value)


def test_no_table_and_no_text(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the table"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="Cannot read the table"):
        read_table(tmp_path / "x.csv")


def test_unknown_columns_and_scales_that_cannot_be_used(tmp_path):
    found = read_table(table(tmp_path, "image,mos,sharpness\na.png,0,1\nb.png,-1,2\n"))
    with pytest.raises(ConfigError, match="did you mean 'sharpness'"):
        found.labels("sharpnes")
    with pytest.raises(ConfigError, match="above zero"):
        found.labels()
