"""Structural rules that import-linter cannot check: lengths, docstrings and restricted APIs.

The allowed imports between packages are in `pyproject.toml`, checked by `lint-imports`.
"""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "affect_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
MODULES = pytest.mark.parametrize("path", FILES, ids=NAMES)


@MODULES
def test_linen_and_pmap_are_used_only_in_their_modules(path):
    code = ast.unparse(ast.parse(path.read_text()))  # without comments
    if "models" not in path.parts:
        assert "flax.linen" not in code and "from flax import linen" not in code
    if path != PACKAGE / "core" / "parallel.py":
        assert not re.search(r"jax\.pmap\(|jax\.shard_map\(", code)


@MODULES
def test_config_keys_have_no_defaults_outside_config(path):
    code = ast.unparse(ast.parse(path.read_text()))
    assert not re.search(r"\bconfig(\.\w+)*\.get\(", code)


@MODULES
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
            assert length <= 60, f"{node.name}: at most 60 lines beside its docstring"


@MODULES
def test_modules_have_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@MODULES
def test_module_aliases_do_not_rename_our_modules(path):
    """An alias such as `import config as configs` would hide a name collision."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("affect_jax"):
            for name in node.names:
                is_module = (ROOT / node.module.replace(".", "/") / f"{name.name}.py").exists()
                renamed = is_module and name.asname is not None
                assert not renamed, f"{node.module}.{name.name} as {name.asname}"


def test_top_level_modules_are_the_command_and_the_config():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__", "main", "config", "config_checks"}


def test_test_folders_mirror_the_package():
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    additional = {"benchmarks", "docs", "faults", "fuzz"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= packages | additional


@pytest.mark.slow
def test_tests_are_collected_without_pytorch():
    """`launch/test.sh` does not install it."""
    code = """if True:
        import sys
        import pytest

        class Hidden:
            def find_spec(self, name, *_):
                if name.partition(".")[0] == "torch":
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Hidden())
        sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider"]))
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]
