"""What a prompt is of, with what follows it: attributes, places, clauses, whole sentences."""

from collections.abc import Callable

from lab.parser.prompt_nouns import Node, NounGrammar


class ClauseGrammar(NounGrammar):
    """Draws subjects with what hangs on them, by meaning where words tell it ("hair blowing", "woman wearing")."""

    def subject(self, bare: float = 0.25) -> tuple[Node, bool]:
        """Return who or what a prompt is of, and whether it can act."""
        acts: list[tuple[float, Callable[[], Node]]] = [
            (0.34, lambda: self.phrase("person", bare=bare)),
            (0.06, lambda: self.phrase("group", "animals", bare=bare)),
            (0.20, lambda: self.phrase("animal", bare=bare)),
            (0.06, lambda: self.character() if self.chance(0.7) else self.name()),
        ]
        others: list[tuple[float, Callable[[], Node]]] = [
            (0.18, lambda: self.phrase("thing", "food", "vehicle", "clothes", bare=bare)),
            (0.16, lambda: self.phrase("building", "place", bare=bare)),
        ]
        chosen = self.option([*acts, *others])
        return chosen(), any(chosen is make for _, make in acts)

    def with_case(self, noun: Node, preposition: str, label: str) -> Node:
        """Introduce a noun phrase by a preposition of one or more words."""
        words = preposition.split("_")
        if len(words) == 1:
            return noun.lead(words[0], "TO" if words[0] == "to" else "IN", "case").called(label)
        if words[-1] != "of" or len(words) == 2:
            tag = "RB" if words[0] in ("next", "close", "inside", "outside") else "IN"
            first = Node(words[0], tag, "case").hang(Node(words[1], "TO" if words[1] == "to" else "IN", "fixed"))
            noun.before.insert(0, first)
            return noun.called(label)
        side = Node(words[-2], "NN", label)
        for k, word in enumerate(words[:-2]):
            tag = "TO" if word == "to" else "DT" if word == "the" else "IN" if k == 0 else "JJ"
            side.before.append(Node(word, tag, {"DT": "det", "JJ": "amod"}.get(tag, "case")))
        return side.hang(noun.lead("of", "IN", "case").called("nmod"))

    def somewhere(self, label: str) -> Node:
        """Return a place phrase, as "in a dark forest", "on green grass", "at night"."""
        roll = self.random.random_sample()
        if roll < 0.10:
            noun = Node(self.word("time"), "NN")
            return self.with_case(noun, "at" if self.chance(0.7) else "in", label)
        if roll < 0.20:
            return self.with_case(self.noun("region").lead("the", "DT", "det"), "in", label)
        if roll < 0.26:
            noun = self.phrase("sky", bare=0.4)
            return self.with_case(noun, "under" if self.chance(0.6) else "in", label)
        if roll < 0.36:
            noun = self.phrase("ground", bare=0.8)
            return self.with_case(noun, "on" if self.chance(0.8) else "in", label)
        if roll < 0.44:
            preposition = "_".join(w for w, _ in self.entry("prep_multi"))
            noun = self.phrase("thing", "building", "place", "person", "animal", bare=0.1)
            return self.with_case(noun, preposition, label)
        if roll < 0.55:
            return self.with_case(self.phrase("face", bare=0.1), "on", label)
        preposition = ("in", "on", "at", self.word("prep_place"), self.word("prep_place"))[self.random.randint(5)]
        return self.with_case(self.phrase("place", "building", "sky", bare=0.25, definite=0.25), preposition, label)

    def object_of(self) -> Node:
        """Return what is held, ridden or eaten."""
        noun = self.phrase("thing", "food", "animal", "vehicle", "person", bare=0.2, definite=0.2).called("obj")
        if self.chance(0.08):
            self.join(noun, self.phrase("thing", "food", "animal"))
        if self.chance(0.08):
            noun.hang(self.with_case(self.phrase("thing", "food", "animals", "sky", bare=0.6), "of", "nmod"))
        return noun

    def join(self, first: Node, second: Node) -> Node:
        """Join two phrases by a conjunction; return the first."""
        return first.hang(second.lead("and" if self.chance(0.85) else "or", "CC", "cc").called("conj"))

    def acting(self) -> Node:
        """Return a participle clause of someone who acts: "riding a horse through the forest"."""
        roll = self.random.random_sample()
        if roll < 0.25:
            worn = self.chance(0.8)
            noun = self.phrase("clothes", bare=0.25)
            verb = Node("wearing", "VBG", "acl") if worn else Node("dressed", "VBN", "acl")
            verb.hang(noun.called("obj") if worn else self.with_case(noun, "in", "obl"))
            if self.chance(0.25):
                self.join(noun, self.phrase("clothes"))
            return verb
        if roll < 0.58:
            verb = Node(self.word("acting"), "VBG", "acl").hang(self.object_of())
            return verb.hang(self.somewhere("obl")) if self.chance(0.3) else verb
        verb = Node(self.word("posture"), "VBG", "acl")
        if self.chance(0.1):
            seen = self.with_case(self.phrase("thing", "person", "sky", "animal"), "at", "obl")
            return Node("looking", "VBG", "acl").hang(seen)
        if self.chance(0.08):
            verb.hang(Node(self.one_of("together alone away around up down apart"), "RB", "advmod"))
        return verb.hang(self.somewhere("obl")) if self.chance(0.85) else verb

    def happening(self) -> Node:
        """Return a participle clause of a thing: "blowing in the wind", "covered with snow", "made of glass"."""
        roll = self.random.random_sample()
        if roll < 0.45:
            return Node(self.word("thing_acting"), "VBG", "acl").hang(self.somewhere("obl"))
        if roll < 0.62:
            return self._made()
        verb = Node(self.word("thing_done"), "VBN", "acl")
        if roll < 0.85:
            preposition = self.one_of("with in by by on")
            noun = self.phrase("thing", "sky", "with_thing", "food", "animals", "person", "ground", bare=0.6)
            return verb.hang(self.with_case(noun, preposition, "obl"))
        by = self.with_case(self.phrase("person", "animal", "thing"), "by", "obl:agent")
        return verb.lead("being", "VBG", "aux:pass").hang(by)

    def _made(self) -> Node:
        verb = Node("made", "VBN", "acl")
        material = Node(self.word("material"), "NN") if self.chance(0.5) else self.phrase("thing", "food", bare=0.9)
        preposition = self.one_of("of of out_of from entirely_of")
        if preposition == "out of":
            return verb.hang(material.lead("of", "IN", "case").lead("out", "IN", "case").called("obl"))
        if preposition == "entirely of":
            verb.hang(Node("entirely", "RB", "advmod"))
        return verb.hang(self.with_case(material, preposition.split()[-1], "obl"))

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
                noun.hang(self.happening())  # hair blows in the wind, not the one whose hair it is
            elif self.chance(0.06):
                noun.hang(self.with_case(self.phrase("part", definite=0.9, bare=0), "on", "nmod"))
        else:
            noun = self.phrase("with_thing", "thing", "food", bare=0.4)
            if self.chance(0.2):
                noun.hang(self.somewhere("nmod") if self.chance(0.5) else self.happening())
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
        parts = [self._following(acts) for _ in range(min(self.count(0.22, 0.44, 0.26, 0.08), most + 1))]
        # Clauses after what is attached to the noun, so that the order is one a person would write.
        parts.sort(key=lambda n: 2 if n.label == "acl:relcl" else 1 if n.label == "acl" else 0)
        clauses = [p for p in parts if p.label == "acl"]
        if len(clauses) == 2:
            first, second = clauses
            parts.remove(second)
            first.hang(second.called("conj").lead(*(("and", "CC", "cc") if self.chance(0.7) else (",", ",", "punct"))))
        return head.hang(*parts)

    def _following(self, acts: bool) -> Node:
        roll = self.random.random_sample()
        if roll < 0.30:
            return self.attribute(acts)
        if roll < 0.72:
            return self.acting() if acts else self.happening()
        if roll < 0.77 and acts:
            return self.happening()
        if roll < 0.80:
            return self._relative(acts)
        if roll < 0.82:
            of = self.with_case(self.phrase("thing", "food", "animals", bare=0.8), "of", "obl")
            return Node("full", "JJ", "amod").hang(of)
        return self.somewhere("nmod")

    def _contained(self) -> Node:
        head = self.noun("container")
        self.modifiers(head, 1)
        self.determiner(head, 0.1, 0.2)
        inner = self.phrase("food", "thing", "animals", "drink", bare=0.85)
        if self.chance(0.2):
            self.join(inner, self.phrase("food", "thing", bare=0.9))
        head.hang(self.with_case(inner, "of", "nmod"))
        if self.chance(0.4):
            head.hang(self.somewhere("nmod") if self.chance(0.6) else self.attribute(False))
        return head

    def _relative(self, acts: bool) -> Node:
        verb = self.clause_verb(acts).called("acl:relcl")
        who = acts and self.chance(0.4)
        return verb.lead("who", "WP", "nsubj") if who else verb.lead("that", "WDT", "nsubj")

    def clause_verb(self, acts: bool) -> Node:
        """Return a finite verb with its complements, without its subject."""
        roll = self.random.random_sample()
        if acts and roll < 0.45:
            verb = Node(self.word("acting_z"), "VBZ").hang(self.object_of())
            return verb.hang(self.somewhere("obl")) if self.chance(0.4) else verb
        if acts and roll < 0.75:
            return Node(self.word("posture_z"), "VBZ").hang(self.somewhere("obl"))
        if roll < 0.83:
            verb = (self.acting() if acts else self.happening()).called("root")
            auxiliary = ("is", "VBZ") if self.chance(0.8) else ("are", "VBP")
            return verb.lead(*auxiliary, "aux:pass" if verb.tag == "VBN" else "aux")
        if roll < 0.90:
            verb = Node(self.one_of("looks appears looks lives"), "VBZ")
            return verb.hang(self.with_case(self.phrase("thing", "animal", "food", "person"), "like", "obl"))
        if roll < 0.95:
            word = self.one_of("has had has")
            noun = self.phrase("part", "clothes", "with_thing", "thing").called("obj")
            return Node(word, "VBD" if word == "had" else "VBZ").hang(noun)
        return self.adjective().called("root").lead("is", "VBZ", "cop")

    def sentence(self) -> Node:
        """Return a full sentence: "a samurai stands on a bridge", "there is a cat on the table"."""
        roll = self.random.random_sample()
        if roll < 0.12:
            return Node("is", "VBZ").lead("there", "EX", "expl").hang(self.complete(1).called("nsubj"))
        if roll < 0.18:
            verb = Node(self.one_of("draw create generate make paint show imagine"), "VB")
            return verb.hang((self.titled() if self.chance(0.5) else self.complete(1)).called("obj"))
        subject, acts = self.subject(bare=0.2)
        if self.chance(0.25):
            subject.hang(self.attribute(acts))
        verb = self.clause_verb(acts)
        subject.label = "nsubj:pass" if any(c.label == "aux:pass" for c in verb.before) else "nsubj"
        verb.before.insert(0, subject)
        if self.chance(0.15):
            clause = self.acting().called("advcl")
            verb.hang(clause.lead(*(("while", "IN", "mark") if self.chance(0.5) else (",", ",", "punct"))))
        return verb

    def medium(self) -> Node:
        """Return "a cinematic photo", "an oil painting"."""
        head = self.noun("medium")
        parts = [Node(self.word("medium_adjective"), "JJ", "amod") for _ in range(self.count(0.5, 0.38, 0.12))]
        if self.chance(0.06):
            parts.append(Node(self.word("style_name"), "NN", "compound"))
        head.before = parts + head.before
        self.determiner(head, 0.05, 0.4)
        return head

    def titled(self) -> Node:
        """Return a medium of a subject: "an oil painting of an old man with a beard"."""
        head = self.medium()
        head.hang(self.with_case(self.complete(), "of", "nmod"))
        return head.hang(self.with_case(self.name(), "by", "nmod")) if self.chance(0.06) else head

    def absolute(self, clause: Callable[[], Node]) -> Node:
        """Return a noun with its clause: "hair blowing in the wind"."""
        names = ("part", "thing", "with_thing", "sky", "animals", "person", "clothes")
        return self.phrase(*names, bare=0.45, definite=0.35).hang(clause())
