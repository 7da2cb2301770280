"""Every bad file costs one row and one line; the good ones among them come out; nothing hangs or explodes."""

from __future__ import annotations

import io
import os
import resource
import time

import pytest
from hostile import make_hostile
from small_world import by_file, config, random_pipeline, rows, run, scene, snapshot

from grefine.folder.options import FolderOptions
from grefine.folder.progress import PlainReporter
from grefine.folder.worklist import list_work
from grefine.io.images import read_image


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    names = make_hostile(root / "in")
    before = snapshot(root / "in")
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    stream = io.StringIO()
    # Maps only: what is tested here is what comes before and after the pipeline.
    summary = run(
        root / "in",
        root / "out",
        random_pipeline(),
        settings=config(stage1=False, max_area=0.0),
        report=PlainReporter(stream),
        batch_size=16,
        panels=False,
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return root, names, summary, stream.getvalue(), time.process_time() - start, grown, before


def test_every_file_has_exactly_one_row(hostile):
    root, names, summary, _, _, _, _ = hostile
    assert len(names) >= 300
    files = [row["file"] for row in rows(root / "out")]
    assert sorted(files) == sorted(names)
    assert sum(summary.counts.values()) == len(names)


def test_every_failure_is_one_sentence_on_one_line(hostile):
    root, _, summary, shown, _, _, _ = hostile
    failed = [row for row in rows(root / "out") if row["state"] == "failed"]
    assert len(failed) > 100
    for row in failed:
        assert row["reason"].endswith((".", "..."))
        assert len(row["reason"]) < 500
        assert "Traceback" not in row["reason"]
        assert not row.get("unexpected"), row
    lines = shown.splitlines()
    assert sum(line.startswith("failed: ") for line in lines) == summary.counts["failed"] == len(failed)


def test_the_good_ones_come_out(hostile):
    root, names, _, _, _, _, _ = hostile
    found = by_file(root / "out")
    good = {name for name in names if name.rsplit("/")[-1].startswith("good_")}
    assert len(good) > 90
    for name in good:
        assert found[name]["state"] in ("untouched", "beyond"), (name, found[name]["reason"])
        output = root / "out" / found[name]["output"]
        assert read_image(output).size == read_image(root / "in" / name).size


def test_what_is_bad_is_called_by_its_name(hostile):
    root, _, _, _, _, _, _ = hostile
    found = by_file(root / "out")
    expected = {
        "empty_0.png": "is empty",
        "bomb_60000.png": "too large",
        "bomb_ztxt.png": "refused|damaged",
        "bomb_rows.png": "8000 x 8000 pixels",
        "film.gif": "animation of 3 frames",
        "film.webp": "animation of 3 frames",
        "float.tif": "unsupported colour mode",
        "lying_0.png": "not an image",
        "cut_JPEG_5.jpeg": "damaged",
        "circle.png": "circle",
        "device.png": "link out of SRC",
        "pipe.png": "not a file",
        "folder.png/up": "circle",
    }
    import re

    for name, match in expected.items():
        assert re.search(match, found[name]["reason"]), (name, found[name]["reason"])


def test_undecidable_texts_are_told(hostile):
    root, _, summary, _, _, _, _ = hostile
    found = by_file(root / "out")
    assert "characters" in found["good_long_prompt.png"]["prompt_unsure"]
    assert "ComfyUI graph" in found["good_text_2_prompt.png"]["prompt_unsure"]
    assert summary.unsure_count >= 3


def test_time_and_memory_stay_bounded(hostile):
    _, _, _, _, seconds, grown, _ = hostile
    assert seconds < 120
    assert grown < 1_500_000, f"{grown // 1024} MiB"


def test_inputs_are_as_they_were(hostile):
    root, _, _, _, _, _, before = hostile
    assert snapshot(root / "in") == before


def test_no_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    scene(1).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    summary = run(tmp_path, tmp_path / "out", random_pipeline())
    assert "Permission denied" in rows(tmp_path / "out")[0]["reason"]
    assert summary.exit_code == 1


def listed(sources, out, **options):
    return {i.relative: i.refused for i in list_work(sources, out, FolderOptions(**options))}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(1).save(path)
    return path


def test_out_inside_src_never_feeds_on_itself(tmp_path):
    picture(tmp_path / "a.png")
    out = tmp_path / "refined"
    picture(out / "a.png")
    (out / ".grefine").mkdir()
    assert listed([tmp_path], out) == {"a.png": ""}
    # and an OUT as SRC gives its results, not its panels
    picture(out / "panels" / "a.png.png")
    assert listed([out], tmp_path / "second") == {"a.png": ""}


def test_links_do_not_leave_src_unless_asked(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "elsewhere"
    picture(inside / "a.png")
    picture(outside / "b.png")
    (inside / "same.png").symlink_to(inside / "a.png")
    (inside / "other.png").symlink_to(outside / "b.png")
    (inside / "folder").symlink_to(outside)
    (inside / "up").symlink_to(inside)
    found = listed([inside], tmp_path / "out")
    assert found["a.png"] == found["same.png"] == ""
    assert "link out of SRC" in found["other.png"]
    assert "--follow-links" in found["folder"]
    assert "circle" in found["up"]
    followed = listed([inside], tmp_path / "out", follow_links=True)
    assert followed["other.png"] == followed["folder/b.png"] == ""
    assert "circle" in followed["up"]


def test_lists_patterns_and_several_sources(tmp_path):
    for name in ("one/a.png", "one/sub/b.png", "two/a.png", "c.jpg"):
        picture(tmp_path / name)
    out = tmp_path / "out"
    assert set(listed([tmp_path / "one"], out)) == {"a.png", "sub/b.png"}
    assert set(listed([tmp_path / "one"], out, recursive=False)) == {"a.png"}
    both = listed([tmp_path / "one", tmp_path / "two", tmp_path / "c.jpg"], out)
    assert set(both) == {"one/a.png", "one/sub/b.png", "two/a.png", "c.jpg"}
    assert set(listed([tmp_path], out, pattern=("sub/*", "*.jpg", "one/s*"))) == {"c.jpg", "one/sub/b.png"}
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'c.jpg'}\n\n{tmp_path / 'one/a.png'}\n{tmp_path / 'two/a.png'}\n")
    found = listed([f"@{tmp_path / 'list.txt'}"], out)
    assert set(found) == {"c.jpg", "a.png"}
    assert "already written" in found["a.png"]


def test_out_may_not_hold_its_inputs(tmp_path):
    from grefine.errors import ConfigError

    picture(tmp_path / "in" / "a.png")
    for out in (tmp_path / "in", tmp_path):
        with pytest.raises(ConfigError, match="is or holds the input folder"):
            listed([tmp_path / "in"], out)
    assert "written over it" in listed([tmp_path / "in/a.png"], tmp_path / "in")["a.png"]
    assert listed([tmp_path / "in/a.png"], tmp_path / "in", suffix="_new") == {"a.png": ""}


def test_a_long_listing_streams(tmp_path):
    import tracemalloc

    for folder in range(20):
        place = tmp_path / f"{folder:02}"
        place.mkdir()
        for number in range(250):
            (place / f"{number:04}.png").touch()
    tracemalloc.start()
    count = sum(1 for _ in list_work([tmp_path], tmp_path / "out", FolderOptions()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 2_000_000, f"{peak / 5000:.0f} bytes per file"
