"""Confident learning finds the labels that were changed, and estimates their share."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.metrics.confident_learning import find_wrong_labels


def test_confident_joint_of_an_example():
    """Mean probabilities of the labels are 0.6 and 0.7, so the third face counts for no class."""
    first = np.array([0.9, 0.8, 0.55, 0.15, 0.3, 0.3, 0.3, 0.3])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    rows, classes, share = find_wrong_labels(labels, np.stack([first, 1 - first], axis=1))
    assert rows.tolist() == [3] and classes.tolist() == [1]
    assert share == np.float64(4 / 3 / 8)  # a third of the 4 faces with the first label


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_changed_labels_are_found(num_classes, seed):
    random = np.random.default_rng(seed)
    truth = random.permutation(np.arange(60 * num_classes) % num_classes)
    labels = truth.copy()
    wrong = random.choice(len(labels), len(labels) // 20, replace=False)
    labels[wrong] = (truth[wrong] + random.integers(1, num_classes, len(wrong))) % num_classes
    probabilities = 0.05 * random.dirichlet(np.ones(num_classes), len(labels))
    probabilities[np.arange(len(labels)), truth] += 0.95
    rows, classes, share = find_wrong_labels(labels, probabilities)
    own = probabilities[rows, labels[rows]]
    assert set(rows) <= set(wrong) and len(rows) >= len(wrong) / 2 and (np.diff(own) >= 0).all()
    np.testing.assert_array_equal(classes, truth[rows])
    assert share <= len(wrong) / len(labels) * 1.2
