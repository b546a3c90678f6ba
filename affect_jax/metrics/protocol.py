"""The evaluation protocol: computes, compares, prints and writes all scores of a predictions table.

The score names are those of `scores.json`. Scores are computed with NumPy, without JAX, so the same
code scores predictions of any model.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tabulate

from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically
from affect_jax.core.registry import describe_unknown_name
from affect_jax.core.version import __version__
from affect_jax.facs.action_units import UNITS
from affect_jax.metrics import action_units, categorical, dimensional, resampling, soft_labels
from affect_jax.metrics.base import MAX_MAGNITUDE, Scorer, Scores, score_faces
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

SOFT_HEADLINES = ("soft.expected_accuracy", "soft.human_accuracy", "soft.kl", "soft.jsd")
"""Headline scores of data with distributions over the classes, or votes."""

MULTITASK_PARTS = (
    "dimensional.mean.ccc",
    "categorical.top1.original.f1.macro",
    "action_units.mean.f1",
)
"""Terms of the multi-task score, as in the ABAW challenges (Kollias 2022)."""

NEEDS_PROBABILITIES = re.compile(r"categorical\.(top2|top1\.\w+\.(auc|auc_pr|calibration_error)\b)")
"""Scores that predicted classes without probabilities cannot have."""

MODELS = {
    "categorical": categorical.create_bootstrap_scorer,
    "soft": soft_labels.create_scorer,
    "dimensional": dimensional.create_scorer,
    "action_units": action_units.create_scorer,
}
"""By prefix of the scores: creates their scorer from the return value of `select_inputs`."""


def score(
    predictions: Predictions, *, draws: int = 200, seed: int = 0, bootstrap: int = 0
) -> Scores:
    """Computes all scores of all models in the table, each on its annotated faces only.

    If a table has at least two of `MULTITASK_PARTS`, their sum is the score `multitask`.

    **Arguments:**

    - `draws`: number of draws for skew-normalised scores.
    - `seed`: random seed of the draws and the bootstrap.
    - `bootstrap`: number of bootstrap samples for the 95 % intervals (`resampling.REPLICATES` are
      enough). If 0, no intervals are computed.

    **Returns:** scores, named as in `scores.json`: `categorical.top1.original.f1.macro`, ...

    **Raises:** `UserError` if a prediction is not a finite number.
    """
    scores = Scores()
    for model, (rows, inputs) in select_inputs(predictions).items():
        if model == "categorical":
            part = categorical.score_categorical(*inputs, draws=draws, seed=seed)
        else:
            part = score_faces(MODELS[model](*inputs), len(rows))
        scores.update(part, prefix=model)
    if predictions.is_hard:
        for field in (scores.values, scores.deviations, scores.counts):
            for name in [name for name in field if NEEDS_PROBABILITIES.match(name)]:
                del field[name]
    parts = [name for name in MULTITASK_PARTS if name in scores.values]
    if len(parts) > 1:
        scores.values["multitask"] = sum(scores.values[name] for name in parts)
        scores.counts["multitask"] = (len(parts), len(MULTITASK_PARTS))
    if bootstrap and scores.values:
        sampled = bootstrap_scores(predictions, bootstrap, seed)
        scores.intervals.update(resampling.compute_intervals(scores.values, sampled))
    return scores


def select_inputs(table: Predictions) -> dict[str, tuple[np.ndarray, tuple[Any, ...]]]:
    """Selects the models with labels and predictions, and their annotated faces.

    **Returns:** by model, the rows of these faces and the arguments of its function in `MODELS`.
    """
    labels = table.expression
    inputs = {
        "categorical": (labels, table.probabilities, table.classes),
        "soft": (table.distribution, table.probabilities, table.votes),
        "dimensional": (
            table.valence_arousal,
            table.valence_arousal_predicted,
            labels,
            table.classes,
        ),
        "action_units": (table.action_units, table.action_units_predicted, table.units),
    }
    selected = {}
    for model, (targets, predicted, *_) in inputs.items():
        if targets is None or predicted is None:
            continue
        known = np.isfinite(targets) if targets.ndim == 2 else targets[:, None] >= 0
        # A face may lack the labels of some units.
        known = known.any(axis=1) if model == "action_units" else known.all(axis=1)
        if not known.any():
            continue
        is_usable = np.abs(predicted[known]) < MAX_MAGNITUDE
        if not is_usable.all():
            raise UserError(
                f"{np.sum(~is_usable):,} of {is_usable.size:,} predictions of the {model} model "
                "are not usable numbers"
            )
        arrays = (x[known] if isinstance(x, np.ndarray) else x for x in inputs[model])
        selected[model] = np.flatnonzero(known), tuple(arrays)
    return selected


def bootstrap_scores(predictions: Predictions, replicates: int, seed: int) -> dict[str, np.ndarray]:
    """Computes the scores of bootstrap samples of all faces: float64 [replicates] by name.

    All models are scored on the same samples.
    """
    return resampling.bootstrap_scores(
        create_scorer(predictions), len(predictions), replicates=replicates, seed=seed
    )


def create_scorer(predictions: Predictions) -> Scorer:
    """Creates a scorer of all models, with the names of `score`, for weights [K, N]."""
    scorers = {
        model: (rows, MODELS[model](*inputs))
        for model, (rows, inputs) in select_inputs(predictions).items()
    }

    def score_models(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores: dict[str, np.ndarray] = {}
        for model, (rows, scorer) in scorers.items():
            for name, array in scorer(np.take(weights, rows, axis=1)).items():
                if not name.endswith(".best_threshold"):  # it is the same for all weights
                    scores[f"{model}.{name}"] = array
        parts = [scores[name] for name in MULTITASK_PARTS if name in scores]
        return scores | {"multitask": np.sum(parts, axis=0)}

    return score_models


def validate_score_name(name: str, heads: Sequence[str], classes: Sequence[str]) -> str | None:
    """Checks a score name, with or without a leading `-`, for a model with these heads.

    **Arguments:** `heads`: also `expression_distribution` and `votes`, if the data have them.

    **Returns:** an error message, or None if the model has this score on fully labelled faces.
    """
    count = len(classes)
    probabilities = np.full((count, count), 1 / count)
    axes, units = np.zeros((count, 2)), np.full((count, len(UNITS)), 0.5)
    table = Predictions(
        id=np.arange(count).astype(str),
        classes=tuple(classes),
        expression=np.arange(count),
        probabilities=probabilities if "expression" in heads else None,
        distribution=probabilities if "expression_distribution" in heads else None,
        votes=np.ones_like(probabilities) if "votes" in heads else None,
        valence_arousal=axes,
        valence_arousal_predicted=axes if "valence_arousal" in heads else None,
        units=tuple(UNITS),
        action_units=units,
        action_units_predicted=units if "action_units" in heads else None,
    )
    names = score(table, draws=1).values
    if name.removeprefix("-") in names:
        return None
    return describe_unknown_name(name, select_headlines(Scores(names)))


def describe_unscored(predictions: Predictions) -> list[str]:
    """Describes predictions without scores because labels are missing, and missing scores."""
    predicted = {
        "categorical": predictions.probabilities,
        "dimensional": predictions.valence_arousal_predicted,
        "action_units": predictions.action_units_predicted,
    }
    scored = select_inputs(predictions)
    unscored = [m for m, array in predicted.items() if array is not None and m not in scored]
    return [f"{model}: no face has the labels" for model in unscored] + [*predictions.notes]


def describe_constant_prediction(predictions: Predictions) -> str:
    """Compares a model that predicts one class for all faces with chance; else returns ""."""
    _, inputs = select_inputs(predictions).get("categorical", (None, None))
    if inputs is None:
        return ""
    labels, probabilities, classes = inputs
    predicted = np.unique(categorical.predict_top1(probabilities))
    shares = np.bincount(labels, minlength=len(classes)) / len(labels)
    if len(predicted) > 1 or shares.max() == 1:
        return ""
    return (
        f"every face is predicted as {classes[predicted[0]]}, with accuracy "
        f"{shares[predicted[0]]:.3f}; the most frequent class, {classes[shares.argmax()]}, for "
        f"every face has {shares.max():.3f}, chance {1 / len(classes):.3f}"
    )


def select_headlines(scores: Scores) -> dict[str, float]:
    """Returns the headline scores."""
    names = (*HEADLINES, *SOFT_HEADLINES)
    return {name: scores.values[name] for name in names if name in scores.values}


def format_summary(scores: Scores) -> str:
    """Formats tables for the terminal: headlines, F1 of each class and undefined scores."""
    values = nan_to_none(scores.values)
    format_table = functools.partial(tabulate.tabulate, floatfmt=".3f", missingval="undefined")
    names = list(select_headlines(scores))
    intervals = [[f"{end:.3f}" for end in scores.intervals.get(name, ())] for name in names]
    columns = {
        "score": names,
        "value": [values[name] for name in names],
        "95 % interval": [" to ".join(ends) for ends in intervals],
        "": [format_partial_count(scores, name) for name in names],
    }
    filled = {header: cells for header, cells in columns.items() if set(cells) - {""}}
    tables = [format_table(filled, "keys")]
    kinds = [f"{top}.{skew}" for top in ("top1", "top2") for skew in ("original", "normalised")]
    kinds = [kind for kind in kinds if f"categorical.{kind}.f1.macro" in values]
    prefix = "categorical.top1.original.f1."
    classes = [name.removeprefix(prefix) for name in values if name.startswith(prefix)]
    if classes:
        rows = [[c, *(values[f"categorical.{kind}.f1.{c}"] for kind in kinds)] for c in classes]
        headers = ("F1", "top-1", "top-1 norm.", "top-2", "top-2 norm.")
        tables.append(format_table(rows, headers[: 1 + len(kinds)]))
    if scores.reasons:
        name, reason = next(iter(scores.reasons.items()))
        tables.append(f"undefined: {len(scores.reasons)} scores ({name}: {reason}, ...)")
    return "\n\n".join(tables)


def format_partial_count(scores: Scores, name: str) -> str:
    """Returns `over 7 of 8` for a mean that leaves out undefined values, else an empty string."""
    count, total = scores.counts.get(name, (0, 0))
    return f"over {count} of {total}" if count < total else ""


def write_scores(
    scores: Scores, path: pathlib.Path, metadata: Mapping[str, Any], **parts: Mapping[str, Any]
) -> None:
    """Writes `scores.json` atomically.

    The file has the metadata and the versions in `about`. By score name: the number in `scores`
    (null if undefined), `[low, high]` in `intervals`, and if present the standard deviation over
    draws in `deviations`, `[number averaged, number of all]` in `counts` and the reason in
    `undefined`.

    **Arguments:**

    - `metadata`: the origin of the predictions.
    - `parts`: other keys of the file, `groups` and `protocols`; empty ones are left out.
    """
    versions = {"affect_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    content = {
        "about": {**metadata, "versions": versions},
        "scores": nan_to_none(scores.values),
        "intervals": scores.intervals,
        "deviations": nan_to_none(scores.deviations),
        "counts": scores.counts,
        "undefined": scores.reasons,
    }
    content |= {key: part for key, part in parts.items() if part}
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def nan_to_none(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Replaces NaN, which JSON lacks, by None."""
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}
