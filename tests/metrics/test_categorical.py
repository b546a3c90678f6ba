from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as peer

from affect_jax.errors import UserError
from affect_jax.labels import classes
from affect_jax.metrics.categorical import categorical

CLASSES = classes(8)


@pytest.fixture(scope="module")
def faces():
    random = np.random.default_rng(0)
    labels = random.choice(8, 400, p=np.array([30, 30, 10, 10, 5, 5, 5, 5]) / 100)
    probabilities = random.dirichlet(np.ones(8), 400)
    probabilities[np.arange(400), labels] += 0.2
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_top1_original_equals_scikit_learn(faces):
    labels, probabilities = faces
    found = categorical(labels, probabilities, CLASSES, draws=2).values
    predicted = probabilities.argmax(axis=1)
    wanted = {
        "accuracy": peer.accuracy_score(labels, predicted),
        "kappa": peer.cohen_kappa_score(labels, predicted),
        "f1.macro": peer.f1_score(labels, predicted, average="macro"),
        "auc.macro": peer.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "auc_pr.macro": peer.average_precision_score(np.eye(8)[labels], probabilities),
    }
    for name, value in wanted.items():
        assert found[f"top1.original.{name}"] == pytest.approx(value, abs=1e-9)


def test_a_probability_that_is_no_number_is_named_with_its_place(faces):
    labels, probabilities = faces
    broken = probabilities.copy()
    broken[16, 4] = np.nan
    with pytest.raises(UserError, match="probabilities: face 17 of 400, fear: nan"):
        categorical(labels, broken, CLASSES)
