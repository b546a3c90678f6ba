"""The `Scores` container, the `Scorer` type and helpers that all score modules share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from affect_jax.core.errors import UserError

Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps non-negative weights [K, N] to named scores, float64 [K]; undefined scores are NaN.

Weights are float64 or int32. Integer weights are two to three times as fast.
"""

MAX_MAGNITUDE = 1e100  # the square of a larger prediction may be infinite


@dataclasses.dataclass(frozen=True)
class Scores:
    """Named scores with intervals, deviations and reasons.

    **Arguments:**

    - `values`: the scores; undefined scores are NaN.
    - `intervals`: 95 % confidence intervals, (low, high), if they were requested.
    - `deviations`: standard deviations of skew-normalised scores over the draws.
    - `reasons`: for each NaN in `values`, why the score is undefined.
    - `counts`: for each mean, (number of classes or units averaged, number of all classes or
      units); for a skew-normalised score that is undefined in some draws, (draws averaged, draws).
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    deviations: dict[str, float] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def update(self, scores: Scores, *, prefix: str) -> None:
        """Adds scores with `prefix.` before every name."""
        for field in dataclasses.fields(Scores):
            for name, value in getattr(scores, field.name).items():
                getattr(self, field.name)[f"{prefix}.{name}"] = value


def summarize(
    samples: Mapping[str, np.ndarray],
    means: Mapping[str, Sequence[str]],
    explain: Callable[[str], str],
) -> Scores:
    """Averages every score over the samples in which it is defined.

    **Arguments:**

    - `samples`: float64 [K] by name, one value for each sample of faces. K is 1 for a score of all
      faces, and the number of draws for a skew-normalised score.
    - `means`: for each score that is a mean of other scores, the names of these.
    - `explain`: returns why the score of a name is undefined.

    **Returns:** the means; if K > 1, also standard deviations. The count of a score in `means` is
    the number of its defined parts (in the sample with the fewest).
    """
    scores = Scores()
    for name, sample in samples.items():
        defined = sample[~np.isnan(sample)]
        scores.values[name] = float(defined.mean()) if len(defined) else math.nan
        if len(sample) > 1:
            scores.deviations[name] = float(defined.std()) if len(defined) else math.nan
        if name in means:
            num_defined = np.sum([~np.isnan(samples[part]) for part in means[name]], axis=0)
            scores.counts[name] = (int(num_defined.min()), len(means[name]))
        elif 0 < len(defined) < len(sample):
            scores.counts[name] = (len(defined), len(sample))
        if not len(defined):
            scores.reasons[name] = explain(name)
    return scores


def divide_or_nan(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, NaN where the denominator is 0."""
    zero = denominator == 0
    return np.where(zero, np.nan, numerator / np.where(zero, 1.0, denominator))


def nanmean(arrays: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Returns the mean [K] over arrays [K], ignoring NaN; NaN if all values are NaN."""
    stacked = np.asarray(arrays)
    defined = ~np.isnan(stacked)
    return divide_or_nan(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))


def check_predictions(predicted: np.ndarray, labels: np.ndarray, columns: Sequence[str]) -> None:
    """Checks that there are predictions and that they are finite and can be squared.

    **Arguments:**

    - `predicted`: float [N, len(columns)].
    - `labels`: [N] or [N, len(columns)].
    - `columns`: names of the predicted values, for the message.

    **Raises:** `UserError` if a number is invalid, `ValueError` if the shapes differ or N is 0.
    """
    if predicted.shape != (len(labels), len(columns)) or not len(labels):
        raise ValueError(
            f"expected {len(columns)} predictions for each of at least one label, got shapes "
            f"{predicted.shape} and {labels.shape}"
        )
    num_invalid = int(np.sum(~(np.abs(predicted) < MAX_MAGNITUDE)))
    if num_invalid:
        raise UserError(
            f"{num_invalid:,} of {predicted.size:,} predictions of {', '.join(columns)} are not "
            "usable numbers"
        )
