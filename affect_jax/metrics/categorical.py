"""Scores of the categorical model: accuracy, F1, kappa, alpha; top-1 and top-2, original and
skew-normalised; and the confusion matrices from which they are computed.

Sources: Mollahosseini et al. 2017, section 4.1.3 and tables 7 and 8; Krippendorff 2011 (alpha);
Guo et al. 2017 (calibration).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.metrics import auc_scores, calibration, skew_normalization
from affect_jax.metrics.base import Scorer, Scores, add_prefix, check_finite, divide_or_nan, nanmean

RULES = ("top1", "top2")
PER_CLASS = ("precision", "recall", "f1")
REASONS = {
    "precision": "no face is predicted as {0}",
    "recall": "no face is labelled {0}",
    "f1": "no face is labelled or predicted as {0}",
    "auc": "needs faces labelled {0} and faces with another label",
    "auc_pr": "no face is labelled {0}",
    "kappa": "all labels and predictions are the same class",
    "alpha": "all labels and predictions are the same class",
}


def score_categorical(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    draws: int = 200,
    seed: int = 0,
) -> Scores:
    """Computes all scores: `top1.original.f1.contempt`, `top2.normalised.auc.macro`, ...

    Per class and macro: `precision`, `recall`, `f1`, `auc`, `auc_pr`. Over all classes: `accuracy`,
    `kappa`, `alpha` and, for top-1 only, `calibration_error`. The areas under curves rank
    probabilities, so they are the same for top-1 and top-2. A skew-normalised score is the mean
    over the draws in which it is defined, with its standard deviation. A macro score is the mean
    over the classes for which it is defined; its count is the number of these classes (in the draw
    with the fewest).

    **Arguments:**

    - `labels`: int [N], each in [0, C): annotated faces only.
    - `probabilities`: float [N, C].
    - `classes`: the C class names.
    - `draws`: number of draws for skew-normalised scores.
    - `seed`: random seed of the draws.

    **Raises:** `UserError` if a label or probability is invalid; the message names the face.
    """
    if draws < 1:
        raise ValueError(f"draws = {draws}: must be 1 or more")
    score = create_scorer(labels, probabilities, classes)
    original = score(np.ones((1, len(labels))))
    subsampled = skew_normalization.score_subsamples(score, np.asarray(labels), draws, seed)
    scores = Scores()
    for rule in RULES:
        for skewness in ("original", "normalised"):
            for name in original:
                if name.startswith(rule):
                    _add_score(scores, name, skewness, original, subsampled, classes)
    return scores


def _add_score(
    scores: Scores,
    name: str,
    skewness: str,
    original: dict,
    subsampled: dict,
    classes: Sequence[str],
) -> None:
    """Adds one score, with a reason if it is undefined and a count if it is a mean."""
    rule, metric = name.split(".", 1)
    full = f"{rule}.{skewness}.{metric}"
    normalised = skewness == "normalised"
    source = subsampled if normalised else original
    defined = source[name][~np.isnan(source[name])]
    metric, _, class_name = metric.partition(".")
    scores.values[full] = float(defined.mean()) if len(defined) else float("nan")
    if normalised:
        scores.deviations[full] = float(defined.std()) if len(defined) else float("nan")
    if class_name == "macro":
        by_class = np.stack([source[f"{rule}.{metric}.{c}"] for c in classes])
        counts = np.sum(~np.isnan(by_class), axis=0)
        scores.counts[full] = (int(counts.min()), len(classes))
    elif 0 < len(defined) < len(source[name]):
        scores.counts[full] = (len(defined), len(source[name]))
    if not len(defined):
        reason = "no class has this score" if class_name == "macro" else REASONS[metric]
        scores.reasons[full] = reason.format(class_name)


def create_scorer(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Scorer:
    """Creates a scorer of `top1.accuracy`, `top2.f1.contempt`, `top1.auc.macro`, ...

    **Arguments and raises:** as for `score_categorical`.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    check_inputs(labels, probabilities, classes)
    labels = labels.astype(np.int64)
    num_classes = len(classes)
    predicted = {
        "top1": predict_top1(probabilities),
        "top2": predict_top2(probabilities, labels),
    }
    area_scorers = [
        auc_scores.create_area_scorer(probabilities[:, i], labels == i) for i in range(num_classes)
    ]
    score_calibration = calibration.create_calibration_scorer(labels, probabilities)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = [score_areas(weights) for score_areas in area_scorers]
        area_scores: dict[str, np.ndarray] = {}
        for place, name in enumerate(("auc", "auc_pr")):
            by_class = [pair[place] for pair in areas]
            area_scores |= {
                f"{name}.{c}": array for c, array in zip(classes, by_class, strict=True)
            }
            area_scores[f"{name}.macro"] = nanmean(by_class)
        scores: dict[str, np.ndarray] = {}
        for rule in RULES:
            matrices = confusion_matrices(labels, predicted[rule], num_classes, weights)
            matrix_scores = score_confusion_matrices(matrices, classes)
            scores |= add_prefix(matrix_scores | area_scores, rule)
        return scores | add_prefix(score_calibration(weights), "top1")

    return score


def create_bootstrap_scorer(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Scorer:
    """Creates a scorer for bootstrap weights, with the score names of `score_categorical`.

    Skew-normalised scores are computed by weighting classes equally; see
    `skew_normalization.balance_weights`.

    **Arguments and raises:** as for `score_categorical`.
    """
    score = create_scorer(labels, probabilities, classes)
    labels = np.asarray(labels)

    def score_both(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores: dict[str, np.ndarray] = {}
        balanced = skew_normalization.balance_weights(labels, weights)
        for skewness, class_weights in (("original", weights), ("normalised", balanced)):
            for name, array in score(class_weights).items():
                rule, metric = name.split(".", 1)
                scores[f"{rule}.{skewness}.{metric}"] = array
        return scores

    return score_both


def check_inputs(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    """Checks that labels are class ids and that each face has one finite probability per class."""
    check_finite("probabilities", probabilities, classes)
    if labels.shape != (len(probabilities),) or not len(labels):
        raise ValueError(
            f"expected one label per face and at least one face, got labels of shape "
            f"{labels.shape} for {len(probabilities)} faces"
        )
    valid = np.isin(labels, np.arange(len(classes)))
    if not valid.all():
        row = int(np.argmin(valid))
        raise UserError(
            f"labels: face {row + 1} of {len(labels)}: label {labels[row]} is not in "
            f"[0, {len(classes)}); pass annotated faces only"
        )


def predict_top1(probabilities: np.ndarray) -> np.ndarray:
    """Returns the most probable class, int64 [N]; ties go to the lower id."""
    return np.argmax(probabilities, axis=1)


def predict_top2(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the label if it is one of the two most probable classes, else the most probable.

    This is the protocol's top-2 rule. Ties go to the class with the lower id.

    **Arguments:**

    - `probabilities`: float [N, C].
    - `labels`: int [N].

    **Returns:** int64 [N].
    """
    top_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return np.where((top_two == labels[:, None]).any(axis=1), labels, top_two[:, 0])


def normalize_rows(counts: np.ndarray) -> np.ndarray:
    """Divides each row of a confusion matrix [C, C] by its sum; NaN if no face has that label."""
    return divide_or_nan(counts, counts.sum(axis=1, keepdims=True))


def confusion_matrices(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray
) -> np.ndarray:
    """Computes weighted confusion matrices, float64 [K, C, C]; rows are labels.

    **Arguments:**

    - `labels`, `predicted`: int [N].
    - `weights`: [K, N].
    """
    cells = labels * num_classes + predicted
    size = num_classes**2
    counts = [np.bincount(cells, row, minlength=size) for row in weights]
    return np.reshape(counts, (-1, num_classes, num_classes))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Computes the confusion matrix as counts, int64 [C, C]; rows are labels."""
    ones = np.ones((1, len(labels)))
    return confusion_matrices(labels, predicted, num_classes, ones)[0].astype(np.int64)


def score_confusion_matrices(
    confusion: np.ndarray, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Computes accuracy, kappa and alpha, and precision, recall and F1 per class and macro.

    `kappa` is Cohen's, `alpha` is Krippendorff's.

    **Arguments:**

    - `confusion`: float64 [K, C, C].
    - `classes`: the C class names.

    **Returns:**

    Named arrays [K]. A class's recall is NaN if no face has its label, its precision if no face is
    predicted as it, its F1 if both are the case. Macro scores are means over the classes for which
    the score is defined. `kappa` and `alpha` are NaN if all labels and predictions are the same
    class.
    """
    total = confusion.sum(axis=(1, 2))
    correct = np.diagonal(confusion, axis1=1, axis2=2)  # [K, C]
    labelled, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    by_class = {
        "precision": divide_or_nan(correct, predicted),
        "recall": divide_or_nan(correct, labelled),
        "f1": divide_or_nan(2 * correct, labelled + predicted),
    }
    num_agreed = correct.sum(axis=1)
    chance_agreed = np.sum(labelled * predicted, axis=1)  # multiplied by total
    # Nominal alpha of two raters: `num_ratings` ratings in total, `class_ratings` of each class.
    num_ratings, class_ratings = 2 * total, labelled + predicted
    num_disagreed = 2 * (total - num_agreed)
    differing_pairs = num_ratings**2 - np.sum(class_ratings**2, axis=1)
    scores = {
        "accuracy": divide_or_nan(num_agreed, total),
        "kappa": divide_or_nan(total * num_agreed - chance_agreed, total**2 - chance_agreed),
        "alpha": 1 - divide_or_nan((num_ratings - 1) * num_disagreed, differing_pairs),
    }
    for name in PER_CLASS:
        scores |= {f"{name}.{c}": by_class[name][:, i] for i, c in enumerate(classes)}
        scores[f"{name}.macro"] = nanmean(list(by_class[name].T))
    return scores
