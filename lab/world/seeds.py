"""Random sources of what no pipeline is trained or tuned on; training counts its own seeds from 0 and 1,000,003."""

import torch

BENCHMARK = 2_000_003
"""The scenes of the benchmark."""
JUDGES = 3_000_017
"""The scenes that the judges are trained on."""
CHECK = 4_000_037
"""The scenes that the judges are checked and their tie bands measured on."""


def source(seed: int, number: int) -> torch.Generator:
    """Return the random source of batch `number` of stream `seed`."""
    return torch.Generator().manual_seed((seed * 1_000_033 + number * 7919 + 29) % (2**63 - 1))
