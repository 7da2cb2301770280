"""Rated pictures in memory: what every reader returns and every recipe takes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

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
    columns = tuple(everything[0].scores)
    columns = tuple(c for c in columns if all(c in row.scores for row in everything))
    columns = (MOS, *(c for c in columns if c != MOS))
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
