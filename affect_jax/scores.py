"""The protocol's scores of a table of predictions, under the names of `scores.json`.

Pure NumPy: JAX is not loaded, so that anybody's predictions are scored by the same code.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import pathlib
import platform
from typing import Any

import numpy as np
import tabulate

import affect_jax
from affect_jax.metrics import action_units, categorical, dimensional
from affect_jax.metrics.base import Scores
from affect_jax.predictions import Predictions

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
"""What is shown first, where a model has it."""


def score(predictions: Predictions, *, draws: int = 200, seed: int = 0) -> Scores:
    """All scores of the models that the table holds; each sees annotated faces only.

    **Arguments:**

    - `draws`: of the skew-normalised scores.
    - `seed`: of the draws.

    **Returns:** names as in `scores.json`: `categorical.top1.original.f1.macro`, ...
    """
    parts = []
    p = predictions
    if p.probabilities is not None and p.expression is not None and (p.expression >= 0).any():
        rows = p.expression >= 0
        found = categorical.categorical(
            p.expression[rows], p.probabilities[rows], p.classes, draws=draws, seed=seed
        )
        parts.append(found.prefixed("categorical"))
    if p.valence_arousal_predicted is not None and p.valence_arousal is not None:
        rows = np.isfinite(p.valence_arousal).all(axis=1)
        if rows.any():
            found = dimensional.dimensional(
                p.valence_arousal[rows],
                p.valence_arousal_predicted[rows],
                None if p.expression is None else p.expression[rows],
                p.classes,
            )
            parts.append(found.prefixed("dimensional"))
    if p.action_units_predicted is not None and p.action_units is not None:
        if np.isfinite(p.action_units).any():
            found = action_units.action_units(p.action_units, p.action_units_predicted, p.units)
            parts.append(found.prefixed("action_units"))
    result = Scores.merge(parts)
    return _with_multitask(result)


def _with_multitask(scores: Scores) -> Scores:
    """Adds mean CCC + macro-F1 + mean unit F1 where a model has at least two of the three."""
    names = (
        "dimensional.mean.ccc",
        "categorical.top1.original.f1.macro",
        "action_units.mean.f1",
    )
    found = [scores.values[name] for name in names if name in scores.values]
    if len(found) < 2:
        return scores
    return Scores.merge([scores, Scores({"multitask": float(sum(found))})])


def headlines(scores: Scores) -> dict[str, float]:
    """The scores that are shown first."""
    return {name: scores.values[name] for name in HEADLINES if name in scores.values}


def summary(scores: Scores) -> str:
    """A table for the terminal: headlines, then precision, recall and F1 of each class."""
    rows = [(name, _number(value)) for name, value in headlines(scores).items()]
    tables = [tabulate.tabulate(rows, headers=("score", "value"), disable_numparse=True)]
    prefix = "categorical.top1.original.f1."
    classes = [name.removeprefix(prefix) for name in scores.values if name.startswith(prefix)]
    if classes:
        columns = [f"categorical.{top}.{skew}.f1" for top in ("top1", "top2") for skew in _SKEWS]
        body = [
            [name, *(_number(scores.values[f"{column}.{name}"]) for column in columns)]
            for name in classes
        ]
        headers = ("F1", "top-1", "top-1 norm.", "top-2", "top-2 norm.")
        tables.append(tabulate.tabulate(body, headers=headers, disable_numparse=True))
    return "\n\n".join(tables)


_SKEWS = ("original", "normalised")


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def as_json(scores: Scores, about: dict[str, Any]) -> dict[str, Any]:
    """What `scores.json` holds: `about`, versions and the numbers; undefined ones are null."""
    versions = {"affect_jax": affect_jax.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {
        "about": {**about, "versions": versions},
        "scores": {k: None if math.isnan(v) else v for k, v in scores.values.items()},
        "intervals": {k: list(v) for k, v in scores.intervals.items()},
        "deviations": dict(scores.deviations),
        "undefined": dict(scores.reasons),
    }


def write(scores: Scores, path: pathlib.Path, about: dict[str, Any]) -> None:
    """Writes `scores.json`; it appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(as_json(scores, about), indent=1))
    partial.replace(path)
