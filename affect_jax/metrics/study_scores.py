"""Scores of a study: the same network trained with several seeds, scored as one system.

A score is the mean over seeds, its deviation the standard deviation over seeds. Intervals and
p-values are those of the hierarchical bootstrap over seeds and faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.metrics import protocol, resampling
from affect_jax.metrics.base import Scores, subtract_scores
from affect_jax.metrics.predictions import Predictions


def score_study(
    tables: Sequence[Predictions], *, draws: int = 200, seed: int = 0, bootstrap: int = 0
) -> Scores:
    """Computes the mean of every score over seeds.

    **Arguments:** `tables`: the predictions of each seed for the same faces in the same order; the
    others as for `protocol.score`.

    **Returns:** scores whose deviations are those over seeds (with the divisor S - 1; none for one
    seed). A score that is undefined for one seed is undefined.
    """
    scores = _average([protocol.score(table, draws=draws, seed=seed) for table in tables])
    if bootstrap and scores.values:
        sampled = _bootstrap(tables, bootstrap, seed)
        scores.intervals.update(resampling.compute_intervals(scores.values, sampled))
    return scores


def _bootstrap(
    tables: Sequence[Predictions], replicates: int, seed: int, system: int = 0
) -> dict[str, np.ndarray]:
    sampled = [protocol.bootstrap_scores(table, replicates, seed) for table in tables]
    return resampling.average_seeds(sampled, seed=seed, system=system)


def _average(members: Sequence[Scores]) -> Scores:
    names = [name for name in members[0].values if all(name in m.values for m in members)]
    arrays = {name: np.array([member.values[name] for member in members]) for name in names}
    counts = {
        name: min(member.counts[name] for member in members if name in member.counts)
        for name in names
        if any(name in member.counts for member in members)
    }
    return Scores(
        {name: float(array.mean()) for name, array in arrays.items()},
        deviations={n: float(x.std(ddof=1)) for n, x in arrays.items() if len(members) > 1},
        counts=counts,
    )


def compare_studies(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    *,
    draws: int = 200,
    seed: int = 0,
    bootstrap: int = resampling.REPLICATES,
) -> Scores:
    """Computes second minus first for every score that both studies have.

    Both are scored on the same bootstrap samples of faces, and draw their seeds independently. The
    p-values of the headline scores are those of this bootstrap, corrected for their number (Holm
    1979): tests that exchange predictions of faces would leave out the variance of training.

    **Arguments:** as for `score_study`. A table of each study has the same faces, in any order.

    **Raises:** `UserError` if faces, classes or labels differ.
    """
    studies = first, [protocol.align(first[0], table) for table in second]
    means = (score_study(tables, draws=draws, seed=seed) for tables in studies)
    changes = subtract_scores(*means)
    if bootstrap and changes.values:
        samples, other_samples = (
            _bootstrap(tables, bootstrap, seed, system) for system, tables in enumerate(studies)
        )
        common = samples.keys() & other_samples.keys()
        sampled = {name: other_samples[name] - samples[name] for name in common}
        changes.intervals.update(
            resampling.compute_intervals(changes.values, sampled, differences=True)
        )
        p_values = {
            name: resampling.compute_p_value(changes.values[name], sampled[name])
            for name in protocol.select_headlines(changes)
            if name in sampled and not np.isnan(changes.values[name])
        }
        changes.p_values.update(resampling.correct_holm(p_values))
    return changes
