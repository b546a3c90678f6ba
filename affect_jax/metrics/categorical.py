"""Scores of the categorical model: accuracy, F1, kappa, alpha; top-1 and top-2, original and
skew-normalised; and the confusion matrices from which they are computed.

Sources: Mollahosseini et al. 2017, section 4.1.3 and tables 7 and 8; Krippendorff 2011 (alpha);
Guo et al. 2017 (calibration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from affect_jax.metrics import auc_scores, calibration, resampling
from affect_jax.metrics.base import Scorer, Scores, divide_or_nan, nanmean, summarize


def score_categorical(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    draws: int = 200,
    seed: int = 0,
) -> Scores:
    """Computes all scores: `top1.original.f1.contempt`, `top1.normalised.auc.macro`, ...

    Per class and macro: `precision`, `recall`, `f1` and, for top-1 only, `auc`, `auc_pr`. Over all
    classes: `accuracy`, `kappa`, `alpha` and, for top-1 only, `calibration_error`. A macro score is
    the mean over the classes for which it is defined, a skew-normalised score the mean over the
    draws in which it is defined.

    **Arguments:**

    - `labels`: int [N], each in [0, C): annotated faces only.
    - `probabilities`: float [N, C].
    - `classes`: the C class names.
    - `draws`: number of draws for skew-normalised scores.
    - `seed`: random seed of the draws.
    """
    score = create_scorer(labels, probabilities, classes)
    drawn = resampling.score_samples(
        score,
        lambda numbers: resampling.subsample_classes(labels, numbers, seed),
        draws,
        len(labels),
    )
    return summarize(_insert_skewness(score(np.ones((1, len(labels)))), drawn))


def create_scorer(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Scorer:
    """Creates a scorer of `top1.accuracy`, `top2.f1.contempt`, `top1.auc.macro`, ..."""
    predicted = {"top1": predict_top1(probabilities), "top2": predict_top2(probabilities, labels)}
    area_scorers = [
        auc_scores.create_area_scorer(column, labels == i)
        for i, column in enumerate(probabilities.T)
    ]
    score_calibration = calibration.create_calibration_scorer(labels, probabilities)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        auc, auc_pr = zip(*(score_areas(weights) for score_areas in area_scorers), strict=True)
        scores: dict[str, np.ndarray] = {}
        for rule, classes_of_rule in predicted.items():
            confusion = confusion_matrices(labels, classes_of_rule, len(classes), weights)
            for name, array in score_agreement(confusion).items():
                scores[f"{rule}.{name}"] = array
            by_class = score_classes(confusion)
            if rule == "top1":  # areas do not depend on the rule
                by_class |= {"auc": auc, "auc_pr": auc_pr}
            for name, arrays in by_class.items():
                for class_name, array in zip(classes, arrays, strict=True):
                    scores[f"{rule}.{name}.{class_name}"] = array
                scores[f"{rule}.{name}.macro"] = nanmean(arrays)
        return scores | {"top1.calibration_error": score_calibration(weights)}

    return score


def create_bootstrap_scorer(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Scorer:
    """Creates a scorer for bootstrap weights, with the score names of `score_categorical`.

    Skew-normalised scores weight the classes equally, see `resampling.balance_weights`.
    """
    score = create_scorer(labels, probabilities, classes)

    def score_both(weights: np.ndarray) -> dict[str, np.ndarray]:
        balanced = resampling.balance_weights(labels, weights)
        return _insert_skewness(score(weights), score(balanced))

    return score_both


def _insert_skewness(
    original: Mapping[str, np.ndarray], normalised: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Joins both kinds of scores: `top1.f1` becomes `top1.original.f1`, `top1.normalised.f1`."""
    return {
        name.replace(".", f".{skewness}.", 1): array
        for skewness, scores in (("original", original), ("normalised", normalised))
        for name, array in scores.items()
    }


def predict_top1(probabilities: np.ndarray) -> np.ndarray:
    """Returns the most probable class, int64 [N]; ties go to the lower id."""
    return np.argmax(probabilities, axis=1)


def predict_top2(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the label if it is one of the two most probable classes, else the most probable:
    int64 [N]. Ties go to the class with the lower id."""
    top_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return np.where((top_two == labels[:, None]).any(axis=1), labels, top_two[:, 0])


def confusion_matrices(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray
) -> np.ndarray:
    """Computes confusion matrices for weights [K, N]: float64 [K, C, C]; rows are labels."""
    cells = labels * num_classes + predicted
    size = num_classes**2
    counts = [np.bincount(cells, row, minlength=size) for row in weights]
    return np.reshape(counts, (-1, num_classes, num_classes))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Computes the confusion matrix as counts, int64 [C, C]; rows are labels."""
    ones = np.ones((1, len(labels)))
    return confusion_matrices(labels, predicted, num_classes, ones)[0].astype(np.int64)


def score_classes(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Computes scores of every class, float64 [C, K], from confusion matrices [K, C, C]."""
    correct = np.diagonal(confusion, axis1=1, axis2=2).T
    labelled, predicted = confusion.sum(axis=2).T, confusion.sum(axis=1).T
    return {
        "precision": divide_or_nan(correct, predicted),
        "recall": divide_or_nan(correct, labelled),
        "f1": divide_or_nan(2 * correct, labelled + predicted),
    }


def score_agreement(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Computes accuracy, Cohen's kappa and Krippendorff's alpha, [K], from matrices [K, C, C]."""
    total = confusion.sum(axis=(1, 2))
    labelled, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    num_agreed = np.trace(confusion, axis1=1, axis2=2)
    chance_agreed = np.sum(labelled * predicted, axis=1)  # multiplied by total
    # Nominal alpha of two raters: `num_ratings` ratings in total, `class_ratings` of each class.
    num_ratings, class_ratings = 2 * total, labelled + predicted
    num_disagreed = 2 * (total - num_agreed)
    differing_pairs = num_ratings**2 - np.sum(class_ratings**2, axis=1)
    return {
        "accuracy": divide_or_nan(num_agreed, total),
        "kappa": divide_or_nan(total * num_agreed - chance_agreed, total**2 - chance_agreed),
        "alpha": 1 - divide_or_nan((num_ratings - 1) * num_disagreed, differing_pairs),
    }
