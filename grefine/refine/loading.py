"""Where a pipeline comes from and goes to: bundled names, folders, single files, loaded pipelines."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, nearest
from grefine.indicators.components import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.indicators.domain_check import domain_at
from grefine.indicators.recipe import assembled_folder, read_recipe, recipe_folder
from grefine.refine.single_file import load_single_file
from grefine.resources import pipeline_folder, pipeline_names
from grefine.scorers.component import pipeline_judges, save_judge_tokenizers
from grefine.scorers.protocol import Scorer

INDEX = "model_index.json"
MAPS = ("clip", "clip_tokenizer", "pq_prompts")
FULL = ("clip", "pq_prompts")
"""What draws the maps stays in float32: a calibration does not survive another precision, and they are small."""
EXTRAS = ("controlnet", "reward", "moe_agiqa", "mdiqa", "lar_iqa", "clipiqa")
"""What a recipe's pipeline lends to a loaded one that lacks it."""


class Loading:
    """The doors of a GRefinePipeline."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a pipeline by a bundled name ("tiny", "sdxl"), from a folder, from one file or from the Hub.

        Everything else is passed on to diffusers: `dtype`, `variant`, `device_map`, `quantization_config`,
        `local_files_only`, components by name, and so on. The CLIP and the prompts of the maps stay in float32
        unless `dtype` names them.

        Raises:
            ConfigError: a pipeline without maps, such as a plain SDXL one; the sentence says how to load it.
            WeightsMissing: a recipe whose weights are not on this machine; the sentence names the command.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).is_file():
            return cls.from_single_file(name, **kwargs)
        folder, recipe = pipeline_folder(name), recipe_folder(name)
        if recipe is not None:
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
        _refuse_without_maps(cls, folder or name, kwargs)
        # transformers keeps a checkpoint's own precision where diffusers means float32: parts would not fit.
        kwargs["dtype"] = _with_full_maps(kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", torch.float32))
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
                has none of its own; they are put on its device. "sdxl" also lends the judges and the ControlNet that
                were fetched, and its defaults. The world that it states bounds the new pipeline.
            kwargs: components and settings of this class that replace the shared ones, and `dtype`.
        """
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        accepted = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
        unknown = [name for name in kwargs if name not in accepted]
        if unknown:
            raise ConfigError(f"from_pipe got the unknown argument '{unknown[0]}'{nearest(unknown[0], accepted)}")
        shared = {name: part for name, part in pipeline.components.items() if name in accepted and part is not None}
        # The config also lists components; one that is not there is a pair of None in it.
        names = [name for name in accepted if name in pipeline.config and name not in pipeline.components]
        settings = {name: pipeline.config[name] for name in names}
        has = {*shared, *kwargs, *(name for name, value in settings.items() if value is not None)}
        lent = {} if maps is None else _maps_from(maps) | _extras_from(maps, pipeline, has)
        for part in lent.values():
            if isinstance(part, torch.nn.Module):
                part.to(pipeline._execution_device)
        parts = settings | shared | lent | kwargs
        required = inspect.signature(cls.__init__).parameters
        missing = [n for n in accepted if required[n].default is inspect.Parameter.empty and parts.get(n) is None]
        if missing:
            hint = " Name a pipeline for the maps, e.g. maps='tiny'." if "clip" in missing else ""
            raise ConfigError(
                f"{type(pipeline).__name__} has no {', '.join(missing)}, which {cls.__name__} needs: it must be an "
                f"SDXL pipeline.{hint}"
            )
        made = cls(**parts)
        for name, part in made.components.items() if dtype is not None else ():  # type: ignore[attr-defined]
            if isinstance(part, torch.nn.Module) and name not in FULL:
                part.to(dtype=dtype)
        return made

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
        own = {name: kwargs.pop(name) for name in (*MAPS, *EXTRAS) if name in kwargs}
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            # diffusers would keep each part as the file has it, and parts of two precisions do not fit.
            kwargs["dtype"] = torch.float32
        base = load_single_file(
            str(pretrained_model_link_or_path),
            kwargs.pop("config", None),
            (maps, "sdxl"),
            bool(kwargs.pop("local_files_only", False)),
            **kwargs,
        )
        return cls.from_pipe(base, maps=None if set(MAPS) <= own.keys() else maps, **own)

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
        added = [judge for judge in vars(self).get("_added_judges", ()) if judge.spec.name not in steered]
        named = {judge.spec.name for judge in added}
        return [judge for judge in pipeline_judges(self, steered) if judge.spec.name not in named] + added

    def use_judges(self, *judges: Scorer) -> None:
        """Let the guard judge by these, too; one of the name of an own judge takes its place. They are never saved."""
        self._added_judges = judges


def _with_full_maps(dtype: Any) -> Any:
    """Return a dtype for every component, float32 for those of the maps unless they are named."""
    if dtype == torch.float32 or isinstance(dtype, str):
        return dtype
    return dict.fromkeys(FULL, torch.float32) | (dtype if isinstance(dtype, dict) else {"default": dtype})


def _refuse_without_maps(kind: Any, source: str | Path, kwargs: Mapping[str, Any]) -> None:
    """Say how to load a pipeline that has no maps before its weights are read."""
    if set(MAPS) <= kwargs.keys():
        return
    passed = ("cache_dir", "force_download", "local_files_only", "token", "revision", "proxies")
    try:
        index = kind.load_config(str(source), **{name: kwargs[name] for name in passed if name in kwargs})
    except (OSError, ValueError):  # diffusers says what it is, in its own words
        return
    if isinstance(index, Mapping) and not any(name in index for name in MAPS):
        raise ConfigError(
            f"'{source}' is a {index.get('_class_name', 'pipeline')} without maps: load it with diffusers and pass it "
            'to GRefinePipeline.from_pipe(pipeline, maps="sdxl"), after `grefine fetch sdxl`.'
        )


def _extras_from(maps: str | Path, pipeline: Any, has: Collection[str]) -> dict[str, Any]:
    """Load what a recipe's pipeline has fetched beside its maps and `pipeline` lacks, in its precision."""
    recipe = recipe_folder(maps)
    if recipe is None:
        return {}
    lacking = [name for name, part in read_recipe(recipe).parts.items() if part.lacking()]
    wanted = [name for name in EXTRAS if name in read_recipe(recipe).parts and name not in {*lacking, *has}]
    home = assembled_folder(recipe, (*MAPS, *wanted))
    index = json.loads((recipe / INDEX).read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for name in wanted:
        library, kind = index[name]
        loader = getattr(importlib.import_module(library), kind)
        found[name] = loader.from_pretrained(str(home / name), torch_dtype=pipeline.unet.dtype).eval()
    defaults = dict(index.get("refine_defaults") or {})
    if defaults.get("restorer") == "controlnet-tile" and "controlnet" not in {*has, *found}:
        defaults["restorer"] = "inpaint"
    return found if "refine_defaults" in has or not defaults else found | {"refine_defaults": defaults}


def _maps_from(pipeline: str | Path) -> dict[str, Any]:
    domain = domain_at(pipeline)
    bounds = {} if domain is None else {"world": asdict(domain.world), "domain": domain.net}
    return bounds | {
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
