"""Registries: names, options, types and error messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from affect_jax.core import registry
from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry


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
