"""Scores of the categorical model, for top-1 and top-2, original and skew-normalised.

Sources: Mollahosseini et al. 2017, section 4.1.3 and tables 7 and 8; for alpha, Krippendorff 2011;
for calibration, Guo et al. 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.metrics import calibration, confusion, ranking, skew_normalization
from affect_jax.metrics.base import Scorer, Scores, check_finite, mean, prefixed

RULES = ("top1", "top2")
REASONS = {
    "precision": "no face is predicted as {0}",
    "recall": "no face is labelled {0}",
    "f1": "no face is labelled or predicted as {0}",
    "auc": "needs faces labelled {0} and faces labelled otherwise",
    "auc_pr": "no face is labelled {0}",
    "kappa": "labels and predictions are all one class",
    "alpha": "labels and predictions are all one class",
}


def categorical(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    draws: int = 200,
    seed: int = 0,
) -> Scores:
    """All scores, as `top1.original.f1.contempt`, `top2.normalised.auc.macro`, ...

    By class and macro: `precision`, `recall`, `f1`, `auc`, `auc_pr`. Of all classes together:
    `accuracy`, `kappa`, `alpha`, and with top-1 `calibration_error`. The areas under curves rank
    probabilities, so they are the same for top-1 and top-2. Skew-normalised scores are means over
    the draws that define them, with their standard deviations; a macro score is the mean over the
    classes that have one, and its count says over how many (in the draw with the fewest).

    **Arguments:**

    - `labels`: int [N], each in [0, C): annotated faces only.
    - `probabilities`: float [N, C].
    - `classes`: the C names.
    - `draws`: of the skew-normalised scores; `seed`: of the draws.

    **Raises:** `UserError` that names the face whose label or probability is not one.
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: must be 1 or more")
    score = scorer(labels, probabilities, classes)
    once = score(np.ones((1, len(labels))))
    drawn = skew_normalization.normalised(score, np.asarray(labels), draws, seed)
    found = Scores()
    for rule in RULES:
        for skewness in ("original", "normalised"):
            for name in once:
                if name.startswith(rule):
                    _add(found, name, skewness, once, drawn, classes)
    return found


def _add(
    found: Scores, name: str, skewness: str, once: dict, drawn: dict, classes: Sequence[str]
) -> None:
    """Adds one score; what is undefined gets its reason, what is a mean its count."""
    rule, kind = name.split(".", 1)
    full = f"{rule}.{skewness}.{kind}"
    normalised = skewness == "normalised"
    source = drawn if normalised else once
    defined = source[name][~np.isnan(source[name])]
    kind, _, owner = kind.partition(".")
    found.values[full] = float(defined.mean()) if len(defined) else float("nan")
    if normalised:
        found.deviations[full] = float(defined.std()) if len(defined) else float("nan")
    if owner == "macro":
        by_class = np.stack([source[f"{rule}.{kind}.{one}"] for one in classes])
        counts = np.sum(~np.isnan(by_class), axis=0)
        found.counts[full] = (int(counts.min()), len(classes))
    elif 0 < len(defined) < len(source[name]):
        found.counts[full] = (len(defined), len(source[name]))
    if not len(defined):
        reason = "no class has this score" if owner == "macro" else REASONS[kind].format(owner)
        found.reasons[full] = reason


def scorer(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Scorer:
    """What gives `top1.accuracy`, `top2.f1.contempt`, `top1.auc.macro`, ... for weights [K, N].

    **Arguments and raises:** as of `categorical`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    check(labels, probabilities, classes)
    labels = labels.astype(np.int64)
    num_classes = len(classes)
    predicted = {
        "top1": confusion.top1(probabilities),
        "top2": confusion.top2(probabilities, labels),
    }
    areas = [ranking.areas(probabilities[:, i], labels == i) for i in range(num_classes)]
    calibrated = calibration.error(labels, probabilities)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        pairs = [area(weights) for area in areas]
        ranked: dict[str, np.ndarray] = {}
        for place, name in enumerate(("auc", "auc_pr")):
            by_class = [pair[place] for pair in pairs]
            ranked |= {f"{name}.{c}": array for c, array in zip(classes, by_class, strict=True)}
            ranked[f"{name}.macro"] = mean(by_class)
        found: dict[str, np.ndarray] = {}
        for rule in RULES:
            table = confusion.matrices(labels, predicted[rule], num_classes, weights)
            found |= prefixed(confusion.scores(table, classes) | ranked, rule)
        return found | prefixed(calibrated(weights), "top1")

    return score


def resampled(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Scorer:
    """What gives the scores of `categorical` for bootstrap weights [K, N], under the same names.

    Skew-normalised scores are computed by weighting classes equally, see `skew.balancer`.

    **Arguments and raises:** as of `categorical`.
    """
    score = scorer(labels, probabilities, classes)
    balance = skew_normalization.balancer(labels)

    def both(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for skewness, given in (("original", weights), ("normalised", balance(weights))):
            for name, array in score(given).items():
                rule, kind = name.split(".", 1)
                found[f"{rule}.{skewness}.{kind}"] = array
        return found

    return both


def check(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    """Raises unless labels are ids of `classes` and probabilities are numbers, one a class."""
    check_finite("probabilities", probabilities, classes)
    if labels.shape != (len(probabilities),) or not len(labels):
        raise ValueError(f"{labels.shape} labels of {len(probabilities)} faces: one each is needed")
    known = np.isin(labels, np.arange(len(classes)))
    if not known.all():
        row = int(np.argmin(known))
        raise UserError(
            f"labels: face {row + 1} of {len(labels)}: label {labels[row]} is not in "
            f"[0, {len(classes)}): annotated faces only"
        )
