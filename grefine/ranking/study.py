"""A study folder, with nothing that tells which method made what, and the trials that each subject is shown."""

import hashlib
import json
import random
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from grefine.config import build
from grefine.errors import ConfigError
from grefine.io.atomic import write_text
from grefine.io.content import content_hash

STUDY_FILE = "study.json"
IMAGES = "images"
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
    except OSError as error:
        raise ConfigError(
            f"'{folder}' is not a study folder: {STUDY_FILE} cannot be read ({error.strerror or error}); "
            "`grefine rank pairs` makes one."
        ) from error
    except ValueError as error:
        raise ConfigError(f"'{path}' is not valid JSON ({error}); make the study anew or restore the file.") from error
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
