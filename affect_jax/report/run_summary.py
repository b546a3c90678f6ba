"""Summary of a run for its report: evaluation, machines, versions and comparability."""

from __future__ import annotations

from typing import Any

from affect_jax.report import published_scores
from affect_jax.report.runs import Run

DATA_NAMES = {
    "affectnet": "AffectNet",
    "synthetic_faces": "rendered faces (synthetic_faces)",
}
"""Display names of datasets; others are displayed by their own name."""


def summarize(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the facts of a run by heading, then by term, from `about` of `scores.json`."""
    about = {
        key: "; ".join(value) if isinstance(value, list) else value
        for key, value in run.metadata.items()
        if key != "predictions"  # a path of the machine of the evaluation
    }
    details = {key: value for key, value in about.items() if isinstance(value, dict)}
    evaluation = {key: value for key, value in about.items() if key not in details}
    return {
        "Evaluation": evaluation | {"classes": ", ".join(run.predictions.classes)},
        **{key.replace("_", " ").capitalize(): facts for key, facts in details.items()},
    }


def describe_data(run: Run) -> str:
    """Returns the dataset's display name, `data of unknown origin` if it is not named."""
    name = run.metadata.get("data", "")
    if name == "affectnet" and published_scores.why_not_comparable(run.metadata, run.predictions):
        return "faces in AffectNet’s layout"
    return DATA_NAMES.get(name, name) or "data of unknown origin"


def describe_comparability(run: Run) -> tuple[bool, list[str]]:
    """Returns whether the run is comparable with the paper, and the page's notice about it."""
    reason = published_scores.why_not_comparable(run.metadata, run.predictions)
    if reason:
        return False, [
            f"Not AffectNet: {describe_data(run)}.",
            f"{reason} Do not compare the scores on this page with scores published on AffectNet.",
        ]
    lines = ["AffectNet, validation split."]
    strategy = published_scores.infer_strategy(run.config)
    published = published_scores.select_published(run)
    if "categorical.top1.original.f1.macro" in published.keys() & run.scores.values.keys():
        lines.append(
            f"The published F1 scores are those of the paper’s AlexNet, {strategy}, on "
            f"{published_scores.TEST_SPLIT}, which was not released and is skewed. The validation "
            "split has 500 faces of each expression, so Orig and Norm are the same; compare them "
            "with the paper’s Norm."
        )
    if "dimensional.valence.ccc" in run.scores.values:
        lines.append(
            "The published scores of valence and arousal are those of the paper’s AlexNet on "
            f"{published_scores.VALIDATION_SPLIT}, as later work cites them."
        )
    return True, lines
