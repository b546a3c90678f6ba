"""The evaluator rejects ambiguous class names and scores without labels; the size of a batch."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.evaluate import evaluator


class Split:
    """A split of three faces without records."""

    classes = ("calm", "macro")
    records = (None,) * 3

    def __len__(self) -> int:
        return 3

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        return {"id": np.array(["a", "b", "c"])}


@pytest.mark.bad_input
def test_class_with_the_name_of_a_mean_is_refused():
    config = defaults()
    config.data.num_classes = 2
    with pytest.raises(UserError, match="affectnet: a class named 'macro' hides the mean"):
        evaluator.Evaluator(config, SimpleNamespace(heads=()), Split())


def test_batches_are_not_larger_than_the_split(monkeypatch):
    """The memory does not grow with `evaluation.batch_size`."""
    config = defaults()
    config.data.num_classes = 1
    config.evaluation.batch_size = 10**9
    sizes = []

    def load_batches(images, targets, rows, **options):
        sizes.append(len(rows[0]))
        raise InterruptedError

    monkeypatch.setattr(evaluator, "load_targets", lambda config, split: ({}, ""))
    monkeypatch.setattr(evaluator.loader, "load_batches", load_batches)
    evaluate = evaluator.Evaluator(config, SimpleNamespace(heads=()), Split())
    with pytest.raises(InterruptedError):
        evaluate({})
    devices = jax.local_device_count()
    assert sizes == [-(-3 // devices) * devices]


class SplitWithoutClasses:
    """Three faces with valence and arousal only."""

    name, classes = "validation", labels.EXPRESSIONS

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        values = {"expression": np.full(3, -1), "valence": np.zeros(3), "arousal": np.zeros(3)}
        return {**values, "id": np.array(["a", "b", "c"])}


@pytest.mark.bad_input
def test_error_for_a_score_without_labels_names_the_split():
    network = SimpleNamespace(heads=("expression", "valence_arousal"))
    evaluate = evaluator.Evaluator(defaults(), network, SplitWithoutClasses())
    evaluate.require_score("")
    evaluate.require_score("dimensional.mean.ccc")
    with pytest.raises(UserError, match="no face of the split 'validation' has a label for this"):
        evaluate.require_score("categorical.top1.original.f1.macro")
    with pytest.raises(UserError, match="did you mean 'categorical.top1.original.f1.macro'"):
        evaluate.require_score("categorical.top1.original.f1.macr")


class SplitWithVotes(SplitWithoutClasses):
    """Three faces with votes of raters."""

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        columns = super().columns()
        soft = {name: np.full((3, 8), 0.125) for name in evaluator.SOFT_COLUMNS}
        return {**columns, **soft, "expression": np.zeros(3, int)}


def test_best_checkpoint_may_be_chosen_by_a_score_of_soft_labels():
    network = SimpleNamespace(heads=("expression",))
    evaluator.Evaluator(defaults(), network, SplitWithVotes()).require_score("-soft.kl")
    evaluator.Evaluator(defaults(), network, SplitWithVotes()).require_score("soft.human_accuracy")
    with pytest.raises(UserError, match="no face of the split 'validation' has a label for this"):
        evaluator.Evaluator(defaults(), network, SplitWithoutClasses()).require_score("soft.kl")
