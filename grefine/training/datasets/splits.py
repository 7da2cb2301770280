"""Which pictures train and which only test, and what both sides have in common."""

import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from grefine.errors import ConfigError
from grefine.training.datasets.rated import RatedImage, RatedImages

SplitKind = Literal["random", "prompt", "content", "folds", "parts"]


@dataclass(frozen=True)
class SplitPlan:
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
    watch: tuple[int, ...] = ()
    """Rows of neither side that choose the best weights."""


def split(data: RatedImages, plan: SplitPlan) -> Split:
    """Divide a set; the same plan divides it in the same way."""
    if plan.kind == "folds" and data.permutations:
        if plan.repeat >= len(data.permutations):
            raise ConfigError(
                f"'{data.name}' publishes {len(data.permutations)} orders of its rows, but repeat {plan.repeat} "
                "(from 0) was asked for; choose another repeat or another kind of split."
            )
        order = data.permutations[plan.repeat]
        low, high = int((plan.fold - 1) / plan.folds * len(order)), int(plan.fold / plan.folds * len(order))
        found = Split(order[:low] + order[high:], order[low:high])
    elif plan.kind == "parts":
        train, test = (tuple(n for n, r in enumerate(data.rows) if r.part == side) for side in ("train", "test"))
        if not train or not test:
            raise ConfigError(f"'{data.name}' does not say which pictures train and which test: choose another split.")
        found = Split(train, test)
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


KEYS: dict[str, Callable[[RatedImage], str]] = {"prompt": prompt_key, "content": lambda row: row.content}


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


SHARED: dict[str, tuple[str, Callable[[RatedImage], Hashable]]] = {
    "files": ("a picture", lambda row: row.path),
    "prompts": ("a prompt", KEYS["prompt"]),
    "contents": ("a pristine picture", KEYS["content"]),
}


def leakage(data: RatedImages, divided: Split) -> dict[str, Any]:
    """Count what both sides have in common: the same files, prompts, distortions of one pristine picture.

    For each: the test side's values that also train (`shared`), all its values (`of`), its pictures with a shared one.
    """
    found: dict[str, Any] = {"data": data.name, "train": len(divided.train), "test": len(divided.test)}
    for name, (_, key) in SHARED.items():
        known = {key(data.rows[n]) for n in divided.train}
        asked = [value for n in divided.test if (value := key(data.rows[n]))]
        both = known.intersection(asked)
        found[name] = {"shared": len(both), "of": len(set(asked)), "pictures": sum(value in both for value in asked)}
    return found


def leakage_sentences(found: dict[str, Any]) -> list[str]:
    """Return what `leakage` counted in words, one sentence for each thing that the set has."""
    lines = [f"{found['data']}: {found['train']} pictures train, {found['test']} test."]
    for name, (what, _) in SHARED.items():
        shared, of, pictures = found[name].values()
        if shared:
            lines.append(
                f"{found['data']}: {pictures} test pictures share {what} with training ({shared} of {of} {name}), so "
                "their scores flatter the network."
            )
        elif of and name != "files":
            lines.append(f"{found['data']}: no test picture shares {what} with training.")
    return lines
