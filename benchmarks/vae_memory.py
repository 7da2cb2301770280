"""What decoding one picture takes beside what `explain` says.

`python benchmarks/vae_memory.py [--width SHARE] [bf16|fp32] [SIDE ...]` decodes with SDXL's VAE of random weights on
the CPU, at a share of its width (a quarter unless told otherwise). Each size runs in a process of its own; at full
width 1024 takes some CPU minutes.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import AutoencoderKL

from benchmarks.measure import Work, peak
from grefine.refine.inspector import decoding_memory

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
WIDTHS = (128, 256, 512, 512)


def network(dtype: str, width: float) -> AutoencoderKL:
    """Return SDXL's VAE at a share of its width."""
    vae = AutoencoderKL(
        block_out_channels=tuple(round(channels * width) for channels in WIDTHS),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    return vae.to(DTYPES[dtype]).eval()


def decode(dtype: str, side: int, width: float) -> Work:
    """Decode one picture."""
    vae = network(dtype, width)
    latents = torch.randn(1, 4, side // 8, side // 8, dtype=DTYPES[dtype])
    with torch.no_grad():
        vae.decode(latents[..., :8, :8])  # what a first call of the libraries takes is not the picture's
    return torch.no_grad()(lambda: vae.decode(latents))


CASES = {"decode": decode}


def row(dtype: str, side: int, width: float = 0.25) -> list[float | str]:
    """Return what decoding took and what `explain` says, in MiB, and the quotient."""
    cost = peak("benchmarks.vae_memory", "decode", dtype=dtype, side=side, width=width)
    took, said = cost["peak"] - cost["ready"], decoding_memory(network(dtype, width), side, side) / 2**20
    return [f"{dtype}, {side}²", took, said, said / took]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dtype", nargs="?", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("sides", nargs="*", type=int, default=[512, 1024])
    parser.add_argument("--width", type=float, default=0.25)
    asked = parser.parse_args()
    for size in asked.sides:
        name, took, said, ratio = row(asked.dtype, size, asked.width)
        print(f"{name}: {took:.0f} MiB, explain says {said:.0f} ({ratio:.2f} of it)", flush=True)
