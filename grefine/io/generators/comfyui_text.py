"""From a conditioning or text input of a ComfyUI graph to its words, through the nodes that pass them on."""

import re
from typing import Any

_MOST_STEPS = 200_000
"""Inputs that are looked at for one file; the largest graphs of people take some tens of thousands."""
_ENCODER_TEXTS = tuple(
    "text text_g text_l clip_l clip_g t5xxl bert mt5xl llama prompt user_prompt caption".split()  # noqa: SIM905
)
_STRING_INPUTS = ("populated_text", "text", "string", "value", "prompt", "text_positive", "positive_prompt")
_STRING_INPUTS += ("Text", "String")
_JOINED = re.compile(r"^(string|text|prompt)_?([a-z]|\d{1,2})$")
_SWITCHES = re.compile(r"switch|select", re.IGNORECASE)
_AT_RANDOM = re.compile(
    r"random|wildcard|dynamic|^dp[A-Z]|generate|llm|ollama|gpt|caption|interrogat|tagger|replace|regex", re.IGNORECASE
)
_TEMPLATE = re.compile(r"__[\w/*-]+__|\{[^{}]*\|[^{}]*\}")


class Unclear(Exception):
    """The words cannot be told from the graph; the message says why."""


class Walk:
    """Walks back from conditioning inputs to words, with one budget for a file, so that circles and giants end."""

    def __init__(self, graph: dict[str, dict[str, Any]]) -> None:
        self.graph = graph
        self.steps = 0
        self.known: dict[tuple[str, int], str] = {}

    def words(self, place: tuple[str, int]) -> str:
        """Return the words behind a conditioning input."""
        if place not in self.known:
            self.known[place] = self.conditioning(*place)
        return self.known[place]

    def node(self, key: str) -> tuple[str, dict[str, Any]]:
        node = self.graph.get(key)
        if node is None:
            raise Unclear(f"node {key[:20]} is missing from its graph")
        self.spend(len(node["inputs"]))
        return str(node["class_type"])[:60], node["inputs"]

    def spend(self, inputs: int) -> None:
        self.steps += 1 + inputs
        if self.steps > _MOST_STEPS:
            raise Unclear("its graph runs in circles or is too large to follow")

    def conditioning(self, key: str, slot: int, depth: int = 0) -> str:
        if depth > 200:
            raise Unclear("its graph is nested too deeply to follow")
        kind, inputs = self.node(key)
        if "ZeroOut" in kind:
            return ""
        # Loaders that encode both prompts themselves, and control nets that pass both on, say which by the slot.
        if "positive" in inputs and "negative" in inputs:
            if self.is_conditioning(inputs["positive"]):
                source = inputs["positive" if slot == 0 else "negative"]
                return self.conditioning(str(source[0]), source[1], depth + 1)
            # Efficiency-style loaders give (model, positive, negative, ...).
            return self.text(kind, inputs, "negative" if slot == 2 else "positive", depth)
        texts = [name for name in _ENCODER_TEXTS if name in inputs and not self.is_conditioning(inputs[name])]
        if texts:
            return self.distinct([self.text(kind, inputs, name, depth) for name in texts])
        ways = [(n, v) for n, v in inputs.items() if is_link(v) and self.may_condition(n)]
        if not ways:
            raise Unclear(f"node '{kind}' makes the prompt in a way that is not known")
        if _SWITCHES.search(kind):
            ways = [self.selected(kind, inputs, ways)]
        return self.distinct([self.conditioning(str(v[0]), v[1], depth + 1) for _, v in ways])

    def is_conditioning(self, value: Any) -> bool:
        """Say whether a wire comes from something that encodes, not from something that holds a text."""
        if not is_link(value):
            return False
        node = self.graph.get(str(value[0]))
        if node is None:
            return False
        inputs = node["inputs"]
        self.spend(len(inputs))
        return "clip" in inputs or any(self.may_condition(n) and is_link(v) for n, v in inputs.items())

    def may_condition(self, name: str) -> bool:
        return name.startswith(("conditioning", "cond", "positive", "any", "input")) or name in ("", "value", "from")

    def selected(self, kind: str, inputs: dict[str, Any], ways: list[tuple[str, Any]]) -> tuple[str, Any]:
        choice = inputs.get("select", inputs.get("index"))
        named = [way for way in ways if isinstance(choice, int) and way[0] == f"input{choice}"]
        if len(named) == 1:
            return named[0]
        if len(ways) == 1:
            return ways[0]
        raise Unclear(f"node '{kind}' chose one of {len(ways)} prompts")

    def text(self, kind: str, inputs: dict[str, Any], name: str, depth: int) -> str:
        value = inputs[name]
        if isinstance(value, str):
            if _TEMPLATE.search(value) and _AT_RANDOM.search(kind):
                raise Unclear(f"node '{kind}' fills in its prompt at random")
            return value.strip()
        if is_link(value):
            return self.string(str(value[0]), depth + 1)
        if value is None:
            return ""
        raise Unclear(f"node '{kind}' holds no text where one is expected")

    def string(self, key: str, depth: int) -> str:
        if depth > 200:
            raise Unclear("its graph is nested too deeply to follow")
        kind, inputs = self.node(key)
        if kind == "GRefinePlan" and is_link(inputs.get("plan")):  # words out of the prompt that was inspected
            return self.string(str(inputs["plan"][0]), depth + 1)
        if "populated_text" in inputs:
            return self.text("", inputs, "populated_text", depth)
        if _AT_RANDOM.search(kind):
            raise Unclear(f"node '{kind}' makes the words while it runs")
        if inputs.get("action") == "replace":
            raise Unclear(f"node '{kind}' rewrites the words while it runs")
        joined = sorted(name for name in inputs if _JOINED.match(name))
        if joined and (len(joined) > 1 or not any(name in inputs for name in _STRING_INPUTS)):
            mark = inputs.get("delimiter", inputs.get("separator", ""))
            parts = [self.text(kind, inputs, name, depth) for name in joined]
            glue = mark if isinstance(mark, str) else ""
            return glue.join(p for p in parts if p) if glue.strip() else (glue or " ").join(p for p in parts if p)
        if _SWITCHES.search(kind):
            ways = [(n, v) for n, v in inputs.items() if is_link(v)]
            if ways:
                return self.string(str(self.selected(kind, inputs, ways)[1][0]), depth + 1)
        named = [name for name in _STRING_INPUTS if name in inputs and isinstance(inputs[name], (str, list))]
        if named:
            return self.text(kind, inputs, named[0], depth)
        wires = [v for v in inputs.values() if is_link(v)]
        if len(wires) == 1 and len(inputs) == 1:
            return self.string(str(wires[0][0]), depth + 1)
        raise Unclear(f"node '{kind}' makes the words in a way that is not known")

    @staticmethod
    def distinct(texts: list[str]) -> str:
        kept: list[str] = []
        for text in texts:
            if text and text not in kept:
                kept.append(text)
        return ", ".join(kept)


def is_link(value: Any) -> bool:
    """Say whether an input comes from another node: its key, and which of its outputs."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
