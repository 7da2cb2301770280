"""The one calling convention of every scorer, and what the judges here stand on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, GRefineError, ImageError, PromptError
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Images = Sequence[Image.Image]
Prompts = Sequence[str] | None
CHUNK = 16
"""Pictures (or crops) that go through a network together; it bounds memory and changes no value."""
PROCESS = "process:"
"""What a judge in a process of its own begins with, in place of a name (`scorers.process`)."""


@runtime_checkable
class Scorer(Protocol):
    """Anything that turns images (and their prompts) into numbers.

    A scorer is deterministic, takes images of mixed sizes, and gives an image the same values whatever else is in
    the call. A metric with one value names it like itself ("lar_iqa"); one with several prefixes them
    ("mdiqa.overall", "mdiqa.sharpness") and lists those that it gives as `values`, the main one first.
    """

    spec: MetricSpec

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        """Return one record of values per image."""
        ...


def value_names(scorer: Scorer) -> tuple[str, ...]:
    """Return the names of the values that a scorer gives, the main one first."""
    return tuple(getattr(scorer, "values", ())) or (scorer.spec.name,)


Columns = dict[str, Any]
"""Values of a batch by name, a tensor `(B,)` each."""
AnyJudge = Scorer | Callable[..., Sequence[Any]]
"""A scorer, or any function of images (and prompts) that returns a number, or numbers by name, for each image."""


class PlainJudge:
    """Anyone's function as a scorer; without a `spec` higher is better, of any range, about quality."""

    def __init__(self, function: Callable[..., Sequence[Any]]) -> None:
        name = getattr(function, "__name__", type(function).__name__).strip("<>_")
        self.function = function
        self.spec: MetricSpec = getattr(function, "spec", None) or MetricSpec(name, range=(-math.inf, math.inf))
        self.values: tuple[str, ...] = tuple(getattr(function, "values", ()))
        try:
            inspect.signature(function).bind((), ())
            self.reads_prompts = True
        except (TypeError, ValueError) as error:
            self.reads_prompts = isinstance(error, ValueError)  # it has no signature to be read

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        """Return what the function says of each image."""
        given = self.function(images, prompts) if self.reads_prompts else self.function(images)
        is_list = hasattr(given, "__len__") and not isinstance(given, (str, Mapping, Scores))
        if not is_list or len(given) != len(images):
            what = f"{len(given)} values" if is_list else type(given).__name__
            raise ConfigError(
                f"The judge '{self.spec.name}' returned {what} for {len(images)} images: give one for each."
            )
        return [self._read(one) for one in given]

    def _read(self, given: Any) -> Scores:
        values = given.values if isinstance(given, Scores) else given
        named = values if isinstance(values, Mapping) else {self.spec.name: values}
        try:
            numbers = {str(name): float(value) for name, value in named.items()}
        except (TypeError, ValueError):
            numbers = {}
        if not numbers or not all(map(math.isfinite, numbers.values())):
            raise ConfigError(f"The judge '{self.spec.name}' gave {given!r} for an image: give finite numbers.")
        if numbers.keys() & {"p", "a"}:
            raise ConfigError(f"The judge '{self.spec.name}' calls a value p or a, as the maps do: name it otherwise.")
        return Scores(numbers)


def as_scorer(judge: AnyJudge) -> Scorer:
    """Return anyone's judge as a scorer whose values are checked."""
    if not callable(judge):
        raise ConfigError(f"A judge is a function of images and prompts, not a {type(judge).__name__}.")
    return PlainJudge(judge)


class Formula:
    """A judge that looks at one picture after the other; `minimum` is its least side."""

    def __init__(self, spec: MetricSpec, formula: Callable[[Image.Image], float], minimum: int = 1) -> None:
        self.spec, self.formula, self.minimum = spec, formula, minimum

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, self.minimum)
        return [Scores({self.spec.name: self.formula(picture)}) for picture in pictures]


class NetworkJudge:
    """A judge whose `rate` takes some pictures, and prompts where its `spec` asks for them, through a network."""

    spec: MetricSpec
    minimum = 1
    """Least side of a picture."""
    chunk = CHUNK

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, self.minimum)
        texts = check_prompts(prompts, len(pictures), self.spec.name, required=self.spec.needs_prompt)

        def rate(rows: list[int]) -> list[Scores]:
            return unbatch(self.rate([pictures[row] for row in rows], [texts[row] for row in rows]))

        return in_groups([self.key(picture) for picture in pictures], self.chunk, rate)

    def key(self, picture: Image.Image) -> Any:
        """Return what pictures that go through the network together have in common."""
        return ()

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Columns:
        """Rate pictures under their texts."""
        raise NotImplementedError


def in_groups(
    keys: Sequence[Any],
    chunk: int,
    rate: Callable[[list[int]], list[Scores]],
    size: Callable[[Any], int] = lambda key: 1,
) -> list[Scores]:
    """Rate rows of equal keys together, at most `chunk` units of `size` at once, without gradients, in order."""
    import torch

    found: dict[int, Scores] = {}
    with torch.inference_mode():
        for rows in groups(keys, chunk, size):
            found.update(zip(rows, rate(rows), strict=True))
    return [found[row] for row in range(len(keys))]


def rate(scorer: Scorer, images: Images, prompts: Prompts = None) -> list[Mapping[str, float] | GRefineError]:
    """Return each image's values, or why the scorer refuses it; one that it refuses costs no other."""
    try:
        found = scorer(images, prompts) if images else []
        return [{name: float(value) for name, value in one.values.items()} for one in found]
    except GRefineError as error:
        if len(images) == 1:
            return [error]
        return [rate(scorer, [one], prompts and [prompts[i]])[0] for i, one in enumerate(images)]


def groups(keys: Sequence[Any], chunk: int, size: Callable[[Any], int] = lambda key: 1) -> Iterator[list[int]]:
    """Yield row numbers of equal keys, in chunks."""
    rows_by_key: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        rows_by_key.setdefault(key, []).append(row)
    for key, rows in rows_by_key.items():
        step = max(1, chunk // size(key))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def unbatch(values: Columns) -> list[Scores]:
    """Turn columns `(B,)` into one record per image."""
    columns = {name: column.float().tolist() for name, column in values.items()}
    return [Scores(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def check_images(images: Sequence[Any], metric: str, minimum: int = 1) -> list[Image.Image]:
    """Return the images as 8-bit RGB."""
    if isinstance(images, (Image.Image, str)) or hasattr(images, "shape"):
        raise ImageError(f"{metric} takes a list of images, not one {type(images).__name__}: put it in [ ].")
    pictures = [_as_rgb(image, f"{metric}: image {index}") for index, image in enumerate(images)]
    for index, picture in enumerate(pictures):
        if min(picture.size) < minimum:
            raise ImageError(
                f"{metric}: image {index} is {picture.width}x{picture.height}, but needs {minimum} a side: enlarge it."
            )
    return pictures


def check_prompts(prompts: Sequence[str] | None, count: int, metric: str, required: bool) -> list[str]:
    """Return the prompts, one per image; an image-only metric ignores what it is given."""
    if not required:
        return [""] * count
    if prompts is None or isinstance(prompts, str) or len(prompts) != count:
        given = "no list" if prompts is None or isinstance(prompts, str) else len(prompts)
        raise PromptError(f"{metric} needs a list of one prompt per image: {given} for {count} images.")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(f"{metric}: the prompt of image {index} is empty; leave the image or the metric out.")
    return list(prompts)


def _as_rgb(image: Any, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    import torch

    if not isinstance(image, (np.ndarray, torch.Tensor)):
        raise ImageError(f"{name} is a {type(image).__name__}; give PIL images, or arrays in 0..1.")
    values = torch.as_tensor(image).detach().cpu()
    if values.dim() == 3 and values.shape[0] != 3 and values.shape[-1] == 3:
        values = values.permute(2, 0, 1)
    if values.dim() != 3 or values.shape[0] != 3:
        raise ImageError(f"{name} has the shape {tuple(values.shape)}: give RGB as (H, W, 3) or (3, H, W).")
    if values.dtype != torch.uint8:
        low, high = values.float().amin().item(), values.float().amax().item()
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails as well
            raise ImageError(f"{name} spans {low:.3g}..{high:.3g}; bring it to 0..1, or give 8 bits as uint8.")
        values = (values.float() * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return `(3, H, W)` float32 in 0..1."""
    import torch

    return torch.from_numpy(np.asarray(image, dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255.0


def tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return ids and mask `(B, length)`, padded and cut to exactly that length."""
    if tokenizer.pad_token_id is None:
        raise PromptError("This tokenizer has no padding token, which prompt-aware scorers need.")
    found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return found["input_ids"].to(device), found["attention_mask"].to(device)
