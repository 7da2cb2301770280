"""The one calling convention of every scorer."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from grefine.errors import ConfigError
from grefine.types import MetricSpec, Scores

Images = Sequence[Image.Image]
Prompts = Sequence[str] | None

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


AnyJudge = Scorer | Callable[..., Sequence[Any]]
"""A scorer, or any function of images (and prompts) that returns a number, or numbers by name, for each image."""


class PlainJudge:
    """Anyone's function as a scorer; without a `spec` higher is better, of any range, about quality."""

    def __init__(self, function: Callable[..., Sequence[Any]]) -> None:
        name = getattr(function, "__name__", type(function).__name__).strip("<>_")
        self.function = function
        self.spec: MetricSpec = getattr(function, "spec", None) or MetricSpec(name, range=(-math.inf, math.inf))
        self.values: tuple[str, ...] = tuple(getattr(function, "values", ()))
        self.reads_prompts = _takes_two(function)

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        """Return what the function says of each image."""
        given = self.function(images, prompts) if self.reads_prompts else self.function(images)
        is_list = hasattr(given, "__len__") and not isinstance(given, (str, Mapping, Scores))
        if not is_list or len(given) != len(images):
            what = f"{len(given)} values" if is_list else type(given).__name__
            raise ConfigError(
                f"The judge '{self.spec.name}' returned {what} for {len(images)} images: it gets a list of images and "
                "returns a list with a number, or a dict of numbers, for each."
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
            raise ConfigError(
                f"The judge '{self.spec.name}' gave {given!r} for an image: it must give finite numbers."
            )
        if numbers.keys() & {"p", "a"}:
            raise ConfigError(f"The judge '{self.spec.name}' calls a value p or a, as the maps do: name it otherwise.")
        return Scores(numbers)


def as_scorer(judge: AnyJudge) -> Scorer:
    """Return anyone's judge as a scorer whose values are checked."""
    if not callable(judge):
        raise ConfigError(f"A judge is a function of images and prompts, not a {type(judge).__name__}.")
    return PlainJudge(judge)


def _takes_two(function: Callable[..., Any]) -> bool:
    """Say whether a function can be given images and prompts."""
    try:
        inspect.signature(function).bind((), ())
    except (TypeError, ValueError) as error:
        return isinstance(error, ValueError)  # it has no signature to be read
    return True
