"""Made-up noun phrases with their trees, and the word lists they are made of."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lab.parser.treebank import Sentence

_LEXICON = Path(__file__).parent / "prompt_lexicon.txt"


class Node:
    """One word with what hangs on it, before and after it, in order."""

    __slots__ = ("after", "before", "label", "tag", "word")

    def __init__(self, word: str, tag: str, label: str = "root") -> None:
        self.word, self.tag, self.label = word, tag, label
        self.before: list[Node] = []
        self.after: list[Node] = []

    def hang(self, *after: "Node") -> "Node":
        """Hang nodes behind this one; return it."""
        self.after += after
        return self

    def lead(self, word: str, tag: str, label: str) -> "Node":
        """Put a word before everything that this node has; return the node."""
        self.before.insert(0, Node(word, tag, label))
        return self

    def called(self, label: str) -> "Node":
        self.label = label
        return self

    def sentence(self) -> Sentence:
        """Return the tree under this node as a sentence."""
        words: list[Node] = []
        heads: dict[int, Node | None] = {}

        def walk(node: Node, head: Node | None) -> None:
            for child in node.before:
                walk(child, node)
            words.append(node)
            heads[id(node)] = head
            for child in node.after:
                walk(child, node)

        walk(self, None)
        place = {id(node): i for i, node in enumerate(words)}
        return Sentence.of((n.word, n.tag, place.get(id(heads[id(n)]), -1), n.label, False) for n in words)


def read_lexicon() -> dict[str, list[list[tuple[str, str]]]]:
    """Return the entries of each list, as (word, Penn tag) parts; the tag is "" where the list decides it."""
    out: dict[str, list[list[tuple[str, str]]]] = {}
    for line in _LEXICON.read_text(encoding="utf-8").splitlines():
        if line and line[0] != "#":
            name, entries = line.split(":", 1)
            parts = [[(w.split("/")[0], (w.split("/") + [""])[1]) for w in e.split("_")] for e in entries.split()]
            out[name] = parts
    return out


class NounGrammar:
    """Draws noun phrases at random; the same random state draws the same ones."""

    def __init__(self, random: np.random.RandomState, rare_nouns: Sequence[tuple[str, str]] = ()) -> None:
        self.random = random
        self.rare = list(rare_nouns)
        self.lists = read_lexicon()

    def chance(self, p: float) -> bool:
        return bool(self.random.random_sample() < p)

    def one_of(self, words: str) -> str:
        options = words.split()
        return options[int(self.random.randint(len(options)))].replace("_", " ")

    def count(self, *shares: float) -> int:
        """Return a number from 0 on; `shares` say how often each is drawn."""
        return int(self.random.choice(list(range(len(shares))), p=list(shares)))

    def entry(self, *names: str) -> list[tuple[str, str]]:
        """Return a random entry of one of the lists, longer lists more often."""
        sizes = [len(self.lists[n]) for n in names]
        k = int(self.random.randint(sum(sizes)))
        for name, size in zip(names, sizes, strict=True):
            if k < size:
                return self.lists[name][k]
            k -= size
        raise AssertionError

    def word(self, *names: str) -> str:
        return self.entry(*names)[0][0]

    def option(self, options: Sequence[tuple[float, Callable[[], Node]]]) -> Callable[[], Node]:
        """Return one of the weighted options."""
        at = self.random.random_sample() * sum(weight for weight, _ in options)
        for weight, make in options:
            at -= weight
            if at < 0:
                return make
        return options[-1][1]

    def pick(self, options: Sequence[tuple[float, Callable[[], Node]]]) -> Node:
        return self.option(options)()

    def noun(self, *names: str, plural: bool | None = None) -> Node:
        """Return a noun with the parts of its entry."""
        if self.rare and self.chance(0.12):
            word, tag = self.rare[int(self.random.randint(len(self.rare)))]
            return Node(word, tag)
        entry = self.entry(*names)
        head = self.bare_noun(entry[-1][0], entry[-1][1])
        for word, tag in entry[:-1]:
            if word == "'s" or word == "of":
                continue
            self._part(head, entry, word, tag)
        if len(entry) == 3 and entry[1][0] == "of":
            # "depth of field"
            head.before = []
            return Node(entry[0][0], entry[0][1] or "NN").hang(head.lead("of", "IN", "case").called("nmod"))
        if plural and head.tag == "NN" and len(entry) == 1:
            head.word, head.tag = _plural(head.word), "NNS"
        return head

    def _part(self, head: Node, entry: list[tuple[str, str]], word: str, tag: str) -> None:
        k = [w for w, _ in entry].index(word)
        if k + 1 < len(entry) and entry[k + 1][0] == "'s":
            owner = Node(word, "NNS" if word == "children" else "NN", "nmod:poss")
            head.before.append(owner.hang(Node("'s", "POS", "case")))
        elif tag in ("JJ", "JJS", "VBG", "VBN"):
            head.before.append(Node(word, tag, "amod"))
        else:
            head.before.append(Node(word, tag or self.bare_noun(word, "").tag, "compound"))

    def bare_noun(self, word: str, tag: str) -> Node:
        if not tag:
            plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) or word in PLURALS
            if word in ("8k", "4k") and self.chance(0.5):
                plural = False
            tag = "NNS" if plural else "NN"
        return Node(word, tag)

    def name(self) -> Node:
        if self.chance(0.25):
            return Node(self.word("first_name", "last_name"), "NNP")
        return Node(self.word("first_name"), "NNP").hang(Node(self.word("last_name"), "NNP", "flat"))

    def character(self) -> Node:
        entry = self.entry("character")
        up = self.chance(0.4)
        words = [w.capitalize() if up else w for w, _ in entry]
        return Node(words[0], "NNP").hang(*(Node(word, "NNP", "flat") for word in words[1:]))

    def adjective(self, *names: str) -> Node:
        """Return an adjective, sometimes with an adverb or a second one joined by "and"."""
        names = names or ("adjective", "colour", "size", "texture")
        word = self.word(*names)
        node = Node(word, "JJ", "amod")
        if self.chance(0.07):
            return node.lead(self.word("adverb"), "RB", "advmod")
        if self.chance(0.04):
            node = Node(self.word("colour"), "JJ", "amod")
            return node.lead(self.one_of("dark light bright pale deep"), "JJ", "amod")
        if self.chance(0.05):
            node.hang(Node(self.word(*names), "JJ", "conj").lead("and", "CC", "cc"))
        return node

    def modifiers(self, head: Node, most: int = 3) -> None:
        """Put determiner-free modifiers before a noun: adjectives, participles, materials, compounds."""
        count = self.count(0.34, 0.40, 0.19, 0.07)
        before: list[Node] = []
        for _ in range(min(count, most)):
            options = [
                (0.45, self.adjective),
                (0.13, lambda: self.adjective("colour")),
                (0.08, lambda: Node(self.word("participle_ing"), "VBG", "amod")),
                (0.10, lambda: Node(self.word("participle_ed"), "VBN" if self.chance(0.7) else "JJ", "amod")),
                (0.03, lambda: Node(self.word("compound_ed"), "JJ", "amod")),
                (0.11, lambda: Node(self.word("material"), "NN", "compound")),
                (0.06, lambda: Node(self.word("thing", "animal", "food"), "NN", "compound")),
                (0.04, lambda: Node(self.word("adjective"), "JJ", "amod")),
            ]
            before.append(self.pick(options))
        # Compounds stand next to their noun.
        before.sort(key=lambda n: n.label == "compound")
        if len(before) > 1 and self.chance(0.05) and before[0].tag == "JJ" and before[1].tag == "JJ":
            before[1].before.insert(0, Node(",", ",", "punct"))
        head.before = before + head.before

    def determiner(self, head: Node, definite: float = 0.15, bare: float = 0.2) -> None:
        """Put an article, number or nothing before a noun phrase."""
        plural = head.tag in ("NNS", "NNPS")
        roll = self.random.random_sample()
        if roll < bare:
            return
        if roll < bare + definite:
            node = Node(self.one_of("the the the his her its their"), "DT", "det")
            if node.word != "the":
                node.tag, node.label = "PRP$", "nmod:poss"
        elif plural:
            word = self.one_of("two three four five many some several 2 ten a")
            if word == "a":
                return
            node = Node(word, "CD", "nummod")
            if word in ("many", "several"):
                node.tag, node.label = "JJ", "amod"
            elif word == "some":
                node.tag, node.label = "DT", "det"
        else:
            following = (head.before[0].before or head.before)[0].word if head.before else head.word
            node = Node("an" if following[0] in "aeiou" else "a", "DT", "det")
            if self.chance(0.03):
                node.word = self.one_of("one single")
                node.tag, node.label = ("CD", "nummod") if node.word == "one" else ("JJ", "amod")
        head.before.insert(0, node)

    def phrase(self, *names: str, bare: float = 0.2, definite: float = 0.15) -> Node:
        """Return a noun phrase without what follows the noun."""
        head = self.noun(*names, plural=self.chance(0.15))
        self.modifiers(head)
        self.determiner(head, definite, bare)
        return head


PLURALS = frozenset(
    "people men women children sheep feet teeth wolves leaves shelves mice geese pants jeans".split()  # noqa: SIM905
)
IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "wolf": "wolves", "leaf": "leaves", "mouse": "mice",
}  # fmt: skip


def _plural(word: str) -> str:
    for single, many in IRREGULAR.items():
        if word == single or word.endswith(single) and single in ("man", "woman"):
            return word[: len(word) - len(single)] + many
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
