"""Prompts from tables, sidecars, metadata and for all; the record that outputs carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from grefine.errors import ConfigError, PromptError
from grefine.io.embedded import Embedded, TextChunk
from grefine.io.images import read_image
from grefine.io.prompt_table import read_prompt_table, safe_cell
from grefine.io.prompts import PromptSources, networks
from grefine.io.record import KEY, RefineRecord, read_record


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def picture(path, parameters=None):
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text("parameters", parameters)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return read_image(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'file,prompt\nx.png,a red ball\nsub/y.png,"a cat, asleep"\n'),
        ("a.csv", "Prompt;Image Path;seed\na red ball;x.png;1\na cat, asleep;sub/y.png;2\n"),
        ("a.tsv", "caption\tfilename\na red ball\tx.png\na cat, asleep\tsub\\y.png\n"),
        (
            "a.jsonl",
            '{"file_name": "x.png", "text": "a red ball"}\n\n{"file_name": "./sub/y", "text": "a cat, asleep"}',
        ),
        ("a.json", '{"x.png": "a red ball", "sub/y.png": {"prompt": "a cat, asleep"}}'),
        ("a.json", '[{"image": "x.png", "prompt": "a red ball"}, {"image": "y.png", "prompt": "a cat, asleep"}]'),
    ],
)
def test_tables_of_every_form(tmp_path, name, text):
    table = read_prompt_table(write(tmp_path / name, text))
    assert table.find("x.png") == ("a red ball", "")
    assert table.find("sub/y.png", tmp_path / "sub/y.png") == ("a cat, asleep", "")
    assert table.find("z.png") == ("", "")
    assert "2 prompts" in table.note
    assert "column" in table.note


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(tmp_path, encoding):
    table = read_prompt_table(write(tmp_path / "a.csv", "file,prompt\r\nx.png,ein grüner Ball\r\n", encoding))
    assert table.find("x.png")[0] == "ein grüner Ball"


def test_columns_can_be_named_and_wrong_ones_are_told(tmp_path):
    path = write(tmp_path / "a.csv", "id,words,other\nx.png,a red ball,1\n")
    assert read_prompt_table(path, "id", "words").find("x.png")[0] == "a red ball"
    with pytest.raises(PromptError, match="file names: name one of id, words, other"):
        read_prompt_table(path)
    with pytest.raises(PromptError, match="no column 'word': name one of id, words, other"):
        read_prompt_table(path, "id", "word")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"file,prompt\n", "no prompts"),
        ("a.csv", b"just text\n", "one column"),
        ("a.csv", b"file,prompt\nx.png,caf\xe9\n", "line 2 is not UTF-8"),
        ("a.jsonl", b'{"file": "x.png", "prompt": "y"}\n{broken\n', "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 must be a record"),
        ("a.json", b"3", "list of records"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=match):
        read_prompt_table(tmp_path / name)
    with pytest.raises(PromptError, match="does not exist"):
        read_prompt_table(tmp_path / "missing.csv")


def test_two_prompts_for_one_image_are_not_a_prompt(tmp_path):
    table = read_prompt_table(write(tmp_path / "a.csv", "file,prompt\nx.png,a ball\nx.png,a cat\nx.png,a ball\n"))
    prompt, why = table.find("x.png")
    assert prompt == ""
    assert "line 3" in why


def test_full_paths_win_over_names(tmp_path):
    table = read_prompt_table(write(tmp_path / "a.csv", "file,prompt\nx.png,any\none/x.png,first\n"))
    assert table.find("one/x.png")[0] == "first"
    assert table.find("two/x.png")[0] == "any"
    assert table.find("x.jpg", tmp_path / "x.jpg")[0] == ""


def test_a_megabyte_cell_does_not_spoil_its_neighbours(tmp_path):
    path = write(tmp_path / "a.csv", f"file,prompt\nbig.png,{'word ' * 300_000}\nx.png,a ball\n")
    sources = PromptSources(read_prompt_table(path))
    assert sources.find(picture(tmp_path / "x.png"), "x.png").prompt == "a ball"
    big = sources.find(picture(tmp_path / "big.png"), "big.png")
    assert big.prompt == ""
    assert "characters" in big.unsure


def test_order_of_sources(tmp_path):
    table = read_prompt_table(write(tmp_path / "t.csv", "file,prompt\na.png,from table\n"))
    sources = PromptSources(table, common="for all")
    for name in "abcd":
        picture(tmp_path / f"{name}.png", "from metadata" if name != "d" else None)
    write(tmp_path / "a.txt", "from sidecar")
    write(tmp_path / "b.txt", "from sidecar")

    def found(name, **options):
        chosen = PromptSources(table, "for all", **options) if options else sources
        return chosen.find(read_image(tmp_path / f"{name}.png"), f"{name}.png")

    assert [found(name).prompt for name in "abcd"] == ["from table", "from sidecar", "from metadata", "for all"]
    assert found("a").origin == "table t.csv"
    assert found("a", order=("metadata", "table")).prompt == "from metadata"
    nothing = PromptSources().find(read_image(tmp_path / "d.png"), "d.png")
    assert (nothing.prompt, nothing.origin) == ("", "none")
    with pytest.raises(ConfigError, match="'names'"):
        PromptSources(order=("names",))


@pytest.mark.parametrize(
    ("suffix", "text", "prompt"),
    [
        (".txt", "a red ball\n", "a red ball"),
        (".txt", "a red ball\nNegative prompt: x\nSteps: 20, Sampler: A, Seed: 1", "a red ball"),
        (".png.txt", "a red ball", "a red ball"),
        (".json", '{"prompt": "a red ball", "seed": 3}', "a red ball"),
        (".json", '"a red ball"', "a red ball"),
        (".json", '{"parameters": "a red ball\\nSteps: 1, A: 2, B: 3"}', "a red ball"),
    ],
)
def test_sidecars(tmp_path, suffix, text, prompt):
    image = picture(tmp_path / "x.png")
    write(tmp_path / f"x{suffix}", text)
    assert PromptSources().find(image, "x.png").prompt == prompt


def test_unclear_sidecars_are_told_and_later_sources_asked(tmp_path):
    image = picture(tmp_path / "x.png", "from metadata")
    write(tmp_path / "x.json", '{"seed": 3}')
    chosen = PromptSources().find(image, "x.png")
    assert chosen.prompt == "from metadata"
    assert "has none of prompt" in chosen.unsure
    write(tmp_path / "x.txt", "")
    assert PromptSources().find(image, "x.png").prompt == "from metadata"


def test_networks_of_a_prompt():
    assert networks("a ball <lora:toy:0.8>, <lora:sub/Other> (x:1.2) <lora:bad:..>") == (
        ("sub/Other", 1.0),
        ("toy", 0.8),
    )


def test_cells_that_begin_like_formulas_are_texts():
    assert [safe_cell(c) for c in ("=1+1", "+x", "-x", "@x", "\tx", "a=b", "")] == [
        "'=1+1", "'+x", "'-x", "'@x", "'\tx", "a=b", "",
    ]  # fmt: skip


RECORD = RefineRecord(
    version="1", pipeline="tiny", config="abc", seed=3, state="refined", reason="better", guarded=True,
    prompt="a bäll", prompt_origin="table", before={"p": 0.25}, after={"p": 0.5}, source="00", pixels="11", passes=2,
)  # fmt: skip


def test_records_are_read_back():
    assert read_record(Embedded((TextChunk(KEY, RECORD.to_text()),))) == RECORD


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"format": "grefine-record/1"}', "{" * 5000, '{"format": 3}']
)
def test_texts_that_are_no_record(text):
    assert read_record(Embedded((TextChunk(KEY, text),))) is None


def test_records_with_wrong_types_keep_what_is_right():
    data = json.loads(RECORD.to_text()) | {"before": {"p": "x", "a": 1, "b": True}, "passes": "2", "seed": 1.5}
    record = read_record(Embedded((TextChunk(KEY, json.dumps(data)),)))
    assert record is not None
    assert (dict(record.before), record.passes, record.seed) == ({"a": 1.0}, 1, None)


def test_paths_on_other_systems(tmp_path):
    table = read_prompt_table(write(tmp_path / "a.csv", "file,prompt\nC:\\pictures\\x.png,a ball\n"))
    assert table.find("pictures/x.png", Path("/mnt/C:/pictures/x.png"))[0] == "a ball"
