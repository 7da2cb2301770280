"""What the window's buttons do, without the window: handlers over the public API that end in a folder run's bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "folder"))
from small_world import PROMPTS, by_file, config, make_folder, random_pipeline, scene

from grefine.app import page
from grefine.app.desk import Desk, Sitting, change, keep, moved, open_desk, strokes_of
from grefine.app.page import LAYERS, active_mask, where
from grefine.errors import ConfigError, GRefineError, PlanError
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.resources import bundled
from grefine.types import RepairPlan

ALL = list(LAYERS)
NAMES = "0001.png", "sub/0002.jpeg"
"""Pictures in which the random pipeline finds something to do."""


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture
def sitting(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 6)
    (tmp_path / "secret").mkdir()
    scene(9).save(tmp_path / "secret" / "key.png")
    (source / "link.png").symlink_to(tmp_path / "secret" / "key.png")
    return Sitting(open_desk(source, pipe, tmp_path / "out", tmp_path / "plans", config=config()))


def opened(sitting, name="0001.png"):
    values = page.open_named(sitting, name, ALL)
    return values["regions"], values


def painted(sitting, box, colour=(230, 40, 60, 255)):
    """What the editor sends of a stroke in a picture of 32 by 32 that is shown in 512 by 512."""
    layer = np.zeros((512, 512, 4), np.uint8)
    left, top, right, bottom = (16 * side for side in box)
    layer[top:bottom, left:right] = colour
    return {"background": None, "layers": [Image.fromarray(layer)], "composite": None}


def of_the_command(sitting, tmp_path, source=None, plans=None, **given):
    options = FolderOptions(batch_size=1, report=False, panels=False)
    source = source or sitting.outcome.reading.item.source
    given = {"config": config(), "options": options, "plans": plans or sitting.desk.plans} | given
    refine_folder([source], tmp_path / "cli", sitting.desk.pipe, **given)
    return (tmp_path / "cli" / Path(source).name).read_bytes()


def test_opening_reads_the_prompt_of_the_file_and_shows_maps_phrases_and_regions(sitting):
    rows, values = opened(sitting)
    assert values["prompt"] == PROMPTS[1]
    assert "Prompt: " in values["note"]
    assert values["editor"]["background"].size == (512, 512)
    plan = sitting.plan
    assert [row[:4] for row in rows] == [
        [n, r.on, r.prompt, round(r.strength, 4)] for n, r in enumerate(plan.regions, 1)
    ]
    plain = page.redraw(sitting, rows, None, [])["editor"]["background"]
    for layer in ("what looks bad", "what is repainted"):
        assert page.redraw(sitting, rows, None, [layer])["editor"]["background"].tobytes() != plain.tobytes()


def test_tiny_says_which_phrase_is_not_met_and_escapes_every_text(tmp_path):
    examples = bundled("examples") / "images"
    sitting = Sitting(open_desk(examples, "tiny", tmp_path / "o", tmp_path / "p", prompts=examples / "prompts.csv"))
    found = page.open_named(sitting, "09_colour.png", ALL)
    assert "<td>a white cone</td><td>not as asked</td><td>bottom left" in found["phrases"]
    assert "<td>an orange spotted star</td><td>seen</td>" in found["phrases"]
    found = page.plan_anew(sitting, "a <b>red</b> ball, an orange <script> star", ALL)
    assert not {"<b>", "<script>"} & set(found["phrases"].split())
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(photo)
    with pytest.raises(GRefineError, match="toy"):
        page.open_dropped(sitting, str(photo), ALL)


def test_a_struck_out_region_and_a_painted_one_give_the_bytes_of_the_command_line(sitting, tmp_path):
    rows, _ = opened(sitting)
    assert rows
    rows[0][1] = False
    place = np.argwhere(~sitting.plan.mask)[0]
    box = (*place[::-1], *(place[::-1] + 3))
    shown = page.run(sitting, rows, painted(sitting, box), ALL)
    assert "**" in shown["told"]
    assert shown["numbers"].startswith("<table>")
    assert not sitting.desk.out.exists()
    saved = page.keep(sitting, "0001.png")
    assert [Path(file).is_file() for file in saved["files"]] == [True, True, True]
    assert ("0001.png: saved", "0001.png") in saved["listed"]["choices"]
    with pytest.raises(ConfigError, match="no result to keep"):
        keep(sitting)
    plan = RepairPlan.load(sitting.desk.plans / "0001.png")
    assert [region.on for region in plan.regions] == [False] * len(rows)
    kept = (sitting.desk.out / "0001.png").read_bytes()
    assert kept == of_the_command(sitting, tmp_path, tmp_path / "in" / "0001.png")
    before, after = (np.asarray(Image.open(tmp_path / folder / "0001.png").convert("RGB")) for folder in ("in", "out"))
    changed = (before != after).any(axis=2)
    assert changed.any()
    assert not changed[~active_mask(plan)].any()


def test_a_folder_run_goes_on_from_what_was_kept_though_other_plans_were_changed(sitting, tmp_path):
    for name in NAMES:
        rows, _ = opened(sitting, name)
        page.run(sitting, [[*row[:3], 0.31, row[4]] for row in rows], None, ALL)
        page.keep(sitting, name)
    out = sitting.desk.out
    before = (out / "0001.png").read_bytes()
    options = FolderOptions(batch_size=1)  # a batch is taken over whole or not at all
    refine_folder(tmp_path / "in", out, sitting.desk.pipe, config=config(), plans=sitting.desk.plans, options=options)
    assert all("found in OUT with its record" in by_file(out)[name]["notes"][0] for name in NAMES)
    assert (out / "0001.png").read_bytes() == before


def test_a_typed_prompt_is_that_of_the_command_line(sitting, tmp_path):
    opened(sitting)
    rows = page.plan_anew(sitting, "a yellow sun", ALL)["regions"]
    page.run(sitting, rows, None, ALL)
    page.keep(sitting, "0001.png")
    given = {"prompt": "a yellow sun", "prompt_order": ("prompt",)}
    assert (sitting.desk.out / "0001.png").read_bytes() == of_the_command(
        sitting, tmp_path, tmp_path / "in" / "0001.png", **given
    )


def test_a_dropped_picture_named_as_one_of_the_folder_is_refused(sitting, tmp_path):
    (tmp_path / "photo.png").write_bytes((tmp_path / "in" / "0001.png").read_bytes())
    sitting.desk.items["dropped/photo.png"] = sitting.desk.items["0001.png"]
    with pytest.raises(ConfigError, match=r"has a picture 'dropped/photo\.png' of its own"):
        page.open_dropped(sitting, str(tmp_path / "photo.png"), ALL)
    assert not sitting.dropped


def test_a_dropped_picture_keeps_its_prompt_and_its_bytes(sitting, tmp_path):
    other = make_folder(tmp_path / "elsewhere", 2) / "0001.png"
    values = page.open_dropped(sitting, str(other), ALL)
    assert values["prompt"] == PROMPTS[1]
    assert values["listed"]["value"] == "dropped/0001.png"
    page.run(sitting, values["regions"], None, ALL)
    page.keep(sitting, "dropped/0001.png")
    assert (sitting.desk.out / "dropped" / "0001.png").read_bytes() == of_the_command(
        sitting, tmp_path, other, plans=sitting.desk.plans / "dropped"
    )


def test_strokes_add_and_take_away_and_a_stroke_over_a_region_that_is_off_is_a_region_of_its_own(sitting):
    rows, _ = opened(sitting)
    plan = sitting.plan
    add, remove = strokes_of(painted(sitting, (2, 3, 5, 7))["layers"][0], (32, 32))
    assert np.argwhere(add).min(0).tolist() == [3, 2]
    assert add.sum() == 12
    assert not remove.any()
    blue = strokes_of(painted(sitting, (2, 3, 5, 7), (40, 70, 230, 255))["layers"][0], (32, 32))
    assert not blue[0].any()
    assert not change(plan, rows, *blue).mask[3:7, 2:5].any()
    off = [[row[0], False, *row[2:]] for row in rows]
    assert not active_mask(change(plan, off)).any()
    inside = np.zeros_like(plan.mask)
    inside[tuple(np.argwhere(plan.mask)[0])] = True
    assert (active_mask(change(plan, off, inside)) == inside).all()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: [],
        lambda rows: rows + rows,
        lambda rows: [[9, *row[1:]] for row in rows],
        lambda rows: [[*row[:3], "much", row[4]] for row in rows],
        lambda rows: [[*row[:3], None, row[4]] for row in rows],
        lambda rows: [[*row[:3], float("nan"), row[4]] for row in rows],
        lambda rows: [[*row[:3], 1.0, row[4]] for row in rows],
        lambda rows: [row[:2] for row in rows],
        lambda rows: [[*row[:2], "x" * 20_000, *row[3:]] for row in rows],
    ],
)
def test_a_spoilt_table_is_one_sentence(sitting, spoil):
    rows, _ = opened(sitting)
    with pytest.raises(PlanError) as told:
        page.run(sitting, spoil(rows), None, ALL)
    assert str(told.value).endswith(".")
    assert not sitting.desk.out.exists()


def test_a_stopped_run_changes_nothing(sitting):
    rows, _ = opened(sitting)
    steps = []

    def on_step(at, of, stage):
        steps.append((at, of))
        page.stop(sitting)

    assert page.run(sitting, rows, None, ALL, on_step)["told"] == "Stopped; nothing was changed."
    assert len(steps) == 1 <= steps[0][1]
    assert sitting.outcome is None
    page.begin(sitting)
    assert "**" in page.run(sitting, rows, None, ALL)["told"]
    assert page.throw_away(sitting, "0001.png")["listed"]["choices"][1] == ("0001.png: thrown away", "0001.png")
    assert not sitting.desk.out.exists()


def test_next_and_previous_go_round_and_a_saved_plan_comes_back(sitting):
    names = list(sitting.desk.items)
    assert page.open_next(sitting, None, ALL)["listed"]["value"] == names[0]
    assert page.open_next(sitting, names[0], ALL, -1)["listed"]["value"] == names[-1]
    assert page.open_next(sitting, names[-1], ALL)["listed"]["value"] == names[0]
    rows, _ = opened(sitting)
    page.run(sitting, [[*row[:2], "a cat", *row[3:]] for row in rows], None, ALL)
    rows, values = opened(sitting)
    assert rows[0][2] == "a cat"
    assert "plan that was saved" in values["note"]
    for ending in ("plan.json", "mask.png"):
        (sitting.desk.plans / f"0001.png.{ending}").rename(sitting.desk.plans / f"0000.png.{ending}")
    assert "of another picture" in opened(sitting, "0000.png")[1]["note"]


@pytest.mark.parametrize("name", ["link.png", "../secret/key.png", "sub/../0001.png", "/etc/passwd", "", None, 7])
def test_no_name_leads_out_of_the_list(sitting, name):
    with pytest.raises(ConfigError, match="not in the list"):
        page.open_named(sitting, name, ALL)
    assert sitting.reading is None


def test_what_stands_in_out_and_is_not_ours_is_not_written_over(sitting):
    rows, _ = opened(sitting)
    page.run(sitting, rows, None, ALL)
    sitting.desk.out.mkdir()
    scene(3).save(sitting.desk.out / "0001.png")
    before = (sitting.desk.out / "0001.png").read_bytes()
    with pytest.raises(ConfigError, match="no result of grefine"):
        page.keep(sitting, "0001.png")
    assert (sitting.desk.out / "0001.png").read_bytes() == before


def test_buttons_before_any_picture_say_so(pipe, tmp_path):
    sitting = Sitting(open_desk(None, pipe, tmp_path / "out", tmp_path / "plans", config=config()))
    for press in (
        lambda: page.open_next(sitting, None, ALL),
        lambda: page.plan_anew(sitting, "", ALL),
        lambda: page.run(sitting, [], None, ALL),
        lambda: page.keep(sitting, None),
    ):
        with pytest.raises(ConfigError, match="first|drop one"):
            press()
    assert page.redraw(sitting, [], None, ALL) == {}


def test_a_long_list_is_shown_around_the_open_picture_and_people_can_have_results_of_their_own(sitting, tmp_path):
    desk = sitting.desk
    many = {f"{n}.png": next(iter(desk.items.values())) for n in range(12_000)}
    shown = page._choices(Sitting(Desk(desk.pipe, desk.task, many, desk.out, desk.plans)), "6000.png")
    assert len(shown["choices"]) == 100
    assert shown["label"] == "Pictures 5,951 to 6,050 of 12,000"
    own = moved(desk, tmp_path / "own")
    assert {item.output.parents[-3] for item in own.items.values()} == {(tmp_path / "own" / "results").parents[-3]}
    assert all(item.output.is_relative_to(tmp_path / "own") for item in own.items.values())


def test_where_is_in_words():
    field = np.zeros((30, 30), np.float32)
    assert where(field) == "nowhere"
    field[0:3, 27:30] = 1
    assert where(field) == "top right, 1%"
    assert where(np.ones((30, 30), np.float32)) == "centre, 100%"
