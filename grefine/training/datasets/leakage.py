"""What the test side of a split has in common with the training side."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass

from grefine.training.datasets.rated import RatedImage, RatedImages
from grefine.training.datasets.splits import Split, content_key, prompt_key


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
