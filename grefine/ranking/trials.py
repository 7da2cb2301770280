"""What one subject is shown, in which order and on which side: drawn from its name, so that it can resume."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

from grefine.errors import ConfigError
from grefine.ranking.study import CheckPair, Study, StudyPair, TrialKind

_NAME = re.compile(r"[\w.@-]([\w.@ -]{0,62}[\w.@-])?")


@dataclass(frozen=True, slots=True)
class Trial:
    """One forced choice."""

    id: str
    kind: TrialKind
    left: str
    """File name under images/."""
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
    seed = hashlib.sha256(f"{study.digest}\0{subject}".encode()).digest()
    generator = random.Random(seed)
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
