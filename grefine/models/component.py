"""The base of our networks: diffusers' own, and in a light install, which lacks it, what loading and judging need."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

WEIGHTS = "diffusion_pytorch_model.safetensors"


class LightConfig(dict[str, Any]):
    """A configuration whose entries are read as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class LightConfigMixin:
    """Remembers with which arguments a network was built."""


class LightModelMixin(nn.Module):
    """A network that is read from a folder on this machine and run; it is neither saved nor fetched from a hub."""

    config: LightConfig

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of what precision its weights are."""
        return next(self.parameters()).dtype

    @classmethod
    def from_pretrained(
        cls, source: str | Path, subfolder: str = "", torch_dtype: torch.dtype | None = None
    ) -> "LightModelMixin":
        """Read what `save_pretrained` wrote into a folder; OSError where something is missing."""
        from safetensors.torch import load_file

        folder = Path(source, subfolder)
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(**{name: value for name, value in stored.items() if not name.startswith("_")})
        if not (folder / WEIGHTS).is_file():
            raise OSError(f"'{folder}' holds no {WEIGHTS}: weights in several files need `pip install grefine[full]`.")
        model.load_state_dict(load_file(folder / WEIGHTS))
        model.config["_name_or_path"] = str(folder)
        return (model if torch_dtype is None else model.to(torch_dtype)).eval()


def light_register_to_config(init: Callable[..., None]) -> Callable[..., None]:
    """Keep the arguments of a constructor, defaults included, as the configuration."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def keeping(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        self.config = LightConfig(list(given.arguments.items())[1:])
        init(self, *args, **kwargs)

    return keeping


if TYPE_CHECKING:
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config
else:
    try:
        from diffusers import ConfigMixin, ModelMixin
        from diffusers.configuration_utils import register_to_config
    except (ImportError, RuntimeError):  # a diffusers that does not fit the rest fails with the second
        ConfigMixin, ModelMixin, register_to_config = LightConfigMixin, LightModelMixin, light_register_to_config
