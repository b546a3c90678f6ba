"""Probably wrong labels by confident learning (Northcutt, Jiang and Chuang 2021, section 3)."""

from __future__ import annotations

import numpy as np


def find_wrong_labels(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Finds the faces off the diagonal of the confident joint whose label is less probable.

    A face counts for the most probable of the classes whose probability is at least its mean over
    the faces with this label. The mean of a rare class is low, so many faces reach it; they are not
    listed if their own label is more probable.

    **Arguments:** `labels`: int [N], classes; `probabilities`: float [N, C].

    **Returns:** the rows, int [K], with the least probable label first; their probable classes, int
    [K]; the estimated share of wrong labels.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = probabilities[np.arange(len(labels)), labels]
    means = np.bincount(labels, own, len(counts)) / np.maximum(counts, 1)
    confident = np.where((probabilities >= means) & (counts > 0), probabilities, -1)
    probable, counted = confident.argmax(axis=1), confident.max(axis=1) >= 0
    rows = np.flatnonzero(confident.max(axis=1) > own)
    wrong = np.bincount(labels[rows], minlength=len(counts))
    joint = np.bincount(labels[counted], minlength=len(counts))
    share = np.sum(counts * wrong / np.maximum(joint, 1)) / len(labels)
    rows = rows[np.argsort(own[rows], kind="stable")]
    return rows, probable[rows], float(share)
