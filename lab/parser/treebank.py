"""Read treebanks in the CoNLL-U form, and make them look like prompts: small letters, no stop, phrases in a row."""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from grefine.errors import ConfigError


@dataclass(slots=True)
class Sentence:
    """One annotated sentence; heads count from 0, -1 is the root."""

    words: list[str]
    tags: list[str]
    """Penn Treebank tags."""
    heads: list[int]
    labels: list[str]
    glued: list[bool]
    """True where no space follows the word."""

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, int, str, bool]]) -> "Sentence":
        """Make a sentence of its words, each with tag, head and label, and whether the next one sticks to it."""
        return cls(*map(list, zip(*rows, strict=True)))

    def rows(self) -> Iterator[tuple[str, str, int, str, bool]]:
        """Return each word with tag, head, label and whether the next one sticks to it."""
        return zip(self.words, self.tags, self.heads, self.labels, self.glued, strict=True)


def treebank_file(folder: Path, bank: str, part: str) -> Path:
    """Return the file of one part ("train", "dev", "test") of a bank ("ewt", "gum") in `folder`."""
    for ending in (".conllu.gz", ".conllu"):
        path = folder / f"en_{bank}-ud-{part}{ending}"
        if path.is_file():
            return path
    raise ConfigError(
        f"No 'en_{bank}-ud-{part}.conllu' (or .gz) in '{folder}': give the folder of the"
        f" UniversalDependencies/UD_English-{bank.upper()} release."
    )


def read_treebank(path: Path) -> list[Sentence]:
    """Read all sentences; multiword-token lines and empty nodes are skipped."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        blocks = (block.split("\n") for block in text.replace("\r\n", "\n").split("\n\n"))
        tables = ([cells for line in block if (cells := line.split("\t"))[0].isdigit()] for block in blocks)
        return [
            Sentence.of(
                (
                    r[1].replace("\u00a0", " ").replace(" ", "") or "_",
                    r[4],
                    int(r[6]) - 1,
                    r[7],
                    "SpaceAfter=No" in r[9],
                )
                for r in rows
            )
            for rows in tables
            if rows
        ]
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise ConfigError(f"Cannot read '{path}' as CoNLL-U: {error}.") from error


LOWER, NO_STOP, WHOLE = 0.30, 0.35, 0.5
_NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS"})
_HYPHENS = frozenset({"-", "\u2010", "\u2011"})


def prompt_like(sentences: Sequence[Sentence], random: np.random.RandomState) -> list[Sentence]:
    """Return the sentences, some in small letters, some without their full stop, some with whole hyphenated words."""
    out = []
    for sentence in sentences:
        if random.random_sample() < WHOLE:
            sentence = joined_hyphens(sentence)
        if random.random_sample() < LOWER:
            sentence = lowered(sentence)
        if random.random_sample() < NO_STOP:
            sentence = without_stop(sentence)
        out.append(sentence)
    return out


def lowered(sentence: Sentence) -> Sentence:
    return replace(sentence, words=[word.lower() for word in sentence.words])


def without_stop(sentence: Sentence) -> Sentence:
    last = len(sentence.words) - 1
    if last < 1 or sentence.tags[last] != "." or last in sentence.heads:
        return sentence
    return _keep(sentence, list(range(last)))


def joined_hyphens(sentence: Sentence) -> Sentence:
    """Return the sentence with "well - known" made one word, as the tokeniser leaves it."""
    words, n = sentence.words, len(sentence.words)
    groups: list[list[int]] = []
    i = 0
    while i < n:
        group = [i]
        while (
            i + 2 < n
            and words[i + 1] in _HYPHENS
            and all(sentence.glued[i : i + 2])
            and (words[i][-1:] + words[i + 2][:1]).isalnum()
        ):
            group += [i + 1, i + 2]
            i += 2
        groups.append(group)
        i += 1
    if len(groups) == n:
        return sentence
    owner = {t: g for g, group in enumerate(groups) for t in group}
    rows = []
    for g, group in enumerate(groups):
        outside = [t for t in group if sentence.heads[t] == -1 or owner[sentence.heads[t]] != g]
        top = next((t for t in reversed(outside) if words[t] not in _HYPHENS), group[-1])
        head = sentence.heads[top]
        label, tag = sentence.labels[top], sentence.tags[top]
        if len(group) > 1 and label in ("compound", "amod", "nmod", "obl:unmarked") and tag not in ("NNP", "NNPS"):
            label, tag = "amod", "JJ"
        head = -1 if head == -1 else owner[head]
        rows.append(("".join(words[t] for t in group), tag, head, label, sentence.glued[group[-1]]))
    out = Sentence.of(rows)
    return out if _is_tree(out.heads) else sentence


def rare_nouns(sentences: Sequence[Sentence]) -> list[tuple[str, str]]:
    """Return the common nouns that the treebank shows once or twice: fillers for what no list can hold."""
    counts = Counter(
        (w, t)
        for s in sentences
        for w, t in zip(s.words, s.tags, strict=True)
        if t in ("NN", "NNS") and w.isascii() and w.isalpha() and w.islower() and len(w) > 3
    )
    return sorted(key for key, n in counts.items() if n <= 2)


def noun_phrases(sentences: Sequence[Sentence], shortest: int = 1, longest: int = 12) -> list[Sentence]:
    """Return the noun phrases of a treebank as small trees in small letters."""
    out = []
    for sentence in sentences:
        spans = _spans(sentence.heads)
        for i, (tag, (first, last)) in enumerate(zip(sentence.tags, spans, strict=True)):
            if tag not in _NOUNS or not shortest <= last - first + 1 <= longest:
                continue
            inside = list(range(first, last + 1))
            # What introduces the phrase, or closes it, belongs to the sentence.
            while inside and inside[0] != i and sentence.labels[inside[0]] in ("case", "cc", "mark", "punct"):
                inside.pop(0)
            while inside and inside[-1] != i and sentence.labels[inside[-1]] == "punct":
                inside.pop()
            kept = set(inside)
            if any(sentence.heads[t] not in kept for t in inside if t != i):
                continue
            if any(sentence.tags[t] in ("PRP", "UH", "ADD", "NFP", "LS") for t in inside):
                continue
            out.append(lowered(_keep(sentence, inside)))
    return out


def phrase_lists(phrases: Sequence[Sentence], count: int, random: np.random.RandomState) -> list[Sentence]:
    """Return `count` prompts of one to seven treebank phrases in a row; later ones hang on the first."""
    out = []
    for _ in range(count):
        size = int(random.choice([1, 2, 3, 4, 5, 7], p=[0.3, 0.2, 0.2, 0.15, 0.1, 0.05]))
        rows: list[tuple[str, str, int, str, bool]] = []
        main = -1
        for k in range(size):
            item = phrases[int(random.randint(len(phrases)))]
            base, top = len(rows) + bool(k), item.heads.index(-1)
            if k:
                rows.append((",", ",", base + top, "punct", False))
            else:
                main = top
            for word, tag, head, label, glued in item.rows():
                head, label = (head + base, label) if head >= 0 else (main, "list") if k else (-1, "root")
                rows.append((word, tag, head, label, glued))
        out.append(Sentence.of(rows))
    return out


def _spans(heads: list[int]) -> list[tuple[int, int]]:
    low, high = list(range(len(heads))), list(range(len(heads)))
    for i in range(len(heads)):
        at = heads[i]
        while at != -1:
            low[at], high[at] = min(low[at], i), max(high[at], i)
            at = heads[at]
    return list(zip(low, high, strict=True))


def _keep(sentence: Sentence, inside: list[int]) -> Sentence:
    place = {t: k for k, t in enumerate(inside)}
    rows = [*sentence.rows()]
    out = Sentence.of(rows[t] for t in inside)
    out.heads = [place.get(head, -1) for head in out.heads]
    out.labels = [label if head >= 0 else "root" for label, head in zip(out.labels, out.heads, strict=True)]
    return out


def _is_tree(heads: list[int]) -> bool:
    for start in range(len(heads)):
        at, steps = start, 0
        while at != -1:
            at, steps = heads[at], steps + 1
            if steps > len(heads):
                return False
    return True
