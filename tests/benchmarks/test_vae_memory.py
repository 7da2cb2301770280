"""What `explain` says of memory, held against what decoding takes."""

from __future__ import annotations

import platform

import pytest

from benchmarks.vae_memory import row


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep other blocks")
@pytest.mark.parametrize(
    ("dtype", "side"), [("fp32", 512), ("bf16", 512), pytest.param("fp32", 768, marks=pytest.mark.slow)]
)
def test_the_estimate_is_within_a_quarter_of_what_decoding_takes(dtype, side):
    for _ in range(3):  # a busy machine may hold freed blocks for longer; a wrong estimate is wrong thrice
        name, took, said, ratio = row(dtype, side)
        if 0.75 <= ratio <= 1.25:
            break
    assert 0.75 <= ratio <= 1.25, f"{name}: {took:.0f} MiB, said {said:.0f}"
