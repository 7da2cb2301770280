"""Rated pictures of one or more sets: their order, how they are cut, and their loading ahead of time."""

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from grefine.errors import ConfigError
from grefine.io.images import read_image
from grefine.models.mdiqa_blocks import pad_to
from grefine.training.datasets.rated import RatedImage, RatedImages

Sample = dict[str, Tensor]
Grouping = Literal["together", "columns", "sets", "each"]


class Batch(NamedTuple):
    """One batch: which rows, for which label, from which set (-1: of several)."""

    rows: tuple[int, ...]
    column: int = 0
    source: int = -1


Part = tuple[Batch, Sample, Tensor]
"""A batch, its stacked views, and its labels `(B, columns)`."""


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

    def by_set(self) -> list[list[int]]:
        """Return the numbers of the rows of every set that has any."""
        return [[n for n, of in enumerate(self.sources) if of == source] for source in sorted(set(self.sources))]


class Order:
    """Which rows step n trains on, as a function of the seed and n alone: a resumed run goes on where it was.

    Incomplete batches are left out. Grouping "together": batches of all rows; "columns": every step has one batch per
    label; "sets": every batch comes from one set, drawn among those not used up; "each": one of every set.
    """

    def __init__(self, pool: Pool, batch: int, seed: int, grouping: Grouping = "together", passes: int = 1) -> None:
        self.pool, self.batch, self.seed, self.grouping, self.passes = pool, batch, seed, grouping, passes
        self._epoch, self._plan = 0, self._made(0)
        self.per_epoch = len(self._plan)
        if not self.per_epoch:
            raise ConfigError(
                f"{len(pool.rows)} training pictures do not fill one batch of {batch}: set a smaller `batch`."
            )

    def parts(self, step: int) -> list[Batch]:
        epoch, inside = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._made(epoch)
        return self._plan[inside]

    def _made(self, epoch: int) -> list[list[Batch]]:
        rng = random.Random(f"{self.seed}/{epoch}")

        def shuffled(rows: list[int], column: int = 0, source: int = -1) -> list[Batch]:
            order = rows * self.passes
            rng.shuffle(order)
            full = len(order) // self.batch * self.batch
            return [Batch(tuple(order[at : at + self.batch]), column, source) for at in range(0, full, self.batch)]

        if self.grouping in ("sets", "each"):
            lanes = [shuffled(own, source=n) for n, own in enumerate(self.pool.by_set())]
        else:
            columns = self.pool.labels.shape[1] if self.grouping == "columns" else 1
            lanes = [shuffled(list(range(len(self.pool.rows))), column) for column in range(columns)]
        if self.grouping != "sets":
            return [list(step) for step in zip(*lanes, strict=False)]
        plan = []
        while left := [lane for lane in lanes if lane]:
            plan.append([rng.choice(left).pop()])
        return plan


def loaded(
    pool: Pool, order: Order, view: Callable[[Image.Image, RatedImage, random.Random], Sample], seed: int, first: int
) -> Generator[list[Part], None, None]:
    """Yield the batches of every step from `first` on; those of the next one are read and cut meanwhile."""

    def one(step: int, place: int, row: int) -> Sample:
        rng = random.Random(f"{seed}/{step}/{place}/{row}")
        return view(read_image(pool.rows[row].path).rgb, pool.rows[row], rng)

    def ask(step: int) -> list[tuple[Batch, Iterator[Sample]]]:
        return [
            (batch, threads.map(one, [step] * len(batch.rows), range(len(batch.rows)), batch.rows))
            for batch in order.parts(step)
        ]

    threads = ThreadPoolExecutor(4)
    try:
        asked = ask(first)
        for step in count(first + 1):
            ready, asked = asked, ask(step)
            yield [(batch, default_collate(list(views)), pool.labels[list(batch.rows)]) for batch, views in ready]
    finally:
        threads.shutdown(cancel_futures=True)


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
