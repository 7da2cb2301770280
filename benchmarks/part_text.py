"""The parser's speed as a part of the page: ours beside NLTK's tagger under the same rules."""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.measure import compared, interleave
from benchmarks.part import Part, Table
from benchmarks.text import PROMPTS, trained_nltk
from grefine.errors import GRefineError
from grefine.text.backend import Backend, load_backend
from grefine.text.parse import parse


def nltk_backend(train: bool) -> tuple[Backend, str] | None:
    """Return NLTK's backend with its own data, or trained on GREFINE_DATA's treebank; None where neither is here."""
    try:
        return load_backend("nltk"), "NLTK with its own data"
    except GRefineError:
        treebank = Path(os.environ.get("GREFINE_DATA", "")) / "ud"
        if not train or "GREFINE_DATA" not in os.environ or not treebank.is_dir():
            return None
        return trained_nltk(treebank), "NLTK, tagger trained on EWT"


def prompts() -> list[str]:
    """Return the annotated prompts' texts."""
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines() if line.strip()]


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure prompts per second."""
    del device
    texts, ours = prompts(), load_backend("embedded")
    ways = {"ours": lambda: [parse(text, ours) for text in texts]}
    other = nltk_backend(train=not quick)
    if other is not None:
        ways["nltk"] = lambda: [parse(text, other[0]) for text in texts]
    times = interleave(ways, rounds=5 if quick else 9, least=0.2)
    rate = len(texts) / times["ours"].seconds()
    what, rows, notes = f"{len(texts)} annotated prompts to phrases", [], []
    if other is not None:
        rows.append(compared(what, times["ours"], times["nltk"], other[1], **{"prompts/s, ours": rate}))
    else:
        notes.append(
            "No NLTK row: NLTK's data is not on this machine, and its tagger is only trained in a full run with "
            "GREFINE_DATA set."
        )
    return Part(
        "text",
        "Prompts",
        "Parsing prompts to phrases with the embedded parser against the same rules over NLTK. Accuracy is in "
        "docs/text.md, from `python benchmarks/text.py --ud DIR`.",
        rows,
        [Table("The embedded parser", ["what", "prompts/s of one core"], [[what, rate]])],
        notes=notes,
    )
