"""A study folder, with nothing that tells which method made what; each subject's trials; the journal of votes."""

import hashlib
import json
import os
import random
import re
import threading
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from grefine.config import build
from grefine.errors import ConfigError
from grefine.io.atomic import write_atomic, write_text
from grefine.io.content import content_hash
from grefine.io.journal import AppendOnly, whole_lines
from grefine.ranking.votes import Vote, votes_csv

STUDY_FILE = "study.json"
IMAGES = "images"
JOURNAL = "votes.jsonl"
VERSION = 1
TrialKind = Literal["training", "attention", "pair"]


@dataclass(frozen=True, slots=True)
class StudyPair:
    id: str
    method_a: str
    method_b: str
    image: str
    """Name of the input, without extension."""
    file_a: str
    """File name under images/; says nothing about the method."""
    file_b: str
    group: str = "mad"
    order: int = 0
    """Position in which the selection picked it for these two methods."""
    d1: float = 0.0
    d2: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckPair:
    """A picture and a copy of it that was visibly damaged on purpose, to train or to check attention."""

    id: str
    kind: Literal["training", "attention"]
    file_a: str
    """The undamaged one."""
    file_b: str


@dataclass(frozen=True)
class Study:
    """Everything about a study but its votes."""

    version: int
    title: str
    question: str
    methods: list[str]
    appearance: str
    """What D1 was measured with."""
    semantics: str
    """What D2 was measured with."""
    lambda_: float
    k: int
    seed: int
    candidates: int
    """How many inputs the pairs were chosen from."""
    pairs: list[StudyPair]
    checks: list[CheckPair]
    images: dict[str, str] = field(default_factory=dict)
    """SHA-256 by file name."""

    @cached_property
    def digest(self) -> str:
        return content_hash(json.dumps(asdict(self), sort_keys=True, ensure_ascii=True))[:16]

    def check_pairs(self, kind: str) -> list[CheckPair]:
        return [c for c in self.checks if c.kind == kind]


def save_study(study: Study, folder: Path) -> None:
    """Write study.json; the images must lie in the folder already."""
    record = asdict(study) | {"digest": study.digest}
    write_text(folder / STUDY_FILE, json.dumps(record, indent=1) + "\n")


def load_study(folder: str | Path) -> Study:
    path = Path(folder) / STUDY_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"'{folder}' is not a study folder: {STUDY_FILE} cannot be read ({error}); `grefine rank pairs` makes one."
        ) from error
    if not isinstance(record, dict):
        raise ConfigError(f"'{path}' does not hold a study; make the study anew or restore the file.")
    digest = record.pop("digest", None)
    if record.get("version") != VERSION:
        raise ConfigError(f"'{path}' has version {record.get('version')!r}; this grefine reads version {VERSION}.")
    study = build(Study, record, where=f"'{path}'")
    if digest != study.digest:
        raise ConfigError(
            f"'{path}' was changed after the study was made, so votes could no longer be told apart; "
            "restore the file or make a new study with `grefine rank pairs`."
        )
    for name, known in study.images.items():
        image = path.parent / IMAGES / name
        try:
            found = content_hash(image)
        except OSError as error:
            raise ConfigError(f"The study's image '{image}' cannot be read: {error.strerror}.") from error
        if found != known:
            raise ConfigError(f"The study's image '{image}' was changed after the study was made; restore it.")
    return study


_NAME = re.compile(r"[\w.@-]([\w.@ -]{0,62}[\w.@-])?")


@dataclass(frozen=True, slots=True)
class Trial:
    """One forced choice."""

    id: str
    kind: TrialKind
    left: str
    right: str
    a_is_left: bool


def subject_name(text: str) -> str:
    """Return a subject's name as it is stored, or say what is accepted."""
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise ConfigError("A subject's name has 1 to 64 letters, digits, spaces or . _ @ - characters.")
    return name


def trials_of(study: Study, subject: str) -> list[Trial]:
    """Return the subject's trials: training first, then all pairs in random order with attention checks among them."""
    generator = random.Random(hashlib.sha256(f"{study.digest}\0{subject}".encode()).digest())
    training = [_trial(c, "training", generator) for c in study.check_pairs("training")]
    main = [_trial(p, "pair", generator) for p in study.pairs]
    generator.shuffle(main)
    for check in study.check_pairs("attention"):
        # Never first: a check right after the training would be taken for one more exercise.
        main.insert(generator.randint(min(1, len(main)), len(main)), _trial(check, "attention", generator))
    return training + main


def _trial(item: StudyPair | CheckPair, kind: TrialKind, generator: random.Random) -> Trial:
    a_is_left = generator.random() < 0.5
    left, right = (item.file_a, item.file_b) if a_is_left else (item.file_b, item.file_a)
    return Trial(item.id, kind, left, right, a_is_left)


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
    """Ballots in an append-only file, at most one per subject and trial; what a crash left half-written is cut off."""

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
