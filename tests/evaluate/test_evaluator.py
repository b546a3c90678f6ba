"""Scores that an evaluation cannot compute are found before training."""

from __future__ import annotations

import types

import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.evaluate.evaluator import Evaluator


class SplitWithoutClasses:
    """Three faces with valence and arousal only."""

    name, classes = "validation", labels.EXPRESSIONS

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        values = {"expression": np.full(3, -1), "valence": np.zeros(3), "arousal": np.zeros(3)}
        return {**values, "id": np.array(["a", "b", "c"])}


@pytest.mark.bad_input
def test_error_for_a_score_without_labels_names_the_split():
    network = types.SimpleNamespace(heads=("expression", "valence_arousal"))
    evaluator = Evaluator(defaults(), network, SplitWithoutClasses())
    evaluator.require_score("")
    evaluator.require_score("dimensional.mean.ccc")
    with pytest.raises(UserError, match="no face of the split 'validation' has a label for this"):
        evaluator.require_score("categorical.top1.original.f1.macro")
    with pytest.raises(UserError, match="did you mean 'categorical.top1.original.f1.macro'"):
        evaluator.require_score("categorical.top1.original.f1.macr")
