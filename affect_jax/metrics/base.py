"""The `Scores` container, the `Scorer` type and helpers that all score modules share."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps non-negative weights [K, N], float64 or int32, to named scores, float64 [K]; undefined
scores are NaN. Integer weights are two to three times as fast."""

MAX_MAGNITUDE = 1e100  # the square of a larger prediction may be infinite

_UNLABELLED = ("recall", "auc_pr", "rmse", "mae", "sagr", "best_f1", "best_threshold")
REASONS = {
    **dict.fromkeys(_UNLABELLED, "no face is labelled so"),
    **dict.fromkeys(("accuracy", "calibration_error"), "no face has a label"),
    **dict.fromkeys(("kappa", "alpha"), "all labels and predictions are the same class"),
    "precision": "no face is predicted so",
    "f1": "no face is labelled or predicted so",
    "auc": "needs faces that are labelled so and others",
    "corr": "labels or predictions do not vary",
    "ccc": "labels and predictions are the same constant",
    "icc": "labels and predictions do not vary",
    "human_accuracy": "no face has two votes",
    "multitask": "one of its terms is undefined",
}
"""Why scores whose name has this part are undefined ("so": as the class or unit in the name)."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Named scores with intervals and deviations.

    **Arguments:**

    - `values`: the scores; undefined scores are NaN.
    - `intervals`: 95 % confidence intervals, (low, high), if they were requested.
    - `deviations`: standard deviations of skew-normalised scores over the draws.
    - `p_values`: of differences between two models, corrected for the number of tests.
    - `counts`: for each mean, (number of defined terms, number of terms); for a skew-normalised
      score that is undefined in some draws, (draws averaged, draws).
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    deviations: dict[str, float] = dataclasses.field(default_factory=dict)
    p_values: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, str]:
        """For each undefined score, why it is undefined."""
        return {
            name: next((REASONS[part] for part in name.split(".") if part in REASONS), "unknown")
            for name, value in self.values.items()
            if math.isnan(value)
        }

    def update(self, scores: Scores, *, prefix: str) -> None:
        """Adds scores with `prefix.` before every name."""
        for field in dataclasses.fields(Scores):
            for name, value in getattr(scores, field.name).items():
                getattr(self, field.name)[f"{prefix}.{name}"] = value


def summarize(samples: Mapping[str, np.ndarray]) -> Scores:
    """Averages every score over the samples in which it is defined.

    **Arguments:** `samples`: float64 [K] by name. K is 1 for a score of all faces, and the number
    of draws for a skew-normalised score.

    **Returns:** the averages; if K > 1, also standard deviations. The count of a mean, `mean.X` of
    all `Y.X` or `X.macro` of all `X.Y`, is the number of its defined terms (in the sample with the
    fewest).
    """
    scores = Scores()
    for name, sample in samples.items():
        defined = sample[~np.isnan(sample)]
        scores.values[name] = float(defined.mean()) if len(defined) else math.nan
        if len(sample) > 1:
            scores.deviations[name] = float(defined.std()) if len(defined) else math.nan
        pattern = ""
        if name.endswith(".macro"):
            pattern = re.escape(name.removesuffix("macro")) + "(?!macro$).+"
        elif name.startswith("mean."):
            pattern = "(?!mean[.])[^.]+" + re.escape(name.removeprefix("mean"))
        others = samples if pattern else ()
        if terms := [samples[other] for other in others if re.fullmatch(pattern, other)]:
            num_defined = np.sum(~np.isnan(terms), axis=0)
            scores.counts[name] = (int(num_defined.min()), len(terms))
        elif 0 < len(defined) < len(sample):
            scores.counts[name] = (len(defined), len(sample))
    return scores


def score_faces(scorer: Scorer, num_faces: int) -> Scores:
    """Computes the scores of all faces."""
    return summarize(scorer(np.ones((1, num_faces))))


def divide_or_nan(numerator: np.ndarray, denominator: np.ndarray | np.generic) -> np.ndarray:
    """Returns the quotient, NaN where the denominator is 0."""
    zero = denominator == 0
    return np.where(zero, np.nan, numerator / np.where(zero, 1.0, denominator))


def nanmean(arrays: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Returns the mean [K] over arrays [K], ignoring NaN; NaN if all values are NaN."""
    stacked = np.asarray(arrays)
    defined = ~np.isnan(stacked)
    return divide_or_nan(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))
