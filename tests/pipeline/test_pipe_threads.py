"""Calls from several threads give what they give one after the other, bit by bit."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from components import components
from PIL import Image

from grefine.errors import ConfigError
from grefine.pipeline import GRefinePipeline
from grefine.refine.settings import RefineConfig

PLAIN = RefineConfig(gate=False, use_aq=False, mask_threshold="mean", max_area=0.6, max_regions=2, guard=False)
CALLS = [(steps, seed) for seed, steps in enumerate((2, 5, 3, 9, 4, 7, 2, 6))]


@pytest.fixture(scope="module")
def pipe():
    made = GRefinePipeline(**components())
    made.set_progress_bar_config(disable=True)
    return made


def scene(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def refine(pipe, steps, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    out = pipe("a red ball", scene(seed), config=PLAIN, num_inference_steps=steps, generator=generator, **options)
    return np.asarray(out.images[0]).tobytes()


def together(work):
    """Start all at the same moment, each in a thread of its own."""
    gate = threading.Barrier(len(work))

    def one(job):
        gate.wait(60)
        return job()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(one, work))


def test_different_step_counts_at_once(pipe):
    alone = [refine(pipe, *call) for call in CALLS]
    assert len(set(alone)) == len(alone)
    for _ in range(2):
        assert together([lambda call=call: refine(pipe, *call) for call in CALLS]) == alone


def test_other_pipelines_with_the_same_components_at_once(pipe):
    others = [GRefinePipeline(**pipe.components) for _ in range(3)]
    for other in others:
        other.set_progress_bar_config(disable=True)
    alone = [refine(pipe, *call) for call in CALLS]
    pipes = [pipe, *others]
    work = [lambda i=i, call=call: refine(pipes[i % 4], *call) for i, call in enumerate(CALLS)]
    assert together(work) == alone


def test_settings_of_a_call_are_its_own(pipe):
    """Guidance and a callback's stop belong to one call; the others neither stop nor change."""

    def stop(pipe, index, timestep, tensors):
        pipe._interrupt = True
        return tensors

    alone = [refine(pipe, 6, 1), refine(pipe, 6, 1, guidance_scale=1.0), refine(pipe, 6, 1, callback_on_step_end=stop)]
    assert len(set(alone)) == 3
    work = [
        lambda: refine(pipe, 6, 1),
        lambda: refine(pipe, 6, 1, guidance_scale=1.0),
        lambda: refine(pipe, 6, 1, callback_on_step_end=stop),
    ]
    assert together(work * 2) == alone * 2


def test_a_call_leaves_the_scheduler_as_it_was(pipe):
    pipe.scheduler.set_timesteps(50)
    refine(pipe, 3, 1)
    assert len(pipe.scheduler.timesteps) == 50


def test_a_call_from_within_a_call_is_refused_and_harms_nothing(pipe):
    refused = []

    def nested(pipe, index, timestep, tensors):
        with pytest.raises(ConfigError, match="in the middle of a call") as caught:
            refine(pipe, 2, 1)
        refused.append(caught)
        return tensors

    alone = refine(pipe, 3, 1)
    assert refine(pipe, 3, 1, callback_on_step_end=nested) == alone
    assert refused
    assert refine(pipe, 3, 1) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_in_the_middle_of_a_call_can_refine(pipe):
    alone, ends = refine(pipe, 2, 3), []

    def fork(pipe, index, timestep, tensors):
        if not ends:
            child = os.fork()
            if child == 0:
                answer = []
                thread = threading.Thread(target=lambda: answer.append(refine(pipe, 2, 3) == alone))
                thread.start()
                thread.join(60)
                os._exit(0 if answer == [True] else 1)
            ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return tensors

    refine(pipe, 2, 1, callback_on_step_end=fork)
    assert ends == [0]
