"""A result as a script or a notebook shows it."""

import json

import pytest
import torch
from PIL import Image

from grefine import GRefinePipeline
from grefine.resources import bundled


@pytest.fixture(scope="module")
def result():
    pipe = GRefinePipeline.from_pretrained("tiny")
    image = Image.open(bundled("examples") / "images" / "12_missing.png")
    prompt = "an orange house <b> below a checkered violet cube"
    return pipe(prompt=prompt, image=image, generator=torch.Generator().manual_seed(0)).results[0]


def test_as_plain_values(result):
    values = json.loads(json.dumps(result.to_dict()))
    assert values["p"] == pytest.approx(result.quality.score)
    assert [tuple(region["box"]) for region in values["regions"]] == [region.box for region in result.plan.regions]
    assert len(values["missing"]) == len(result.alignment.defects)
    assert values["before"].keys() == dict(result.before).keys()


def test_shown_shortly(result):
    assert len(repr(result)) < 500
    assert result.decision.reason in repr(result)
    shown = result._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_judges_of_an_untouched_picture():
    pipe = GRefinePipeline.from_pretrained("tiny")
    path = bundled("examples") / "images" / "01_clean.png"
    prompt = "on a road, on a sunny day, a checkered yellow fir"
    for asked in (False, True):
        result = pipe(prompt, path, config={"guard": "all" if asked else True}).results[0]
        assert result.decision.kept == "original"
        assert ("mdiqa.sharpness" in result.before) == asked
        assert "mdiqa.composition" not in result.before
        assert dict(result.before) == dict(result.after)
