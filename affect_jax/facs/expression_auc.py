"""How well estimated action units tell an expression from neutral: areas under the ROC curve.

Four contrasts, each of the unit that EMFACS puts first with what often stands in for it. Where two
units are named the larger intensity counts. Beside them stands what one distance between landmarks
does, without a rig.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tabulate
from scipy.stats import mannwhitneyu

from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import upright

NEUTRAL = "neutral"

CONTRASTS: dict[str, tuple[int, ...]] = {
    "happiness": (12,),
    "surprise": (25, 26),
    "disgust": (9, 10),
    "anger": (4,),
}
"""Expression -> the units that are to tell it from neutral."""


def separation(
    intensities: np.ndarray, expression: np.ndarray
) -> dict[tuple[str, tuple[int, ...]], tuple[float, int, int]]:
    """Areas under the ROC curve of units and of pairs of units; 0.5 is chance.

    **Arguments:**

    - `intensities`: float [n, 18]; faces with NaN are left out.
    - `expression`: str [n], names of the expressions.

    **Returns:**

    `{(expression, units): (area, faces of it, neutral faces)}`: a pair of units first, then each of
    the two; an area without faces on both sides is NaN.
    """
    known = np.isfinite(intensities).all(axis=1)
    found = {}
    for name, pair in CONTRASTS.items():
        for units in dict.fromkeys((pair, *((unit,) for unit in pair))):
            strongest = intensities[:, [UNITS.index(unit) for unit in units]].max(axis=1)
            found[name, units] = _contrast(strongest[known], expression[known], name)
    return found


def _contrast(values: np.ndarray, expression: np.ndarray, name: str) -> tuple[float, int, int]:
    """The area of known values, and how many faces of the expression and neutral ones have one."""
    known = np.isfinite(values)
    shown, calm = (values[known & (expression == one)] for one in (name, NEUTRAL))
    return area(shown, calm), len(shown), len(calm)


def distances(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """One distance an expression, larger where it is shown: [n] each, 1 = that between the eyes.

    The mouth's width and how high its corners are; its opening; how near the upper lip is to the
    nose; how low the inner brows are.

    **Arguments:**

    - `landmarks`: float [n, 68, 2] in pixels, NaN for a face without.
    """
    x, y = np.moveaxis(upright(np.asarray(landmarks, np.float64)), -1, 0)
    corners = (y[:, 48] + y[:, 54]) / 2
    return {
        "happiness": x[:, 54] - x[:, 48] + (y[:, 62] + y[:, 66]) / 2 - corners,
        "surprise": y[:, 66] - y[:, 62],
        "disgust": y[:, 33] - y[:, 51],
        "anger": (y[:, 21] + y[:, 22]) / 2,
    }


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that a positive lies above a negative, a tie counting half.

    It is the Mann-Whitney statistic over the number of pairs; NaN where there is no pair.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    # "asymptotic" concerns the p-value, which is not used; "exact" takes seconds.
    statistic = mannwhitneyu(positive, negative, method="asymptotic").statistic
    return float(statistic / (len(positive) * len(negative)))


def table(
    intensities: np.ndarray,
    landmarks: np.ndarray,
    expression: np.ndarray,
    splits: Mapping[str, np.ndarray],
) -> str:
    """The areas as text, a column a split.

    **Arguments:**

    - `landmarks`: that the intensities were estimated from.
    - `splits`: name -> bool [n], its faces.
    """
    columns = {
        name: separation(intensities[faces], expression[faces]) for name, faces in splits.items()
    }
    rows, raw = [], distances(landmarks)
    for name, pair in CONTRASTS.items():
        for units in dict.fromkeys((pair, *((unit,) for unit in pair))):
            cells = [columns[split][name, units] for split in columns]
            text = "max of " * (len(units) > 1) + ", ".join(f"AU{unit}" for unit in units)
            rows.append([name, text, *(_cell(*cell) for cell in cells)])
        cells = [_contrast(raw[name][faces], expression[faces], name) for faces in splits.values()]
        rows.append([name, "distance", *(_cell(*cell) for cell in cells)])
    headers = ["against neutral", "unit", *columns]
    return tabulate.tabulate(rows, headers, disable_numparse=True, colalign=["left"] * len(headers))


def _cell(value: float, shown: int, calm: int) -> str:
    return (
        f"{value:.3f} ({shown:,} : {calm:,})" if np.isfinite(value) else f"- ({shown:,} : {calm:,})"
    )
