"""What comes before the first image: importing, loading, the command line's help; each in a process of its own."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

from benchmarks.measure import ROOT, Times, compared
from benchmarks.part import Part, Table

TINY = ROOT / "pipelines" / "tiny"
PICTURE = ROOT / "examples" / "images" / "05_blur.png"
AT_EXIT = """
import atexit, resource, sys
def peak():
    try:
        return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
atexit.register(lambda: print('peak', peak() / 1024, file=sys.stderr))
"""
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
REFINED = (
    "import sys, tempfile; from grefine.cli.main import main\n"
    f"sys.argv = ['grefine', 'refine', r'{PICTURE}', '--prompts', r'{PICTURE.parent / 'prompts.csv'}', "
    "'--pipeline', 'tiny', '-o', tempfile.mkdtemp()]\nmain()"
)
WAYS = {
    "nothing": "pass",
    "import grefine": "import grefine",
    "grefine --help": "import sys; sys.argv = ['grefine', '--help']\nfrom grefine.cli.main import main\nmain()",
    "import torch": "import torch",
    "import transformers' CLIP": "from transformers import CLIPTextModel",
    "import diffusers' UNet": "from diffusers import UNet2DConditionModel",
    "import the pipeline": "from grefine import GRefinePipeline",
    "import diffusers' pipeline": "from diffusers import StableDiffusionXLInpaintPipeline",
    "load tiny": f"from grefine import GRefinePipeline; GRefinePipeline.from_pretrained(r'{TINY}')",
    "load diffusers' parts of tiny": LOADED,
    "refine one picture": REFINED,
}
PAIRS = {
    "grefine --help": ("nothing", "an empty Python program"),
    "import the pipeline": ("import diffusers' pipeline", "importing diffusers' inpaint pipeline"),
    "load tiny": ("load diffusers' parts of tiny", "diffusers' pipeline of the same files, without maps and judges"),
}
STAIRS = {
    "import torch": "torch",
    "import transformers' CLIP": "transformers' CLIP text model (brings torchvision, scipy and torch's compiler)",
    "import diffusers' UNet": "diffusers' UNet (brings accelerate, and peft where it is installed)",
    "import the pipeline": "grefine's pipeline",
    "load tiny": "tiny: 30 MB of weights, timm and open_clip for its judges",
    "refine one picture": "`grefine refine` on one toy picture that is repainted",
}
"""Each needs what stands before it; what it takes more is what it adds."""


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure CPU seconds and peak memory of whole processes, in turns."""
    del device
    rounds = 1 if quick else 3
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, code in WAYS.items():
            found[name].append(process_cost(code))
    seconds = {name: tuple(cost[0] for cost in costs) for name, costs in found.items()}
    times = {name: Times(values, values) for name, values in seconds.items()}
    rows = [compared(ours, times[ours], times[other], name) for ours, (other, name) in PAIRS.items()]
    light = times["import grefine"].seconds() - times["nothing"].seconds()
    table = Table("To the first picture", ["after", "CPU s", "of which new", "peak MiB", "of which new"], [])
    last = (0.0, 0.0)
    for name, said in STAIRS.items():
        cost = (times[name].seconds(), statistics.median(memory for _, memory in found[name]))
        table.rows.append(
            [said, f"{cost[0]:.2f}", f"{cost[0] - last[0]:.2f}", *map(round, (cost[1], cost[1] - last[1]))]
        )
        last = cost
    return Part(
        "start",
        "Before the first image",
        "CPU seconds of whole processes. A ratio below 1 is what maps, parser and judges add.",
        rows,
        [table],
        notes=[
            f"`import grefine` adds {light:.2f} CPU s to an empty program: torch is loaded when it is needed.",
            "A toy picture was to be refined from a cold start within 3 CPU s and 600 MB. Importing SDXL's networks "
            "from diffusers and transformers takes more than that, and brings much that no toy picture needs, before "
            "a line of grefine runs. What grefine adds is in the last three rows.",
        ],
    )


def process_cost(code: str) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in MiB that a fresh Python takes for some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT + code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, float(done.stderr.rsplit("peak", 1)[1])
