"""The vote journal: a vote that was acknowledged is on disk, once; and the votes as a table."""

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from grefine.errors import ConfigError
from grefine.io.atomic import write_atomic
from grefine.io.journal import AppendOnly, whole_lines
from grefine.ranking.study import Study, load_study
from grefine.ranking.votes import Vote, votes_csv

JOURNAL = "votes.jsonl"


@dataclass(frozen=True, slots=True)
class Ballot:
    study: str
    subject: str
    trial: str
    preferred: Literal["a", "b"]
    side: Literal["left", "right"]
    seconds: float
    at: str
    """UTC time in ISO 8601."""


class VoteJournal(AppendOnly):
    """Ballots in an append-only file, at most one per subject and trial.

    A vote counts once it is written and synced; what a crash left half-written was never acknowledged and is cut off
    when the journal is opened for writing. One process writes at a time.
    """

    def __init__(self, folder: str | Path, study: Study) -> None:
        path = Path(folder) / JOURNAL
        super().__init__(path, alone=f"Another server already collects votes into '{path}'; stop it first.")
        try:
            ballots, whole = _parse(path, study)
            os.ftruncate(self._file, whole)
        except BaseException:
            self.close()
            raise
        self._ballots = {(b.subject, b.trial): b for b in ballots}
        self._one = threading.Lock()

    def record(self, ballot: Ballot) -> Literal["new", "known", "conflict"]:
        """Store a ballot; a repeated one is "known", another choice on a decided trial is a "conflict" and dropped."""
        key = (ballot.subject, ballot.trial)
        with self._one:
            if key in self._ballots:
                return "known" if self._ballots[key].preferred == ballot.preferred else "conflict"
            self.write((json.dumps(asdict(ballot), ensure_ascii=True) + "\n").encode())
            self._ballots[key] = ballot
            return "new"

    def answered(self, subject: str) -> set[str]:
        with self._one:
            return {trial for who, trial in self._ballots if who == subject}

    def __len__(self) -> int:
        return len(self._ballots)


def read_ballots(folder: str | Path, study: Study) -> list[Ballot]:
    """Read the journal without locking it, also while a server writes; an unfinished last line is left out."""
    return _parse(Path(folder) / JOURNAL, study)[0]


def _parse(path: Path, study: Study) -> tuple[list[Ballot], int]:
    """Return the ballots and the length of the part that is whole."""
    lines, whole = whole_lines(path)
    known, ballots, seen = {item.id for item in (*study.pairs, *study.checks)}, [], {}
    for number, line in enumerate(lines, 1):
        where = f"'{path}' line {number}"
        try:
            ballot = Ballot(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{where} is not a vote: the journal was damaged or edited; restore it.") from error
        if ballot.study != study.digest:
            raise ConfigError(f"{where} belongs to another study; keep each study's votes in its own folder.")
        if ballot.trial not in known or ballot.preferred not in ("a", "b"):
            raise ConfigError(f"{where} votes on something that this study does not ask; restore the journal.")
        key = (ballot.subject, ballot.trial)
        if key in seen:
            raise ConfigError(f"{where} repeats the vote of line {seen[key]}; the journal was edited; restore it.")
        seen[key] = number
        ballots.append(ballot)
    return ballots, whole


def export_votes(folder: str | Path, out: str | Path, min_attention: float = 0.0) -> list[str]:
    """Write the votes on real pairs as CSV; training and attention trials are left out."""
    if not 0 <= min_attention <= 1:
        raise ConfigError(f"min_attention is {min_attention}: it is a share between 0 and 1.")
    study = load_study(folder)
    ballots = read_ballots(folder, study)
    pairs, checks = {pair.id: pair for pair in study.pairs}, {c.id for c in study.check_pairs("attention")}
    passed: dict[str, list[bool]] = {}
    for b in ballots:
        passed.setdefault(b.subject, []).extend([b.preferred == "a"] * (b.trial in checks))
    votes = []
    for b in ballots:
        own = passed[b.subject]
        if b.trial in pairs and (not own or sum(own) / len(own) >= min_attention):
            p, a = pairs[b.trial], b.preferred == "a"
            votes.append(Vote(p.method_a, p.method_b, p.image, int(a), int(not a), b.subject, p.group, p.order))
    if not votes:
        raise ConfigError(f"'{folder}' has no votes to export (yet, or none of subjects that were attentive enough).")
    write_atomic(out, votes_csv(votes))
    lines = []
    for subject, own in sorted(passed.items()):
        count = sum(v.subject == subject for v in votes)
        kept = f"{count} votes" if count else "left out"
        lines.append(f"{subject}: {kept}, {sum(own)} of {len(own)} attention checks passed")
    return [*lines, f"{len(votes)} votes of {len({v.subject for v in votes})} subjects in '{out}'"]
