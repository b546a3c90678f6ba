"""What scores are called where people read them, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping

RULES = {"top1": "top-1", "top2": "top-2"}
SKEWS = {"original": "Orig", "normalised": "Norm"}
MEANS = {"dimensional": "mean of both axes", "action_units": "mean of units"}
MEASURES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "kappa": "Cohen’s kappa",
    "alpha": "Krippendorff’s alpha",
    "auc": "AUC",
    "auc_pr": "AUC-PR",
    "calibration_error": "Calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "corr": "CORR",
    "sagr": "SAGR",
    "ccc": "CCC",
    "best_f1": "Best F1",
    "best_threshold": "Best threshold",
}
MODELS = {
    "categorical": "Categorical model",
    "dimensional": "Dimensional model",
    "action_units": "Facial action units",
    "multitask": "All models together",
}
SMALLER_IS_BETTER = ("rmse", "mae", "calibration_error")


def model_of(name: str) -> str:
    """The heading under which a score stands."""
    return MODELS[name.split(".")[0]]


def title(name: str) -> str:
    """`categorical.top1.original.f1.macro` -> `F1, macro · top-1, Orig`.

    **Arguments:**

    - `name`: of `scores.json`.
    """
    model, *parts = name.split(".")
    if model == "multitask":
        return "Multi-task score"
    if model == "categorical":
        rule, skew, kind, *owner = parts
        where = f" · {RULES[rule]}, {SKEWS[skew]}"
        return ", ".join((MEASURES[kind], *owner)) + where
    owner, kind, *within = parts
    if owner == "mean":
        owner = MEANS[model]
    return ", ".join((f"{MEASURES[kind]}, {owner}", *within))


def smaller_is_better(name: str) -> bool:
    return not set(SMALLER_IS_BETTER).isdisjoint(name.split("."))


def short(name: str, limit: int = 16) -> str:
    """A name that fits into a figure: the end of a longer one is left out."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def number(value: float | None) -> str:
    """Three decimals with a true minus sign; `undefined` for NaN."""
    if value is None or math.isnan(value):
        return "undefined"
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # a zero has no sign


def share(value: float, digits: int = 2) -> str:
    """`0.25`; a dash for NaN, of a row without faces."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """With its sign, `+0.012`; a zero has none. What would be shown as zero gets a digit more."""
    digits += abs(value) >= 0.5 * 10 ** -(digits + 1) and not round(value, digits)
    rounded = round(value, digits)
    text = f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"
    return text.replace("-", "−")


def interval(intervals: Mapping[str, tuple[float, float]], name: str) -> str:
    """`0.512 to 0.561`, or nothing where the score has none."""
    if name not in intervals:
        return ""
    low, high = intervals[name]
    return f"{number(low)} to {number(high)}"
