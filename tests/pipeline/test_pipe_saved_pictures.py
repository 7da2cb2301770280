"""A good picture stays as it is, whichever file it came in."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grefine import GRefinePipeline
from grefine.resources import pipeline_folder
from lab.world.pictures import through

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(scope="module")
def tiny():
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.skipif(pipeline_folder("tiny") is None, reason="the embedded pipeline is not in this tree")
@pytest.mark.parametrize(("form", "quality"), [("JPEG", 95), ("JPEG", 90), ("JPEG", 85), ("WEBP", 90)])
def test_good_examples_come_back_untouched_from_any_file(tiny, form, quality):
    prompts = {row["file"]: row["prompt"] for row in csv.DictReader((EXAMPLES / "prompts.csv").open())}
    names = sorted(name for name in prompts if "_clean" in name)
    assert len(names) == 4
    pictures = [through(Image.open(EXAMPLES / name).convert("RGB"), form, quality=quality) for name in names]
    out = tiny(prompt=[prompts[name] for name in names], image=pictures)
    changed = {
        name: result.decision.reason
        for name, before, after, result in zip(names, pictures, out.images, out.results, strict=True)
        if not np.array_equal(np.asarray(before), np.asarray(after))
    }
    assert not changed
