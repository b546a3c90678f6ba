"""Scores against votes and distributions, beside SciPy and a count over all raters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import jensenshannon

from affect_jax.metrics import protocol, soft_labels, system_scores
from affect_jax.metrics.base import score_faces
from affect_jax.metrics.predictions import Predictions, drop_contempt
from affect_jax.report.score_names import format_title
from tests.metrics.test_protocol import create_predictions


def random_faces(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Votes of 0 to 6 raters, and predictions with zeros in float32."""
    random = np.random.default_rng(seed)
    raters = random.integers(0, 7, count)
    votes = np.stack([random.multinomial(n, random.dirichlet(np.ones(8))) for n in raters])
    predicted = random.dirichlet(np.full(8, 0.5), count)
    predicted[0] = np.eye(8)[3]
    return votes.astype(float), predicted


def leave_one_out(votes: np.ndarray) -> float:
    """Counts every rater of one face against the majority of its other raters."""
    raters = np.repeat(np.arange(len(votes)), votes.astype(int))
    credits = []
    for i, choice in enumerate(raters):
        others = np.bincount(np.delete(raters, i), minlength=len(votes))
        winners = np.flatnonzero(others == others.max())
        credits.append((choice in winners) / len(winners))
    return float(np.mean(credits))


def test_scores_equal_scipy_and_a_count_over_raters():
    votes, predicted = random_faces()
    kept = votes.sum(axis=1) > 0
    votes, predicted = votes[kept], predicted[kept]
    distribution = votes / votes.sum(axis=1, keepdims=True)
    scorer = soft_labels.create_scorer(distribution, predicted, votes)
    scores = score_faces(scorer, len(votes)).values
    choice = predicted.argmax(axis=1)
    expected = {
        "expected_accuracy": np.mean([d[c] for d, c in zip(distribution, choice, strict=True)]),
        "kl": scipy.stats.entropy(
            distribution, np.maximum(predicted, np.finfo(np.float32).tiny), axis=1
        ).mean(),
        "jsd": (jensenshannon(distribution.T, predicted.T) ** 2).mean(),
        "human_accuracy": np.mean([leave_one_out(v) for v in votes if v.sum() >= 2]),
    }
    assert scores == pytest.approx(expected, rel=1e-9)


def test_ceiling_of_unanimous_raters_and_of_a_tie():
    votes = np.array([[5, 0, 0], [1, 1, 0], [0, 1, 0], [np.nan] * 3, [2, 2, 0]])
    # the two raters of the second face disagree; those of the last are in the minority without
    # their own vote
    np.testing.assert_array_equal(soft_labels.agree_with_others(votes), [1, 0, np.nan, np.nan, 0])


def soft_table() -> tuple[Predictions, np.ndarray, np.ndarray]:
    table = create_predictions()
    votes, _ = random_faces(len(table))
    votes[votes.sum(axis=1) == 0] = np.nan
    distribution = votes / votes.sum(axis=1, keepdims=True)
    return dataclasses.replace(table, distribution=distribution, votes=votes), distribution, votes


def test_scores_stand_beside_the_hard_ones():
    table, distribution, votes = soft_table()
    scores = protocol.score(table, draws=2, bootstrap=20)
    assert set(protocol.SOFT_HEADLINES) <= scores.values.keys() & scores.intervals.keys()
    hard = protocol.score(create_predictions(), draws=2, bootstrap=20)
    assert {n: v for n, v in scores.values.items() if n[:5] != "soft."} == hard.values
    rows = np.isfinite(votes).all(axis=1)
    alone = dataclasses.replace(table, votes=None)
    assert "soft.human_accuracy" not in protocol.score(alone, draws=2).values
    assert table.probabilities is not None
    choice = table.probabilities.argmax(axis=1)[rows]
    assert scores.values["soft.expected_accuracy"] == pytest.approx(
        np.take_along_axis(distribution[rows], choice[:, None], axis=1).mean()
    )
    assert not [name for name in protocol.SOFT_HEADLINES if format_title(name) == name]
    changes = system_scores.compare([table], [table], draws=2, bootstrap=20)
    assert changes.values["soft.kl"] == 0 and "soft.human_accuracy" not in changes.values


def test_dropping_contempt_renormalises_distributions():
    table, _, votes = soft_table()
    seven = drop_contempt(table)
    assert seven.distribution is not None
    with np.errstate(invalid="ignore"):
        expected = votes[:, :7] / votes[:, :7].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seven.distribution, expected)
    assert "soft.human_accuracy" in protocol.score(seven, draws=2).values
