"""Networks that prompts name (`<lora:name:weight>`), applied only from a folder that the user gives."""

from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, WeightsMissing, nearest
from grefine.io.picture import printable


class LoraShelf:
    """The LoRA files of one folder; loads what is asked for and remembers what a pipeline has."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigError(f"No folder of LoRAs '{printable(folder)}': give one that holds .safetensors files.")
        self.files = {path.stem.lower(): path for path in sorted(self.folder.rglob("*.safetensors"))}
        self._loaded: dict[str, str] = {}

    def apply(self, pipe: Any, wanted: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
        """Make exactly the wanted networks active; return one sentence for each that the folder does not have."""
        here = [(name, weight) for name, weight in wanted if name.lower() in self.files]
        notes = tuple(
            f"LoRA '{name}' is not in '{printable(self.folder)}'{nearest(name, self.files)}"
            for name, _ in wanted
            if name.lower() not in self.files
        )
        if here:
            pipe.set_adapters([self._load(pipe, name) for name, _ in here], [weight for _, weight in here])
            pipe.enable_lora()
        elif self._loaded:
            pipe.disable_lora()
        return notes

    def _load(self, pipe: Any, name: str) -> str:
        key = name.lower()
        if key in self._loaded:
            return self._loaded[key]
        path = self.files[key]
        adapter = f"folder_{len(self._loaded)}"
        try:
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter)
        except (ImportError, ValueError) as error:
            if "peft" in str(error).lower():
                raise WeightsMissing("LoRAs need peft: pip install 'grefine[lora]'.") from error
            raise ConfigError(f"LoRA '{printable(path)}' does not fit this pipeline: {error}") from error
        self._loaded[key] = adapter
        return adapter
