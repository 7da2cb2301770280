"""Tells whether cached text features still belong to the weights they came from."""

from torch import Tensor, nn


def fingerprint(*modules: nn.Module) -> tuple[object, ...]:
    """Return a key that changes when a module's weights are trained, loaded or cast; moving them changes nothing."""
    return tuple(_mark(weight) for module in modules for weight in module.parameters())


def _mark(weight: Tensor) -> tuple[object, ...]:
    version = 0 if weight.is_inference() else weight._version
    return id(weight), version, weight.dtype
