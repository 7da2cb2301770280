"""Guidance by call, settings, plan file and folder: the same pixels, named on the page and in the record."""

import numpy as np
import pytest
import torch

from grefine.errors import PlanError
from grefine.evaluate.scoring import steered_by
from grefine.folder.runner import refine_folder
from grefine.io.images import read_image
from grefine.pipeline import GRefinePipeline
from grefine.types import RepairPlan
from lab.bench.cases import damaged_cases

LIKES = {"sharpness": 1.0}


@pytest.fixture(scope="module")
def pipe():
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_every_way_to_ask_gives_the_same_pixels(pipe, tmp_path):
    case = damaged_cases(1, 90, kinds=("noise",))
    given = {"prompt": case.prompts[0], "image": case.pictures[0], "force": True}

    def refined(**more):
        out = pipe(**given, **more, generator=torch.Generator().manual_seed(0))
        return np.asarray(out.images[0])

    plain, called = refined(guard=False), refined(guard=False, guidance=LIKES)
    assert (plain != called).any()
    assert (refined(config={"guidance": LIKES, "guard": False}) == called).all()
    plan = pipe.plan(**given, config={"guidance": LIKES})
    file = plan.save(tmp_path / "a")
    assert RepairPlan.load(file).guidance == LIKES
    assert not RepairPlan.load(file).edited
    assert (refined(guard=False, plan=RepairPlan.load(file)) == called).all()
    file.write_text(file.read_text().replace('"sharpness": 1.0', '"sharpness": "much"'))
    with pytest.raises(PlanError, match="'guidance' must be a number"):
        RepairPlan.load(file)

    case.pictures[0].save(tmp_path / "in.png")
    settings = {"guidance": LIKES, "guard": False}
    refine_folder(tmp_path / "in.png", tmp_path / "out", pipe, config=settings, prompt=case.prompts[0], force=True)
    assert (np.asarray(read_image(tmp_path / "out" / "in.png").rgb) == called).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "steered by" in page
    assert "sharpness 1" in page
    assert "mdiqa" in steered_by([tmp_path / "out" / "in.png"])


def test_the_last_judge_of_the_prompt_is_missed_aloud(pipe, tmp_path):
    case, told = damaged_cases(1, 90, kinds=("noise",)), []
    given = {"prompt": case.prompts[0], "image": case.pictures[0], "force": True}
    with pytest.warns(UserWarning, match="the only judge of the prompt"):
        pipe(**given, guidance={"moe-agiqa": 1.0})
    case.pictures[0].save(tmp_path / "in.png")
    likes = {"moe-agiqa": 1.0}
    refine_folder(tmp_path / "in.png", tmp_path / "out", pipe, guidance=likes, dry_run=False, report=told.append)
    assert "the only judge of the prompt" in next(str(event.get("text")) for event in told if event["event"] == "note")
