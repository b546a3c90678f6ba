"""Area under the ROC curve of estimated action units, for one expression against neutral.

There are four contrasts. Each uses one unit of the EMFACS prototype, two of them also a unit that
often replaces it. The score of two units is the larger intensity. The baseline is a single distance
between landmarks, without the rig.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tabulate
from scipy.stats import mannwhitneyu

from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import align_eyes

NEUTRAL = "neutral"

CONTRASTS: dict[str, tuple[int, ...]] = {
    "happiness": (12,),
    "surprise": (25, 26),
    "disgust": (9, 10),
    "anger": (4,),
}
"""Expression -> units that separate it from neutral."""


def compute_aucs(
    intensities: np.ndarray, expressions: np.ndarray
) -> dict[tuple[str, tuple[int, ...]], tuple[float, int, int]]:
    """Computes the area under the ROC curve of units and of pairs of units; 0.5 is chance.

    **Arguments:**

    - `intensities`: float [n, 18]; faces with NaN are excluded.
    - `expressions`: str [n], names of the expressions.

    **Returns:**

    `{(expression, units): (area, number of faces with the expression, number of neutral faces)}`: a
    pair of units first, then each of the two. The area is NaN if either number is 0.
    """
    is_finite = np.isfinite(intensities).all(axis=1)
    aucs = {}
    for name, contrast in CONTRASTS.items():
        for units in dict.fromkeys((contrast, *((unit,) for unit in contrast))):
            strongest = intensities[:, [UNITS.index(unit) for unit in units]].max(axis=1)
            aucs[name, units] = _auc_and_counts(strongest[is_finite], expressions[is_finite], name)
    return aucs


def _auc_and_counts(
    values: np.ndarray, expressions: np.ndarray, name: str
) -> tuple[float, int, int]:
    """Returns the area, and the numbers of faces with the expression and of neutral faces.

    Faces whose value is NaN are excluded.
    """
    is_finite = np.isfinite(values)
    positive, negative = (values[is_finite & (expressions == label)] for label in (name, NEUTRAL))
    return roc_auc(positive, negative), len(positive), len(negative)


def landmark_distances(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Computes one distance per expression that grows with it: [n] each, in face units.

    The distances are: width of the mouth plus height of its corners; opening of the mouth; how
    close the upper lip is to the nose; how low the inner brows are.

    **Arguments:**

    - `landmarks`: float [n, 68, 2] in pixels, NaN for a face without landmarks.
    """
    x, y = np.moveaxis(align_eyes(np.asarray(landmarks, np.float64)), -1, 0)
    corners = (y[:, 48] + y[:, 54]) / 2
    return {
        "happiness": x[:, 54] - x[:, 48] + (y[:, 62] + y[:, 66]) / 2 - corners,
        "surprise": y[:, 66] - y[:, 62],
        "disgust": y[:, 33] - y[:, 51],
        "anger": (y[:, 21] + y[:, 22]) / 2,
    }


def roc_auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive value exceeds a negative one; a tie counts half.

    This is the Mann-Whitney statistic divided by the number of pairs; NaN if there is no pair.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    # "asymptotic" affects only the p-value, which is not used; "exact" takes seconds.
    statistic = mannwhitneyu(positive, negative, method="asymptotic").statistic
    return float(statistic / (len(positive) * len(negative)))


def format_table(
    intensities: np.ndarray,
    landmarks: np.ndarray,
    expressions: np.ndarray,
    splits: Mapping[str, np.ndarray],
) -> str:
    """Formats the areas as text, with one column per split.

    **Arguments:**

    - `landmarks`: landmarks from which the intensities were estimated.
    - `splits`: name -> bool [n], mask of its faces.
    """
    columns = {
        name: compute_aucs(intensities[faces], expressions[faces]) for name, faces in splits.items()
    }
    rows, distances = [], landmark_distances(landmarks)
    for name, contrast in CONTRASTS.items():
        for units in dict.fromkeys((contrast, *((unit,) for unit in contrast))):
            cells = [columns[split][name, units] for split in columns]
            text = "max of " * (len(units) > 1) + ", ".join(f"AU{unit}" for unit in units)
            rows.append([name, text, *(_format_cell(*cell) for cell in cells)])
        cells = [
            _auc_and_counts(distances[name][faces], expressions[faces], name)
            for faces in splits.values()
        ]
        rows.append([name, "distance", *(_format_cell(*cell) for cell in cells)])
    headers = ["against neutral", "unit", *columns]
    return tabulate.tabulate(rows, headers, disable_numparse=True, colalign=["left"] * len(headers))


def _format_cell(auc: float, num_positive: int, num_negative: int) -> str:
    text = f"{auc:.3f}" if np.isfinite(auc) else "-"
    return f"{text} ({num_positive:,} : {num_negative:,})"
