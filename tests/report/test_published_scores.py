"""The published scores and which runs are comparable with them."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest

from affect_jax.config import flatten
from affect_jax.core.labels import classes
from affect_jax.report import published_scores
from tests.report.conftest import create_predictions

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


@pytest.mark.parametrize("strategy", published_scores.STRATEGIES)
def test_macro_scores_are_means_of_eight_classes(strategy):
    numbers = published_scores.lookup_f1(strategy, classes(8))
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
def test_published_scores_are_in_the_right_cells(strategy, name, value):
    assert published_scores.lookup_f1(strategy, classes(8))[f"categorical.{name}"] == value


def test_f1_is_not_published_for_other_classes():
    assert published_scores.lookup_f1("imbalanced", classes(8))
    assert published_scores.lookup_f1("imbalanced", classes(7)) == {}


def test_only_affectnet_is_comparable():
    predictions = create_predictions()
    assert "not named" in published_scores.why_not_comparable({}, predictions)
    assert "synthetic_faces, not" in published_scores.why_not_comparable(
        {"data": "synthetic_faces"}, predictions
    )
    assert "500 of each" in published_scores.why_not_comparable({"data": "affectnet"}, predictions)
    training = {"data": "affectnet", "split": "training"}
    assert "training split" in published_scores.why_not_comparable(training, predictions)
    unlabelled = dataclasses.replace(predictions, expression=None)
    assert "Without expression labels" in published_scores.why_not_comparable(
        {"data": "affectnet"}, unlabelled
    )
