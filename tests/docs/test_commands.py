"""Commands in the documentation exist: modules, flags, settings, configs, scripts, extras."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pathlib
import re
import shlex

import pytest

from affect_jax.config import SPEC_KEYS, defaults, flatten
from tests.docs.conftest import ROOT, TEXTS, code_blocks

SETTINGS = set(flatten(defaults())) | {"data.options"}
OPTION_PREFIXES = ("data.options.", *(f"{key}." for key in (*SPEC_KEYS, "losses")))
"""Settings below these prefixes are options of registry entries."""

PACKAGES = ("affect_jax", "benchmarks")
ABSL_FLAGS = {"--help", "--verbosity"}


def list_commands() -> list[tuple[str, str]]:
    """Returns (page, command) of every line in a bash block, with continued lines joined."""
    commands = []
    for path in TEXTS:
        code = code_blocks(path, "bash")
        if path.name in ("README.md", "CONTRIBUTING.md"):  # these indent their commands
            code += re.findall(r"(?:^    .+\n)+", path.read_text(), re.MULTILINE)
            code += re.findall(r"`((?:python -m|bash launch/)[^`]+)`", path.read_text())
        for block in code:
            for line in block.replace("\\\n", " ").splitlines():
                commands.append((path.name, line.strip()))
    return [(page, line) for page, line in commands if line and not line.startswith("#")]


COMMANDS = list_commands()


@functools.cache
def declared_flags(module: str) -> frozenset[str]:
    """Returns the flags that a module or one of its direct imports declares."""
    path = find_file(module)
    tree = ast.parse(path.read_text())
    flags: set[str] = set()
    imported = [find_file(name) for name in _imported_names(tree)]
    for source in [path, *(source for source in imported if source is not None)]:
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            texts = [text for text in texts if isinstance(text, str)]
            if name == "add_argument":
                flags |= {text for text in texts if text.startswith("--")}
            elif name == "parse_args":  # of benchmarks.harness
                flags |= {f"--{keyword.arg}" for keyword in node.keywords}
            elif name.startswith("DEFINE") and texts:
                flags.add(f"--{texts[0]}")
    return frozenset(flags)


def _imported_names(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names - set(PACKAGES)


def find_file(module: str) -> pathlib.Path | None:
    path = ROOT / pathlib.Path(*module.split("."))
    choices = (path.with_suffix(".py"), path / "__main__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def split_command(command: str) -> list[str]:
    """Splits a command as a shell does, without `...` and comments."""
    return shlex.split(command.replace("...", ""), comments=True)


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{p}:{c[:60]}" for p, c in COMMANDS])
def test_command_exists(page, command):
    words = split_command(command)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # environment variables
        words = words[1:]
    for word in words:
        for file in re.findall(r"\b(configs/\w+\.py|launch/[\w.]+|docs/[\w/]+\.py)\b", word):
            assert "NAME" in file or (ROOT / file).is_file(), file  # NAME is a placeholder
        variant = re.search(r"configs/\w+\.py:(\w+)$", word)
        assert not variant or variant[1] in ("affectnet", "synthetic_faces"), word
        for extra in re.findall(r"(?:affect_jax|\.)\[(\w+)\]", word):
            assert f'"{extra}": ' in (ROOT / "setup.py").read_text(), extra
    if words[:2] == ["python", "-m"] and words[2].startswith(PACKAGES):
        check_flags(words[2], words[3:])
    elif words[0] in ("bash", "sbatch") and words[1].startswith("launch/"):
        check_flags("affect_jax.main", [word for word in words[2:] if "--config" in word])


def check_flags(module: str, words: list[str]) -> None:
    """Asserts that a module exists and declares the flags among `words`."""
    assert find_file(module) is not None, f"there is no {module}"
    flags = declared_flags(module) | ABSL_FLAGS
    for word in words:
        flag = word.split("=", 1)[0]
        if flag.startswith("--config."):
            key = flag.removeprefix("--config.")
            assert key in SETTINGS or key.startswith(OPTION_PREFIXES), f"no setting {key}"
        elif flag.startswith("--"):
            assert flag in flags, f"{module} has no {flag}"


def test_wrong_commands_are_detected():
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
            test_command_exists("", command)
    assert len(COMMANDS) > 30


def test_table_of_extras_is_complete():
    page, setup = (ROOT / "docs/quickstart.md").read_text(), (ROOT / "setup.py").read_text()
    table = page.partition("| extra | for |")[2].partition("\n\n")[0]
    declared = re.findall(r'^ +"(\w+)": ', setup.partition("extras_require")[2], re.MULTILINE)
    declared += re.findall(r'^    "(\w+)": \[', setup, re.MULTILINE)  # of LOGGERS
    assert set(re.findall(r"`(\w+)`", table)) == set(declared)


@pytest.mark.parametrize("path", TEXTS, ids=[path.name for path in TEXTS])
def test_python_blocks_compile_and_import_existing_names(path):
    for code in code_blocks(path, "python"):
        if code.startswith("--8<--"):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affect_jax"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    is_attribute = hasattr(module, alias.name)
                    assert is_attribute or importlib.util.find_spec(f"{node.module}.{alias.name}")
