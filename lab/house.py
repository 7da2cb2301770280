"""`python -m lab house`: how large the package is, what its commands import, which files import in a circle."""

import ast
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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


def lines(module: str) -> int:
    """Return the length of a file."""
    return len(modules()[module].read_text(encoding="utf-8").splitlines())


def by_room(module: str) -> dict[str, int]:
    """Return how many lines of each room a file imports, the largest first."""
    sizes: Counter[str] = Counter()
    for name in closure(module):
        sizes[name.split(".")[:2][-1]] += lines(name)
    return dict(sizes.most_common())


def settings() -> int:
    """Return the number of fields of RefineConfig."""
    import dataclasses

    from grefine import RefineConfig

    return len(dataclasses.fields(RefineConfig))


def places_per_judge(class_name: str = "PIQE") -> int:
    """Return how many files name one judge's class: its own, and the list of judges."""
    return sum(class_name in path.read_text(encoding="utf-8") for path in modules().values())


def measures() -> dict[str, object]:
    """Return the measures of the package by name."""
    sizes = {name: lines(name) for name in modules()}
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
        "of which, by room": ", ".join(
            f"{room} {size}" for room, size in by_room("grefine.cli.refine").items() if room
        ),
        "circles": circles() or 0,
        "settings": settings(),
        "places per judge": places_per_judge(),
        "file names three times": sorted(name for name, count in names.items() if count > 2) or 0,
        "lines of lab": workshop,
    }
