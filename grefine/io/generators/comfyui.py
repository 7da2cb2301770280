"""ComfyUI: walk its graph back from the node that saved the file to the sampler, and from there to the words."""

import re
from collections.abc import Iterator
from typing import Any

from grefine.io.generators.found import FoundPrompt, answer, load_json

ORIGIN = "ComfyUI graph"
Graph = dict[str, dict[str, Any]]
_MOST_NODES, _MOST_SAVES, _DEEPEST = 20_000, 32, 200
_MOST_STEPS = 200_000
"""Inputs that are looked at for one file; the largest graphs of people take some tens of thousands."""
_SAVES = re.compile(r"save|websocket|upload|send.?image", re.IGNORECASE)
_SHOWS = re.compile(r"preview", re.IGNORECASE)
_DETAILS = re.compile(r"detailer|faceswap|reactor", re.IGNORECASE)
_SWITCHES = re.compile(r"switch|select", re.IGNORECASE)
_AT_RANDOM = re.compile(
    r"random|wildcard|dynamic|^dp[A-Z]|generate|llm|ollama|gpt|caption|interrogat|tagger|replace|regex", re.IGNORECASE
)
_TEMPLATE = re.compile(r"__[\w/*-]+__|\{[^{}]*\|[^{}]*\}")
_JOINED = re.compile(r"^(string|text|prompt)_?([a-z]|\d{1,2})$")
_OURS = ("GRefineInspect", "GRefineGuard", "GRefineGate", "GRefineRefine")
"""The nodes of examples/comfyui that are told what the picture should show, as their first widget."""
_GUIDES = {"positive", "guider", "conditioning"}
_NOT_PIXELS = ("model", "clip", "vae", "positive", "negative", "conditioning", "control_net", "clip_vision", "mask")
_ENCODER_TEXTS = tuple(
    "text text_g text_l clip_l clip_g t5xxl bert mt5xl llama prompt user_prompt caption".split()  # noqa: SIM905
)
_STRING_INPUTS = ("populated_text", "text", "string", "value", "prompt", "text_positive", "positive_prompt")
_STRING_INPUTS += ("Text", "String")


class Unclear(Exception):
    """The words cannot be told from the graph; the message says why."""


def read_comfyui(prompt: str | None, workflow: str | None, file_name: str = "") -> FoundPrompt | None:
    """Return the prompt of a ComfyUI file from the graph that was run; its name tells save nodes apart.

    The `workflow` alone lists values without names, and none of what was typed into other fields: it tells no words.
    """
    graph = load_json(prompt)
    if not _is_graph(graph):
        drawn = isinstance(load_json(workflow), dict)
        return FoundPrompt("", ORIGIN, unsure="its graph was saved only as drawn, not as run") if drawn else None
    try:
        return answer(_words_of(graph, file_name), ORIGIN)
    except Unclear as reason:
        return FoundPrompt("", ORIGIN, unsure=str(reason))


def _words_of(graph: Graph, file_name: str) -> str:
    if len(graph) > _MOST_NODES:
        raise Unclear(f"its graph has {len(graph):,} nodes")
    saves = _save_nodes(graph, file_name)
    if len(saves) > _MOST_SAVES:
        raise Unclear(f"{len(saves):,} of its nodes save images")
    walk = _Walk(graph)
    samplers = dict.fromkeys(sampler for save in saves for sampler in _samplers_before(graph, save))
    texts = list(dict.fromkeys(walk.sampler(sampler) for sampler in samplers))
    if not texts:
        raise Unclear("no sampler leads to the node that saved it")
    if len(texts) > 1:
        raise Unclear(f"{len(texts)} samplers with different prompts lead to the saved image")
    if not texts[0].strip():
        raise Unclear("the prompt of its sampler is empty")
    return texts[0]


def _is_link(value: Any) -> bool:
    """Say whether an input comes from another node: its key, and which of its outputs."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)


def _links(node: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (input name, source node, source slot) for every input that comes from another node."""
    for name, value in node["inputs"].items():
        if _is_link(value):
            yield name, str(value[0]), value[1]


def _is_graph(graph: Any) -> bool:
    nodes = graph.values() if isinstance(graph, dict) else ()
    known = (isinstance(n, dict) and isinstance(n.get("inputs"), dict) and "class_type" in n for n in nodes)
    return bool(nodes) and all(known)


def _save_nodes(graph: Graph, file_name: str) -> list[str]:
    def ends(pattern: re.Pattern[str]) -> list[str]:
        return [key for key, node in graph.items() if pattern.search(str(node["class_type"])) and any(_links(node))]

    saves = ends(_SAVES) or ends(_SHOWS)
    if len(saves) > 1 and file_name:
        prefixes = {key: graph[key]["inputs"].get("filename_prefix") for key in saves}
        plain = {key: one for key, one in prefixes.items() if isinstance(one, str) and "%" not in one}
        named = [key for key, one in plain.items() if file_name.startswith(re.split(r"[\\/]", one)[-1] + "_")]
        saves = named or saves
    if saves:
        return saves
    # A custom saver under an unexpected name is still a node that nothing else reads from.
    read = {source for node in graph.values() for _, source, _ in _links(node)}
    takes_pixels = [key for key, node in graph.items() if any("image" in name for name, _, _ in _links(node))]
    return [key for key in takes_pixels if key not in read]


def _samplers_before(graph: Graph, start: str) -> list[str]:
    """Return the nearest samplers, or nodes of ours with words, on every way back through pixels and latents."""
    samplers: list[str] = []
    seen = {start}
    ahead = [start]
    while ahead:
        key = ahead.pop()
        node = graph.get(key)
        if node is None:
            continue
        inputs = {name: source for name, source, _ in _links(node)}
        if node["class_type"] in _OURS:
            samples = bool(node["inputs"].get("prompt"))
        else:
            # A detailer repaints faces or hands under its own words; the picture was drawn before it.
            samples = not _DETAILS.search(str(node["class_type"])) and not _GUIDES.isdisjoint(inputs)
        if samples and key != start:
            samplers.append(key)
            continue
        for name, source in inputs.items():
            if source not in seen and not name.startswith(_NOT_PIXELS):
                seen.add(source)
                ahead.append(source)
    return samplers


class _Walk:
    """Walks back from samplers to words, with one budget for a file, so that circles and giants end."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.steps = graph, 0
        self.known: dict[tuple[str, int], str] = {}

    def spend(self, inputs: int) -> None:
        self.steps += 1 + inputs
        if self.steps > _MOST_STEPS:
            raise Unclear("its graph runs in circles or is too large to follow")

    def node(self, key: str, depth: int) -> tuple[str, dict[str, Any]]:
        if depth > _DEEPEST:
            raise Unclear("its graph is nested too deeply to follow")
        node = self.graph.get(key)
        if node is None:
            raise Unclear(f"node {key[:20]} is missing from its graph")
        self.spend(len(node["inputs"]))
        return str(node["class_type"])[:60], node["inputs"]

    def sampler(self, key: str) -> str:
        """Return the words that a sampler drew."""
        node = self.graph[key]
        if node["class_type"] in _OURS:
            return self.text("", node["inputs"], "prompt", 0)
        passed: set[str] = set()
        while "guider" in (inputs := {name: (source, slot) for name, source, slot in _links(node)}):
            passed.add(key)
            key = inputs["guider"][0]
            if key not in self.graph or key in passed:
                raise Unclear("the guider of its sampler is missing from the graph, or runs in circles")
            node = self.graph[key]
        wanted = [inputs[name] for name in ("positive", "conditioning", "cond1", "cond2") if name in inputs]
        if not wanted:
            raise Unclear("its sampler has no positive prompt that can be followed")
        for place in wanted:
            if place not in self.known:  # many samplers may share a prompt
                self.known[place] = self.conditioning(*place, 0)
        return _distinct([self.known[place] for place in wanted])

    def conditioning(self, key: str, slot: int, depth: int) -> str:
        """Return the words behind a conditioning."""
        kind, inputs = self.node(key, depth)
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
            return _distinct([self.text(kind, inputs, name, depth) for name in texts])
        ways = {name: value for name, value in inputs.items() if _is_link(value) and _may_condition(name)}
        if not ways:
            raise Unclear(f"node '{kind}' makes the prompt in a way that is not known")
        followed = [_selected(kind, inputs, ways)] if _SWITCHES.search(kind) else ways.values()
        return _distinct([self.conditioning(str(way[0]), way[1], depth + 1) for way in followed])

    def is_conditioning(self, value: Any) -> bool:
        """Say whether a wire comes from something that encodes, not from something that holds a text."""
        node = self.graph.get(str(value[0])) if _is_link(value) else None
        if node is None:
            return False
        self.spend(len(node["inputs"]))
        return "clip" in node["inputs"] or any(_may_condition(name) for name, *_ in _links(node))

    def text(self, kind: str, inputs: dict[str, Any], name: str, depth: int) -> str:
        """Return the text of an input, typed or from another node."""
        value = inputs[name]
        if _is_link(value):
            return self.string(str(value[0]), depth + 1)
        if isinstance(value, str):
            if _TEMPLATE.search(value) and _AT_RANDOM.search(kind):
                raise Unclear(f"node '{kind}' fills in its prompt at random")
            return value.strip()
        if value is None:
            return ""
        raise Unclear(f"node '{kind}' holds no text where one is expected")

    def string(self, key: str, depth: int) -> str:
        """Return the text that a node gives."""
        kind, inputs = self.node(key, depth)
        wires = {name: value for name, value in inputs.items() if _is_link(value)}
        if kind == "GRefinePlan" and "plan" in wires:  # words out of the prompt that was inspected
            return self.string(str(wires["plan"][0]), depth + 1)
        if "populated_text" in inputs:
            return self.text("", inputs, "populated_text", depth)
        if _AT_RANDOM.search(kind):
            raise Unclear(f"node '{kind}' makes the words while it runs")
        if inputs.get("action") == "replace":
            raise Unclear(f"node '{kind}' rewrites the words while it runs")
        named = [name for name in _STRING_INPUTS if name in inputs]
        joined = sorted(name for name in inputs if _JOINED.match(name))
        if len(joined) > 1 or (joined and not named):
            mark = inputs.get("delimiter", inputs.get("separator", ""))
            mark = mark if isinstance(mark, str) else ""
            parts = [self.text(kind, inputs, name, depth) for name in joined]
            return (mark or " ").join(filter(None, parts))
        if _SWITCHES.search(kind) and wires:
            return self.string(str(_selected(kind, inputs, wires)[0]), depth + 1)
        named = [name for name in named if isinstance(inputs[name], (str, list))]
        if named:
            return self.text(kind, inputs, named[0], depth)
        if len(wires) == len(inputs) == 1:
            return self.string(str(next(iter(wires.values()))[0]), depth + 1)
        raise Unclear(f"node '{kind}' makes the words in a way that is not known")


def _may_condition(name: str) -> bool:
    return name.startswith(("conditioning", "cond", "positive", "any", "input")) or name in ("", "value", "from")


def _selected(kind: str, inputs: dict[str, Any], ways: dict[str, Any]) -> Any:
    """Return the one of several wires that a switch chose."""
    choice = inputs.get("select", inputs.get("index"))
    if isinstance(choice, int) and f"input{choice}" in ways:
        return ways[f"input{choice}"]
    if len(ways) == 1:
        return next(iter(ways.values()))
    raise Unclear(f"node '{kind}' chose one of {len(ways)} prompts")


def _distinct(texts: list[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, texts)))
