"""Measure the parsers: treebank accuracy, annotated prompts, speed, size.

    python benchmarks/text.py --ud DIR [--prompts FILE] [--train-nltk] [--out DIR]

DIR holds the test files of UD English-EWT and, for a second row, English-GUM. `--train-nltk` fills NLTK's row without
NLTK's data: its tagger is trained here on the EWT train file. Results go to stdout, and to
--out as text.json and text.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parser_scores import attachment, prompt_scores, read_prompts, tag_accuracy
from grefine.errors import ConfigError, GRefineError
from grefine.text.backend import Backend, load_backend
from grefine.text.embedded import SHIPPED, EmbeddedBackend
from grefine.text.nltk_backend import NltkBackend
from grefine.text.parse import parse
from lab.parser.treebank import Sentence, lowered, read_treebank, treebank_file, without_stop

PROMPTS = Path(__file__).parent.parent / "tests" / "golden" / "prompts_dev.jsonl"


def treebank_row(backend: EmbeddedBackend | NltkBackend, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Return tag accuracy, also in small letters, and attachment, all with predicted tags."""
    small = [lowered(s) for s in sentences]
    bare = [without_stop(s) for s in small]
    found = [backend.analyse(s.words) for s in sentences]
    found_bare = [backend.analyse(s.words) for s in bare]
    row = {
        "tags": tag_accuracy(sentences, [backend.penn_tags(s.words) for s in sentences]),
        "tags_lower": tag_accuracy(bare, [backend.penn_tags(s.words) for s in bare]),
    }
    row |= attachment(sentences, [a.heads for a in found], [a.labels for a in found])
    row["uas_lower"] = attachment(bare, [a.heads for a in found_bare], [a.labels for a in found_bare])["uas"]
    return row


def speed(backend: Backend, prompts: list[str], rounds: int = 7) -> dict[str, float]:
    """Return prompts and words per CPU second through the whole of `parse`, the best of some rounds."""
    words = sum(len(parse(p, backend).tokens) for p in prompts)
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for prompt in prompts:
            parse(prompt, backend)
        best = min(best, time.process_time() - started)
    return {"prompts_per_s": len(prompts) / best, "words_per_prompt": words / len(prompts)}


def load_seconds(rounds: int = 5) -> float:
    """Return the CPU seconds that loading the shipped weights takes, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        EmbeddedBackend()
        best = min(best, time.process_time() - started)
    return best


def trained_nltk(ud: Path) -> NltkBackend:
    """Return the nltk backend with NLTK's tagger trained on EWT."""
    from nltk.tag.perceptron import PerceptronTagger

    sentences = read_treebank(treebank_file(ud, "ewt", "train"))
    tagger = PerceptronTagger(load=False)
    random.seed(0)
    tagger.train([list(zip(s.words, s.tags, strict=True)) for s in sentences], nr_iter=5)
    return NltkBackend(tagger)


def backends(ud: Path, train_nltk: bool) -> Iterator[tuple[str, Any]]:
    """Yield (name, backend or the reason why it is not there)."""
    yield "embedded", load_backend("embedded")
    try:
        yield "nltk", load_backend("nltk")
    except GRefineError as error:
        yield "nltk", str(error)
    if train_nltk:
        yield "nltk, tagger trained on EWT", trained_nltk(ud)


def measure(ud: Path, prompts: Path, train_nltk: bool) -> dict:
    """Return all numbers."""
    banks = {}
    for name in ("ewt", "gum"):
        try:
            banks[name] = read_treebank(treebank_file(ud, name, "test"))
        except ConfigError as error:
            print(error, file=sys.stderr)
    records = read_prompts(prompts)
    texts = [r["prompt"] for r in records]
    typical = [t for t in texts if len(t.split()) <= 14]
    out: dict = {"rows": {}, "bytes": SHIPPED.stat().st_size, "load_s": load_seconds()}
    for name, backend in backends(ud, train_nltk):
        print(f"measuring {name}", file=sys.stderr)
        if isinstance(backend, str):
            out["rows"][name] = {"unavailable": backend}
            continue
        row = {bank: treebank_row(backend, sentences) for bank, sentences in banks.items()}
        row["prompts"] = prompt_scores(records, lambda text, b=backend: parse(text, b))
        row["speed"] = {"typical": speed(backend, typical), "all": speed(backend, texts)}
        out["rows"][name] = row
    return out


def markdown(result: dict) -> str:
    """Return the numbers as tables."""
    lines = [
        f"Model {result['bytes']:,} bytes, loaded in {result['load_s']:.2f} CPU s.",
        "",
        "| parser | bank | tags | tags, lower case, no final stop | UAS | LAS | UAS lower |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["rows"].items():
        if "unavailable" in row:
            lines.append(f"| {name} | unavailable: {row['unavailable']} | | | | | |")
            continue
        for bank in ("ewt", "gum"):
            if bank in row:
                v = row[bank]
                cells = (v["tags"], v["tags_lower"], v["uas"], v["las"], v["uas_lower"])
                lines.append(f"| {name} | {bank.upper()} test | " + " | ".join(f"{c:.1f}" for c in cells) + " |")
    lines += [
        "",
        "| parser | noun F1 | words | ancestors | non-root | exact | prompts/s, short (words) | prompts/s, all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["rows"].items():
        if "unavailable" in row:
            continue
        p, typical, every = row["prompts"], row["speed"]["typical"], row["speed"]["all"]
        scores = " | ".join(f"{p[k]:.3f}" for k in ("noun_f1", "words", "ancestors", "ancestors_inner", "exact"))
        lines.append(
            f"| {name} | {scores} | {typical['prompts_per_s']:.0f} ({typical['words_per_prompt']:.1f})"
            f" | {every['prompts_per_s']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ud", type=Path, required=True, help="folder of the UD English test files")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="annotated prompts, one JSON object a line")
    parser.add_argument("--train-nltk", action="store_true", help="train NLTK's tagger on EWT here (about a minute)")
    parser.add_argument("--out", type=Path, help="folder for text.json and text.md")
    given = parser.parse_args()
    try:
        result = measure(given.ud, given.prompts, given.train_nltk)
    except GRefineError as error:
        sys.exit(f"benchmarks/text.py: {error}")
    print(markdown(result))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "text.json").write_text(json.dumps(result, indent=1) + "\n")
        (given.out / "text.md").write_text(markdown(result) + "\n")


if __name__ == "__main__":
    main()
