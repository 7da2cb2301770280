"""Made-up prompts with their trees, over `prompt_lexicon.txt`: a subject, a medium, a sentence or a tag, then tags."""

from lab.parser.prompt_clauses import ClauseGrammar
from lab.parser.prompt_nouns import PLURALS, Node
from lab.parser.treebank import Sentence


class PromptGrammar(ClauseGrammar):
    """Draws prompts at random; the same random state draws the same prompts."""

    def tag(self, main: Node) -> None:
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
                (8, self.acting),
                (3, lambda: self.absolute(self.acting)),
                (5, lambda: self.absolute(self.happening)),
                (4, lambda: self.somewhere("nmod")),
                (3, lambda: self.attribute(True)),
                (4, self._by),
                (2, self._in_style),
                (2, self._backdrop),
                (2, self._no),
                (1, self._trending),
            ]
        )
        if item.label in ("root", "obj"):
            item.label = "list"
        item.before.insert(0, Node(",", ",", "punct"))
        main.hang(item)

    def _style_tag(self) -> Node:
        roll = self.random.random_sample()
        if roll < 0.25:
            head, parts = Node("style", "NN"), self.entry("style_name")
        elif roll < 0.42:
            head, parts = Node("lighting" if self.chance(0.7) else "light", "NN"), self.entry("lighting")
        elif roll < 0.52:
            head, parts = Node("view", "NN"), self.entry("view")
        elif roll < 0.66:
            word = self.one_of("color colors tones palette color_palette tone colours")
            head, parts = self.bare_noun(word.split()[-1], ""), self.entry("tone")
            if " " in word:
                head.before.append(Node("color", "NN", "compound"))
        elif roll < 0.76:
            head, parts = Node("detail" if self.chance(0.6) else "details", "NN"), self.entry("detail")
        else:
            head = self.bare_noun(self.word("style"), "")
            parts = [(self.word("adjective", "medium_adjective"), "JJ")]
        if head.word.endswith("s"):
            head.tag = "NNS"
        owner = None
        for word, tag in parts:
            if word == "'s" and owner is not None:
                owner.label = "nmod:poss"
                owner.after.append(Node("'s", "POS", "case"))
                continue
            tag = tag or ("NNS" if word in PLURALS else "NN")
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
        return node.lead(self.word("adverb"), "RB", "advmod") if self.chance(0.35) else node

    def _by(self) -> Node:
        name = self.with_case(self.name(), "by", "nmod")
        if self.chance(0.25):
            self.join(name, self.name())
        if not self.chance(0.2):
            return name
        verb = Node(self.one_of("painted photographed designed directed illustrated drawn"), "VBN", "acl")
        return verb.hang(name.called("obl:agent"))

    def _in_style(self) -> Node:
        style = self.with_case(Node("style", "NN").lead("the", "DT", "det"), "in", "nmod")
        owner = self.name() if self.chance(0.7) else self.phrase("style_name", bare=1)
        return style.hang(self.with_case(owner, "of", "nmod"))

    def _backdrop(self) -> Node:
        head = Node("background", "NN")
        coloured = self.chance(0.7)
        place = None if coloured else Node(self.word("place", "building"), "NN", "compound")
        head.before.append(place or self.adjective("colour", "adjective"))
        if self.chance(0.3):
            self.determiner(head, 0.1, 0.2)
            return self.with_case(head, "on" if self.chance(0.5) else "in", "nmod")
        return head

    def _no(self) -> Node:
        return self.noun("group", "thing", "part", "clothes", plural=True).lead("no", "DT", "det")

    def _trending(self) -> Node:
        where = Node("artstation" if self.chance(0.7) else "deviantart", "NNP")
        return Node("trending", "VBG", "acl").hang(self.with_case(where, "on", "obl"))

    def prompt(self) -> Sentence:
        kinds = [(40, self.complete), (20, self.titled), (15, self.sentence), (17, self._bare_tag), (8, self._world)]
        main = self.pick(kinds)
        count = int(self.random.choice([0, 1, 2, 3, 5, 8], p=[0.3, 0.15, 0.2, 0.17, 0.12, 0.06]))
        for _ in range(count):
            self.tag(main)
        if self.chance(0.08):
            main.after.append(Node(".", ".", "punct"))
        return main.sentence()

    def _bare_tag(self) -> Node:
        return self.pick(
            [
                (4, lambda: self.phrase("person", "animal", "thing", "building", "place", bare=0.7)),
                (2, self._boost),
                (2, lambda: self.absolute(self.happening)),
                (1, self._style_tag),
                (2, self.character),
            ]
        )

    def _world(self) -> Node:
        """Return a plain scene of things beside each other: "a striped ball next to a blue cone on grass"."""
        head = self._plain_thing()
        for _ in range(self.count(0.3, 0.5, 0.2)):
            if self.chance(0.35):
                self.join(head, self._plain_thing())
                continue
            near = self.word("prep_place") if self.chance(0.5) else "_".join(w for w, _ in self.entry("prep_multi"))
            head.hang(self.with_case(self._plain_thing(), near, "nmod"))
        if self.chance(0.6):
            noun = self.noun("ground" if self.chance(0.5) else "sky")
            self.modifiers(noun, 1)
            self.determiner(noun, 0.3, 0.5)
            head.hang(self.with_case(noun, self.one_of("on under in by at"), "nmod"))
        return head

    def _plain_thing(self) -> Node:
        head = self.noun("thing", "animal", "building")
        names = ["size", "texture", "colour"]
        head.before = [Node(self.word(n), "JJ", "amod") for n in names if self.chance(0.45)] + head.before
        self.determiner(head, 0.1, 0.05)
        return head
