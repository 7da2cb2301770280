"""Rated pictures in memory, which of them train and which only test, and what both sides have in common."""

import random
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grefine.errors import ConfigError, nearest
from grefine.io.picture import printable

MOS = "mos"


@dataclass(frozen=True, slots=True)
class RatedImage:
    path: Path
    scores: Mapping[str, float]
    """By column; `mos` is the overall opinion, high = good."""
    prompt: str = ""
    content: str = ""
    """What pictures of one origin share: the pristine picture that they are distortions of; empty when alone."""
    part: str = ""
    """"train", "validation" or "test" where the set itself says so."""


@dataclass(frozen=True, slots=True)
class RatedImages:
    """A set of rated pictures, in the order of its file: published splits count rows."""

    name: str
    rows: tuple[RatedImage, ...]
    columns: tuple[str, ...]
    """Score columns that every row has, `mos` first."""
    top: Mapping[str, float] = field(default_factory=dict)
    """The scale's upper end by column where it is known; others are divided by their largest score."""
    permutations: tuple[tuple[int, ...], ...] = ()
    """Orders of the rows (from 0) that the set publishes for its splits."""
    notes: tuple[str, ...] = ()
    """What the reader had to decide, one sentence each."""

    def __len__(self) -> int:
        return len(self.rows)

    def scale(self, column: str = MOS) -> float:
        if column not in self.columns:
            accepted = ", ".join(self.columns)
            raise ConfigError(f"'{self.name}' has no scores '{column}': {accepted}{nearest(column, self.columns)}")
        top = self.top.get(column) or max(row.scores[column] for row in self.rows)
        if top <= 0:
            raise ConfigError(f"'{self.name}': no score of '{column}' is above zero, so they cannot be scaled to 1.")
        return top

    def labels(self, column: str = MOS) -> list[float]:
        """Return one column's scores divided by the scale's upper end, so that 1 is best."""
        top = self.scale(column)
        return [row.scores[column] / top for row in self.rows]

    def only(self, keep: Callable[[RatedImage], bool]) -> "RatedImages":
        """Return the rows that `keep` accepts; published orders no longer apply."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)), permutations=())


def rated(
    name: str,
    rows: Iterable[RatedImage],
    *,
    where: Path,
    top: Mapping[str, float] | None = None,
    permutations: tuple[tuple[int, ...], ...] = (),
    notes: tuple[str, ...] = (),
    repeats: bool = False,
) -> RatedImages:
    """Check rows of the file `where`; `repeats` keeps several rows of one picture, a fault of some published files."""
    kept: dict[Path, RatedImage] = {}
    everything: list[RatedImage] = []
    for row in rows:
        before = kept.setdefault(row.path, row)
        if before is not row and not repeats:
            if before.scores != row.scores:
                column = next(c for c in row.scores if before.scores.get(c) != row.scores[c])
                raise ConfigError(
                    f"'{printable(where)}' names '{row.path.name}' twice with different scores of '{column}' "
                    f"({before.scores.get(column)} and {row.scores[column]}): keep one row per picture."
                )
            continue
        everything.append(row)
    if len(kept) < 2:
        raise ConfigError(f"'{printable(where)}' rates {len(kept)} pictures; training needs at least two.")
    missing = [path for path in kept if not path.is_file()]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(kept)} pictures that '{printable(where)}' names are missing, first "
            f"'{printable(missing[0])}': complete the folder or remove their rows."
        )
    columns = (MOS, *(c for c in everything[0].scores if c != MOS))
    twice = {row.path.name for row in everything if kept[row.path].scores != row.scores}
    if twice:
        first = min(twice)
        notes += (f"{len(twice)} pictures have several rows with different scores ('{first}'); all rows are kept.",)
    return RatedImages(name, tuple(everything), columns, top or {}, permutations, notes)


def one_of(folder: Path, names: tuple[str, ...], title: str, places: tuple[str, ...] = ("",)) -> Path:
    """Return the first of `names` in one of the places below a folder, or the file itself when a file is given."""
    if folder.is_file():
        return folder
    found = [path for place in places for name in names for path in sorted(folder.glob(f"{place}{name}"))]
    if not found:
        shown = " or ".join(f"'{name}'" for name in names)
        raise ConfigError(f"'{printable(folder)}' is no {title}: it lacks {shown}.")
    return found[0]


@dataclass(frozen=True)
class SplitPlan:
    kind: Literal["random", "prompt", "content", "folds", "parts"] = "prompt"
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


def watched(data: RatedImages, whole: Split, kind: str, held: float | None, seed: int) -> Split:
    """Choose who picks the best weights: a share of the training side, divided by prompt or content where the split
    is (at random without any), or with None the test side.
    """
    if held is None:
        return replace(whole, watch=whole.test)
    inner = replace(data, rows=tuple(data.rows[n] for n in whole.train), permutations=())
    bare = kind == "prompt" and not any(map(prompt_key, inner.rows))
    plan = SplitPlan(kind if kind in ("prompt", "content") and not bare else "random", 1 - held, seed)  # type: ignore[arg-type]
    found = split(inner, plan)
    return Split(tuple(whole.train[n] for n in found.train), whole.test, tuple(whole.train[n] for n in found.test))


SHARED: dict[str, tuple[str, Callable[[RatedImage], Hashable]]] = {
    "files": ("a picture", lambda row: row.path),
    "prompts": ("a prompt", KEYS["prompt"]),
    "contents": ("a pristine picture", KEYS["content"]),
}


def leakage(data: RatedImages, divided: Split) -> dict[str, Any]:
    """Count what both sides have in common: shared values, the test side's values, its pictures with a shared one."""
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
