"""Which pictures train and which only test, and what both sides have in common."""

import random
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from typing import Literal

from grefine.errors import ConfigError
from grefine.training.datasets.rated import RatedImage, RatedImages

SplitKind = Literal["random", "prompt", "content", "folds", "parts"]


@dataclass(frozen=True)
class SplitPlan:
    """How a set is divided."""

    kind: SplitKind = "prompt"
    """random: pictures at random, as most papers do. prompt, content: pictures that share a prompt or a pristine
    picture stay together. folds: a published order of the rows cut into `folds`; at random where none is published.
    parts: the set's own train and test.
    """
    train: float = 0.8
    """Share of the pictures that train ("random", "prompt", "content")."""
    seed: int = 0
    repeat: int = 0
    """Which of several divisions; another number gives another one. For "folds": which published order."""
    folds: int = 5
    fold: int = 5
    """The fold that tests, counted from 1."""

    def __post_init__(self) -> None:
        if not 0 < self.train < 1:
            raise ConfigError(f"split: train is {self.train}; it is a share above 0 and below 1.")
        if not 1 <= self.fold <= self.folds:
            raise ConfigError(f"split: fold is {self.fold}; folds are counted from 1 to {self.folds}.")
        if self.repeat < 0:
            raise ConfigError(f"split: repeat is {self.repeat}; repeats are counted from 0.")


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a set, counted from 0."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def split(data: RatedImages, plan: SplitPlan) -> Split:
    """Divide a set; the same plan divides it in the same way."""
    if plan.kind == "folds" and data.permutations:
        found = _folds(data, plan)
    elif plan.kind == "parts":
        found = _parts(data)
    else:
        found = _shuffled(data, plan)
    if len(found.train) < 2 or len(found.test) < 2:
        raise ConfigError(
            f"'{data.name}' split by '{plan.kind}' leaves {len(found.train)} pictures to train and {len(found.test)} "
            "to test; each side needs two: choose another kind or share."
        )
    return found


def prompt_key(row: RatedImage) -> str:
    """Return what makes two prompts the same: case and spaces do not matter; empty for no prompt."""
    return " ".join(row.prompt.casefold().split())


def content_key(row: RatedImage) -> str:
    """Return the pristine picture that a picture is a distortion of; empty when unknown."""
    return row.content


KEYS: dict[str, Callable[[RatedImage], str]] = {"prompt": prompt_key, "content": content_key}


def _shuffled(data: RatedImages, plan: SplitPlan) -> Split:
    """Fill the training side with whole groups in random order; a picture without a key is its own group."""
    groups: dict[str | int, list[int]] = {}
    key = KEYS.get(plan.kind)
    for number, row in enumerate(data.rows):
        shared = key(row) if key else ""
        groups.setdefault(shared or number, []).append(number)
    if key and len(groups) == len(data.rows):
        raise ConfigError(
            f"No two pictures of '{data.name}' share a {plan.kind}: split them with kind 'random' instead."
        )
    order = list(groups.values())
    random.Random(f"{plan.seed}/{plan.repeat}").shuffle(order)
    wanted = round(plan.train * len(data.rows))
    train: list[int] = []
    test: list[int] = []
    for group in order:
        (train if len(train) + len(group) / 2 <= wanted else test).extend(group)
    return Split(tuple(sorted(train)), tuple(sorted(test)))


def _folds(data: RatedImages, plan: SplitPlan) -> Split:
    if plan.repeat >= len(data.permutations):
        raise ConfigError(
            f"'{data.name}' publishes {len(data.permutations)} orders of its rows, but repeat {plan.repeat} "
            "(from 0) was asked for; choose another repeat or another kind of split."
        )
    order = data.permutations[plan.repeat]
    low, high = int((plan.fold - 1) / plan.folds * len(order)), int(plan.fold / plan.folds * len(order))
    return Split(order[:low] + order[high:], order[low:high])


def _parts(data: RatedImages) -> Split:
    """Take the published sides; a validation part belongs to neither."""
    sides = {name: tuple(n for n, row in enumerate(data.rows) if row.part == name) for name in ("train", "test")}
    if not sides["train"] or not sides["test"]:
        raise ConfigError(f"'{data.name}' does not say which pictures train and which test: choose another split.")
    return Split(sides["train"], sides["test"])


@dataclass(frozen=True, slots=True)
class Shared:
    """How much of one thing is on both sides."""

    shared: int
    """Different values of the test side that also occur in training."""
    of: int
    """Different values of the test side."""
    pictures: int
    """Test pictures that have such a value."""


@dataclass(frozen=True, slots=True)
class Leakage:
    """A split's overlap: the same files, the same prompts, distortions of the same pristine picture."""

    data: str
    train: int
    test: int
    files: Shared
    prompts: Shared
    contents: Shared

    def sentences(self) -> list[str]:
        """Return the overlap in words, one sentence for each thing that the set has."""
        lines = [f"{self.data}: {self.train} pictures train, {self.test} test."]
        for name, found, what in (
            ("files", self.files, "a picture"),
            ("prompts", self.prompts, "a prompt"),
            ("contents", self.contents, "a pristine picture"),
        ):
            if not found.of or (name == "files" and not found.shared):
                continue
            if found.shared:
                lines.append(
                    f"{self.data}: {found.pictures} test pictures share {what} with training ({found.shared} of "
                    f"{found.of} {name}), so their scores flatter the network."
                )
            else:
                lines.append(f"{self.data}: no test picture shares {what} with training.")
        return lines

    def record(self) -> dict[str, object]:
        """Return the numbers for a file."""
        return asdict(self)


def leakage(data: RatedImages, split: Split) -> Leakage:
    """Count what both sides of a split have in common."""
    return Leakage(
        data.name,
        len(split.train),
        len(split.test),
        _shared(data, split, lambda row: row.path),
        _shared(data, split, prompt_key),
        _shared(data, split, content_key),
    )


def _shared(data: RatedImages, split: Split, key: Callable[[RatedImage], Hashable]) -> Shared:
    known = {key(data.rows[n]) for n in split.train}
    asked = [value for n in split.test if (value := key(data.rows[n]))]
    both = {value for value in asked if value in known}
    return Shared(len(both), len(set(asked)), sum(value in both for value in asked))
