"""The evaluation protocol: computes, compares, prints and writes all scores of a predictions table.

The score names are those of `scores.json`. Scores are computed with NumPy, without JAX, so the same
code scores predictions of any model.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tabulate

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.core.version import __version__
from affect_jax.facs.action_units import UNITS
from affect_jax.metrics import action_units, categorical, confidence_intervals, dimensional
from affect_jax.metrics.base import Scorer, Scores, add_prefix
from affect_jax.metrics.predictions import Predictions

HEADLINES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "categorical.top1.normalised.f1.macro",
    "categorical.top2.original.f1.macro",
    "categorical.top2.normalised.f1.macro",
    "categorical.top1.original.kappa",
    "categorical.top1.original.alpha",
    "categorical.top1.original.auc.macro",
    "categorical.top1.original.auc_pr.macro",
    *(
        f"dimensional.{axis}.{name}"
        for name in ("rmse", "corr", "sagr", "ccc")
        for axis in ("valence", "arousal")
    ),
    "action_units.mean.f1",
    "action_units.mean.auc",
    "multitask",
)
"""Names of the headline scores, in display order; a model has those of its heads."""


@dataclasses.dataclass(frozen=True)
class _ScoredModel:
    """One model of a predictions table.

    **Arguments:**

    - `prefix`: the prefix of its score names.
    - `rows`: the rows of its annotated faces.
    - `score`: a function from draws and seed to the scores.
    - `create_bootstrap_scorer`: creates a scorer of bootstrap samples of `rows`.
    """

    prefix: str
    rows: np.ndarray
    score: Callable[[int, int], Scores]
    create_bootstrap_scorer: Callable[[], Scorer]


def score(
    predictions: Predictions, *, draws: int = 200, seed: int = 0, bootstrap: int = 0
) -> Scores:
    """Computes all scores of all models in the table, each on its annotated faces only.

    **Arguments:**

    - `predictions`: the predictions and labels.
    - `draws`: number of draws for skew-normalised scores.
    - `seed`: random seed of the draws and the bootstrap.
    - `bootstrap`: number of bootstrap samples for the 95 % intervals
      (`confidence_intervals.REPLICATES` are enough). If 0, no intervals are computed.

    **Returns:** scores, named as in `scores.json`: `categorical.top1.original.f1.macro`, ...

    **Raises:** `UserError` if a prediction is not a finite number; the message names the face.
    """
    models = _select_models(predictions)
    scores = [model.score(draws, seed).with_prefix(model.prefix) for model in models]
    result = _add_multitask_score(Scores.merge(scores))
    if bootstrap and models:
        sampled = confidence_intervals.bootstrap_scores(
            _create_joint_scorer(models), len(predictions), replicates=bootstrap, seed=seed
        )
        result.intervals.update(confidence_intervals.compute_intervals(result.values, sampled))
    return result


def list_score_names(heads: Sequence[str], classes: Sequence[str]) -> set[str]:
    """Lists the names of all scores of a model with these heads, on fully labelled faces."""
    num_classes, units = len(classes), tuple(UNITS)
    columns: dict[str, Any] = {"id": np.arange(num_classes).astype(str), "classes": tuple(classes)}
    columns["expression"] = np.arange(num_classes)
    if "expression" in heads:
        columns["probabilities"] = np.full((num_classes, num_classes), 1 / num_classes)
    if "valence_arousal" in heads:
        zeros = np.zeros((num_classes, 2))
        columns["valence_arousal"] = columns["valence_arousal_predicted"] = zeros
    if "action_units" in heads:
        zeros = np.zeros((num_classes, len(units)))
        columns["units"] = units
        columns["action_units"] = columns["action_units_predicted"] = zeros
    return set(score(Predictions(**columns), draws=1).values)


def validate_score_name(name: str, heads: Sequence[str], classes: Sequence[str]) -> str | None:
    """Checks a score name, with or without a leading `-`, for a model with these heads.

    **Returns:** an error message, or None if the model has this score.
    """
    names = list_score_names(heads, classes)
    if name.removeprefix("-") in names:
        return None
    return describe_unknown_name(name, [headline for headline in HEADLINES if headline in names])


def describe_unscored(predictions: Predictions) -> list[str]:
    """Describes the predictions that no score uses because labels are missing, one per message."""
    messages = []
    expression = _labels_or_nan(predictions.expression)
    if predictions.probabilities is not None and not np.any(expression >= 0):
        messages.append("expressions: no face has a label")
    if predictions.valence_arousal_predicted is not None:
        annotated = np.isfinite(_labels_or_nan(predictions.valence_arousal, 2))
        if not annotated.all(axis=1).any():
            messages.append("valence and arousal: no face has labels of both")
        elif num_partial := int((annotated.any(axis=1) & ~annotated.all(axis=1)).sum()):
            messages.append(
                f"valence and arousal of {num_partial:,} faces with only one of the two labels"
            )
    if predictions.action_units_predicted is not None:
        labels = _labels_or_nan(predictions.action_units, len(predictions.units)).T
        pairs = zip(predictions.units, labels, strict=True)
        names = [f"AU{unit}" for unit, unit_labels in pairs if not np.isfinite(unit_labels).any()]
        if names:
            messages.append(f"{', '.join(names)}: no face has a label")
    return messages


def _labels_or_nan(labels: np.ndarray | None, *shape: int) -> np.ndarray:
    """Returns the labels, or one row of NaN if there are none."""
    return np.full((1, *shape), np.nan) if labels is None else labels


def compare(
    first: Predictions,
    second: Predictions,
    *,
    draws: int = 200,
    seed: int = 0,
    bootstrap: int = confidence_intervals.REPLICATES,
) -> Scores:
    """Computes second minus first for every score that both have, with paired bootstrap intervals.

    Both models are scored on the same draws and bootstrap samples. The difficulty of a sample
    therefore cancels out, and an interval is far narrower than the two models' own intervals
    suggest. If an interval excludes 0, the choice of test faces alone rarely explains the
    difference; training again with another seed still may.

    **Arguments:** as for `score`; both tables must have the same faces, in any order.

    **Raises:** `UserError` if faces, classes or labels differ.
    """
    second = align(first, second)
    tables = (first, second)
    first_scores, second_scores = (score(table, draws=draws, seed=seed) for table in tables)
    names = [name for name in first_scores.values if name in second_scores.values]
    if first_scores.counts.get("multitask") != second_scores.counts.get("multitask"):
        names.remove("multitask")  # sums of different scores
    changes = {name: second_scores.values[name] - first_scores.values[name] for name in names}
    result = Scores(changes)
    for name in names:
        for scores, which in ((first_scores, "first"), (second_scores, "second")):
            if name in scores.reasons:
                result.reasons[name] = f"undefined for the {which}: {scores.reasons[name]}"
    if bootstrap and names:
        first_samples, second_samples = (
            confidence_intervals.bootstrap_scores(
                _create_joint_scorer(_select_models(table)),
                len(table),
                replicates=bootstrap,
                seed=seed,
            )
            for table in tables
        )
        for name in names:
            if name in first_samples and name in second_samples:
                ends = confidence_intervals.compute_interval(
                    result.values[name], second_samples[name] - first_samples[name]
                )
                if ends:
                    result.intervals[name] = ends
    return result


def _select_models(predictions: Predictions) -> list[_ScoredModel]:
    """Selects the models with both labels and predictions."""
    models = []
    expression, probabilities = predictions.expression, predictions.probabilities
    if probabilities is not None and expression is not None and (expression >= 0).any():
        rows = np.flatnonzero(expression >= 0)
        classified = (expression[rows], probabilities[rows], predictions.classes)
        models.append(
            _ScoredModel(
                "categorical",
                rows,
                lambda draws, seed: categorical.score_categorical(
                    *classified, draws=draws, seed=seed
                ),
                lambda: categorical.create_bootstrap_scorer(*classified),
            )
        )
    labels, predicted = predictions.valence_arousal, predictions.valence_arousal_predicted
    if predicted is not None and labels is not None and np.isfinite(labels).all(axis=1).any():
        rows = np.flatnonzero(np.isfinite(labels).all(axis=1))
        groups = None if expression is None else expression[rows]
        axes = (labels[rows], predicted[rows], groups, predictions.classes)
        models.append(
            _ScoredModel(
                "dimensional",
                rows,
                lambda draws, seed: dimensional.score_dimensional(*axes),
                lambda: dimensional.create_scorer(*axes),
            )
        )
    labels, predicted = predictions.action_units, predictions.action_units_predicted
    if predicted is not None and labels is not None and np.isfinite(labels).any():
        units = (labels, predicted, predictions.units)
        models.append(
            _ScoredModel(
                "action_units",
                np.arange(len(predictions)),
                lambda draws, seed: action_units.score_action_units(*units),
                lambda: action_units.create_scorer(*units),
            )
        )
    return models


def _create_joint_scorer(models: Sequence[_ScoredModel]) -> Scorer:
    """Creates a scorer of samples of all faces, so that all models use the same samples."""
    scorers = [(model, model.create_bootstrap_scorer()) for model in models]

    def score_models(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores: dict[str, np.ndarray] = {}
        for model, scorer in scorers:
            scores |= add_prefix(scorer(np.take(weights, model.rows, axis=1)), model.prefix)
        parts = [scores[name] for name in MULTITASK_PARTS if name in scores]
        return scores | {"multitask": np.sum(parts, axis=0)} if len(parts) > 1 else scores

    return score_models


def align(first: Predictions, second: Predictions) -> Predictions:
    """Returns the second table with its faces in the order of the first.

    **Raises:** `UserError` if faces, classes or labels differ.
    """
    row_of = {name: row for row, name in enumerate(second.id.tolist())}
    missing = [name for name in first.id.tolist() if name not in row_of]
    if missing or len(first) != len(second):
        only = f"; {missing[0]!r} is in the first only" if missing else ""
        raise UserError(
            f"models must be compared on the same faces, got {len(first)} and {len(second)} "
            f"faces{only}"
        )
    rows = np.array([row_of[name] for name in first.id.tolist()])
    second = second.select(rows)
    for name in ("classes", "units", "expression", "valence_arousal", "action_units"):
        a, b = getattr(first, name), getattr(second, name)
        if a is None or b is None or not (len(a) and len(b)):
            continue  # only one table has this model
        if np.shape(a) != np.shape(b) or np.any(_differs(np.asarray(a), np.asarray(b))):
            raise UserError(f"models must be compared on the same labels, but {name} differs")
    return second


def _differs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if first.dtype.kind != "f":
        return first != second
    return ~((first == second) | (np.isnan(first) & np.isnan(second)))


MULTITASK_PARTS = (
    "dimensional.mean.ccc",
    "categorical.top1.original.f1.macro",
    "action_units.mean.f1",
)
"""Terms of the multi-task score, as in the ABAW challenges (Kollias 2022)."""


def _add_multitask_score(scores: Scores) -> Scores:
    """Adds mean CCC + macro F1 + mean unit F1 if a model has at least two of the three."""
    names = [name for name in MULTITASK_PARTS if name in scores.values]
    if len(names) < 2:
        return scores
    total = float(sum(scores.values[name] for name in names))
    undefined = [name for name in names if name in scores.reasons]
    reasons = {"multitask": f"{undefined[0]} is undefined"} if undefined else {}
    added = Scores(
        {"multitask": total},
        reasons=reasons,
        counts={"multitask": (len(names), len(MULTITASK_PARTS))},
    )
    return Scores.merge([scores, added])


def select_headlines(scores: Scores) -> dict[str, float]:
    """Returns the headline scores."""
    return {name: scores.values[name] for name in HEADLINES if name in scores.values}


def format_summary(scores: Scores) -> str:
    """Formats tables for the terminal: headlines, F1 of each class and undefined scores."""
    rows = []
    for name, value in select_headlines(scores).items():
        interval, count = _format_interval(scores, name), format_partial_count(scores, name)
        rows.append((name, _format_score(value), interval, count))
    headers = ("score", "value", "95 % interval", "")
    tables = [tabulate.tabulate(rows, headers=headers, disable_numparse=True)]
    prefix = "categorical.top1.original.f1."
    classes = [name.removeprefix(prefix) for name in scores.values if name.startswith(prefix)]
    if classes:
        columns = [f"categorical.{top}.{skew}.f1" for top in ("top1", "top2") for skew in _SKEWS]
        body = [
            [name, *(_format_score(scores.values[f"{column}.{name}"]) for column in columns)]
            for name in classes
        ]
        headers = ("F1", "top-1", "top-1 norm.", "top-2", "top-2 norm.")
        tables.append(tabulate.tabulate(body, headers=headers, disable_numparse=True))
    if scores.reasons:
        name, reason = next(iter(scores.reasons.items()))
        tables.append(f"undefined: {len(scores.reasons)} scores ({name}: {reason}, ...)")
    return "\n\n".join(tables)


_SKEWS = ("original", "normalised")


def _format_score(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _format_interval(scores: Scores, name: str) -> str:
    if name not in scores.intervals:
        return ""
    low, high = scores.intervals[name]
    return f"{low:.3f} to {high:.3f}"


def format_partial_count(scores: Scores, name: str) -> str:
    """Returns `over 7 of 8` for a mean that leaves out undefined values, else an empty string."""
    count, total = scores.counts.get(name, (0, 0))
    return f"over {count} of {total}" if count < total else ""


def to_json(scores: Scores, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of `scores.json`.

    **Arguments:**

    - `metadata`: the origin of the predictions.

    **Returns:**

    The metadata and the versions in `about`. By score name: the number in `scores` (null if
    undefined), `[low, high]` in `intervals`, and if present the standard deviation over draws in
    `deviations`, `[number averaged, number of all]` in `counts` and the reason in `undefined`.
    """
    versions = {"affect_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {
        "about": {**metadata, "versions": versions},
        "scores": _nan_to_none(scores.values),
        "intervals": {name: list(ends) for name, ends in scores.intervals.items()},
        "deviations": _nan_to_none(scores.deviations),
        "counts": {name: list(pair) for name, pair in scores.counts.items()},
        "undefined": dict(scores.reasons),
    }


def _nan_to_none(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Replaces NaN, which JSON lacks, by None."""
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def write_scores(scores: Scores, path: pathlib.Path, metadata: Mapping[str, Any]) -> None:
    """Writes `scores.json` atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(to_json(scores, metadata), indent=1, allow_nan=False) + "\n")
    partial.replace(path)
