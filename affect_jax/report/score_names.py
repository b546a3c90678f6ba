"""Display names of scores and formatting of their values."""

from __future__ import annotations

import math
from collections.abc import Mapping

from affect_jax.metrics.base import Scores

RULE_NAMES = {"top1": "top-1", "top2": "top-2"}
SKEW_NAMES = {"original": "Orig", "normalised": "Norm"}
MEAN_NAMES = {"dimensional": "mean of both axes", "action_units": "mean of units"}
METRIC_NAMES = {
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
    "icc": "ICC(3,1)",
    "best_f1": "Best F1",
    "best_threshold": "Best threshold",
    "expected_accuracy": "Expected accuracy",
    "human_accuracy": "Accuracy of a rater",
    "kl": "KL divergence",
    "jsd": "JS divergence",
}


def format_title(name: str) -> str:
    """Formats a score name of `scores.json` for display.

    Example: `categorical.top1.original.f1.macro` becomes `F1, macro · top-1, Orig`. A name that no
    version of affect_jax writes is returned unchanged.
    """
    match name.split("."):
        case ["multitask"]:
            return "Multi-task score"
        case ["soft", metric] if metric in METRIC_NAMES:
            return METRIC_NAMES[metric]
        case ["categorical", rule, skew, metric, *subject] if metric in METRIC_NAMES:
            suffix = f" · {RULE_NAMES.get(rule, rule)}, {SKEW_NAMES.get(skew, skew)}"
            return ", ".join((METRIC_NAMES[metric], *subject)) + suffix
        case [model, subject, metric, *within] if metric in METRIC_NAMES:
            subject = MEAN_NAMES.get(model, subject) if subject == "mean" else subject
            return ", ".join((f"{METRIC_NAMES[metric]}, {subject}", *within))
        case _:
            return name


def format_score(value: float | None, digits: int = 3, sign: str = "-") -> str:
    """Formats a score with a true minus sign; NaN and None are `undefined`."""
    if value is None or math.isnan(value):
        return "undefined"
    return f"{value:{sign}z.{digits}f}".replace("-", "−")


def format_difference(value: float, digits: int = 3) -> str:
    """Formats a number with its sign, such as `+0.012`; zero has no sign; NaN is undefined."""
    return format_score(value, digits, "+" if round(value, digits) else "-")


def format_interval(intervals: Mapping[str, tuple[float, float]], name: str) -> str:
    """Formats an interval, such as `0.512 to 0.561`; empty if the score has none."""
    return " to ".join(map(format_score, intervals.get(name, ())))


def format_p_value(scores: Scores, name: str) -> str:
    """Formats a p-value, such as `p = 0.013` or `p < 0.001`; empty if the score has none."""
    value = scores.p_values.get(name)
    if value is None:
        return ""
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"
