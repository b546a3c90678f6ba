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


def test_unknown_name_says_the_nearest_and_all(trunks):
    with pytest.raises(UserError, match="did you mean 'alexnet'.*Known: alexnet, resnet18"):
        trunks["alexnt"]


def test_second_registration_is_an_error(trunks):
    with pytest.raises(ValueError, match="registered twice"):
        trunks.register("alexnet")(lambda: None)


def test_create_passes_options_and_fixed_arguments(trunks):
    made = trunks.create({"name": "alexnet", "width": 3}, dtype="bfloat16")
    assert made == ("alexnet", 3, "bfloat16")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"name": "alexnet", "widht": 3},
            "widht: alexnet has no such option; did you mean 'width'",
        ),
        ({"name": "alexnet", "dtype": "x"}, "dtype: alexnet has no such option"),
        ({"name": "resnet18"}, "depth: missing"),
        ({"name": "vgg"}, "'vgg': unknown"),
        ({}, "name is missing"),
    ],
)
def test_problems_names_the_option(trunks, spec, problem):
    assert any(problem in found for found in trunks.problems(spec, fixed=("dtype",)))


def test_no_problem_in_a_right_spec(trunks):
    assert trunks.problems({"name": "resnet18", "depth": 18}, fixed=("dtype",)) == []


def test_options_that_fit_are_options():
    assert registry.fits(1, float) and not registry.fits(True, float)
    assert registry.fits((1, 2.5), Sequence[float]) and not registry.fits("ab", Sequence[str])
    assert registry.fits({"trunk": 0.1}, Mapping[str, float] | None)
    assert not registry.fits({"trunk": "0.1"}, Mapping[str, float] | None)
    assert registry.fits(None, int | None) and not registry.fits(None, int)
    assert registry.wanted(Sequence[str] | None) == "a tuple of str or None"
