"""What people would use instead, and its runs over images into folders: filters, models of diffusers and transformers.

Each is a restorer as stage 2 knows it: `restore(image, prompt=..., strength=..., generator=...) -> image` of the
input's size. Models run the same number of executed steps, whatever their strength.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFilter

from grefine import __version__
from grefine.config import digest
from grefine.errors import ConfigError, GRefineError, WeightsMissing, WorldMismatch, in_words, nearest
from grefine.indicators.draw import png
from grefine.io.atomic import write_atomic
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.journal import Journal
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record
from grefine.io.run_files import JOURNAL, STATE_FOLDER, layer_path
from grefine.opening import Opening, choose_dtype, open_pipeline
from grefine.refine.guidance import steers_of
from grefine.refine.inputs import derive
from grefine.refine.settings import RefineConfig
from grefine.report.media import layers_of
from grefine.resources import chosen_pipeline
from grefine.scorers.files import ScoreCache
from grefine.scorers.resolve import check_device
from grefine.types import RefineResult

if TYPE_CHECKING:
    import torch

Restore = Callable[..., Image.Image]

MODELS = {
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "StableDiffusionXLImg2ImgPipeline"),
    "sdxl-refiner": ("stabilityai/stable-diffusion-xl-refiner-1.0", "StableDiffusionXLImg2ImgPipeline"),
    "sd": ("stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionImg2ImgPipeline"),
    "instruct-pix2pix": ("timbrooks/instruct-pix2pix", "StableDiffusionInstructPix2PixPipeline"),
    "sd-upscale": ("stabilityai/stable-diffusion-x4-upscaler", "StableDiffusionUpscalePipeline"),
    "swin2sr": ("caidas/swin2SR-classical-sr-x2-64", ""),
    "grefine": ("", ""),
}
"""Refiners that need a model: the folder or Hub id that is loaded when none is given, and its class in diffusers."""


@dataclass(frozen=True, slots=True)
class Run:
    """What all refiners of a comparison share."""

    steps: int = 20
    """Executed denoising steps."""
    strength: float = 0.3
    """Of image-to-image models, and of functions of your own."""
    strengths: Mapping[str, float] | None = None
    """Refiner, or method with a function of your own, → its own strength; grefine has one for each region unless it is
    named here."""
    device: str = "cpu"
    models: Mapping[str, str] | None = None
    """Refiner → folder or Hub id, in place of the default."""
    force: bool = False
    """Refine pictures of a world that a refiner does not know."""
    opening: Opening = Opening()
    """How grefine's own pipeline is loaded, and who judges in it."""
    guidance: Mapping[str, float] | None = None
    config: RefineConfig | None = None

    def source(self, name: str) -> str:
        return (self.models or {}).get(name, MODELS.get(name, ("", ""))[0])

    def strength_of(self, name: str) -> float:
        return (self.strengths or {}).get(name, self.strength)


def load_refiner(name: str, run: Run) -> Restore:
    if name in FILTERS:
        return FILTERS[name]
    source, kind = run.source(name), MODELS[name][1]
    try:
        if kind:
            return _prompted(kind, source, run, run.strength_of(name))
        return {"swin2sr": _swin2sr, "grefine": GRefine}[name](source, run)
    except GRefineError:
        raise
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise WeightsMissing(
            f"The refiner '{name}' needs '{source}', which cannot be loaded ({first}); give a folder with "
            f"--model {name}=DIR, or leave the refiner out."
        ) from error


def check_run(names: Iterable[str], run: Run) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in (*names, *(run.models or {})):
        if name not in REFINERS:
            raise ConfigError(f"No refiner '{name}': choose from {', '.join(REFINERS)}{nearest(name, REFINERS)}")
        if name == "grefine":
            chosen_pipeline(run.source(name), "--pipeline NAME or --model grefine=NAME")
    strengths = (run.strength, *(run.strengths or {}).values())
    if not all(0 < strength <= 1 for strength in strengths) or run.steps < 1:
        given = f"{', '.join(map(str, strengths))} and {run.steps}"
        raise ConfigError(f"Refiners need a strength above 0 and up to 1, and at least one step, not {given}.")
    check_device(run.device)


def identity(image: Image.Image, **_: Any) -> Image.Image:
    """Return the picture unchanged: every gain over it is an artefact of the measurement."""
    return image


def blur(image: Image.Image, **_: Any) -> Image.Image:
    """Return a softer picture: a judge that likes it is no judge of sharpness. Radius: 1/200 of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(max(0.75, max(image.size) / 200)))


def sharpen(image: Image.Image, **_: Any) -> Image.Image:
    """Return a crisper picture (unsharp mask): what costs nothing, a refiner has to beat."""
    return image.filter(ImageFilter.UnsharpMask(radius=max(0.75, max(image.size) / 400), percent=120, threshold=2))


FILTERS: dict[str, Restore] = {"identity": identity, "blur": blur, "sharpen": sharpen}
REFINERS = (*FILTERS, *MODELS)


def _prompted(kind: str, source: str, run: Run, strength: float) -> Restore:
    """Load a pipeline of diffusers; what upscales is brought back to the picture's size."""
    import diffusers

    dtype = choose_dtype(run.opening.dtype, run.device)
    pipe = getattr(diffusers, kind).from_pretrained(source, dtype=dtype).to(run.device)
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": run.steps}
    if kind.endswith("Img2ImgPipeline"):
        options = {"strength": strength, "num_inference_steps": math.ceil(run.steps / strength - 1e-9)}

    def restore(image: Image.Image, prompt: str, generator: "torch.Generator", **_: Any) -> Image.Image:
        size = (max(8, round(image.width / 8) * 8), max(8, round(image.height / 8) * 8))
        sized = image.resize(size, Image.Resampling.LANCZOS)
        made = pipe(prompt, image=sized, generator=generator, **options).images[0]
        return made.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)

    return restore


def _swin2sr(source: str, run: Run) -> Restore:
    """Super-resolve, then bring the picture back to its size; the network sees no prompt and has no steps."""
    import numpy as np
    import torch
    from transformers import Swin2SRForImageSuperResolution

    model = Swin2SRForImageSuperResolution.from_pretrained(source).to(run.device).eval()
    window = model.config.window_size

    @torch.inference_mode()
    def restore(image: Image.Image, **_: Any) -> Image.Image:
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)[None]
        height, width = pixels.shape[-2:]
        edge = (0, -width % window, 0, -height % window)
        padded = torch.nn.functional.pad(pixels, edge, mode="replicate").to(run.device)
        out = model(padded).reconstruction[0].clamp(0, 1).cpu()
        scale = out.shape[-1] // padded.shape[-1]
        out = out[:, : height * scale, : width * scale].permute(1, 2, 0)
        large = Image.fromarray((out.numpy() * 255).round().astype(np.uint8))
        return large.resize(image.size, Image.Resampling.LANCZOS)

    return restore


class GRefine:
    """Our own pipeline; `last` holds what it found out about the picture that it saw last."""

    def __init__(self, source: str, run: Run) -> None:
        self.name, self.run = Path(source).name, run
        self.pipe = open_pipeline(source, replace(run.opening, device=run.device))
        self.pipe.set_progress_bar_config(disable=True)
        self.last: RefineResult | None = None

    def __call__(self, image: Image.Image, prompt: str, generator: "torch.Generator", **_: Any) -> Image.Image:
        out = self.pipe(
            prompt=prompt or None,
            image=image,
            num_inference_steps=self.run.steps,
            generator=generator,
            force=self.run.force,
            guidance=self.run.guidance,
            config=self.run.config,
            strength=(self.run.strengths or {}).get("grefine"),
        )
        self.last = out.results[0]
        return out.images[0]


def make_outputs(
    originals: Mapping[str, Path],
    refiners: Mapping[str, Restore | str],
    prompts: Mapping[str, str],
    run: Run,
    out: Path,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Refine every image by every refiner into `out/METHOD/`; return method → image → output, and what failed.

    What cannot be loaded or refined costs itself only; outputs of the same settings and inputs are kept.
    """
    made: dict[str, dict[str, Path]] = {}
    failed: dict[str, str] = {}
    for method, refiner in refiners.items():
        if not method or method in (".", "..") or "/" in method or "\\" in method:
            raise ConfigError(f"'{method}' cannot name a method: it becomes a folder, so use a plain word.")
        folder, files = out / method, made.setdefault(method, {})
        restore = None if isinstance(refiner, str) else refiner
        with ScoreCache(folder / "done.jsonl") as done:
            for count, (name, path) in enumerate(originals.items(), start=1):
                target, prompt = folder / Path(name).with_suffix(".png"), prompts.get(name, "")
                key = _key(method, refiner, run, seed, name, path, prompt)
                if done.get(key) is None or not target.is_file():
                    try:
                        restore = restore or load_refiner(str(refiner), run)
                        strength = run.strength_of(refiner if isinstance(refiner, str) else method)
                        _make(restore, path, folder, target, prompt, strength, derive(seed, name))
                    except WorldMismatch as error:
                        failed.setdefault(f"{method}: pictures of another world", str(error))
                        continue
                    except Exception as error:  # noqa: BLE001 - one refiner's failure must not cost the others
                        failed[method if restore is None else f"{method}: {printable(name)}"] = in_words(error)
                        if restore is None:
                            break
                        continue
                    done.put(key, {})
                    if progress:
                        progress(f"{method}: {count} of {len(originals)}")
                files[name] = target
    return made, failed


def _make(restore: Restore, path: Path, folder: Path, target: Path, prompt: str, strength: float, seed: int) -> None:
    """Refine one image; of grefine keep decision, maps and a row in the folder's journal, too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    data = png(restore(read_image(path).rgb, prompt=prompt, strength=strength, generator=generator).convert("RGB"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(restore, GRefine) or restore.last is None:
        write_atomic(target, data)
        return
    result, source, name = restore.last, content_hash(path), target.relative_to(folder).as_posix()
    record = RefineRecord(
        version=__version__,
        pipeline=restore.name,
        config="",
        seed=seed,
        state=result.state,
        reason=result.decision.reason,
        kept=result.decision.kept,
        guarded=result.decision.guarded,
        area=round(result.plan.area, 4),
        drew=", ".join(steers_of(result.plan.guidance)),
        prompt=result.prompt,
        before=dict(result.before.values),
        after=dict(result.after.values),
        source=source,
    )
    write_atomic(target, attach_record(data, "PNG", record) or data)
    row = {"kind": "image", "file": name, "output": name, "state": result.state, "input": {"sha256": source}}
    row |= {"source": str(path), "reason": result.decision.reason}
    row |= {"decision": {"kept": result.decision.kept, "guarded": result.decision.guarded}}
    if result.plan.token_weights:
        row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
    for layer, data in layers_of(result).items():
        place = layer_path(folder, name, layer)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    with Journal(folder / STATE_FOLDER / JOURNAL) as journal:
        journal.append([row])


def _key(method: str, refiner: Restore | str, run: Run, seed: int, name: str, path: Path, prompt: str) -> str:
    what = refiner if isinstance(refiner, str) else f"{refiner.__module__}.{getattr(refiner, '__qualname__', method)}"
    named = what if isinstance(refiner, str) else method
    facts = asdict(run) | {"models": None, "source": run.source(what), "refiner": what, "seed": seed}
    facts |= {"strengths": named in (run.strengths or {}), "strength": run.strength_of(named)}
    facts |= {"config": digest(run.config) if what == "grefine" and run.config else None}
    facts |= {"image": name, "content": content_hash(path), "prompt": prompt}
    return content_hash(json.dumps(facts, sort_keys=True))[:32]
