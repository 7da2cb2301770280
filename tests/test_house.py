"""The house keeps its shape: imports go down the list of rooms, and the light doors stay light."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "grefine"

# A room may import its own row and every row above it.
ORDER = [
    {"errors"},
    {"io", "resources"},
    {"types", "plan_file", "config"},
    {"fetching", "cluster", "plugins"},
    {"text"},
    {"models"},
    {"indicators", "scorers"},
    {"refine"},
    {"pipeline", "opening"},
    {"report"},
    {"evaluate", "ranking", "folder"},
    {"training", "app"},
    {"cli"},
]
ROW = {room: row for row, rooms in enumerate(ORDER) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("grefine."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "grefine":
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("grefine."):
                    yield alias.name.split(".")[1], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: relative imports hide which room is meant")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for other, line in imported_rooms(ast.parse(path.read_text())):
        if other in ROW:
            assert ROW[other] <= ROW[room], f"{path.name}:{line}: '{room}' must not import '{other}'"


def test_every_room_has_a_place():
    rooms = {room_of(p) for p in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= set(ROW), f"rooms without a row: {rooms - set(ROW)}"


def test_no_files_import_each_other():
    from lab.house import circles

    assert circles() == []


def defined(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_names_come_from_the_file_that_defines_them():
    from lab.house import modules

    trees = {name: ast.parse(path.read_text()) for name, path in modules().items()}
    inside = {name: defined(tree) for name, tree in trees.items() if name != "grefine"}
    passed_on = [
        f"{name}:{node.lineno}: {node.module}.{alias.name}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in inside
        for alias in node.names
        if alias.name not in inside[node.module] and f"{node.module}.{alias.name}" not in inside
    ]
    assert passed_on == []


def test_the_page_of_the_architecture_names_every_room_and_no_file_that_is_gone():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert len(text.splitlines()) <= 120
    for room in set(ROW):
        assert f"{room}/" in text or f"{room}.py" in text, room
    named = re.findall(r"`((?:grefine|tests|configs|refine|indicators|io|scorers)/[\w/.-]+)`", text)
    gone = [name for name in named if not any((root / name).exists() for root in (PACKAGE, PACKAGE.parent))]
    assert set(gone) <= {"grefine/scorers/NAME.py", "grefine/io/generators/NAME.py", "grefine/cli/NAME.py"}
    assert len(named) > 20


def test_no_file_name_three_times():
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert {name for name, count in names.items() if count > 2} == set()


def test_no_utils_and_no_diffusers_names():
    names = {p.stem for p in PACKAGE.rglob("*.py")} | {p.name for p in PACKAGE.rglob("*") if p.is_dir()}
    assert not names & {"utils", "helpers", "common"}
    pipelines = Path(__import__("importlib.util").util.find_spec("diffusers").origin).parent / "pipelines"
    taken = {p.name for p in pipelines.iterdir() if p.is_dir()} - {"__pycache__"}
    packages = {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    assert not packages & taken, "a sub-package named like one of diffusers' breaks loading"


def commands() -> list[list[str]]:
    import typer

    from grefine.cli.main import app

    found: list[list[str]] = [[]]

    def walk(group, prefix):
        for name, command in group.commands.items():
            found.append([*prefix, name])
            if hasattr(command, "commands"):
                walk(command, [*prefix, name])

    walk(typer.main.get_command(app), [])
    return found


def test_help_is_light():
    """`--help` of grefine and of every sub-command loads neither torch nor diffusers nor transformers."""
    code = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from grefine.cli.main import app\n"
        f"for command in {commands()!r}:\n"
        "    result = CliRunner().invoke(app, [*command, '--help'])\n"
        "    assert result.exit_code == 0, (command, result.output)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'open_clip', 'nltk', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def loaded_after(*command):
    """Run a command in a Python of its own; return its exit code and the modules that it loaded."""
    code = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from grefine.cli.main import app\n"
        f"code = CliRunner().invoke(app, {list(command)!r}).exit_code\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, names = json.loads(done.stdout.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize("words", ["refine a.png -o out", "plan a.png -o out", "fetch no-such-weights"])
def test_what_is_refused_at_once_loads_no_torch(words):
    code, loaded = loaded_after(*words.split())
    assert code != 0
    assert not loaded & {"torch", "diffusers", "transformers"}
    assert "scipy" not in loaded or "fetch" in words  # judges by a formula say their terms


def test_a_refine_loads_nothing_of_other_commands(tmp_path):
    picture = next((PACKAGE.parent / "examples" / "images").glob("*.png"))
    code, loaded = loaded_after("refine", str(picture), "-o", str(tmp_path / "out"), "--pipeline", "tiny")
    assert code == 0
    assert "diffusers" in loaded
    others = {"grefine.evaluate", "grefine.ranking", "grefine.training", "grefine.models.five_level"}
    others |= {"nltk", "pandas", "sklearn", "matplotlib", "ray", "pyarrow", "pyiqa", "fastapi", "uvicorn", "IPython"}
    assert not loaded & others, loaded & others


@pytest.mark.parametrize(
    ("module", "heavy"), [("grefine", ["torch", "numpy", "PIL"]), ("grefine.folder.merge", ["torch", "diffusers"])]
)
def test_import_is_light(module, heavy):
    code = f"import sys, {module}; assert not set({heavy}) & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOADING = {
    "grefine.fetching",
    "grefine.resources",
    "grefine.indicators.recipe",
    "grefine.indicators.load",
    "grefine.indicators.released",
    "grefine.opening",
    "grefine.refine.loading",
    "grefine.refine.single_file",
}
"""The path of real weights: no test may put something else in place of a line of it."""


def bound_to_loading(tree: ast.AST) -> set[str]:
    """Names in a test file that mean a module of the path, or something out of one."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name in LOADING}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if node.module in LOADING or f"{node.module}.{alias.name}" in LOADING:
                    names.add(alias.asname or alias.name)
    return names


@functools.cache
def functions_of_loading() -> frozenset[str]:
    """Names of the path's functions: other modules import them, and could be given other ones under these names."""
    files = [PACKAGE.parent / f"{module.replace('.', '/')}.py" for module in LOADING]
    trees = [ast.parse(file.read_text()) for file in files]
    return frozenset(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def replaced(tree: ast.AST) -> list[int]:
    """Lines that put something in place of a part of the path: setattr, patch, or a plain assignment."""
    names, lines = bound_to_loading(tree), []

    def is_ours(node: ast.AST) -> bool:
        if isinstance(node, ast.Constant):
            return isinstance(node.value, str) and any(node.value.startswith(module) for module in LOADING)
        return ast.unparse(node) in names

    def named(given: list[ast.expr]) -> bool:
        """Say whether a function of the path is replaced where another module has imported it."""
        words = [node.value for node in given[:2] if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        return any(word.rpartition(".")[2] in functions_of_loading() for word in words)

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            how = ast.unparse(node.func)
            replacing = how.endswith(("setattr", "delattr", "patch", "patch.object", "patch.dict"))
            if replacing and (is_ours(node.args[0]) or named(node.args)):
                lines.append(node.lineno)
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [target.value for target in targets if isinstance(target, ast.Attribute)]
            lines += [node.lineno for part in parts if is_ours(part)]
    return lines


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda p: p.name)
def test_no_test_replaces_the_path_of_real_weights(path):
    assert replaced(ast.parse(path.read_text())) == []


def test_a_replaced_path_is_seen():
    seen = [
        "from grefine import fetching\nmonkeypatch.setattr(fetching, '_whole', f)",
        "from grefine.indicators.recipe import Part\nmonkeypatch.setattr(Part, 'folder', f)",
        "import grefine.resources\ngrefine.resources.bundled = f",
        "mock.patch('grefine.indicators.load.load_clip')",
        "from grefine.indicators import recipe as r\nwith mock.patch.object(r, '_put'): pass",
        "from grefine.cli import fetch\nmonkeypatch.setattr(fetch, 'assembled_folder', f)",
        "monkeypatch.setattr('grefine.scorers.resolve.fetched_folder', f)",
    ]
    assert all(replaced(ast.parse(text)) for text in seen)
    assert not replaced(ast.parse("from grefine.refine import seeds\nmonkeypatch.setattr(seeds, 'derive', f)"))
