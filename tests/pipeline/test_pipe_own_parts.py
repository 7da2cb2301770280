"""Your own maps and judges in a full call: arrays, lists, folders and functions; plain numbers, dicts and records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image
from test_pipe_exactness import BAD, bad_place, picture

from grefine.errors import ConfigError, ImageError
from grefine.indicators.heatmap import HeatmapQuality
from grefine.pipeline import GRefinePipeline
from grefine.types import AlignmentMap, MetricSpec, Scores


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def heat(value=0.1, shape=(64, 64)):
    values = np.ones(shape, np.float32)
    values[BAD] = value
    return values


def call(pipe, images, **others):
    arguments = {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(1), "scorers": [likes_change]}
    return pipe(image=images, **arguments | others)


def likes_change(images):
    """A judge who finds every other picture than the original better: what it says decides what is kept."""
    original = np.asarray(picture(), int)
    return [float(np.abs(np.asarray(image, int) - original).mean() > 2) for image in images]


def write(folder, **maps):
    folder.mkdir()
    for name, values in maps.items():
        np.save(folder / f"{name}.npy", values)
    return folder


@pytest.mark.parametrize("form", ["array", "tensor", "list", "path", "wrapped", "function", "function of maps"])
def test_an_own_quality_map_works_in_a_full_call(pipe, tmp_path, form):
    forms = {
        "array": heat(),
        "tensor": torch.from_numpy(heat()),
        "list": [heat()],
        "path": write(tmp_path / "maps", any=heat()) / "any.npy",
        "wrapped": HeatmapQuality(heat()),
        "function": lambda images: [heat() for _ in images],
        "function of maps": bad_place,
    }
    result = call(pipe, picture(), quality_map=forms[form]).results[0]
    assert result.plan.mask[BAD].all()
    assert result.plan.mask.mean() < 0.3
    assert result.decision.kept != "original", result.decision.reason
    assert "likes_change rose" in result.decision.reason
    own = form.startswith("function")
    assert all(("p" in scores) == own for scores in result.decision.candidates.values()), "a given map never judges"


def test_every_image_gets_its_own_map_and_samples_share_it(pipe, tmp_path):
    other = np.ones((48, 80), np.float32)
    other[30:44, 50:70] = 0.1
    images = [picture(), picture(48, 80, 1)]
    out = call(pipe, images, quality_map=[heat(), other], num_images_per_prompt=2, guard=False)
    assert [r.plan.mask.shape for r in out.results] == [(64, 64)] * 2 + [(48, 80)] * 2
    assert out.results[1].plan.mask[BAD].all()
    assert out.results[3].plan.mask[30:44, 50:70].all()
    files = []
    for index, image in enumerate(images):
        image.save(tmp_path / f"{'ba'[index]}.png")
        files.append(Image.open(tmp_path / f"{'ba'[index]}.png"))
    named = call(pipe, files, quality_map=write(tmp_path / "maps", a=other, b=heat()), guard=False)
    assert [r.plan.mask.shape for r in named.results] == [(64, 64), (48, 80)], (
        "by the files' names, not by their order"
    )
    paths = call(pipe, [tmp_path / "b.png", tmp_path / "a.png"], quality_map=tmp_path / "maps", guard=False)
    assert [r.plan.mask.shape for r in paths.results] == [(64, 64), (48, 80)]


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        (heat(shape=(40, 64)), ImageError, "64x40 but its image is 64x64"),
        (heat() * 255, ImageError, "ranges from 25.5 to 255"),
        ([heat(), heat()], ConfigError, "2 heatmaps were given for 1 images"),
        (lambda images: heat(), ConfigError, "returned 64 maps for 1 images"),
        (
            lambda images: bad_place(images)[0],
            ConfigError,
            "returned a QualityMap: return one map for each image",
        ),
        ("nowhere.npy", ImageError, "Cannot read the heatmap 'nowhere.npy'"),
        (3, ConfigError, "a list of maps or a folder, not int"),
    ],
)
def test_wrong_maps_are_one_sentence(pipe, given, kind, sentence):
    with pytest.raises(kind, match=sentence) as caught:
        call(pipe, picture(), quality_map=given)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_map_of_an_image_says_so(pipe, tmp_path):
    folder = write(tmp_path / "maps", a=heat(), b=heat())
    with pytest.raises(ConfigError, match="found by the file names of images, and an image here has none"):
        call(pipe, picture(), quality_map=folder)
    picture().save(tmp_path / "c.png")
    with pytest.raises(ImageError, match=r"has no quality map for 'c\.png': add 'c\.npy'"):
        call(pipe, Image.open(tmp_path / "c.png"), quality_map=folder)
    # What `grefine map` wrote for another picture stands there: the picture of that name is no map.
    named = write(tmp_path / "named", **{"a.quality": heat()})
    picture().save(named / "c.png")
    with pytest.raises(ImageError, match=r"has no quality map for 'c\.png'"):
        call(pipe, Image.open(tmp_path / "c.png"), quality_map=named)


def test_a_given_map_and_no_judge_keep_the_original_and_say_why(pipe):
    result = call(pipe, picture(), quality_map=heat(), scorers=[]).results[0]
    assert result.decision.kept == "original"
    assert result.decision.reason.startswith("Nobody here can tell")
    assert not result.decision.guarded


def test_an_own_alignment_map_gets_only_what_has_a_prompt(pipe):
    seen = []

    def aligned(images, prompts):
        seen.append([(image.size, prompt.text) for image, prompt in zip(images, prompts, strict=True)])
        return [AlignmentMap(np.ones((i.height, i.width), np.float32), 0.25 * (1 + n)) for n, i in enumerate(images)]

    images = [picture(), picture(48, 80), picture(40, 40)]
    out = pipe(prompt=["a red ball", "", "a tree"], image=images, alignment_map=aligned, plan_only=True)
    assert seen == [[((64, 64), "a red ball"), ((40, 40), "a tree")]]
    assert [r.alignment.score for r in out.results] == [0.25, None, 0.5]
    array = pipe(prompt="a ball", image=picture(), alignment_map=heat(), plan_only=True).results[0]
    assert array.alignment.score is None
    assert array.alignment.edit[BAD].min() > 0.8


def scores_of(judge):
    class Judge:
        spec = MetricSpec("own", axis="both")

        def __call__(self, images, prompts=None):
            return [Scores({"own": value}) for value in judge(images)]

    return Judge()


@pytest.mark.parametrize(
    ("judge", "name"),
    [
        (likes_change, "likes_change"),
        (lambda images, prompts: likes_change(images), "lambda"),
        (lambda images: [{"own.light": value, "own.dark": 0.5} for value in likes_change(images)], "own.light"),
        (lambda images: [Scores({"own": value}) for value in likes_change(images)], "own"),
        (lambda images: np.array(likes_change(images)), "lambda"),
        (lambda images: torch.tensor(likes_change(images)), "lambda"),
        (scores_of(likes_change), "own"),
    ],
)
def test_a_judge_is_any_function(pipe, judge, name):
    result = call(pipe, picture(), quality_map=bad_place, scorers=[judge]).results[0]
    assert f"{name} rose by 1" in result.decision.reason
    assert result.before[name] == 0.0
    assert result.after[name] == 1.0


@pytest.mark.parametrize(
    ("judge", "sentence"),
    [
        (lambda images: 0.5, "returned float for"),
        (lambda images: [0.5] * 99, "returned 99 values for"),
        (lambda images: ["good"] * len(images), "gave 'good' for an image: give finite numbers"),
        (lambda images: [float("nan")] * len(images), "give finite numbers"),
        (lambda images: [{"p": 0.5}] * len(images), "calls a value p or a"),
        (3, "not a int"),
        ("mdiqqa", "did you mean .mdiqa."),
    ],
)
def test_a_judge_that_cannot_be_read_is_one_sentence(pipe, judge, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call(pipe, picture(), quality_map=bad_place, scorers=[judge])


def test_a_pipeline_can_share_the_parts_of_another(pipe):
    again = GRefinePipeline.from_pipe(GRefinePipeline.from_pipe(pipe))
    assert again.reward is None
    assert again.mdiqa is None
    assert again.unet is pipe.unet
    again.set_progress_bar_config(disable=True)
    assert again.judges() == []
    arguments = {"quality_map": heat(), "output_type": "np"}
    assert np.array_equal(call(again, picture(), **arguments).images, call(pipe, picture(), **arguments).images)
    tiny = GRefinePipeline.from_pretrained("tiny")
    shared = GRefinePipeline.from_pipe(tiny)
    assert shared.mdiqa is tiny.mdiqa
    assert shared.config.working_size == tiny.config.working_size
    assert [judge.spec.name for judge in shared.judges()] == [judge.spec.name for judge in tiny.judges()]
