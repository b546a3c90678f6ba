"""Registries: names, options, types and error messages."""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader

import pytest

from affect_jax.core import registry
from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry
from affect_jax.train.experiment import load_registries


@pytest.fixture
def trunks() -> Registry:
    registry = Registry("trunk")

    @registry.register("alexnet")
    def alexnet(*, width: int = 96, dtype: str = "float32"):
        return ("alexnet", width, dtype)

    @registry.register("resnet18")
    def resnet18(*, depth: int, dtype: str = "float32"):
        return ("resnet18", depth, dtype)

    return registry


def test_names_are_sorted(trunks):
    assert trunks.names() == ("alexnet", "resnet18")
    assert "alexnet" in trunks and "vgg" not in trunks


def test_unknown_name_lists_the_nearest_and_all_names(trunks):
    with pytest.raises(UserError, match="did you mean 'alexnet'.*Known: alexnet, resnet18"):
        trunks["alexnt"]


def test_registering_a_name_twice_is_an_error(trunks):
    with pytest.raises(ValueError, match="registered twice"):
        trunks.register("alexnet")(lambda: None)


def test_create_passes_options_and_supplied_arguments(trunks):
    trunk = trunks.create({"name": "alexnet", "width": 3}, dtype="bfloat16")
    assert trunk == ("alexnet", 3, "bfloat16")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"name": "alexnet", "widht": 3},
            "widht: alexnet has no such option; did you mean 'width'",
        ),
        ({"name": "alexnet", "dtype": "x"}, "dtype: alexnet has no such option"),
        ({"name": "resnet18"}, "depth: missing"),
        ({"name": "vgg"}, "'vgg': unknown"),
        ({"name": "resnet18", "depth": "18"}, "depth = '18': must be int"),
        ({}, "name = None: unknown"),
    ],
)
def test_find_problems_names_the_option(trunks, spec, expected):
    problems = trunks.find_problems(spec, supplied=("dtype",))
    assert any(expected in problem for problem in problems)


def test_find_problems_is_empty_for_a_valid_spec(trunks):
    assert trunks.find_problems({"name": "resnet18", "depth": 18}, supplied=("dtype",)) == []


def test_matches_type():
    assert registry.matches_type(1, float) and not registry.matches_type(True, float)
    assert registry.matches_type((1, 2.5), Sequence[float]) and not registry.matches_type(
        "ab", Sequence[str]
    )
    assert registry.matches_type({"trunk": 0.1}, Mapping[str, float] | None)
    assert not registry.matches_type({"trunk": "0.1"}, Mapping[str, float] | None)
    assert registry.matches_type(None, int | None) and not registry.matches_type(None, int)


ENTRIES = [entry for kind in load_registries().values() for entry in kind._entries.values()]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_every_option_has_a_type(entry):
    options = inspect.signature(entry).parameters.keys() - {"folder", "start"}  # of loggers
    assert options <= registry._option_types(entry).keys()


def test_inherited_options_are_evaluated_in_their_own_module(monkeypatch):
    base = types.ModuleType("base_module")
    monkeypatch.setitem(sys.modules, "base_module", base)
    code = "import dataclasses, numpy as np\n@dataclasses.dataclass(kw_only=True)\nclass Base:\n"
    exec(code + "  a: int = 0\n  counts: np.ndarray = None\n", vars(base))

    @dataclasses.dataclass
    class Mine(base.Base):
        b: int
        c: UnknownName  # noqa: F821  # pyright: ignore

    losses = Registry("loss")
    losses.register("mine")(Mine)
    assert losses.find_problems({"name": "mine", "b": 1, "c": 2}) == []
    problems = losses.find_problems({"name": "mine", "a": "0", "b": "1", "c": 2})
    assert len(problems) == 2 and all("must be int" in problem for problem in problems)


@pytest.mark.parametrize("annotation", ["UnknownName[int]", "unknown_module.Name"])
def test_types_imported_for_type_checkers_only_are_not_checked(annotation):
    def mine(a, b: int = 0):
        return a, b

    mine.__annotations__["a"] = annotation
    losses = Registry("loss")
    losses.register("mine")(mine)
    assert losses.create({"name": "mine", "a": 1}) == (1, 0)


def write_module(folder: pathlib.Path, name: str) -> None:
    code = "from tests.core.test_registry import MINE\n@MINE.register('mine')\ndef mine(): pass\n"
    (folder / f"{name}.py").write_text(code)


MINE = Registry("trunk")


def test_the_same_file_may_be_imported_under_two_names(tmp_path, monkeypatch):
    monkeypatch.setattr(MINE, "_entries", {})
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "first_file")
    registry.import_modules(["first_file"])
    SourceFileLoader("another_name", str(tmp_path / "first_file.py")).load_module()
    write_module(tmp_path, "second_file")
    with pytest.raises(UserError, match=r"second_file.py, line 2.*'mine' is registered twice"):
        registry.import_modules(["second_file"])


@pytest.mark.parametrize(
    "code, message",
    [
        (None, "No module named"),
        ("import nothing_such", r"py, line 1: ModuleNotFoundError: No module named 'nothing_such'"),
        ("x = ", "SyntaxError.*line 1"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, code, message):
    monkeypatch.syspath_prepend(tmp_path)
    if code:
        (tmp_path / "broken_module.py").write_text(code)
    with pytest.raises(UserError, match=message) as raised:
        registry.import_modules(["broken_module"])
    assert "\n" not in str(raised.value)
