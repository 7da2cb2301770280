"""Count which prompts are told as not English: `python -m benchmarks.languages`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.parser_scores import read_prompts
from grefine.text.language import foreign_language

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
LATER, LATIN = 6, 8
"""How many of each language, and of how many languages, were written after the lists of words."""


def foreign_prompts() -> dict[str, list[str]]:
    """Return the prompts by the language they are written in."""
    found: dict[str, list[str]] = {}
    for line in (GOLDEN / "foreign_prompts.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found[line.strip("[]")] = rows = []
        elif line and not line.startswith("#"):
            rows.append(line)
    return found


def english_prompts() -> list[str]:
    """Return the annotated English prompts: sentences and lists of tags."""
    return [row["prompt"] for name in ("dev", "tags") for row in read_prompts(GOLDEN / f"prompts_{name}.jsonl")]


def told(prompts: Iterable[str]) -> list[str]:
    """Return the prompts that are told as not English."""
    return [prompt for prompt in prompts if foreign_language(prompt)]


def main() -> None:
    """Print how many are noticed, by language, and which English ones are taken for another language."""
    by_language = foreign_prompts()
    for language, prompts in by_language.items():
        named = sum(language in foreign_language(prompt) for prompt in prompts)
        missed = sorted(set(prompts) - set(told(prompts)))
        print(f"{language:<11}{len(told(prompts)):>3} of {len(prompts)} noticed, {named} by name", *missed, sep="; ")
    everything = [prompt for prompts in by_language.values() for prompt in prompts]
    later = [prompt for prompts in list(by_language.values())[:LATIN] for prompt in prompts[-LATER:]]
    english = english_prompts()
    print(f"all: {len(told(everything))} of {len(everything)} ({len(told(everything)) / len(everything):.1%})")
    print(f"of these written after the lists of words: {len(told(later))} of {len(later)}")
    print(f"English taken for another language: {len(told(english))} of {len(english)}", *told(english), sep="; ")


if __name__ == "__main__":
    main()
