"""`python -m lab house`: how large the package is, what its commands import, which files import in a circle."""

import ast
import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from grefine import RefineConfig

PACKAGE = Path(__file__).parent.parent / "grefine"


@cache
def modules() -> dict[str, Path]:
    """Return every file of the package by its dotted name."""
    root = PACKAGE.parent
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Return which files of the package one file imports, type checking aside."""
    found: set[str] = set()
    for node in _executed(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules().keys()) or {node.module}
    return frozenset(found & modules().keys())


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node
            yield from _executed(node)


@cache
def closure(module: str) -> frozenset[str]:
    """Return the file and everything that it imports, directly or not."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(name)
    return frozenset(seen)


def circles() -> list[list[str]]:
    """Return the groups of files that import each other."""
    groups = {
        frozenset(other for other in closure(name) if name in closure(other)) for name in modules() if imports(name)
    }
    return sorted(sorted(group) for group in groups if len(group) > 1)


def measures() -> dict[str, object]:
    """Return the measures of the package by name."""
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    rooms: Counter[str] = Counter()
    for name in closure("grefine.cli.refine"):
        rooms[name.split(".")[:2][-1]] += sizes[name]
    names = Counter(path.name for path in modules().values() if path.name != "__init__.py")
    longest = max(sizes, key=lambda name: sizes[name])
    workshop = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in Path(__file__).parent.rglob("*.py"))
    return {
        "lines of grefine": sum(sizes.values()),
        "files of grefine": len(sizes),
        "median file": statistics.median(sizes.values()),
        "longest file": f"{longest} {sizes[longest]}",
        "lines that grefine.pipeline imports": sum(sizes[name] for name in closure("grefine.pipeline")),
        "lines that `grefine refine` imports": sum(sizes[name] for name in closure("grefine.cli.refine")),
        "of which, by room": ", ".join(f"{room} {size}" for room, size in rooms.most_common()),
        "circles": circles() or 0,
        "settings": len(dataclasses.fields(RefineConfig)),
        "places per judge": 1 + sum("scorers.piqe" in path.read_text(encoding="utf-8") for path in modules().values()),
        "file names three times": sorted(name for name, count in names.items() if count > 2) or 0,
        "lines of lab": workshop,
    }
