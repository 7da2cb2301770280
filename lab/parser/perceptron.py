"""Averaged perceptrons over hashed tables, for many examples at a time."""

import numpy as np


class AveragedTable:
    """A (rows, classes) weight table whose average over all steps can be asked for at the end."""

    def __init__(self, bits: int, classes: int) -> None:
        self.bits = bits
        self.shift = np.uint32(32 - bits)
        self.weights = np.zeros((1 << bits, classes), dtype=np.float32)
        self._late = np.zeros((1 << bits, classes), dtype=np.float32)
        self._step = 1.0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Sum the rows (examples, templates) of each example: (examples, classes)."""
        return self.weights.take(rows, axis=0).sum(axis=1)

    def update(self, rows: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> None:
        """Raise class `right` and lower class `wrong` on the rows (examples, templates) of each example."""
        flat, width = rows.astype(np.int64), self.weights.shape[1]
        for classes, sign in ((right, 1.0), (wrong, -1.0)):
            cells = (flat * width + classes[:, None]).ravel()
            np.add.at(self.weights.reshape(-1), cells, np.float32(sign))
            np.add.at(self._late.reshape(-1), cells, np.float32(sign * self._step))

    def tick(self) -> None:
        self._step += 1.0 / 1024

    def average(self) -> np.ndarray:
        return self.weights - self._late / np.float32(self._step)


def batches(lengths: list[int], size: int, random: np.random.RandomState) -> list[np.ndarray]:
    """Return groups of sentences of like length, in random order."""
    noise = random.random_sample(len(lengths)) * 0.9
    order = np.argsort(np.asarray(lengths) + noise, kind="stable")
    groups = [order[k : k + size] for k in range(0, len(order), size)]
    return [groups[k] for k in random.permutation(len(groups))]
