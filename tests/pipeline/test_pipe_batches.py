"""Order, company and repetition: a batch row is the same image run alone, and seeds tell images and regions apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import MEASURED, pipeline
from test_pipe_exactness import all_good, bad_place, picture


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def call(pipe, images, prompts, generator=None, **others):
    arguments = {"quality_map": bad_place, "num_inference_steps": 4, "guidance_scale": 3.0, "guard": False}
    arguments["config"] = {"use_aq": False}  # random weights find every phrase missing everywhere
    generator = generator or torch.Generator().manual_seed(7)
    return pipe(prompt=prompts, image=images, generator=generator, **arguments | others)


def test_a_batch_row_equals_the_image_alone_in_any_order(pipe):
    images = [picture(64, 64, seed) for seed in range(2)] + [picture(48, 80, 2)]
    prompts = ["a red ball", "a blue box on the grass", "snow"]
    together = call(pipe, images, prompts)
    backwards = call(pipe, images[::-1], prompts[::-1])
    for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        alone = call(pipe, image, prompt)
        for batch, row in ((together, index), (backwards, 2 - index)):
            difference = np.abs(np.asarray(batch.images[row], int) - np.asarray(alone.images[0], int))
            assert difference.max() <= 1
            assert batch.results[row].decision.kept == alone.results[0].decision.kept


def test_lengths_of_prompts_do_not_mix(pipe):
    long = " ".join(["a red ball on the grass"] * 8)
    images = [picture(seed=0), picture(seed=1)]
    together = call(pipe, images, ["a red ball", long])
    alone = call(pipe, images[0], "a red ball")
    assert np.abs(np.asarray(together.images[0], int) - np.asarray(alone.images[0], int)).max() <= 1


def test_clean_images_in_a_batch_come_back_untouched(pipe):
    pipe.register_to_config(calibration=MEASURED | {"p_gate": 0.8})

    def first_is_bad(images):
        return [bad_place([i])[0] if n == 0 else all_good([i])[0] for n, i in enumerate(images)]

    images = [picture(seed=0), picture(seed=1)]
    out = call(pipe, images, ["a red ball"] * 2, quality_map=first_is_bad)
    pipe.register_to_config(calibration=MEASURED)
    assert out.images[1] is images[1]
    assert [r.decision.kept for r in out.results] == ["both", "original"]


def test_same_seed_same_bytes_other_seed_other_bytes(pipe):
    image = picture()
    first, again = (call(pipe, image, "a red ball").images[0] for _ in range(2))
    other = call(pipe, image, "a red ball", torch.Generator().manual_seed(8)).images[0]
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert not np.array_equal(np.asarray(first), np.asarray(other))


def test_a_generator_in_use_moves_on_and_is_not_called_repeatable(pipe):
    image, generator = picture(), torch.Generator().manual_seed(7)
    first = call(pipe, image, "a red ball", generator)
    second = call(pipe, image, "a red ball", generator)
    assert first.results[0].seed == 7
    assert second.results[0].seed is None
    assert not np.array_equal(np.asarray(first.images[0]), np.asarray(second.images[0]))


def test_one_generator_per_image(pipe):
    images = [picture(seed=0), picture(seed=1)]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    together = call(pipe, images, ["a red ball"] * 2, generators)
    alone = call(pipe, images[1], "a red ball", torch.Generator().manual_seed(4))
    assert np.abs(np.asarray(together.images[1], int) - np.asarray(alone.images[0], int)).max() <= 1
    assert [r.seed for r in together.results] == [3, 4]


def test_samples_of_one_image_differ(pipe):
    out = call(pipe, picture(), "a red ball", num_images_per_prompt=2)
    assert len(out.images) == len(out.results) == 2
    assert not np.array_equal(np.asarray(out.images[0]), np.asarray(out.images[1]))


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
def test_output_types_agree(pipe, kind):
    image = picture()
    reference = np.asarray(call(pipe, image, "a red ball").images[0], np.float32) / 255
    pixels = np.asarray(image, np.float32) / 255
    given = {"pil": image, "np": pixels, "pt": torch.from_numpy(pixels).permute(2, 0, 1)}[kind]
    out = call(pipe, given, "a red ball", output_type=kind).images
    found = np.asarray(out[0] if kind != "pt" else out[0].permute(1, 2, 0)) / (255 if kind == "pil" else 1)
    assert np.abs(found - reference).max() <= 0.5 / 255 + 1e-6


def test_tuple_output(pipe):
    images, results = call(pipe, picture(), "a red ball", return_dict=False)
    assert len(images) == len(results) == 1


def test_mixed_sizes_come_as_a_list(pipe):
    out = call(pipe, [picture(64, 64), picture(48, 80)], ["a red ball"] * 2, output_type="pt")
    assert [tuple(i.shape) for i in out.images] == [(3, 64, 64), (3, 48, 80)]
