"""Every family of the table, at tiny random size: steps, seeds, exactness, batches, saving and loading."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import diffusers
import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_inpaint as qwen_edit
import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from components import components

from benchmarks.toy_painters import ALL, build
from grefine import GRefinePipeline
from grefine.refine.painters.diffusers import diffusers_class
from grefine.refine.painters.families import families

SIDE, PROMPT = 72, "a red ball on grass"
MASK = np.zeros((SIDE, SIDE), bool)
MASK[24:48, 24:48] = True
LEVEL = 1 / 255

diffusers.utils.logging.set_verbosity_error()


@pytest.fixture(autouse=True)
def small_canvas(monkeypatch):
    """diffusers brings every picture for Qwen-Image-Edit to about a million pixels: too many for a test."""
    monkeypatch.setattr(qwen_edit, "calculate_dimensions", lambda area, ratio: (64, 64, None))


@pytest.fixture(scope="module", params=ALL)
def painted(request):
    """A GRefinePipeline with a painter of the family, and the painter's own pipeline."""
    return wrapped(request.param)


def wrapped(name: str):
    pipe, arguments = build(name)
    maps = {part: value for part, value in components().items() if part in ("clip", "clip_tokenizer", "pq_prompts")}
    host = build("flux")[0] if name == "sdxl" else pipe  # SDXL's own parts would be taken for our own loop
    made = GRefinePipeline.from_pipe(host, painter=pipe, painter_arguments=arguments, working_size=64, **maps)
    made.set_progress_bar_config(disable=True)
    return made


def pictures(count: int = 2) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


def call(pipe, images, **changes):
    given = {
        "prompt": [PROMPT] * len(images),
        "image": images,
        "mask_image": Image.fromarray(MASK),
        "num_inference_steps": 6,
        "restorer": "inpaint",
        "preserve": "exact",
        "guard": False,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "np",
    }
    return pipe(**given | changes)


def test_steps_are_what_was_asked_for(painted):
    """Counted through the callback, which the painter's own loop calls, in both stages and at several strengths."""
    for strength, steps in ((None, 6), (0.3, 5), (1.0, 6)):
        seen: list = []

        def count(pipe, index, time, tensors, seen=seen):
            seen.append((pipe, tensors["stage"]))
            return {}

        call(painted, pictures(1), num_inference_steps=steps, strength=strength, callback_on_step_end=count)
        assert len(seen) == painted.num_timesteps == steps, strength
        assert {stage for _, stage in seen} == {"repaint", "restore"}
        assert all(pipe is painted for pipe, _ in seen), "the caller's callback gets the caller's pipeline"


def test_outside_the_mask_nothing_changes_through_us_and_everything_may_bare(painted):
    (image,) = pictures(1)
    before = np.asarray(image, np.float32) / 255
    out = call(painted, [image])
    moved = np.abs(np.asarray(out.images[0]) - before).max(-1)
    assert (moved[~MASK] == 0).all()
    assert moved[MASK].mean() > 10 * LEVEL, "a random painter changes what it is given"
    assert out.results[0].painter == painted.painter.name
    bare = bare_call(painted, image)
    assert (np.abs(bare - before).max(-1)[~MASK] > 2 * LEVEL).any(), "which is why pasting is ours"


def bare_call(painted, image):
    """The same pipeline on the whole picture, as its users call it."""
    pipe = painted.painter.pipe
    accepted = inspect.signature(pipe.__call__).parameters
    given = {"prompt": PROMPT, "image": image, "mask_image": Image.fromarray(MASK), "strength": 0.8}
    given |= {"num_inference_steps": 4, "output_type": "np", "generator": torch.Generator().manual_seed(0)}
    given |= {"height": SIDE, "width": SIDE, "max_area": SIDE * SIDE, **painted.painter.family.arguments}
    given |= painted.painter.arguments
    found = pipe(**{name: value for name, value in given.items() if name in accepted}).images[0]
    height, width = found.shape[:2]
    if (height, width) != (SIDE, SIDE):
        found = np.asarray(Image.fromarray((found * 255).astype(np.uint8)).resize((SIDE, SIDE)), np.float32) / 255
    return found


def test_a_seed_gives_one_result_whatever_the_company(painted):
    images = pictures(3)
    together = call(painted, images).images
    again = call(painted, images).images
    assert np.array_equal(together, again)
    alone = call(painted, images[1:2]).images[0]
    assert np.abs(together[1] - alone).max() <= LEVEL
    other = call(painted, images[1:2], generator=torch.Generator().manual_seed(1)).images[0]
    assert np.abs(other - alone).max() > 5 * LEVEL


def test_it_is_saved_as_what_it_is_made_of_and_loads_again(painted, tmp_path):
    painted.save_pretrained(tmp_path / "saved")
    loaded = GRefinePipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.painter.name == painted.painter.name
    assert loaded.unet is None
    assert loaded.painter.arguments == painted.painter.arguments
    few = {"restorer": "none", "num_inference_steps": 2}
    first, second = (np.asarray(call(pipe, pictures(1), **few).images) for pipe in (painted, loaded))
    assert np.abs(first - second).max() < LEVEL / 100, "rounding of sums, no more"


def test_the_table_names_classes_of_diffusers():
    assert {family.name for family in families()} == set(ALL)
    for family in families():
        for name in family.classes:
            call_ = inspect.signature(diffusers_class(name).__call__).parameters
            assert "prompt" in call_
        accepted = inspect.signature(diffusers_class(family.classes[0]).__call__).parameters
        assert {family.guided_by, *family.arguments} | ({family.negated_by} if family.negated_by else set()) <= set(
            accepted
        )
        assert ("negative_prompt" in accepted) == bool(family.negated_by)


def test_the_page_shows_the_table():
    page = (Path(__file__).parents[2] / "docs" / "painters.md").read_text(encoding="utf-8").splitlines()
    for family in families():
        row = next(line for line in page if line.startswith(f"| `{family.name}` | {family.classes[0]}"))
        assert f"| `{family.guided_by}` {family.guidance:g} | {family.steps[0]} / {family.steps[1]}" in row
        assert f"| {family.since} |" in row
        assert row.endswith(f"| {family.licence} |")
