"""The votes of a study as a table."""

from __future__ import annotations

from pathlib import Path

from grefine.errors import ConfigError
from grefine.io.atomic import write_atomic
from grefine.ranking.journal import attention_of, read_ballots, study_votes
from grefine.ranking.study import load_study
from grefine.ranking.votes import votes_csv


def export_votes(folder: str | Path, out: str | Path, min_attention: float = 0.0) -> list[str]:
    """Write the votes on real pairs as CSV; training and attention trials are left out.

    Returns:
        One line per subject (votes, attention checks passed), and one for the file.
    """
    if not 0 <= min_attention <= 1:
        raise ConfigError(f"min_attention is {min_attention}: it is a share between 0 and 1.")
    study = load_study(folder)
    ballots = read_ballots(folder, study)
    votes = study_votes(study, ballots, min_attention)
    if not votes:
        raise ConfigError(f"'{folder}' has no votes to export (yet, or none of subjects that were attentive enough).")
    write_atomic(out, votes_csv(votes))
    lines = []
    for subject, (passed, seen) in sorted(attention_of(study, ballots).items()):
        count = sum(v.subject == subject for v in votes)
        kept = f"{count} votes" if count else "left out"
        lines.append(f"{subject}: {kept}, {passed} of {seen} attention checks passed")
    return [*lines, f"{len(votes)} votes of {len({v.subject for v in votes})} subjects in '{out}'"]
