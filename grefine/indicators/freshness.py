"""Tells whether cached text features still belong to the weights they came from."""

from torch import nn


def fingerprint(*modules: nn.Module) -> tuple[object, ...]:
    """Return a key that changes when a module's weights are trained, loaded or cast; moving them changes nothing."""
    return tuple(
        (id(weight), 0 if weight.is_inference() else weight._version, weight.dtype)
        for module in modules
        for weight in module.parameters()
    )
