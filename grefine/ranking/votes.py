"""Vote tables of a two-alternative forced choice: reading, checking, counting."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from grefine.errors import ConfigError

REQUIRED = ("method_a", "method_b", "votes_a", "votes_b")
MOST_SUBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Vote:
    """How often each of two methods was preferred on one image."""

    method_a: str
    method_b: str
    image: str
    votes_a: int
    votes_b: int
    subject: str = ""
    """Who voted; empty when the row counts several people."""
    group: str = ""
    """How the pair was chosen, e.g. "mad" or "random"."""
    order: int | None = None
    """Position in which the selection picked this image for this pair of methods, from 0."""

    @property
    def total(self) -> int:
        return self.votes_a + self.votes_b


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Votes and the methods they compare."""

    methods: tuple[str, ...]
    """Sorted by name."""
    votes: tuple[Vote, ...]

    @property
    def has_subjects(self) -> bool:
        """True when every row says who voted."""
        return bool(self.votes) and all(v.subject for v in self.votes)

    @property
    def total(self) -> int:
        return sum(v.total for v in self.votes)

    def indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions in `methods` of each row's two methods."""
        place = {name: i for i, name in enumerate(self.methods)}
        a = np.array([place[v.method_a] for v in self.votes], dtype=np.int64)
        b = np.array([place[v.method_b] for v in self.votes], dtype=np.int64)
        return a, b

    def images(self) -> list[str]:
        """Return each row's image; a row without a name stands for itself."""
        return [v.image or f"row {i}" for i, v in enumerate(self.votes)]

    def counts(self) -> np.ndarray:
        """Return C with C[i, j] = votes for method i over method j."""
        a, b = self.indices()
        C = np.zeros((len(self.methods),) * 2)
        np.add.at(C, (a, b), [v.votes_a for v in self.votes])
        np.add.at(C, (b, a), [v.votes_b for v in self.votes])
        return C

    def shares(self) -> np.ndarray:
        """Return the share of votes for the first method, one per row."""
        return np.array([v.votes_a / v.total for v in self.votes])

    def subset(self, rows: Iterable[int]) -> "VoteTable":
        return VoteTable(self.methods, tuple(self.votes[i] for i in rows))

    def merged(self) -> "VoteTable":
        """Return one row per pair of images, the votes of all its rows added up, methods in order of name."""
        sums: dict[tuple[str, str, str, str], Counter[str]] = {}
        for v in self.votes:
            a, b = sorted((v.method_a, v.method_b))
            sums.setdefault((a, b, v.group, v.image), Counter()).update({v.method_a: v.votes_a, v.method_b: v.votes_b})
        rows = (Vote(a, b, image, n[a], n[b], group=group) for (a, b, group, image), n in sorted(sums.items()))
        return VoteTable(self.methods, tuple(rows))


def table_from_votes(votes: Iterable[Vote], methods: Sequence[str] | None = None) -> VoteTable:
    """Make a table; rows without any vote are left out, methods other than `methods` are an error."""
    rows = tuple(v for v in votes if v.total)
    named = sorted({v.method_a for v in rows} | {v.method_b for v in rows})
    if methods is not None:
        known = sorted(set(methods))
        for name in named:
            if name not in known:
                raise ConfigError(f"The votes name the method '{name}', which is not among {', '.join(known)}.")
        named = known
    if len(named) < 2:
        raise ConfigError("A ranking needs votes between at least two methods.")
    return VoteTable(tuple(named), rows)


def read_votes(path: str | Path, methods: Sequence[str] | None = None) -> VoteTable:
    """Read votes from CSV, or a table of shares of an unstated number of subjects (sr_pair_names, ...)."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or []), [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ConfigError(f"Cannot read the votes '{path}': {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"'{path}' is not a CSV table in UTF-8: {error}.") from error
    if {"sr_pair_names", "name1_column", "name2_column", "score1_column", "score2_column"} <= set(columns):
        votes = _votes_from_shares(rows, path)
    else:
        for name in REQUIRED:
            if name not in columns:
                raise ConfigError(f"'{path}' has no column '{name}': a vote table needs {', '.join(REQUIRED)}.")
        votes = [_vote(row, f"'{path}' line {line}") for line, row in rows]
    keys = Counter((v.subject, v.image, v.group, *sorted((v.method_a, v.method_b))) for v in votes if v.subject)
    for (subject, image, _, a, b), count in keys.items():
        if count > 1:
            raise ConfigError(f"'{path}': subject '{subject}' votes twice on image '{image}' for {a} against {b}.")
    return table_from_votes(votes, methods)


def in_group(table: VoteTable, group: str | None) -> VoteTable:
    """Return only the rows of one group, e.g. "mad"; all of them for None."""
    if group is None:
        return table
    rows = [i for i, v in enumerate(table.votes) if v.group == group]
    if not rows:
        groups = sorted({v.group for v in table.votes if v.group})
        raise ConfigError(f"No votes of group '{group}'; there are {', '.join(groups) or 'no groups'}.")
    return table.subset(rows)


def votes_csv(votes: Iterable[Vote]) -> bytes:
    """Return votes as the table that `read_votes` reads back unchanged."""
    out = io.StringIO(newline="")
    columns = ("method_a", "method_b", "group", "image", "order", "subject", "votes_a", "votes_b")
    writer: csv.DictWriter[str] = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, votes))
    return out.getvalue().encode()


def _vote(row: dict[str, str | None], where: str) -> Vote:
    a, b = (row["method_a"] or "").strip(), (row["method_b"] or "").strip()
    if not a or not b or a == b:
        raise ConfigError(f"{where}: two methods are compared, but it names '{a}' and '{b}'.")
    image = row["image"] if row.get("image") else row.get("lr_image")
    order = (row.get("order") or "").strip()
    return Vote(
        a,
        b,
        (image or "").strip(),
        _whole(row["votes_a"], f"{where}: votes_a"),
        _whole(row["votes_b"], f"{where}: votes_b"),
        subject=(row.get("subject") or "").strip(),
        group=(row.get("group") or "").strip(),
        order=_whole(order, f"{where}: order") if order else None,
    )


def _whole(text: str | None, where: str) -> int:
    try:
        number = float(text or "")
    except ValueError:
        number = -1.0
    if number < 0 or not number.is_integer():
        raise ConfigError(f"{where} is '{text or ''}': votes are whole numbers from 0.")
    return int(number)


def _votes_from_shares(rows: Sequence[tuple[int, dict[str, str | None]]], path: Path) -> list[Vote]:
    """Turn shares into counts of the smallest number of subjects that makes all of them whole."""
    parsed = []
    for line, row in rows:
        # A closing row of averages names no images.
        if not (row["name1_column"] or "").strip():
            continue
        where = f"'{path}' line {line}"
        try:
            shares = float(row["score1_column"] or ""), float(row["score2_column"] or "")
        except ValueError:
            shares = -1.0, -1.0
        if min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
            raise ConfigError(f"{where}: score1_column and score2_column must be shares that add up to 1.")
        names = []
        for column in ("name1_column", "name2_column"):
            stem = (row[column] or "").strip().rsplit(".", 1)[0]
            image, found, method = stem.rpartition("_")
            if not found:
                raise ConfigError(f"{where}: {column} must read IMAGE_METHOD.png, not {row[column]!r}.")
            names.append((image, method))
        if names[0][1] == names[1][1]:
            raise ConfigError(f"{where}: two methods are compared, but it names '{names[0][1]}' twice.")
        parsed.append((names, shares, (row.get("group") or "").strip()))
    every = {s for _, shares, _ in parsed for s in shares}
    subjects = math.lcm(*(Fraction(s).limit_denominator(MOST_SUBJECTS).denominator for s in every), 1)
    if subjects > MOST_SUBJECTS or any(abs(s * subjects - round(s * subjects)) > 1e-6 for s in every):
        raise ConfigError(f"'{path}': the shares fit no common number of subjects up to {MOST_SUBJECTS}.")
    return [
        Vote(a, b, image, round(shares[0] * subjects), round(shares[1] * subjects), group=group)
        for ((image, a), (_, b)), shares, group in parsed
    ]
