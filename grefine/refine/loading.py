"""Where a pipeline comes from and goes to: bundled names, folders, single files, loaded pipelines."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, nearest
from grefine.indicators.load import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.refine.judges import component_scorers, save_judge_tokenizers
from grefine.refine.recipe import assembled_folder, is_recipe, read_recipe
from grefine.refine.single_file import load_single_file, maps_source
from grefine.resources import bundled, pipeline_folder, pipeline_names
from grefine.scorers.protocol import Scorer

INDEX = "model_index.json"


class Loading:
    """The doors of a GRefinePipeline."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a pipeline by a bundled name ("tiny", "sdxl"), from a folder, from one file or from the Hub.

        Everything else is passed on to diffusers: `dtype`, `variant`, `device_map`, `quantization_config`,
        `local_files_only`, components by name, and so on.

        Raises:
            WeightsMissing: a recipe whose weights are not on this machine; the sentence names the command.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).is_file():
            return cls.from_single_file(name, **kwargs)
        folder = pipeline_folder(name)
        recipe = bundled("pipelines") / name
        if folder is not None and not Path(name).is_dir() and is_recipe(recipe):
            variant = read_recipe(recipe).variant
            kwargs = ({"variant": variant} if variant else {}) | kwargs
            folder = assembled_folder(recipe)
        if folder is None and "/" not in name:
            names = pipeline_names()
            raise WeightsMissing(
                f"No pipeline '{name}': give one of {', '.join(names) or '(none bundled)'}, a folder that holds "
                f"{INDEX}, or a Hub id such as 'owner/name'{nearest(name, names)}"
            )
        if folder is not None and not (folder / INDEX).is_file():
            raise WeightsMissing(f"The folder '{name}' holds no {INDEX}: it is not a saved pipeline.")
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            # transformers keeps a checkpoint's own precision where diffusers means float32: parts would not fit.
            kwargs["dtype"] = torch.float32
        try:
            return super().from_pretrained(str(folder or name), **kwargs)  # type: ignore[misc]
        except GRefineError:
            raise
        except Exception as error:  # whatever a foreign folder makes its readers raise
            if "weights_only" in str(error):
                raise WeightsCorrupt(
                    f"The pipeline '{name}' is refused: it holds a pickle that wants more than tensors. Take its "
                    "safetensors version."
                ) from error
            if folder is None:
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise WeightsCorrupt(
                f"The pipeline '{name}' cannot be loaded: {said[:200].rstrip('.')}. Copy the folder anew, or "
                "reinstall grefine if it is a bundled one."
            ) from error

    @classmethod
    def from_pipe(cls, pipeline: Any, maps: str | Path | None = None, **kwargs: Any) -> Self:
        """Share the components of a loaded SDXL pipeline; neither dtype nor device of any is changed unless asked.

        Args:
            pipeline: any pipeline with SDXL's components (text-to-image, inpainting, another GRefinePipeline).
            maps: the pipeline (name or folder) whose CLIP, prompts and calibration draw the maps, where `pipeline`
                has none of its own.
            kwargs: components and settings of this class that replace the shared ones, and `dtype`.
        """
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        accepted = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
        unknown = [name for name in kwargs if name not in accepted]
        if unknown:
            raise ConfigError(f"from_pipe got the unknown argument '{unknown[0]}'{nearest(unknown[0], accepted)}")
        shared = {name: part for name, part in pipeline.components.items() if name in accepted and part is not None}
        settings = {name: pipeline.config[name] for name in accepted if name in pipeline.config and name not in shared}
        parts = settings | shared | (_maps_from(maps) if maps is not None else {}) | kwargs
        required = inspect.signature(cls.__init__).parameters
        missing = [n for n in accepted if required[n].default is inspect.Parameter.empty and parts.get(n) is None]
        if missing:
            hint = " Name a pipeline for the maps, e.g. maps='tiny'." if "clip" in missing else ""
            raise ConfigError(
                f"{type(pipeline).__name__} has no {', '.join(missing)}, which {cls.__name__} needs: it must be an "
                f"SDXL pipeline.{hint}"
            )
        made = cls(**parts)
        return made if dtype is None else made.to(dtype=dtype)  # type: ignore[attr-defined]

    @classmethod
    def from_single_file(
        cls, pretrained_model_link_or_path: str | Path, maps: str | Path = "sdxl", **kwargs: Any
    ) -> Self:
        """Load an SDXL checkpoint kept in one file (4 or 9 channels), with the maps of another pipeline.

        Args:
            pretrained_model_link_or_path: the file.
            maps: the pipeline whose CLIP, prompts and calibration draw the maps.
            kwargs: passed on to diffusers' `from_single_file` (`config`, `dtype`, `local_files_only`, ...); `clip`,
                `clip_tokenizer` and `pq_prompts` replace `maps`. `config` is a folder in diffusers' layout that says
                how the parts are built; left open, a fetched pipeline of the file's widths says it.

        Raises:
            ConfigError: no SDXL checkpoint; the sentence says what it is.
            WeightsMissing: nothing on this machine says how the parts are built, and no network may be asked.
        """
        own = {name: kwargs.pop(name) for name in ("clip", "clip_tokenizer", "pq_prompts") if name in kwargs}
        source = maps_source(maps)
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            # diffusers would keep each part as the file has it, and parts of two precisions do not fit.
            kwargs["dtype"] = torch.float32
        base = load_single_file(
            str(pretrained_model_link_or_path),
            kwargs.pop("config", None),
            (source, "sdxl"),
            bool(kwargs.pop("local_files_only", False)),
            **kwargs,
        )
        return cls.from_pipe(base, maps=None if len(own) == 3 else source, **own)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save every component and setting, loadable by `from_pretrained` wherever grefine is installed.

        A pipeline that came through remote code names throw-away modules; the saved index names ours.
        """
        super().save_pretrained(str(save_directory), **kwargs)  # type: ignore[misc]
        save_judge_tokenizers(self, Path(save_directory))
        path = Path(save_directory) / INDEX
        index = json.loads(path.read_text(encoding="utf-8"))
        index["_class_name"] = "GRefinePipeline"
        for name, entry in index.items():
            if isinstance(entry, list) and len(entry) == 2 and str(entry[0]).startswith("diffusers_modules"):
                home = _home_of(getattr(self, name))
                index[name] = [home.__module__, home.__name__]
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def enable_group_offload(
        self, *args: Any, exclude_modules: str | Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        """Offload in groups, all but the parts that are walked through layer by layer from outside."""
        named = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or ())
        excluded = list(dict.fromkeys([*named, *self._exclude_from_cpu_offload]))  # type: ignore[attr-defined]
        super().enable_group_offload(*args, exclude_modules=excluded, **kwargs)  # type: ignore[misc]

    @staticmethod
    def check_unet(unet: Any) -> None:
        """Refuse a UNet that is not SDXL's.

        Raises:
            ConfigError: it lacks SDXL's conditioning, or has neither 4 nor 9 input channels.
        """
        if unet is None:
            return
        if getattr(unet.config, "addition_embed_type", None) != "text_time":
            raise ConfigError(
                "This UNet lacks SDXL's size and pooled-text conditioning (it looks like Stable Diffusion 1 or 2): "
                "load an SDXL checkpoint, inpainting or ordinary."
            )
        if unet.config.in_channels not in (4, 9):
            raise ConfigError(
                f"This UNet has {unet.config.in_channels} input channels: SDXL checkpoints with 4 (ordinary) or 9 "
                "(inpainting) can be used."
            )

    def judges(self, steered: Collection[str] = ()) -> list[Scorer]:
        """Return the guard's scorers: the judges among this pipeline's components that did not steer (`steered`)."""
        return component_scorers(self, steered)


def _maps_from(pipeline: str | Path) -> dict[str, Any]:
    return {
        "clip": load_clip(pipeline),
        "clip_tokenizer": load_tokenizer(pipeline),
        "pq_prompts": load_prompts(pipeline),
        "calibration": stored_calibration(pipeline).to_dict(),
    }


def _home_of(part: Any) -> type:
    """Return the class of an installed package that a remote shim only repeats."""
    for kind in type(part).__mro__:
        if not kind.__module__.startswith("diffusers_modules"):
            return kind
    return type(part)
