"""What a prompt is of, with what follows it: attributes, places, clauses, whole sentences."""

from __future__ import annotations

from collections.abc import Callable

from lab.parser.prompt_nouns import Node, NounGrammar


class ClauseGrammar(NounGrammar):
    """Draws subjects with what hangs on them.

    What hangs on what is decided by meaning where words tell it ("hair blowing", "woman wearing"), so that the parser
    can learn it from words.
    """

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
            self.join(noun, self.phrase("thing", "food", "animal"))
        if self.chance(0.08):
            noun.after.append(self.of_what())
        return noun

    def of_what(self) -> Node:
        """Return "of" and its noun."""
        return self.with_case(self.phrase("thing", "food", "animals", "sky", bare=0.6), "of", "nmod")

    def join(self, first: Node, second: Node) -> None:
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
                self.join(noun, self.phrase("clothes"))
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
                self.join(noun, self.phrase("clothes"))
            return self.with_case(noun, "in", "nmod")
        preposition = "with" if self.chance(0.95) else "without"
        if acts and self.chance(0.7):
            noun = self.phrase("part", bare=0.6)
            if self.chance(0.2):
                self.join(noun, self.phrase("part", bare=0.7))
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
                self.join(noun, self.phrase("with_thing", "thing"))
        return self.with_case(noun, preposition, "nmod")

    def complete(self, most: int = 2) -> Node:
        """Return a subject with what follows it."""
        if self.chance(0.10):
            return self._contained()
        head, acts = self.subject()
        if self.chance(0.06):
            self.join(head, self.subject()[0])
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
            self.join(inner, self.phrase("food", "thing", bare=0.9))
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

    def absolute(self, clause: Callable[[], Node]) -> Node:
        noun = self.phrase(
            "part", "thing", "with_thing", "sky", "animals", "person", "clothes", bare=0.45, definite=0.35
        )
        noun.after.append(clause())
        return noun
