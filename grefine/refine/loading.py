"""Where a pipeline comes from and goes to: bundled names, folders, single files, loaded pipelines."""

import importlib
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, causes, nearest
from grefine.indicators.domain_check import domain_at
from grefine.indicators.load import load_clip, load_prompts, load_tokenizer, stored_calibration
from grefine.indicators.recipe import INDEX, PAINTER, assembled_folder, read_recipe, recipe_folder
from grefine.indicators.released import NAMES
from grefine.refine.painters.choose import FOR_BOTH, SDXL, describe_painter, is_place, reopen_painter
from grefine.refine.painters.diffusers import DiffusersPainter
from grefine.refine.single_file import load_single_file
from grefine.refine.turns import denoiser_of
from grefine.resources import cache_folder, pipeline_folder, pipeline_names
from grefine.scorers.component import pipeline_judges, save_judge_tokenizers
from grefine.scorers.protocol import Scorer

MAPS = ("clip", "clip_tokenizer", "pq_prompts")
FOR_PAINTER = ("quantization_config", "device_map", "variant", "use_safetensors", "low_cpu_mem_usage", "max_memory")
"""What of the arguments of loading is meant for another painter alone."""
FULL = ("clip", "pq_prompts")
"""What draws the maps stays in float32: a calibration does not survive another precision, and they are small."""
HOOKS = {"_hf_hook", "_diffusers_hook"}
"""What offloading, accelerate's or diffusers', leaves on a part, or on all of its modules with weights."""
EXTRAS = ("controlnet", "reward", "moe_agiqa", "mdiqa", "lar_iqa", "clipiqa")
"""What a recipe's pipeline lends to a loaded one that lacks it."""


class Loading:
    """The doors of a GRefinePipeline, and where it runs."""

    @property
    def _execution_device(self) -> torch.device:
        return common_device(self.components) or super()._execution_device  # type: ignore

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
            raise WeightsMissing(f"No pipeline '{name}': give {', '.join(names)}, or a folder{nearest(name, names)}")
        if folder is not None and not (folder / INDEX).is_file():
            raise WeightsMissing(f"The folder '{name}' holds no {INDEX}: it is not a saved pipeline.")
        index = _checked_index(cls, folder or name, kwargs)
        # transformers keeps a checkpoint's own precision where diffusers means float32: parts would not fit.
        dtype = kwargs["dtype"] = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", torch.float32)
        if dtype != torch.float32 and not isinstance(dtype, str):
            named = dtype if isinstance(dtype, dict) else {"default": dtype}
            kwargs["dtype"] = dict.fromkeys(FULL, torch.float32) | named
        stated = index.get("painter") if isinstance(index.get("painter"), Mapping) else None
        for_painter: dict[str, Any] = {"dtype": dtype}
        if stated:
            for_painter |= {key: kwargs.pop(key) for key in FOR_PAINTER if key in kwargs} | _given(kwargs, *FOR_BOTH)
            kwargs = {name: None for name in SDXL if not any(index.get(name) or ())} | kwargs
        again = "Copy the folder anew, or reinstall grefine if it is a bundled one."
        if recipe is not None:
            again = f"Delete that part below '{cache_folder()}' and run `grefine fetch {name}` again."
        try:
            made = super().from_pretrained(str(folder or name), **kwargs)  # type: ignore[misc]
            if "device_map" not in kwargs:
                _refuse_unfilled(made, again)
            if stated:
                home: str | Path = folder or name
                if folder is None and stated.get("from") == PAINTER:  # a pipeline on the Hub brings it along
                    asked = _given(kwargs, "local_files_only", "token", "cache_dir", "revision")
                    home = snapshot_download(name, allow_patterns=[f"{PAINTER}/**"], **asked)
                painter = reopen_painter(stated, home, **for_painter)
                made._painter = painter and replace(painter, origin=name if recipe is not None else painter.origin)
            return made
        except GRefineError:
            raise
        except Exception as error:  # whatever a foreign folder makes its readers raise
            if "weights_only" in str(error):
                raise WeightsCorrupt(f"'{name}' holds a pickle that wants to run: take its safetensors.") from error
            if folder is None or is_out_of_memory(error):
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise WeightsCorrupt(f"'{name}' cannot be loaded: {said[:200].rstrip('.')}. {again}") from error

    @classmethod
    def from_pipe(
        cls,
        pipeline: Any,
        maps: str | Path | None = None,
        painter: Any = None,
        painter_class: str | None = None,
        words: Any = None,
        painter_arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Share the components of a loaded pipeline; neither dtype nor device of any is changed unless asked.

        Args:
            pipeline: any pipeline with SDXL's components (text-to-image, inpainting, another GRefinePipeline), whose
                UNet then paints; or any other pipeline of diffusers that inpaints, or a function: it becomes the
                painter (see `use_painter`).
            painter: who redraws in place of `pipeline`, as `use_painter` takes it.
            painter_class: see `use_painter`.
            words: see `use_painter`.
            painter_arguments: for every call of a pipeline of diffusers that paints.
            maps: the pipeline (name or folder) whose CLIP, prompts and calibration draw the maps, where `pipeline`
                has none of its own; they are put on its device. "clip" means the published ones (`grefine fetch clip
                pq-prompts`) and lends the judges that were fetched. "sdxl" lends those, the ControlNet and its
                defaults. The world that it states bounds the new pipeline.
            kwargs: components and settings of this class that replace the shared ones, and `dtype`.
        """
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        takes = inspect.signature(cls.__init__).parameters
        accepted = [name for name in takes if name != "self"]
        unknown = [name for name in kwargs if name not in accepted]
        if unknown:
            raise ConfigError(f"from_pipe got the unknown argument '{unknown[0]}'{nearest(unknown[0], accepted)}")
        components, config = getattr(pipeline, "components", {}), getattr(pipeline, "config", {})
        sdxl = components.get("unet") is not None and "text_encoder_2" in components
        own = accepted if sdxl else [name for name in accepted if name not in (*SDXL, "painter")]
        shared = {name: part for name, part in components.items() if name in own and part is not None}
        # The config also lists components; one that is not there is a pair of None in it.
        settings = {name: config[name] for name in own if name in config and name not in components}
        has = {*shared, *kwargs, *(name for name, value in settings.items() if value is not None)}
        lent = {} if maps is None else _maps_from(maps) | _extras_from(maps, pipeline, has, sdxl)
        for part in lent.values():
            if isinstance(part, torch.nn.Module):
                part.to(getattr(pipeline, "_execution_device", "cpu"))
        parts = dict.fromkeys(() if sdxl else SDXL) | settings | shared | lent | kwargs
        missing = [n for n in own if takes[n].default is inspect.Parameter.empty and parts.get(n) is None]
        if missing:
            hint = " Name a pipeline for the maps, e.g. maps='tiny'." if "clip" in missing else ""
            raise ConfigError(f"{type(pipeline).__name__} has no {', '.join(missing)}, which is needed.{hint}")
        parts["painter"] = None
        made: Any = cls(**parts)
        if painter is None:
            painter = getattr(pipeline, "painter", None) if sdxl else pipeline
        if painter is not None:
            made.use_painter(painter, painter_class, words, painter_arguments)
        for name, part in made.components.items() if dtype is not None else ():
            if isinstance(part, torch.nn.Module) and name not in FULL:
                part.to(dtype=dtype)
        return made

    @classmethod
    def from_single_file(
        cls, pretrained_model_link_or_path: str | Path, maps: str | Path = "sdxl", **kwargs: Any
    ) -> Self:
        """Load an SDXL checkpoint kept in one file (4 or 9 channels), with the maps of another pipeline.

        Args:
            pretrained_model_link_or_path: a .safetensors file.
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

    def save_pretrained(self, save_directory: str | Path, save_painter: bool = False, **kwargs: Any) -> None:
        """Save every component and setting, loadable by `from_pretrained` wherever grefine is installed.

        A pipeline that came through remote code names throw-away modules; the saved index names ours. Another
        painter is saved as what it is made of: the recipe, folder or Hub id that it was loaded from. Its weights are
        saved along where there is no such place, or with `save_painter`, for weights that were changed since.
        """
        painter = getattr(self, "_painter", None)
        inside = ""
        if isinstance(painter, DiffusersPainter) and (save_painter or not is_place(painter.origin)):
            inside = PAINTER
            painter.pipe.save_pretrained(str(Path(save_directory) / PAINTER), **kwargs)
        if painter is not None:
            stated = describe_painter(painter, inside)
            self.register_to_config(painter=stated)  # type: ignore[attr-defined]
        super().save_pretrained(str(save_directory), **kwargs)  # type: ignore[misc]
        save_judge_tokenizers(self, Path(save_directory))
        path = Path(save_directory) / INDEX
        index = json.loads(path.read_text(encoding="utf-8"))
        index["_class_name"] = "GRefinePipeline"
        for name, entry in index.items():
            if isinstance(entry, list) and len(entry) == 2 and str(entry[0]).startswith("diffusers_modules"):
                kinds = type(getattr(self, name)).__mro__  # a remote shim only repeats a class that is installed
                home = next((kind for kind in kinds if not kind.__module__.startswith("diffusers_modules")), kinds[0])
                index[name] = [home.__module__, home.__name__]
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def enable_group_offload(
        self, *args: Any, exclude_modules: str | Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        """Offload in groups, all but the parts that are walked through layer by layer from outside."""
        named = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or ())
        excluded = list(dict.fromkeys([*named, *self._exclude_from_cpu_offload]))  # type: ignore[attr-defined]
        super().enable_group_offload(*args, exclude_modules=excluded, **kwargs)  # type: ignore[misc]
        self._painting_pipe("enable_group_offload", *args, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every component, and a painter of diffusers with them."""
        super().to(*args, **kwargs)  # type: ignore[misc]
        self._painting_pipe("to", *args, **kwargs)
        return self

    def enable_model_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep the parts that do not run in the machine's memory, those of the painter as well."""
        super().enable_model_cpu_offload(*args, **kwargs)  # type: ignore[misc]
        self._painting_pipe("enable_model_cpu_offload", *args, **kwargs)

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """The same layer by layer."""
        super().enable_sequential_cpu_offload(*args, **kwargs)  # type: ignore[misc]
        self._painting_pipe("enable_sequential_cpu_offload", *args, **kwargs)

    def _painting_pipe(self, method: str, *args: Any, **kwargs: Any) -> None:
        for painter in (self._painter, self._restorer):  # type: ignore[attr-defined]
            if getattr(painter, "pipe", None) is not None:
                getattr(painter.pipe, method)(*args, **kwargs)

    def judges(self, steered: Collection[str] = ()) -> list[Scorer]:
        """Return the guard's scorers: the judges among this pipeline's components that did not steer (`steered`)."""
        added = [judge for judge in vars(self).get("_added_judges", ()) if judge.spec.name not in steered]
        named = {judge.spec.name for judge in added}
        return [judge for judge in pipeline_judges(self, steered) if judge.spec.name not in named] + added

    def use_judges(self, *judges: Scorer) -> None:
        """Let the guard judge by these, too; one of the name of an own judge takes its place. They are never saved."""
        self._added_judges = judges


def common_device(components: Mapping[str, Any]) -> torch.device | None:
    """Return the one device of all components, by a weight of each; None where they differ or hooks move them."""
    devices = set()
    for part in (one for one in components.values() if isinstance(one, torch.nn.Module)):
        path, weight = next(part.named_parameters(), ("", None))
        modules = [part]
        for name in path.split(".")[:-1]:
            modules.append(getattr(modules[-1], name))
        if any(HOOKS & vars(module).keys() for module in modules):
            return None
        devices |= set() if weight is None else {weight.device}
    return devices.pop() if len(devices) == 1 else None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Say whether a lack of memory, of whatever kind and in whoever's words, stands behind an error."""
    words = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return any(isinstance(one, kinds) or any(word in str(one) for word in words) for one in causes(error))


def _checked_index(kind: Any, source: str | Path, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what a pipeline states of its parts; one without maps, or a folder without a part it names, is refused."""
    try:
        index = kind.load_config(str(source), **_given(given, *FOR_BOTH, "revision"))
    except (OSError, ValueError, RecursionError):
        return {}  # diffusers will say what is wrong with it
    if not isinstance(index, Mapping) or not index:
        return {}
    if not set(MAPS) <= set(given) and not any(name in index for name in MAPS):
        raise ConfigError(f"'{source}' has no maps: give what diffusers loads of it to GRefinePipeline.from_pipe.")
    for name, entry in index.items() if isinstance(source, Path) else ():
        named = isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], str)
        if named and name not in given and not (source / name).is_dir():  # transformers makes a tokenizer of nothing
            raise WeightsCorrupt(f"The pipeline '{source}' lacks its part '{name}': copy it there, or pass {name}=...")
    return index


def _given(kwargs: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: kwargs[name] for name in names if name in kwargs}


def _refuse_unfilled(pipe: Any, again: str) -> None:
    """Refuse a part whose file lacks some of its weights: diffusers leaves them without values."""
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            empty = next((key for key, values in part.named_parameters() if values.is_meta), None)
            if empty is not None:
                raise WeightsCorrupt(f"The weights of {name} are another network's: they lack '{empty}'. {again}")


def _extras_from(maps: str | Path, pipeline: Any, has: Collection[str], sdxl: bool) -> dict[str, Any]:
    """Load what a recipe's pipeline has fetched beside its maps and `pipeline` lacks, in its precision."""
    recipe = recipe_folder("sdxl" if maps in NAMES else maps)
    if recipe is None:
        return {}
    lacking = [name for name, part in read_recipe(recipe).parts.items() if part.lacking()]
    lends = [name for name in EXTRAS if name in read_recipe(recipe).parts and (sdxl or name != "controlnet")]
    wanted = [name for name in lends if name not in {*lacking, *has}]
    if not wanted:
        return {}
    home = assembled_folder(recipe, (*(() if maps in NAMES else MAPS), *wanted))
    index = json.loads((recipe / INDEX).read_text(encoding="utf-8"))
    precision = getattr(denoiser_of(pipeline), "dtype", torch.float32)
    found: dict[str, Any] = {}
    for name in wanted:
        library, kind = index[name]
        loader = getattr(importlib.import_module(library), kind)
        found[name] = loader.from_pretrained(str(home / name), torch_dtype=precision).eval()
    defaults = dict(index.get("refine_defaults") or {})
    if defaults.get("restorer") == "controlnet-tile" and "controlnet" not in {*has, *found}:
        defaults["restorer"] = "inpaint"
    keeps = "refine_defaults" in has or not sdxl or maps in NAMES
    return found if keeps or not defaults else found | {"refine_defaults": defaults}


def _maps_from(pipeline: str | Path) -> dict[str, Any]:
    domain = domain_at(pipeline)
    bounds = {} if domain is None else {"world": asdict(domain.world), "domain": deepcopy(domain.net)}
    # A copy: the pipeline may be moved to another device, and whoever looks at a folder shares the one network.
    return bounds | {
        "clip": load_clip(pipeline),
        "clip_tokenizer": load_tokenizer(pipeline),
        "pq_prompts": load_prompts(pipeline),
        "calibration": stored_calibration(pipeline).to_dict(),
    }
