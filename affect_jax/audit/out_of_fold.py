"""Predicts the label of each face by a classifier that was not fitted to it."""

from __future__ import annotations

import numpy as np
import scipy.special

NUM_FOLDS = 5
SHRINKAGE = 0.3  # of the covariance towards a multiple of the identity


def predict_out_of_fold(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Computes the probabilities of the classes, [N, C], by linear discriminant analysis.

    The classifier of each fold is fitted to the other folds, with a regularised covariance
    (Friedman 1989). Unlike logistic regression, it does not fit single wrong labels.

    **Arguments:** `features`: float [N, F]; `labels`: int [N]; `groups`: [N], at least `NUM_FOLDS`;
    faces of one group are in one fold.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(names))[inverse] % NUM_FOLDS
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    targets = np.eye(labels.max() + 1)[labels]
    probabilities = np.empty_like(targets)
    for fold in range(NUM_FOLDS):
        fitted = folds != fold
        counts = targets[fitted].sum(axis=0)
        means = targets[fitted].T @ features[fitted] / np.maximum(counts, 1)[:, None]
        centred = features[fitted] - means[labels[fitted]]
        covariance = centred.T @ centred / len(centred)
        identity = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
        covariance += SHRINKAGE * (identity - covariance)
        covariance[np.diag_indices_from(covariance)] += 1e-6  # of features without a spread
        weights = np.linalg.solve(covariance, means.T)
        bias = np.log(np.maximum(counts, 1e-9)) - np.sum(means.T * weights, axis=0) / 2
        probabilities[~fitted] = scipy.special.softmax(features[~fitted] @ weights + bias, axis=1)
    return probabilities
