"""Marks that diffusers' testers carry; its own conftest, which registers them, is not loaded from outside."""

from __future__ import annotations

MARKS = [
    "attention",
    "autoround",
    "big_accelerator",
    "bitsandbytes",
    "cache",
    "compile",
    "context_parallel",
    "cpu_offload",
    "gguf",
    "group_offload",
    "ip_adapter",
    "lora",
    "memory",
    "modelopt",
    "nightly",
    "quantization",
    "quanto",
    "sdnq",
    "single_file",
    "tensor_parallel",
    "torchao",
    "training",
]


def pytest_configure(config):
    for name in MARKS:
        config.addinivalue_line("markers", f"{name}: a mark of diffusers' testers")
