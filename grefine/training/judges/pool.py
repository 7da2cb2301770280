"""Rated pictures of one or more sets: their order, how they are cut, and their loading ahead of time."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.io.images import read_image
from grefine.models.mdiqa_blocks import pad_to
from grefine.training.datasets.rated import RatedImage, RatedImages

Sample = dict[str, Tensor]
View = Callable[[Image.Image, RatedImage, random.Random], Sample]
Grouping = Literal["together", "columns", "sets", "each"]


@dataclass(frozen=True)
class Batch:
    """One batch: which rows, for which label, from which set (-1: of several)."""

    rows: tuple[int, ...]
    column: int = 0
    source: int = -1


class Pool:
    """Rows of several sets behind one another, with their labels scaled to 1."""

    def __init__(self, sets: Sequence[RatedImages], columns: Sequence[str], chosen: Sequence[Sequence[int]]) -> None:
        self.rows = [data.rows[n] for data, numbers in zip(sets, chosen, strict=True) for n in numbers]
        self.sources = [index for index, numbers in enumerate(chosen) for _ in numbers]
        labels = [
            torch.tensor([data.labels(column) for column in columns], dtype=torch.float32).T[list(numbers)]
            for data, numbers in zip(sets, chosen, strict=True)
        ]
        self.labels = torch.cat(labels)

    def __len__(self) -> int:
        return len(self.rows)


class Order:
    """Which rows step n trains on, as a function of the seed and n alone: a resumed run goes on where it was.

    Incomplete batches are left out, as in the published recipes.

    Args:
        grouping: together: batches of all rows. columns: every step has one batch per label, each shuffled on its
            own. sets: every batch comes from one set, drawn among those that are not used up in this epoch. each:
            every step has one batch of every set, as long as the smallest lasts.
    """

    def __init__(self, pool: Pool, batch: int, seed: int, grouping: Grouping = "together", passes: int = 1) -> None:
        self.pool, self.batch, self.seed, self.grouping, self.passes = pool, batch, seed, grouping, passes
        self._epoch, self._plan = -1, []
        self.per_epoch = len(self._made(0))
        if not self.per_epoch:
            raise ConfigError(
                f"{len(pool)} training pictures do not fill one batch of {batch}: set a smaller `batch`."
            )

    def parts(self, step: int) -> list[Batch]:
        epoch, inside = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._made(epoch)
        return self._plan[inside]

    def _made(self, epoch: int) -> list[list[Batch]]:
        rng = random.Random(f"{self.seed}/{epoch}")
        everything = list(range(len(self.pool)))
        if self.grouping == "columns":
            columns = [self._batches(everything, rng) for _ in range(self.pool.labels.shape[1])]
            return [[Batch(rows, c) for c, rows in enumerate(step)] for step in zip(*columns, strict=True)]
        if self.grouping == "together":
            return [[Batch(rows)] for rows in self._batches(everything, rng)]
        sets = [
            self._batches([row for row in everything if self.pool.sources[row] == source], rng)
            for source in sorted(set(self.pool.sources))
        ]
        if self.grouping == "each":
            return [[Batch(rows, 0, n) for n, rows in enumerate(step)] for step in zip(*sets, strict=False)]
        left, plan = {n: list(batches) for n, batches in enumerate(sets) if batches}, []
        while left:
            source = rng.choice(sorted(left))
            plan.append([Batch(left[source].pop(), 0, source)])
            if not left[source]:
                del left[source]
        return plan

    def _batches(self, rows: list[int], rng: random.Random) -> list[tuple[int, ...]]:
        order = rows * self.passes
        rng.shuffle(order)
        full = len(order) // self.batch * self.batch
        return [tuple(order[start : start + self.batch]) for start in range(0, full, self.batch)]


class Loader:
    """Read and cut the pictures of a step, and those of the next one meanwhile."""

    def __init__(self, pool: Pool, order: Order, view: View, seed: int) -> None:
        self.pool, self.order, self.view, self.seed = pool, order, view, seed
        self._threads = ThreadPoolExecutor(4)
        self._waiting: dict[int, list[list[Future[Sample]]]] = {}

    def step(self, number: int) -> list[tuple[Batch, Sample, Tensor]]:
        """Return (part, stacked views, labels `(B, columns)`) for every batch of a step."""
        waiting = self._waiting.pop(number, None) or self._ask(number)
        self._waiting = {number + 1: self._ask(number + 1)}
        found = []
        for part, samples in zip(self.order.parts(number), waiting, strict=True):
            views = [sample.result() for sample in samples]
            stacked = {name: torch.stack([view[name] for view in views]) for name in views[0]}
            found.append((part, stacked, self.pool.labels[list(part.rows)]))
        return found

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _ask(self, number: int) -> list[list[Future[Sample]]]:
        return [
            [self._threads.submit(self._one, number, place, row) for place, row in enumerate(part.rows)]
            for part in self.order.parts(number)
        ]

    def _one(self, number: int, place: int, row: int) -> Sample:
        rng = random.Random(f"{self.seed}/{number}/{place}/{row}")
        picture = self.pool.rows[row]
        return self.view(read_image(picture.path).rgb, picture, rng)


def random_crop(image: Image.Image, side: int, rng: random.Random) -> Image.Image:
    """Cut a square anywhere; what is shorter gets black borders first."""
    image = pad_to(image, side)
    left, top = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    return image.crop((left, top, left + side, top + side))


def shorter_side(image: Image.Image, side: int) -> Image.Image:
    if min(image.size) == side:
        return image
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
