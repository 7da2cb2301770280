"""Made-up prompts with their trees: what a treebank of news, mail and reviews does not show.

A small grammar over `prompt_lexicon.txt`. What hangs on what is decided by meaning where words tell it ("hair blowing",
"woman wearing"), so that the parser can learn it from words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from grefine.training.treebank import Sentence

_LEXICON = Path(__file__).parent / "prompt_lexicon.txt"


class Node:
    """One word with what hangs on it, before and after it, in order."""

    __slots__ = ("after", "before", "label", "tag", "word")

    def __init__(self, word: str, tag: str, label: str = "root") -> None:
        self.word, self.tag, self.label = word, tag, label
        self.before: list[Node] = []
        self.after: list[Node] = []

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
        return Sentence(
            [n.word for n in words],
            [n.tag for n in words],
            [-1 if heads[id(n)] is None else place[id(heads[id(n)])] for n in words],
            [n.label for n in words],
            [False] * len(words),
        )


def read_lexicon() -> dict[str, list[list[tuple[str, str]]]]:
    """Return the entries of each list, as (word, Penn tag) parts; the tag is "" where the list decides it."""
    out: dict[str, list[list[tuple[str, str]]]] = {}
    for line in _LEXICON.read_text(encoding="utf-8").splitlines():
        if line and line[0] != "#":
            name, entries = line.split(":", 1)
            parts = [[(w.split("/")[0], (w.split("/") + [""])[1]) for w in e.split("_")] for e in entries.split()]
            out[name] = parts
    return out


class PromptGrammar:
    """Draws prompts at random; the same random state draws the same prompts."""

    def __init__(self, random: np.random.RandomState, rare_nouns: Sequence[tuple[str, str]] = ()) -> None:
        """Start.

        Args:
            random: where all choices come from.
            rare_nouns: further (noun, tag) pairs that now and then take a thing's place, so that unknown words stay known
                by their surroundings.
        """
        self.random = random
        self.rare = list(rare_nouns)
        self.lists = read_lexicon()

    # Choices

    def chance(self, p: float) -> bool:
        """Say yes with probability `p`."""
        return bool(self.random.random_sample() < p)

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
        """Return a random one-word entry."""
        return self.entry(*names)[0][0]

    def pick(self, options: Sequence[tuple[float, Callable[[], Node]]]) -> Node:
        """Call one of the weighted options."""
        total = sum(weight for weight, _ in options)
        at = self.random.random_sample() * total
        for weight, make in options:
            at -= weight
            if at < 0:
                return make()
        return options[-1][1]()

    # Nouns

    def noun(self, *names: str, plural: bool | None = None) -> Node:
        """Return a noun with the parts of its entry."""
        if self.rare and self.chance(0.12):
            word, tag = self.rare[int(self.random.randint(len(self.rare)))]
            return Node(word, tag)
        entry = self.entry(*names)
        head = self._head(entry[-1][0], entry[-1][1])
        for word, tag in entry[:-1]:
            if word == "'s" or word == "of":
                continue
            self._part(head, entry, word, tag)
        if len(entry) == 3 and entry[1][0] == "of":
            # "depth of field"
            first = Node(entry[0][0], entry[0][1] or "NN")
            head.before = [Node("of", "IN", "case")]
            head.label = "nmod"
            first.after.append(head)
            return first
        if plural and head.tag == "NN" and len(entry) == 1:
            head.word, head.tag = _plural(head.word), "NNS"
        return head

    def _part(self, head: Node, entry: list[tuple[str, str]], word: str, tag: str) -> None:
        k = [w for w, _ in entry].index(word)
        if k + 1 < len(entry) and entry[k + 1][0] == "'s":
            owner = Node(word, "NN" if word not in ("children",) else "NNS", "nmod:poss")
            owner.after.append(Node("'s", "POS", "case"))
            head.before.append(owner)
        elif tag in ("JJ", "JJS", "VBG", "VBN"):
            head.before.append(Node(word, tag, "amod"))
        else:
            head.before.append(Node(word, tag or self._head(word, "").tag, "compound"))

    def _head(self, word: str, tag: str) -> Node:
        if not tag:
            plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) or word in _PLURALS
            tag = "CD" if word in ("8k", "4k") and self.chance(0.5) else "NNS" if plural else "NN"
            if tag == "CD":
                tag = "NN"
        return Node(word, tag)

    def name(self) -> Node:
        """Return a person's name; the later parts hang on the first."""
        if self.chance(0.25):
            head = Node(self.word("first_name", "last_name"), "NNP")
        else:
            head = Node(self.word("first_name"), "NNP")
            head.after.append(Node(self.word("last_name"), "NNP", "flat"))
        return head

    def character(self) -> Node:
        """Return a well-known figure."""
        entry = self.entry("character")
        up = self.chance(0.4)
        words = [w.capitalize() if up else w for w, _ in entry]
        head = Node(words[-1] if len(words) == 1 else words[0], "NNP")
        for word in words[1:]:
            head.after.append(Node(word, "NNP", "flat"))
        return head

    # Modifiers

    def adjective(self, *names: str) -> Node:
        """Return an adjective, sometimes with an adverb or a second one joined by "and"."""
        names = names or ("adjective", "colour", "size", "texture")
        word = self.word(*names)
        node = Node(word, "JJ", "amod")
        if self.chance(0.07):
            node.before.append(Node(self.word("adverb"), "RB", "advmod"))
        elif self.chance(0.04):
            node = Node(self.word("colour"), "JJ", "amod")
            node.before.append(Node(("dark", "light", "bright", "pale", "deep")[self.random.randint(5)], "JJ", "amod"))
        elif self.chance(0.05):
            second = Node(self.word(*names), "JJ", "conj")
            second.before.append(Node("and", "CC", "cc"))
            node.after.append(second)
        return node

    def modifiers(self, head: Node, most: int = 3) -> None:
        """Put determiner-free modifiers before a noun: adjectives, participles, materials, compounds."""
        count = int(self.random.choice([0, 1, 2, 3], p=[0.34, 0.40, 0.19, 0.07]))
        before: list[Node] = []
        for _ in range(min(count, most)):
            roll = self.random.random_sample()
            if roll < 0.45:
                before.append(self.adjective())
            elif roll < 0.58:
                before.append(self.adjective("colour"))
            elif roll < 0.66:
                before.append(Node(self.word("participle_ing"), "VBG", "amod"))
            elif roll < 0.76:
                before.append(Node(self.word("participle_ed"), "VBN" if self.chance(0.7) else "JJ", "amod"))
            elif roll < 0.79:
                before.append(Node(self.word("compound_ed"), "JJ", "amod"))
            elif roll < 0.90:
                before.append(Node(self.word("material"), "NN", "compound"))
            elif roll < 0.96:
                before.append(Node(self.word("thing", "animal", "food"), "NN", "compound"))
            else:
                before.append(Node(self.word("adjective"), "JJ", "amod"))
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
            node = Node(("the", "the", "the", "his", "her", "its", "their")[self.random.randint(7)], "DT", "det")
            if node.word != "the":
                node.tag, node.label = "PRP$", "nmod:poss"
        elif plural:
            options = ("two", "three", "four", "five", "many", "some", "several", "2", "ten", "a")
            word = options[self.random.randint(len(options))]
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
                node.word = ("one", "single")[self.random.randint(2)]
                node.tag, node.label = ("CD", "nummod") if node.word == "one" else ("JJ", "amod")
        head.before.insert(0, node)

    def phrase(self, *names: str, bare: float = 0.2, definite: float = 0.15) -> Node:
        """Return a noun phrase without what follows the noun."""
        head = self.noun(*names, plural=self.chance(0.15))
        self.modifiers(head)
        self.determiner(head, definite, bare)
        return head

    def subject(self, bare: float = 0.25) -> tuple[Node, bool]:
        """Return who or what a prompt is of, and whether it can act."""
        roll = self.random.random_sample()
        if roll < 0.34:
            return self.phrase("person", bare=bare), True
        if roll < 0.40:
            return self.phrase("group", "animals", bare=bare), True
        if roll < 0.60:
            return self.phrase("animal", bare=bare), True
        if roll < 0.66:
            return (self.character() if self.chance(0.7) else self.name()), True
        if roll < 0.84:
            return self.phrase("thing", "food", "vehicle", "clothes", bare=bare), False
        return self.phrase("building", "place", bare=bare), False

    # What follows a noun

    def with_case(self, noun: Node, preposition: str, label: str) -> Node:
        """Introduce a noun phrase by a preposition of one or more words."""
        words = preposition.split("_")
        if len(words) == 1:
            noun.before.insert(0, Node(words[0], "TO" if words[0] == "to" else "IN", "case"))
            noun.label = label
            return noun
        if words[-1] != "of" or len(words) == 2:
            first = Node(
                words[0], {"next": "RB", "close": "RB", "inside": "RB", "outside": "RB"}.get(words[0], "IN"), "case"
            )
            first.after.append(Node(words[1], "TO" if words[1] == "to" else "IN", "fixed"))
            noun.before.insert(0, first)
            noun.label = label
            return noun
        side = Node(words[-2], "NN", label)
        for k, word in enumerate(words[:-2]):
            tag = "TO" if word == "to" else "DT" if word == "the" else "IN" if k == 0 else "JJ"
            side.before.append(Node(word, tag, {"DT": "det", "JJ": "amod"}.get(tag, "case")))
        noun.before.insert(0, Node("of", "IN", "case"))
        noun.label = "nmod"
        side.after.append(noun)
        return side

    def somewhere(self, label: str) -> Node:
        """Return a place phrase, as "in a dark forest", "on green grass", "at night"."""
        roll = self.random.random_sample()
        if roll < 0.10:
            noun = Node(self.word("time"), "NN")
            return self.with_case(noun, "at" if self.chance(0.7) else "in", label)
        if roll < 0.20:
            noun = self.noun("region")
            noun.before.insert(0, Node("the", "DT", "det"))
            return self.with_case(noun, "in", label)
        if roll < 0.26:
            noun = self.phrase("sky", bare=0.4)
            return self.with_case(noun, "under" if self.chance(0.6) else "in", label)
        if roll < 0.36:
            noun = self.phrase("ground", bare=0.8)
            return self.with_case(noun, "on" if self.chance(0.8) else "in", label)
        if roll < 0.44:
            preposition = "_".join(w for w, _ in self.entry("prep_multi"))
            return self.with_case(
                self.phrase("thing", "building", "place", "person", "animal", bare=0.1), preposition, label
            )
        if roll < 0.55:
            return self.with_case(self.phrase("face", bare=0.1), "on", label)
        preposition = ("in", "on", "at", self.word("prep_place"), self.word("prep_place"))[self.random.randint(5)]
        return self.with_case(self.phrase("place", "building", "sky", bare=0.25, definite=0.25), preposition, label)

    def object_of(self) -> Node:
        """Return what is held, ridden or eaten."""
        noun = self.phrase("thing", "food", "animal", "vehicle", "person", bare=0.2, definite=0.2)
        noun.label = "obj"
        if self.chance(0.08):
            self._and(noun, self.phrase("thing", "food", "animal"))
        if self.chance(0.08):
            noun.after.append(self.of_what())
        return noun

    def of_what(self) -> Node:
        """Return "of" and its noun."""
        return self.with_case(self.phrase("thing", "food", "animals", "sky", bare=0.6), "of", "nmod")

    def _and(self, first: Node, second: Node) -> None:
        second.before.insert(0, Node("and" if self.chance(0.85) else "or", "CC", "cc"))
        second.label = "conj"
        first.after.append(second)

    def acting(self) -> Node:
        """Return a participle clause of someone who acts: "riding a horse through the forest"."""
        roll = self.random.random_sample()
        if roll < 0.25:
            verb = Node("wearing" if self.chance(0.8) else "dressed", "VBG", "acl")
            noun = self.phrase("clothes", bare=0.25)
            if verb.word == "dressed":
                verb.tag = "VBN"
                verb.after.append(self.with_case(noun, "in", "obl"))
            else:
                noun.label = "obj"
                verb.after.append(noun)
            if self.chance(0.25):
                self._and(noun, self.phrase("clothes"))
            return verb
        if roll < 0.58:
            verb = Node(self.word("acting"), "VBG", "acl")
            verb.after.append(self.object_of())
            if self.chance(0.3):
                verb.after.append(self.somewhere("obl"))
            return verb
        verb = Node(self.word("posture"), "VBG", "acl")
        if self.chance(0.1):
            verb = Node("looking", "VBG", "acl")
            verb.after.append(self.with_case(self.phrase("thing", "person", "sky", "animal"), "at", "obl"))
            return verb
        if self.chance(0.08):
            verb.after.append(
                Node(
                    ("together", "alone", "away", "around", "up", "down", "apart")[self.random.randint(7)],
                    "RB",
                    "advmod",
                )
            )
        if self.chance(0.85):
            verb.after.append(self.somewhere("obl"))
        return verb

    def happening(self) -> Node:
        """Return a participle clause of a thing: "blowing in the wind", "covered with snow", "made of glass"."""
        roll = self.random.random_sample()
        if roll < 0.45:
            verb = Node(self.word("thing_acting"), "VBG", "acl")
            verb.after.append(self.somewhere("obl"))
        elif roll < 0.62:
            verb = Node("made", "VBN", "acl")
            material = (
                Node(self.word("material"), "NN") if self.chance(0.5) else self.phrase("thing", "food", bare=0.9)
            )
            preposition = ("of", "of", "out_of", "from", "entirely of")[self.random.randint(5)]
            if preposition == "entirely of":
                verb.after.append(Node("entirely", "RB", "advmod"))
                preposition = "of"
            if preposition == "out_of":
                material.before.insert(0, Node("of", "IN", "case"))
                material.before.insert(0, Node("out", "IN", "case"))
                material.label = "obl"
                verb.after.append(material)
            else:
                verb.after.append(self.with_case(material, preposition, "obl"))
        elif roll < 0.85:
            verb = Node(self.word("thing_done"), "VBN", "acl")
            preposition = ("with", "in", "by", "by", "on")[self.random.randint(5)]
            noun = self.phrase("thing", "sky", "with_thing", "food", "animals", "person", "ground", bare=0.6)
            verb.after.append(self.with_case(noun, preposition, "obl"))
        else:
            verb = Node("being", "VBG", "aux:pass")
            main = Node(self.word("thing_done"), "VBN", "acl")
            main.before.append(verb)
            main.after.append(self.with_case(self.phrase("person", "animal", "thing"), "by", "obl:agent"))
            return main
        return verb

    def attribute(self, acts: bool) -> Node:
        """Return "with blue eyes", "in a red dress", "without a hat"."""
        if acts and self.chance(0.35):
            noun = self.phrase("clothes", bare=0.2)
            if self.chance(0.2):
                self._and(noun, self.phrase("clothes"))
            return self.with_case(noun, "in", "nmod")
        preposition = "with" if self.chance(0.95) else "without"
        if acts and self.chance(0.7):
            noun = self.phrase("part", bare=0.6)
            if self.chance(0.2):
                self._and(noun, self.phrase("part", bare=0.7))
            elif self.chance(0.12):
                # Hair blows in the wind, not the one whose hair it is.
                noun.after.append(self.happening())
            elif self.chance(0.06):
                noun.after.append(self.with_case(self.phrase("part", definite=0.9, bare=0), "on", "nmod"))
        else:
            noun = self.phrase("with_thing", "thing", "food", bare=0.4)
            if self.chance(0.2):
                noun.after.append(self.somewhere("nmod") if self.chance(0.5) else self.happening())
            elif self.chance(0.15):
                self._and(noun, self.phrase("with_thing", "thing"))
        return self.with_case(noun, preposition, "nmod")

    def complete(self, most: int = 2) -> Node:
        """Return a subject with what follows it."""
        if self.chance(0.10):
            return self._contained()
        head, acts = self.subject()
        if self.chance(0.06):
            self._and(head, self.subject()[0])
        count = int(self.random.choice([0, 1, 2, 3], p=[0.22, 0.44, 0.26, 0.08]))
        parts: list[Node] = []
        for _ in range(min(count, most + 1)):
            roll = self.random.random_sample()
            if roll < 0.30:
                parts.append(self.attribute(acts))
            elif roll < 0.72:
                parts.append(self.acting() if acts else self.happening())
            elif roll < 0.77 and acts:
                parts.append(self.happening())
            elif roll < 0.80:
                parts.append(self._relative(acts))
            elif roll < 0.82:
                parts.append(self._full())
            else:
                parts.append(self.somewhere("nmod"))
        # Clauses after what is attached to the noun, so that the order is one a person would write.
        parts.sort(key=lambda n: 2 if n.label == "acl:relcl" else 1 if n.label == "acl" else 0)
        clauses = [p for p in parts if p.label == "acl"]
        if len(clauses) == 2:
            first, second = clauses
            parts.remove(second)
            second.label = "conj"
            second.before.insert(0, Node("and", "CC", "cc") if self.chance(0.7) else Node(",", ",", "punct"))
            first.after.append(second)
        head.after.extend(parts)
        return head

    def _full(self) -> Node:
        word = Node("full", "JJ", "amod")
        word.after.append(self.with_case(self.phrase("thing", "food", "animals", bare=0.8), "of", "obl"))
        return word

    def _contained(self) -> Node:
        head = self.noun("container")
        self.modifiers(head, 1)
        self.determiner(head, 0.1, 0.2)
        inner = self.phrase("food", "thing", "animals", "drink", bare=0.85)
        if self.chance(0.2):
            self._and(inner, self.phrase("food", "thing", bare=0.9))
        head.after.append(self.with_case(inner, "of", "nmod"))
        if self.chance(0.4):
            head.after.append(self.somewhere("nmod") if self.chance(0.6) else self.attribute(False))
        return head

    def _relative(self, acts: bool) -> Node:
        verb = self.clause_verb(acts)
        verb.label = "acl:relcl"
        verb.before.insert(0, Node("who" if acts and self.chance(0.4) else "that", "WP" if acts else "WDT", "nsubj"))
        if verb.before[0].word == "that":
            verb.before[0].tag = "WDT"
        return verb

    def clause_verb(self, acts: bool) -> Node:
        """Return a finite verb with its complements, without its subject."""
        roll = self.random.random_sample()
        if acts and roll < 0.45:
            verb = Node(self.word("acting_z"), "VBZ")
            verb.after.append(self.object_of())
            if self.chance(0.4):
                verb.after.append(self.somewhere("obl"))
        elif acts and roll < 0.75:
            verb = Node(self.word("posture_z"), "VBZ")
            verb.after.append(self.somewhere("obl"))
        elif roll < 0.83:
            verb = self.acting() if acts else self.happening()
            verb.label = "root"
            auxiliary = ("is", "VBZ") if self.chance(0.8) else ("are", "VBP")
            verb.before.insert(0, Node(*auxiliary, "aux:pass" if verb.tag == "VBN" else "aux"))
        elif roll < 0.90:
            verb = Node(("looks", "appears", "looks", "lives")[self.random.randint(4)], "VBZ")
            verb.after.append(self.with_case(self.phrase("thing", "animal", "food", "person"), "like", "obl"))
        elif roll < 0.95:
            verb = Node(("has", "had", "has")[self.random.randint(3)], "VBZ")
            verb.tag = "VBD" if verb.word == "had" else "VBZ"
            noun = self.phrase("part", "clothes", "with_thing", "thing")
            noun.label = "obj"
            verb.after.append(noun)
        else:
            verb = self.adjective()
            verb.label = "root"
            verb.before.insert(0, Node("is", "VBZ", "cop"))
        return verb

    def sentence(self) -> Node:
        """Return a full sentence: "a samurai stands on a bridge", "there is a cat on the table"."""
        roll = self.random.random_sample()
        if roll < 0.12:
            verb = Node("is", "VBZ")
            verb.before.append(Node("there", "EX", "expl"))
            noun = self.complete(1)
            noun.label = "nsubj"
            verb.after.append(noun)
            return verb
        if roll < 0.18:
            verb = Node(
                ("draw", "create", "generate", "make", "paint", "show", "imagine")[self.random.randint(7)], "VB"
            )
            noun = self.titled() if self.chance(0.5) else self.complete(1)
            noun.label = "obj"
            verb.after.append(noun)
            return verb
        subject, acts = self.subject(bare=0.2)
        if self.chance(0.25):
            subject.after.append(self.attribute(acts))
        verb = self.clause_verb(acts)
        subject.label = "nsubj:pass" if any(c.label == "aux:pass" for c in verb.before) else "nsubj"
        verb.before.insert(0, subject)
        if self.chance(0.15):
            while_clause = self.acting()
            while_clause.label = "advcl"
            if self.chance(0.5):
                while_clause.before.insert(0, Node("while", "IN", "mark"))
            else:
                while_clause.before.insert(0, Node(",", ",", "punct"))
            verb.after.append(while_clause)
        return verb

    def medium(self) -> Node:
        """Return "a cinematic photo", "an oil painting"."""
        head = self.noun("medium")
        count = int(self.random.choice([0, 1, 2], p=[0.5, 0.38, 0.12]))
        parts = []
        for _ in range(count):
            parts.append(Node(self.word("medium_adjective"), "JJ", "amod"))
        if self.chance(0.06):
            parts.append(Node(self.word("style_name"), "NN", "compound"))
        head.before = parts + head.before
        self.determiner(head, 0.05, 0.4)
        return head

    def titled(self) -> Node:
        """Return a medium of a subject: "an oil painting of an old man with a beard"."""
        head = self.medium()
        inner = self.complete()
        head.after.append(self.with_case(inner, "of", "nmod"))
        if self.chance(0.06):
            head.after.append(self.with_case(self.name(), "by", "nmod"))
        return head

    # Tags after commas

    def tag(self, main: Node, acts: bool) -> None:
        """Hang one more tag on the first item of a prompt."""
        item = self.pick(
            [
                (20, self._style_tag),
                (16, self._boost),
                (9, self._boost_adjectives),
                (9, lambda: self.phrase("thing", "sky", "with_thing", "place", "building", "food", bare=0.75)),
                (5, lambda: self.complete(0)),
                (9, lambda: self.phrase("part", bare=0.85)),
                (4, lambda: self.phrase("clothes", bare=0.7)),
                (8, lambda: self.acting() if acts else self.happening()),
                (3, lambda: self._absolute(self.acting)),
                (5, lambda: self._absolute(self.happening)),
                (4, lambda: self.somewhere("nmod")),
                (3, lambda: self.attribute(acts)),
                (4, self._by),
                (2, self._in_style),
                (2, self._backdrop),
                (2, self._no),
                (1, self._trending),
            ]
        )
        if item.label == "root":
            item.label = "list"
        if item.label == "obj":
            item.label = "list"
        item.before.insert(0, Node(",", ",", "punct"))
        main.after.append(item)

    def _absolute(self, clause: Callable[[], Node]) -> Node:
        noun = self.phrase(
            "part", "thing", "with_thing", "sky", "animals", "person", "clothes", bare=0.45, definite=0.35
        )
        noun.after.append(clause())
        return noun

    def _style_tag(self) -> Node:
        roll = self.random.random_sample()
        if roll < 0.25:
            head, parts = Node("style", "NN"), self.entry("style_name")
        elif roll < 0.42:
            head, parts = Node("lighting" if self.chance(0.7) else "light", "NN"), self.entry("lighting")
        elif roll < 0.52:
            head, parts = Node("view", "NN"), self.entry("view")
        elif roll < 0.66:
            word = ("color", "colors", "tones", "palette", "color palette", "tone", "colours")[self.random.randint(7)]
            head, parts = self._head(word.split()[-1], ""), self.entry("tone")
            if " " in word:
                head.before.append(Node("color", "NN", "compound"))
        elif roll < 0.76:
            head, parts = Node("detail" if self.chance(0.6) else "details", "NN"), self.entry("detail")
        else:
            head = self._head(self.word("style"), "")
            parts = [(self.word("adjective", "medium_adjective"), "JJ")]
        if head.word.endswith("s"):
            head.tag = "NNS"
        owner = None
        for word, tag in parts:
            if word == "'s" and owner is not None:
                owner.label = "nmod:poss"
                owner.after.append(Node("'s", "POS", "case"))
                continue
            tag = tag or ("NNS" if word in _PLURALS else "NN")
            owner = Node(word.upper() if word == "hdr" else word, tag, "amod" if tag[0] == "J" else "compound")
            head.before.append(owner)
        if self.chance(0.05):
            head.before.insert(0, Node(self.word("adjective"), "JJ", "amod"))
        return head

    def _boost(self) -> Node:
        entry = self.entry("boost")
        if len(entry) >= 3 and "of" in [w for w, _ in entry]:
            k = [w for w, _ in entry].index("of")
            first, last = Node(entry[k - 1][0], "NN"), Node(entry[-1][0], "NNS" if entry[-1][0] == "thirds" else "NN")
            for word, tag in entry[: k - 1]:
                first.before.append(Node(word, tag or "NN", "amod"))
            first.after.append(self.with_case(last, "of", "nmod"))
            return first
        head = Node(entry[-1][0], entry[-1][1] or "NN")
        if head.tag == "CD":
            head = Node(entry[-2][0], "NN")
            head.before = [Node(w, t or "NN", "compound") for w, t in entry[:-2]]
            head.after.append(Node(entry[-1][0], "CD", "nummod"))
            return head
        for word, tag in entry[:-1]:
            tag = tag or "NN"
            head.before.append(Node(word, tag, "amod" if tag[0] == "J" else "compound"))
        return head

    def _boost_adjectives(self) -> Node:
        node = Node(self.word("boost_adjective"), "JJ", "amod")
        if self.chance(0.35):
            node.before.append(Node(self.word("adverb"), "RB", "advmod"))
        return node

    def _by(self) -> Node:
        name = self.with_case(self.name(), "by", "nmod")
        if self.chance(0.25):
            self._and(name, self.name())
        if self.chance(0.2):
            verb = Node(
                ("painted", "photographed", "designed", "directed", "illustrated", "drawn")[self.random.randint(6)],
                "VBN",
                "acl",
            )
            name.label = "obl:agent"
            verb.after.append(name)
            return verb
        return name

    def _in_style(self) -> Node:
        style = Node("style", "NN")
        style.before.append(Node("the", "DT", "det"))
        style = self.with_case(style, "in", "nmod")
        style.after.append(
            self.with_case(self.name() if self.chance(0.7) else self.phrase("style_name", bare=1), "of", "nmod")
        )
        return style

    def _backdrop(self) -> Node:
        head = Node("background", "NN")
        head.before.append(
            self.adjective("colour", "adjective")
            if self.chance(0.7)
            else Node(self.word("place", "building"), "NN", "compound")
        )
        if self.chance(0.3):
            self.determiner(head, 0.1, 0.2)
            return self.with_case(head, "on" if self.chance(0.5) else "in", "nmod")
        return head

    def _no(self) -> Node:
        noun = self.noun("group", "thing", "part", "clothes", plural=True)
        noun.before.insert(0, Node("no", "DT", "det"))
        return noun

    def _trending(self) -> Node:
        verb = Node("trending", "VBG", "acl")
        verb.after.append(self.with_case(Node("artstation" if self.chance(0.7) else "deviantart", "NNP"), "on", "obl"))
        return verb

    # Whole prompts

    def prompt(self) -> Sentence:
        """Return one prompt."""
        roll = self.random.random_sample()
        if roll < 0.40:
            main = self.complete()
        elif roll < 0.60:
            main = self.titled()
        elif roll < 0.75:
            main = self.sentence()
        elif roll < 0.92:
            main = self._bare_tag()
        else:
            main = self._world()
        acts = True
        count = int(self.random.choice([0, 1, 2, 3, 5, 8], p=[0.3, 0.15, 0.2, 0.17, 0.12, 0.06]))
        for _ in range(count):
            self.tag(main, acts)
        if self.chance(0.08):
            main.after.append(Node(".", ".", "punct"))
        return main.sentence()

    def _bare_tag(self) -> Node:
        return self.pick(
            [
                (4, lambda: self.phrase("person", "animal", "thing", "building", "place", bare=0.7)),
                (2, self._boost),
                (2, lambda: self._absolute(self.happening)),
                (1, self._style_tag),
                (2, self.character),
            ]
        )

    def _world(self) -> Node:
        """Return a plain scene of things beside each other: "a striped ball next to a blue cone on grass"."""
        head = self._plain_thing()
        count = int(self.random.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))
        for _ in range(count):
            if self.chance(0.35):
                self._and(head, self._plain_thing())
            else:
                preposition = (
                    self.word("prep_place") if self.chance(0.5) else "_".join(w for w, _ in self.entry("prep_multi"))
                )
                head.after.append(self.with_case(self._plain_thing(), preposition, "nmod"))
        if self.chance(0.6):
            noun = self.noun("ground") if self.chance(0.5) else self.noun("sky")
            self.modifiers(noun, 1)
            self.determiner(noun, 0.3, 0.5)
            head.after.append(self.with_case(noun, ("on", "under", "in", "by", "at")[self.random.randint(5)], "nmod"))
        return head

    def _plain_thing(self) -> Node:
        head = self.noun("thing", "animal", "building")
        names = ["size", "texture", "colour"]
        head.before = [Node(self.word(n), "JJ", "amod") for n in names if self.chance(0.45)] + head.before
        self.determiner(head, 0.1, 0.05)
        return head


_PLURALS = frozenset(
    ["people", "men", "women", "children", "sheep", "feet", "teeth", "wolves", "leaves", "shelves", "mice", "geese", "pants", "jeans"]
)


def _plural(word: str) -> str:
    irregular = {
        "man": "men",
        "woman": "women",
        "child": "children",
        "wolf": "wolves",
        "leaf": "leaves",
        "mouse": "mice",
    }
    for single, many in irregular.items():
        if word == single or word.endswith(single) and single in ("man", "woman"):
            return word[: len(word) - len(single)] + many
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
