"""Scores of systems and their differences. A system is a network, or a study: the same network
trained with several seeds, scored as one.

A score of a study is the mean over seeds, its deviation the standard deviation over seeds. Its
intervals and p-values are those of the hierarchical bootstrap over seeds and faces.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.labels import canonical_name
from affect_jax.metrics import protocol, resampling
from affect_jax.metrics.base import Scores
from affect_jax.metrics.categorical import predict_top1
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
    members = [protocol.score(table, draws=draws, seed=seed) for table in tables]
    scores = Scores()
    for name in members[0].values:
        values = np.array([scores.values[name] for scores in members if name in scores.values])
        if len(values) < len(members):
            continue
        scores.values[name] = float(values.mean())
        if len(members) > 1:
            scores.deviations[name] = float(values.std(ddof=1))
        if counts := [scores.counts[name] for scores in members if name in scores.counts]:
            scores.counts[name] = min(counts)
    if bootstrap and scores.values:
        sampled = _bootstrap(tables, bootstrap, seed)
        scores.intervals.update(resampling.compute_intervals(scores.values, sampled))
    return scores


def _bootstrap(
    tables: Sequence[Predictions], replicates: int, seed: int, system: int = 0
) -> dict[str, np.ndarray]:
    sampled = [protocol.bootstrap_scores(table, replicates, seed) for table in tables]
    return resampling.average_seeds(sampled, seed=seed, system=system)


def compare(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    *,
    draws: int = 200,
    seed: int = 0,
    bootstrap: int = resampling.REPLICATES,
) -> Scores:
    """Computes second minus first for every score that both systems have, with paired bootstrap
    intervals and, for the headline scores, p-values.

    Both systems are scored on the same draws and bootstrap samples. The difficulty of a sample
    therefore cancels out, and an interval is far narrower than the two systems' own intervals
    suggest. Seeds are drawn independently. If an interval of two networks excludes 0, the choice of
    test faces alone rarely explains the difference; training again with another seed still may.

    The p-values of two networks are those of paired permutation tests: if both are equally good,
    exchanging their predictions of any face changes nothing. That of accuracy is of McNemar's exact
    test (McNemar 1947). The p-values of studies are those of the bootstrap: tests that exchange
    predictions would leave out the variance of training. All are corrected for their number (Holm
    1979).

    **Arguments:** as for `score_study`; one table is a network. A table of each system has the same
    faces, in any order. `bootstrap` is also the number of permutations.

    **Raises:** `UserError` if faces, classes or labels differ.
    """
    systems = first, [align(first[0], table) for table in second]
    means = [score_study(tables, draws=draws, seed=seed) for tables in systems]
    values, other = (scores.values for scores in means)
    changes = Scores({name: other[name] - value for name, value in values.items() if name in other})
    if len({scores.counts.get("multitask") for scores in means}) > 1:
        changes.values.pop("multitask", None)  # sums of different scores
    changes.values.pop("soft.human_accuracy", None)  # it does not depend on the model
    if not (bootstrap and changes.values):
        return changes
    samples, others = (
        _bootstrap(tables, bootstrap, seed, system) for system, tables in enumerate(systems)
    )
    sampled = {name: others[name] - samples[name] for name in samples.keys() & others.keys()}
    changes.intervals.update(
        resampling.compute_intervals(changes.values, sampled, differences=True)
    )
    headlines = protocol.select_headlines(changes)
    names = [name for name, value in headlines.items() if not math.isnan(value)]
    if len(first) == len(second) == 1:
        p_values = _test_exchanges(first[0], systems[1][0], names, bootstrap, seed)
    else:
        p_values = {n: resampling.compute_p_value(headlines[n], sampled[n]) for n in names}
    changes.p_values.update(resampling.correct_holm(p_values))
    return changes


def _test_exchanges(
    first: Predictions, second: Predictions, names: Sequence[str], permutations: int, seed: int
) -> dict[str, float]:
    """Computes the p-values of differences between two networks by the name of the score."""
    both = {}  # the faces of the first network, then those of the second
    for field in dataclasses.fields(Predictions):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, np.ndarray):
            both[field.name] = None if b is None else np.concatenate([a, b])
    scorer = protocol.create_scorer(dataclasses.replace(first, **both))

    def score_difference(kept: np.ndarray) -> dict[str, np.ndarray]:
        weights = np.block([[kept, 1 - kept], [1 - kept, kept]])
        scores = scorer(weights)
        return {name: np.subtract(*np.split(scores[name], 2)) for name in names}

    num_faces = len(first)
    observed = score_difference(np.ones((1, num_faces), np.int32))
    permuted = resampling.score_samples(
        score_difference,
        lambda numbers: resampling.draw_exchanges(num_faces, numbers, seed),
        permutations,
        4 * num_faces,
    )
    p_values = {}
    for name in names:
        smaller = np.abs(permuted[name]) < np.abs(observed[name]) - 1e-12
        p_values[name] = float(1 + np.sum(~smaller)) / (1 + permutations)
    if (accuracy := protocol.HEADLINES[0]) in p_values:
        assert first.probabilities is not None and second.probabilities is not None
        predicted = map(predict_top1, (first.probabilities, second.probabilities))
        correct = [classes == first.expression for classes in predicted]
        p_values[accuracy] = resampling.compute_mcnemar(*correct)
    return p_values


def align(first: Predictions, second: Predictions) -> Predictions:
    """Returns the second table with its faces in the order of the first.

    **Raises:** `UserError` if faces, classes or labels differ.
    """
    row_of = {name: row for row, name in enumerate(second.id.tolist())}
    if set(row_of) != set(first.id.tolist()):
        raise UserError(
            f"models must be compared on the same faces, but the ids of the {len(first):,} and "
            f"{len(second):,} faces differ"
        )
    second = second.select(np.array([row_of[name] for name in first.id.tolist()]))
    for name in ("classes", "units", "expression", "valence_arousal", "action_units"):
        a, b = getattr(first, name), getattr(second, name)
        if name == "classes":
            a, b = [*map(canonical_name, a)], [*map(canonical_name, b)]
        if a is None or b is None or not (len(a) and len(b)):
            continue  # only one table has this model
        if not np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"):
            found = f": {', '.join(a)}; {', '.join(b)}" if name == "classes" else ""
            text = f"models must be compared on the same labels, but {name} differs{found}"
            raise UserError(text)
    return second
