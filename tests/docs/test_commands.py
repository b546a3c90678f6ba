"""What the texts tell to type exists: modules, flags, settings, configs, scripts, extras."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib
import re
import shlex

import pytest

from affect_jax.config import SPECS, defaults, flatten
from tests.docs.conftest import ROOT, TEXTS, blocks

SETTINGS = set(flatten(defaults())) | {"data.options"}
FREE = ("data.options.", *(f"{key}." for key in (*SPECS, "losses")))
"""Settings below these are options of an entry of a registry."""

COMMON = {"--help", "--verbosity"}


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of every bash block; continued lines are one."""
    found = []
    for path in TEXTS:
        code = blocks(path, "bash")
        if path.name in ("README.md", "CONTRIBUTING.md"):  # these indent their commands
            code += re.findall(r"(?:^    .+\n)+", path.read_text(), re.MULTILINE)
            code += re.findall(r"`((?:python -m|bash launch/)[^`]+)`", path.read_text())
        for block in code:
            for line in block.replace("\\\n", " ").splitlines():
                found.append((path.name, line.strip()))
    return [(page, line) for page, line in found if line and not line.startswith("#")]


COMMANDS = commands()


@functools.cache
def flags_of(module: str) -> frozenset[str]:
    """The flags that a module's source declares, or that of its neighbours which it imports."""
    path = file_of(module)
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    imported = [file_of(name) for name in _imports(tree)]
    for source in [path, *(other for other in imported if other is not None)]:
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            texts = [text for text in texts if isinstance(text, str)]
            if name == "add_argument":
                found |= {text for text in texts if text.startswith("--")}
            elif name.startswith("DEFINE") and texts:
                found.add(f"--{texts[0]}")
    return frozenset(found)


def _imports(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affect_jax"):
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return {name for name in names if name != "affect_jax"}


def file_of(module: str) -> pathlib.Path | None:
    path = ROOT / pathlib.Path(*module.split("."))
    choices = (path.with_suffix(".py"), path / "__main__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def words(command: str) -> list[str]:
    """What a shell would pass on; a parenthesis after a command is the text's."""
    return shlex.split(command.replace("...", ""), comments=True)


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{p}:{c[:60]}" for p, c in COMMANDS])
def test_a_command_exists(page, command):
    given = words(command)
    while given and re.fullmatch(r"[A-Z_]+=\S*", given[0]):  # NAME=value before a command
        given = given[1:]
    for word in given:
        for place in re.findall(r"\b(configs/\w+\.py|launch/[\w.]+|docs/[\w/]+\.py)\b", word):
            assert "NAME" in place or (ROOT / place).is_file(), place  # NAME: the reader's
        variant = re.search(r"configs/\w+\.py:(\w+)$", word)
        assert not variant or variant[1] in ("affectnet", "synthetic_faces"), word
        for extra in re.findall(r"(?:affect_jax|\.)\[(\w+)\]", word):
            assert f'"{extra}": ' in (ROOT / "setup.py").read_text(), extra
    if given[:2] == ["python", "-m"] and given[2].startswith(("affect_jax", "benchmarks")):
        check_flags(given[2], given[3:])
    elif given[0] in ("bash", "sbatch") and given[1].startswith("launch/"):
        check_flags("affect_jax.main", [word for word in given[2:] if "--config" in word])


def check_flags(module: str, given: list[str]) -> None:
    assert file_of(module) is not None, f"there is no {module}"
    known = flags_of(module) | COMMON
    for word in given:
        flag = word.split("=", 1)[0]
        if flag.startswith("--config."):
            key = flag.removeprefix("--config.")
            assert key in SETTINGS or key.startswith(FREE), f"no setting {key}"
        elif flag.startswith("--"):
            assert flag in known, f"{module} has no {flag}"


def test_the_check_finds_what_is_wrong():
    for command in (
        "python -m affect_jax.mian --config=configs/alexnet_weighted.py",
        "python -m affect_jax.main --confg=configs/alexnet_weighted.py",
        "python -m affect_jax.main --config=configs/alexnet_wieghted.py",
        "python -m affect_jax.main --config.learning_rat=0.1",
        "python -m affect_jax.export --chekpoint=runs/x",
        "bash launch/tset.sh",
        "pip install 'affect_jax[onnx]'",
    ):
        with pytest.raises(AssertionError):
            test_a_command_exists("", command)
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("path", TEXTS, ids=[path.name for path in TEXTS])
def test_python_in_the_texts_compiles_and_imports_what_there_is(path):
    for code in blocks(path, "python"):
        if code.startswith("--8<--"):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affect_jax"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    found = hasattr(module, name.name)
                    assert found or importlib.util.find_spec(f"{node.module}.{name.name}")
