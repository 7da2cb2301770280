"""ComfyUI: walk its graph back from the node that saved the file to the sampler, and from there to the words."""

import re
from collections.abc import Iterator
from typing import Any

from grefine.io.generators.comfyui_text import Unclear, Walk, is_link
from grefine.io.generators.found import FoundPrompt, answer, load_json

ORIGIN = "ComfyUI graph"
Graph = dict[str, dict[str, Any]]
_MOST_NODES = 20_000
_MOST_SAVES = 32
_SAVES = re.compile(r"save|websocket|upload|send.?image", re.IGNORECASE)
_SHOWS = re.compile(r"preview", re.IGNORECASE)
_DETAILS = re.compile(r"detailer|faceswap|reactor", re.IGNORECASE)
_OURS = ("GRefineInspect", "GRefineGuard", "GRefineGate", "GRefineRefine")
"""The nodes of examples/comfyui that are told what the picture should show, as their first widget."""
_GUIDES = {"positive", "guider", "conditioning"}
_NOT_PIXELS = ("model", "clip", "vae", "positive", "negative", "conditioning", "control_net", "clip_vision", "mask")


def read_comfyui(prompt: str | None, workflow: str | None, file_name: str = "") -> FoundPrompt | None:
    """Return the prompt of a ComfyUI file.

    Args:
        prompt: The graph as it was run (`prompt` chunk); decides alone where it is present.
        workflow: The graph as it was drawn (`workflow` chunk).
        file_name: Tells save nodes apart by the name they write under.
    """
    graph = load_json(prompt)
    if not _is_graph(graph):
        drawn = load_json(workflow)
        if not isinstance(drawn, dict) or not isinstance(drawn.get("nodes"), list):
            return None
        graph = _from_drawing(drawn)
    if len(graph) > _MOST_NODES:
        return _unsure(f"its graph has {len(graph):,} nodes")
    saves = _save_nodes(graph, file_name)
    if len(saves) > _MOST_SAVES:
        return _unsure(f"{len(saves):,} of its nodes save images")
    walk = Walk(graph)
    samplers = dict.fromkeys(sampler for save in saves for sampler in _samplers_before(graph, save))
    try:
        texts = list(dict.fromkeys(_sampler_text(walk, sampler) for sampler in samplers))
    except Unclear as reason:
        return _unsure(str(reason))
    if not texts:
        return _unsure("no sampler leads to the node that saved it")
    if len(texts) > 1:
        return _unsure(f"{len(texts)} samplers with different prompts lead to the saved image")
    return answer(texts[0], ORIGIN) or _unsure("the prompt of its sampler is empty")


def _unsure(reason: str) -> FoundPrompt:
    return FoundPrompt("", ORIGIN, unsure=reason)


def _is_graph(graph: Any) -> bool:
    nodes = graph.values() if isinstance(graph, dict) else ()
    known = (isinstance(n, dict) and isinstance(n.get("inputs"), dict) and "class_type" in n for n in nodes)
    return bool(nodes) and all(known)


def links(node: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (input name, source node, source slot) for every input that comes from another node."""
    for name, value in node["inputs"].items():
        if is_link(value):
            yield name, str(value[0]), value[1]


def _save_nodes(graph: Graph, file_name: str) -> list[str]:
    def ends(pattern: re.Pattern[str]) -> list[str]:
        return [key for key, node in graph.items() if pattern.search(str(node["class_type"])) and any(links(node))]

    saves = ends(_SAVES) or ends(_SHOWS)
    if len(saves) > 1 and file_name:
        prefixes = {key: graph[key]["inputs"].get("filename_prefix") for key in saves}
        plain = {key: one for key, one in prefixes.items() if isinstance(one, str) and "%" not in one}
        named = [key for key, one in plain.items() if file_name.startswith(re.split(r"[\\/]", one)[-1] + "_")]
        saves = named or saves
    if saves:
        return saves
    # A custom saver under an unexpected name is still a node that nothing else reads from.
    read = {source for node in graph.values() for _, source, _ in links(node)}
    takes_pixels = [key for key, node in graph.items() if any("image" in name for name, _, _ in links(node))]
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
        inputs = {name: source for name, source, _ in links(node)}
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


def _sampler_text(walk: Walk, key: str) -> str:
    graph = walk.graph
    if graph[key]["class_type"] in _OURS:
        return walk.text("", graph[key]["inputs"], "prompt", 0)
    inputs = {name: (source, slot) for name, source, slot in links(graph[key])}
    passed = {key}
    while "guider" in inputs:
        place = inputs["guider"][0]
        guider = graph.get(place)
        if guider is None or place in passed:
            raise Unclear("the guider of its sampler is missing from the graph, or runs in circles")
        passed.add(place)
        inputs = {name: (source, slot) for name, source, slot in links(guider)}
    wanted = [inputs[name] for name in ("positive", "conditioning", "cond1", "cond2") if name in inputs]
    if not wanted:
        raise Unclear("its sampler has no positive prompt that can be followed")
    return walk.distinct([walk.words(place) for place in wanted])


def _from_drawing(drawn: dict[str, Any]) -> Graph:
    """Turn the drawn graph into the form of the run one, as far as a drawing tells.

    A drawing lists the values of a node without their names, so that only nodes with a single text keep it.
    """
    wires = {w[0]: (str(w[1]), w[2]) for w in drawn.get("links") or () if isinstance(w, list) and len(w) >= 3}
    graph: Graph = {}
    for node in drawn["nodes"]:
        # 2 is muted, 4 bypassed: such nodes did not run.
        if not isinstance(node, dict) or node.get("mode") in (2, 4):
            continue
        inputs: dict[str, Any] = {}
        for entry in node.get("inputs") or ():
            wire = wires.get(entry.get("link")) if isinstance(entry, dict) else None
            if wire:
                inputs[str(entry.get("name"))] = list(wire)
        values = node.get("widgets_values")
        texts = [v for v in values if isinstance(v, str)] if isinstance(values, list) else []
        kind = str(node.get("type"))
        if "text" not in inputs and len(texts) == 1 and ("Text" in kind or "Prompt" in kind or "String" in kind):
            inputs["text"] = texts[0]
        if kind in _OURS and texts:
            inputs.setdefault("prompt", texts[0])
        if _SAVES.search(kind) and texts:
            inputs["filename_prefix"] = texts[0]
        graph[str(node.get("id"))] = {"class_type": kind, "inputs": inputs}
    return graph
