"""Parquet files and WebDataset tars in; what a run made of them out, as datasets and webdataset read it."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import replace

import pytest
from PIL import Image
from small_world import PROMPTS, by_file, config, make_folder, random_pipeline, scene

from grefine.errors import ConfigError
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.io.samples import list_samples

pyarrow = pytest.importorskip("pyarrow", reason="needs grefine[datasets]")
COUNT = 8


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(scope="module")
def world(pipe, tmp_path_factory):
    """A folder with a table of prompts and what a run makes of it: the same pictures come as data sets below."""
    root = tmp_path_factory.mktemp("sets")
    (root / "in").mkdir()
    for index in range(COUNT):
        scene(index).save(root / "in" / f"{index:04}.png")
    lines = [f"{index:04}.png,{PROMPTS[index % 4]}" for index in range(COUNT)]
    (root / "prompts.csv").write_text("\n".join(["file,prompt", *lines]))
    run(root / "in", root / "calm", pipe, prompts=root / "prompts.csv")
    return root


def run(source, out, pipe, *, prompts=None, prompt_column=None, **options):
    options = FolderOptions(**{"batch_size": 4} | options)
    return refine_folder(
        source, out, pipe, config=config(), options=options, prompts=prompts, prompt_column=prompt_column
    )


def bytes_of(folder):
    """Every result, but for where its record says that the prompt came from."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        record = read_record(read_image(path).embedded)
        found[path.name] = read_image(path).rgb.tobytes(), replace(record, prompt_origin="")
    return found


def picture_bytes(index):
    buffer = io.BytesIO()
    scene(index).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, paths=False, column="caption"):
    import pyarrow.parquet

    rows = []
    for index in range(COUNT):
        name = f"{index:04}.png"
        image = {"bytes": picture_bytes(index), "path": name}
        rows.append({"file_name": f"in/{name}"} if paths else {"image": image})
        rows[-1][column] = PROMPTS[index % 4]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    return path


def write_tar(path, caption="txt"):
    with tarfile.open(path, "w") as tar:
        for index in range(COUNT):
            text = PROMPTS[index % 4]
            text = json.dumps({"caption": text}) if caption == "json" else text
            for ending, data in (("png", picture_bytes(index)), (caption, text.encode())):
                member = tarfile.TarInfo(f"{index:04}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def test_a_parquet_file_gives_what_a_folder_gives(world, pipe, tmp_path):
    run(write_parquet(tmp_path / "in.parquet"), tmp_path / "out", pipe)
    assert bytes_of(tmp_path / "out") == bytes_of(world / "calm")
    assert by_file(tmp_path / "out")["0001.png"]["prompt_origin"] == "data set in.parquet"
    again = run(tmp_path / "in.parquet", tmp_path / "out", pipe)
    assert (again.done, again.resumed) == (0, COUNT)
    shown = [
        re.findall('data:image[^"]+', (out / "report.html").read_text()) for out in (tmp_path / "out", world / "calm")
    ]
    assert set(shown[0]) == set(shown[1])


@pytest.mark.parametrize("caption", ["txt", "json"])
def test_a_tar_gives_what_a_folder_gives(world, pipe, tmp_path, caption):
    run(write_tar(tmp_path / "in.tar", caption), tmp_path / "out", pipe)
    assert bytes_of(tmp_path / "out") == bytes_of(world / "calm")


def test_a_column_of_paths_and_one_of_prompts_that_is_named(world, pipe, tmp_path):
    source = write_parquet(world / "paths.parquet", paths=True, column="what it shows")
    with pytest.raises(ConfigError, match="no column 'words': it has file_name, what it shows"):
        run(source, tmp_path / "out", pipe, prompt_column="words")
    run(source, tmp_path / "out", pipe, prompt_column="what it shows")
    assert bytes_of(tmp_path / "out" / "in") == bytes_of(world / "calm")


def test_several_data_sets_get_folders_of_their_own(world, pipe, tmp_path):
    write_tar(tmp_path / "a.tar")
    write_parquet(tmp_path / "b.parquet")
    run([tmp_path / "a.tar", tmp_path / "b.parquet"], tmp_path / "out", pipe)
    assert bytes_of(tmp_path / "out/a") == bytes_of(tmp_path / "out/b") == bytes_of(world / "calm")


def check_rows(rows, world):
    """Every picture of the run with its input, prompt, decision, scores and our record."""
    told = by_file(world / "calm")
    assert len(rows) == COUNT
    for row in rows:
        name = row["name"]
        after = Image.open(world / "calm" / name)
        assert list(row["before"].convert("RGB").getdata()) == list(Image.open(world / "in" / name).getdata())
        assert list(row["after"].convert("RGB").getdata()) == list(after.getdata())
        assert (row["state"], row["prompt"]) == (told[name]["state"], told[name]["prompt"])
        assert row["kept"] == told[name]["decision"]["kept"]
        assert row["p before"] == pytest.approx(told[name]["scores"]["before"]["p"])
        assert json.loads(row["record"])["source"] == told[name]["input"]["sha256"]
    assert {row["state"] for row in rows} > {"refined"}


def test_parquet_out_is_read_by_datasets(world, pipe, tmp_path):
    datasets = pytest.importorskip("datasets")
    run(write_parquet(tmp_path / "in.parquet"), tmp_path / "out", pipe, dataset="same")
    files = str(tmp_path / "out/dataset/*.parquet")
    check_rows(list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))), world)
    # What we wrote is what we read: its `before` pictures with their prompts.
    names = {name for name, _ in list_samples(str(tmp_path / "out/dataset/part-00000.parquet"))}
    assert names == {f"{index:04}.png" for index in range(COUNT)}


def test_an_image_folder_out_is_read_by_datasets(world, pipe, tmp_path):
    datasets = pytest.importorskip("datasets")
    run(world / "in", tmp_path / "out", pipe, prompts=world / "prompts.csv", dataset="imagefolder")
    folder = str(tmp_path / "out/dataset")
    found = datasets.load_dataset("imagefolder", data_dir=folder, split="train", cache_dir=str(tmp_path / "cache"))
    check_rows([row | {"after": row["image"]} for row in found], world)


def test_tars_out_are_read_by_webdataset(world, pipe, tmp_path, monkeypatch):
    webdataset = pytest.importorskip("webdataset")
    from grefine.folder import views

    monkeypatch.setattr(views, "PART_BYTES", 6 * 2 * len(picture_bytes(0)))
    run(write_tar(tmp_path / "in.tar"), tmp_path / "out", pipe, dataset="same")
    parts = sorted(map(str, (tmp_path / "out/dataset").glob("*.tar")))
    assert len(parts) > 1
    found = list(webdataset.WebDataset(parts, shardshuffle=False, empty_check=False).decode("pil"))
    check_rows([row["json"] | {"before": row["before.png"], "after": row["after.png"]} for row in found], world)
    assert found[1]["txt"] == PROMPTS[1]


def test_a_data_set_can_be_made_of_a_run_that_is_done(world, pipe, tmp_path):
    source = make_folder(tmp_path / "in", 6)
    run(source, tmp_path / "out", pipe)
    before = bytes_of(tmp_path / "out")
    summary = run(source, tmp_path / "out", pipe, dataset="parquet")
    assert (summary.done, summary.unwritten) == (0, [])
    assert [path.name for path in (tmp_path / "out/dataset").iterdir()] == ["part-00000.parquet"]
    assert bytes_of(tmp_path / "out") == before


def test_damaged_data_sets_are_refused_in_a_sentence(pipe, tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    for name in ("bad.parquet", "bad.tar", "none.tar"):
        with pytest.raises(ConfigError, match=f"{name}' (is damaged|does not exist)"):
            run(tmp_path / name, tmp_path / "out", pipe)
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"path": "../../x.png"}]), tmp_path / "away.parquet")
    with pytest.raises(ConfigError, match="must lead below the file's folder"):
        run(tmp_path / "away.parquet", tmp_path / "out", pipe)


def test_one_bad_picture_of_a_data_set_fails_alone(pipe, tmp_path):
    import pyarrow.parquet

    good = {"bytes": picture_bytes(0), "path": None}
    rows = [{"image": good}, {"image": {"bytes": b"nothing", "path": None}}, {"image": None}, {"image": good}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    summary = run(tmp_path / "in.parquet", tmp_path / "out", pipe)
    assert (summary.done, summary.counts["failed"]) == (2, 2)
    assert sorted(bytes_of(tmp_path / "out")) == ["00000000.png", "00000003.png"]
