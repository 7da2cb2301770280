"""What comes before the first image: importing, loading, the command line's help; each in a process of its own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from benchmarks.measure import ROOT, Times, compared
from benchmarks.part import Part

TINY = ROOT / "pipelines" / "tiny"
PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
LOADED = (
    "import torch; from diffusers import AutoencoderKL, UNet2DConditionModel, DDIMScheduler, "
    "StableDiffusionXLInpaintPipeline as P; from transformers import CLIPTextModel, CLIPTextModelWithProjection, "
    f"CLIPTokenizer; d = r'{TINY}'; g = lambda c, n: c.from_pretrained(d, subfolder=n); "
    "P(vae=g(AutoencoderKL, 'vae'), unet=g(UNet2DConditionModel, 'unet'), scheduler=g(DDIMScheduler, 'scheduler'), "
    "text_encoder=g(CLIPTextModel, 'text_encoder'), tokenizer=g(CLIPTokenizer, 'tokenizer'), "
    "text_encoder_2=g(CLIPTextModelWithProjection, 'text_encoder_2'), tokenizer_2=g(CLIPTokenizer, 'tokenizer_2'), "
    "add_watermarker=False)"
)
"""diffusers' pipeline from the same folder: what loading takes without maps, parser and judges."""
WAYS = {
    "nothing": "pass",
    "import grefine": "import grefine",
    "grefine --help": "import sys; sys.argv = ['grefine', '--help']\nfrom grefine.cli.main import main\nmain()",
    "import the pipeline": "from grefine import GRefinePipeline",
    "import diffusers' pipeline": "from diffusers import StableDiffusionXLInpaintPipeline",
    "load tiny": f"from grefine import GRefinePipeline; GRefinePipeline.from_pretrained(r'{TINY}')",
    "load diffusers' parts of tiny": LOADED,
}
PAIRS = {
    "grefine --help": ("nothing", "an empty Python program"),
    "import the pipeline": ("import diffusers' pipeline", "importing diffusers' inpaint pipeline"),
    "load tiny": ("load diffusers' parts of tiny", "diffusers' pipeline of the same files, without maps and judges"),
}


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure CPU seconds of whole processes, in turns."""
    del device
    rounds = 1 if quick else 5
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, code in WAYS.items():
            found[name].append(process_seconds(code))
    times = {name: Times(tuple(values), tuple(values)) for name, values in found.items()}
    rows = [compared(ours, times[ours], times[other], name) for ours, (other, name) in PAIRS.items()]
    light = statistics.median(found["import grefine"]) - statistics.median(found["nothing"])
    return Part(
        "start",
        "Before the first image",
        "CPU seconds of whole processes. A ratio below 1 is what maps, parser and judges add.",
        rows,
        notes=[f"`import grefine` adds {light:.2f} CPU s to an empty program: torch is loaded when it is needed."],
    )


def process_seconds(code: str) -> float:
    """Return the CPU seconds that a fresh Python takes for some code."""
    before = os.times()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-500:])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
