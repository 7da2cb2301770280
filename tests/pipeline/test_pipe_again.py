"""One pipeline, called again and again: after interrupts, in a forked child, and many times over."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from components import components
from PIL import Image

from grefine.pipeline import GRefinePipeline
from grefine.refine.settings import RefineConfig

WHOLE = RefineConfig(gate=False, mask_threshold="mean", max_area=0.6, max_regions=2, guard=True)
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pipe():
    made = GRefinePipeline(**components())
    made.set_progress_bar_config(disable=True)
    return made


def refine(pipe, seed=1, **options):
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    options = {"config": WHOLE, "num_inference_steps": 4, "scorers": [brightness]} | options
    out = pipe("a red ball", image, generator=torch.Generator().manual_seed(seed), **options)
    return np.asarray(out.images[0]).tobytes()


def brightness(images, prompts):
    return [float(np.asarray(image).mean()) for image in images]


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["step", "judge", "quality_map", "alignment_map", "restorer"])
def test_an_interrupt_at_a_known_place_leaves_the_pipeline_as_it_was(pipe, where):
    state = torch.random.get_rng_state()
    before = refine(pipe)
    place = {"step": {"callback_on_step_end": interrupt}, "judge": {"scorers": [interrupt]}}
    with pytest.raises(KeyboardInterrupt):
        refine(pipe, **place.get(where, {where: interrupt}))
    assert refine(pipe) == before
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.fixture
def interruptible():
    """Interrupts raise, as in a program; a worker process of pytest ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupts_at_any_moment_leave_the_pipeline_as_it_was(pipe):
    before = refine(pipe)
    start = time.perf_counter()
    refine(pipe)
    lasts, landed = time.perf_counter() - start, 0
    for moment in np.linspace(0.02, 0.9, 12):
        timer = threading.Timer(lasts * moment, _thread.interrupt_main)
        try:
            timer.start()
            refine(pipe)
            timer.join()
            time.sleep(0.05)
        except KeyboardInterrupt:
            landed += 1
        timer.join()
        assert refine(pipe) == before, moment
    assert landed == 12
    assert torch.is_inference_mode_enabled() is False
    assert torch.is_grad_enabled()


FORKED = """
import multiprocessing, sys
sys.path[:0] = [TESTS, TESTS + "/pipeline"]
import torch
from test_pipe_again import GRefinePipeline, components, refine
pipe = GRefinePipeline(**components())
pipe.set_progress_bar_config(disable=True)
torch.set_num_threads(1)
by_one = refine(pipe)  # the last bits of a convolution may differ with the number of threads
torch.set_num_threads(2)
before = refine(pipe)
big = torch.randn(1500, 1500)
(big @ big).exp_().sum()
fork = multiprocessing.get_context("fork")
answers = fork.Queue()
child = fork.Process(target=lambda: answers.put(refine(pipe)), daemon=True)
child.start()
assert answers.get(timeout=60) == by_one
assert refine(pipe) == before
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_after_loading_refines_though_its_parent_has_threads():
    """OpenMP's threads do not live on in a child, which would wait for them without end."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = FORKED.replace("TESTS", repr(str(TESTS)))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts in /proc")
@pytest.mark.parametrize("calls", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_many_calls_take_no_more_memory_than_few(pipe, calls):
    """What Python holds, and what the process keeps open, do not grow with the number of calls."""
    small = {"num_inference_steps": 2}
    for seed in range(7):
        refine(pipe, seed, **small)
    tracemalloc.start()
    try:
        for seed in range(3):
            refine(pipe, seed, **small)
        gc.collect()
        held, files, threads = tracemalloc.get_traced_memory()[0], open_files(), threading.active_count()
        resident = resident_mib()
        for seed in range(calls):
            refine(pipe, seed % 7, **small)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - held
        assert resident_mib() - resident < 8
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert (open_files(), threading.active_count()) == (files, threads)


def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
