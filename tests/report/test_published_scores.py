"""The published scores and which runs are comparable with them."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest

from affect_jax.config import flatten
from affect_jax.metrics.base import Scores
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import published_scores
from affect_jax.report.runs import Run
from tests.report.conftest import create_predictions
from tests.report.test_run_page import repeat_to_affectnet_counts

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def config(name: str) -> dict:
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return flatten(module.get_config())


@pytest.mark.parametrize(
    "name, strategy",
    [
        ("alexnet_imbalanced", "imbalanced"),
        ("alexnet_downsampling", "down-sampling"),
        ("alexnet_upsampling", "up-sampling"),
        ("alexnet_weighted", "weighted-loss"),
        ("resnet18_weighted", "weighted-loss"),
        ("alexnet_dimensional", "weighted-loss"),
    ],
)
def test_strategy_is_inferred_from_a_config(name, strategy):
    assert published_scores.infer_strategy(config(name)) == strategy


def test_default_strategy_is_the_papers_best():
    assert published_scores.infer_strategy({}) == "weighted-loss"


@pytest.fixture(scope="module")
def faces() -> Predictions:
    return repeat_to_affectnet_counts(create_predictions())


def describe(predictions: Predictions, **about: str) -> Run:
    return Run("", {"data": "affectnet", **about}, Scores(), predictions)


@pytest.mark.parametrize("strategy", published_scores.STRATEGIES)
def test_macro_scores_are_means_of_eight_classes(strategy, faces):
    numbers = published_scores.select_published(describe(faces), strategy)
    numbers = {name: value for name, value in numbers.items() if ".f1." in name}
    assert len(numbers) == 4 * 9 and all(0 < value < 1 for value in numbers.values())
    for kind in published_scores.TABLE7_COLUMNS.values():
        prefix = f"categorical.{kind}.f1."
        values = [v for n, v in numbers.items() if n.startswith(prefix) and "macro" not in n]
        assert numbers[prefix + "macro"] == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    "strategy, name, value",  # corners of the table
    [
        ("imbalanced", "top1.original.f1.neutral", 0.63),
        ("imbalanced", "top2.normalised.f1.contempt", 0.49),
        ("down-sampling", "top1.normalised.f1.contempt", 0.32),
        ("up-sampling", "top2.original.f1.happiness", 0.95),
        ("weighted-loss", "top1.original.f1.contempt", 0.27),
        ("weighted-loss", "top2.normalised.f1.neutral", 0.77),
    ],
)
def test_published_scores_are_in_the_right_cells(strategy, name, value, faces):
    numbers = published_scores.select_published(describe(faces), strategy)
    assert numbers[f"categorical.{name}"] == value


def test_only_affectnet_is_comparable(faces):
    explain = published_scores.why_not_comparable
    predictions = create_predictions()
    assert not explain(describe(faces))
    assert "not named" in explain(Run("", {}, Scores(), predictions))
    assert "synthetic_faces, not" in explain(describe(predictions, data="synthetic_faces"))
    assert "500 of each" in explain(describe(predictions))
    assert "training split" in explain(describe(predictions, split="training"))
    unlabelled = dataclasses.replace(predictions, expression=None)
    assert "Without expression labels" in explain(describe(unlabelled))
