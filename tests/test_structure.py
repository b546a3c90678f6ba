"""The house rules that a machine can read: floors, fences, lengths."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "affect_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

FLOORS = {
    0: "environment errors registry labels command",
    1: "batch config facs",
    2: "data models losses optimizers metrics",
    3: "cadence checks program state steps parallel checkpoints sealed workdir writers pictures"
    " predictions scores report signals trained warm_start nonfinite detection"
    " annotation video sources face_rows",
    4: "export feeds inference explanations train evaluate predictor predict",
    5: "main demo",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
STRANGERS = set(FLOORS[2].split())
# A data set may draw its faces (facs is a floor below); nothing else crosses.


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path: pathlib.Path) -> set[str]:
    """Rooms a file imports when it is loaded; imports inside functions and for types are later."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    parts = [name.split(".") for name in found if name.startswith("affect_jax.")]
    return {part[1] for part in parts} & set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_down_the_floors(path):
    room = room_of(path)
    if room == "__init__":
        return_value = rooms_imported(path)
        assert not return_value, f"the package's front imports {return_value} at once"
        return
    assert room in FLOOR_OF, f"{room} has no floor: give it one here and in the README"
    for other in rooms_imported(path) - {room}:
        assert FLOOR_OF[other] <= FLOOR_OF[room], f"{room} imports {other}, which is above it"
        if room in STRANGERS:
            assert other not in STRANGERS, f"{room} and {other} are to be strangers"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_fences(path):
    code = ast.unparse(ast.parse(path.read_text()))  # without comments
    room = room_of(path)
    assert "tensorflow as" not in code and "import tensorflow\n" not in code
    if room != "models":
        assert "flax.linen" not in code and "from flax import linen" not in code
    if room != "parallel":
        assert not re.search(r"jax\.pmap\(|jax\.shard_map\(", code)
    assert not re.search(r"\bconfig(\.\w+)*\.get\(", code), "a key that is read must exist"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "a file is at most 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines: a function fits a screen"


def test_every_module_says_what_it_is():
    silent = [name for name, path in zip(NAMES, FILES, strict=True) if not _docstring(path)]
    assert not silent


def _docstring(path: pathlib.Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text()))
