"""What decoding one picture takes beside what `explain` says.

`python benchmarks/vae_memory.py [bf16|fp32] [SIDE ...]` decodes with SDXL's VAE of random weights on the CPU. Each
size runs in a process of its own, whose highest memory is read before and after; 1024 takes some CPU minutes.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
from diffusers import AutoencoderKL

from grefine.refine.explain import decoding_memory

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def measure(name: str, side: int) -> None:
    """Decode one picture and print what it took."""
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    vae = vae.to(DTYPES[name]).eval()
    latents = torch.randn(1, 4, side // 8, side // 8, dtype=DTYPES[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        vae.decode(latents)
    took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(
        f"{name} {side}x{side}: {took:.2f} GB, estimated {decoding_memory(vae, side, side) / 2**30:.2f} GB", flush=True
    )


if __name__ == "__main__":
    asked = sys.argv[1:] or ["bf16", "512", "1024"]
    if len(asked) == 2:
        measure(asked[0], int(asked[1]))
    else:
        for size in asked[1:]:
            subprocess.run([sys.executable, __file__, asked[0], size], check=True)
