"""The protocol's scores of a table of predictions, under the names of `scores.json`.

Pure NumPy: JAX is not loaded, so that anybody's predictions are scored by the same code.
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
from affect_jax.core.registry import unknown
from affect_jax.core.version import __version__
from affect_jax.facs.action_units import UNITS
from affect_jax.metrics import action_units, categorical, confidence_intervals, dimensional
from affect_jax.metrics.base import Scorer, Scores, prefixed
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
"""What is shown first, where a model has it."""


@dataclasses.dataclass(frozen=True)
class _Model:
    """One of the table's models: where it goes in the names, its annotated faces, its scores.

    `score(draws, seed)` gives the scores themselves, `resampled()` what scores samples of `rows`.
    """

    prefix: str
    rows: np.ndarray
    score: Callable[[int, int], Scores]
    resampled: Callable[[], Scorer]


def score(
    predictions: Predictions, *, draws: int = 200, seed: int = 0, bootstrap: int = 0
) -> Scores:
    """All scores of the models that the table holds; each sees annotated faces only.

    **Arguments:**

    - `draws`: of the skew-normalised scores.
    - `seed`: of the draws and of the bootstrap.
    - `bootstrap`: samples for the 95 % intervals (`intervals.REPLICATES` are enough); 0: none.

    **Returns:** names as in `scores.json`: `categorical.top1.original.f1.macro`, ...

    **Raises:** `UserError` that names the face whose prediction is not a number.
    """
    models = _models(predictions)
    found = [model.score(draws, seed).prefixed(model.prefix) for model in models]
    result = _with_multitask(Scores.merge(found))
    if bootstrap and models:
        sampled = confidence_intervals.samples(
            _joint(models), len(predictions), replicates=bootstrap, seed=seed
        )
        result.intervals.update(confidence_intervals.intervals(result.values, sampled))
    return result


def names(heads: Sequence[str], classes: Sequence[str]) -> set[str]:
    """The names of all scores that a model with these heads can have, on faces with all labels."""
    count, units = len(classes), tuple(UNITS)
    columns: dict[str, Any] = {"id": np.arange(count).astype(str), "classes": tuple(classes)}
    columns["expression"] = np.arange(count)
    if "expression" in heads:
        columns["probabilities"] = np.full((count, count), 1 / count)
    if "valence_arousal" in heads:
        columns["valence_arousal"] = columns["valence_arousal_predicted"] = np.zeros((count, 2))
    if "action_units" in heads:
        columns["units"] = units
        columns["action_units"] = columns["action_units_predicted"] = np.zeros((count, len(units)))
    return set(score(Predictions(**columns), draws=1).values)


def name_problem(name: str, heads: Sequence[str], classes: Sequence[str]) -> str | None:
    """What is wrong with the name of a score, `-` in front allowed; None if a model can have it."""
    known = names(heads, classes)
    if name.removeprefix("-") in known:
        return None
    return unknown(name, [headline for headline in HEADLINES if headline in known])


def not_scored(p: Predictions) -> list[str]:
    """Sentences on what was predicted and is in no score, for want of labels."""
    found = []
    if p.probabilities is not None and not np.any(_given(p.expression) >= 0):
        found.append("expressions: no face has a label")
    if p.valence_arousal_predicted is not None:
        known = np.isfinite(_given(p.valence_arousal, 2))
        if not known.all(axis=1).any():
            found.append("valence and arousal: no face has labels of both")
        elif half := int((known.any(axis=1) & ~known.all(axis=1)).sum()):
            found.append(f"valence and arousal of {half:,} faces with a label of one of them alone")
    if p.action_units_predicted is not None:
        labels = _given(p.action_units, len(p.units)).T
        pairs = zip(p.units, labels, strict=True)
        names = [f"AU{unit}" for unit, one in pairs if not np.isfinite(one).any()]
        if names:
            found.append(f"{', '.join(names)}: no face has a label")
    return found


def _given(labels: np.ndarray | None, *shape: int) -> np.ndarray:
    """The labels, or as many NaN as one face has."""
    return np.full((1, *shape), np.nan) if labels is None else labels


def compare(
    first: Predictions,
    second: Predictions,
    *,
    draws: int = 200,
    seed: int = 0,
    bootstrap: int = confidence_intervals.REPLICATES,
) -> Scores:
    """Second minus first, of every score that both have, with paired bootstrap intervals.

    Both are scored on the same draws and the same bootstrap samples, so what makes a sample easy or
    hard for both is in neither's favour, and an interval is far narrower than the two models' own
    would suggest. One that leaves out 0 is a difference that the choice of test faces alone would
    seldom make; training again with another seed may still make it.

    **Arguments:** as of `score`; the tables hold the same faces, in any order.

    **Raises:** `UserError` where faces, classes or labels differ.
    """
    second = aligned(first, second)
    a, b = (score(one, draws=draws, seed=seed) for one in (first, second))
    names = [name for name in a.values if name in b.values]
    if a.counts.get("multitask") != b.counts.get("multitask"):
        names.remove("multitask")  # sums of other things
    result = Scores({name: b.values[name] - a.values[name] for name in names})
    for name in names:
        for side, which in ((a, "first"), (b, "second")):
            if name in side.reasons:
                result.reasons[name] = f"undefined for the {which}: {side.reasons[name]}"
    if bootstrap and names:
        before, after = (
            confidence_intervals.samples(
                _joint(_models(one)), len(one), replicates=bootstrap, seed=seed
            )
            for one in (first, second)
        )
        for name in names:
            if name in before and name in after:
                found = confidence_intervals.interval(
                    result.values[name], after[name] - before[name]
                )
                if found:
                    result.intervals[name] = found
    return result


def _models(p: Predictions) -> list[_Model]:
    """The models that the table has both labels and predictions of."""
    found = []
    if p.probabilities is not None and p.expression is not None and (p.expression >= 0).any():
        rows = np.flatnonzero(p.expression >= 0)
        given = (p.expression[rows], p.probabilities[rows], p.classes)
        found.append(
            _Model(
                "categorical",
                rows,
                lambda draws, seed: categorical.categorical(*given, draws=draws, seed=seed),
                lambda: categorical.resampled(*given),
            )
        )
    if p.valence_arousal_predicted is not None and p.valence_arousal is not None:
        rows = np.flatnonzero(np.isfinite(p.valence_arousal).all(axis=1))
        if len(rows):
            expression = None if p.expression is None else p.expression[rows]
            pair = (p.valence_arousal[rows], p.valence_arousal_predicted[rows])
            axes = (*pair, expression, p.classes)
            found.append(
                _Model(
                    "dimensional",
                    rows,
                    lambda draws, seed: dimensional.dimensional(*axes),
                    lambda: dimensional.scorer(*axes),
                )
            )
    if p.action_units_predicted is not None and p.action_units is not None:
        if np.isfinite(p.action_units).any():
            units = (p.action_units, p.action_units_predicted, p.units)
            found.append(
                _Model(
                    "action_units",
                    np.arange(len(p)),
                    lambda draws, seed: action_units.action_units(*units),
                    lambda: action_units.scorer(*units),
                )
            )
    return found


def _joint(models: Sequence[_Model]) -> Scorer:
    """What scores samples of all faces of the table, so that all models see the same samples."""
    scorers = [(model, model.resampled()) for model in models]

    def joint(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for model, scorer in scorers:
            found |= prefixed(scorer(np.take(weights, model.rows, axis=1)), model.prefix)
        parts = [found[name] for name in MULTITASK if name in found]
        return found | {"multitask": np.sum(parts, axis=0)} if len(parts) > 1 else found

    return joint


def aligned(first: Predictions, second: Predictions) -> Predictions:
    """The second table with its faces in the order of the first.

    **Raises:** `UserError` where faces, classes or labels differ.
    """
    place = {name: row for row, name in enumerate(second.id.tolist())}
    missing = [name for name in first.id.tolist() if name not in place]
    if missing or len(first) != len(second):
        only = f"; {missing[0]!r} is in the first only" if missing else ""
        raise UserError(
            f"two models are compared on the same faces: {len(first)} and {len(second)} given{only}"
        )
    rows = np.array([place[name] for name in first.id.tolist()])
    second = second.take(rows)
    for name in ("classes", "units", "expression", "valence_arousal", "action_units"):
        one, other = getattr(first, name), getattr(second, name)
        if one is None or other is None or not (len(one) and len(other)):
            continue  # a model that only one of them has
        if np.shape(one) != np.shape(other) or np.any(_differ(np.asarray(one), np.asarray(other))):
            raise UserError(f"two models are compared on the same labels: {name} differs")
    return second


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if one.dtype.kind != "f":
        return one != other
    return ~((one == other) | (np.isnan(one) & np.isnan(other)))


MULTITASK = (
    "dimensional.mean.ccc",
    "categorical.top1.original.f1.macro",
    "action_units.mean.f1",
)
"""What the multi-task score is the sum of, as in the ABAW challenges (Kollias 2022)."""


def _with_multitask(scores: Scores) -> Scores:
    """Adds mean CCC + macro-F1 + mean unit F1 where a model has at least two of the three."""
    names = [name for name in MULTITASK if name in scores.values]
    if len(names) < 2:
        return scores
    total = float(sum(scores.values[name] for name in names))
    undefined = [name for name in names if name in scores.reasons]
    reasons = {"multitask": f"{undefined[0]} is undefined"} if undefined else {}
    added = Scores(
        {"multitask": total}, reasons=reasons, counts={"multitask": (len(names), len(MULTITASK))}
    )
    return Scores.merge([scores, added])


def headlines(scores: Scores) -> dict[str, float]:
    """The scores that are shown first."""
    return {name: scores.values[name] for name in HEADLINES if name in scores.values}


def summary(scores: Scores) -> str:
    """Tables for the terminal: headlines, F1 of each class, and what is undefined."""
    rows = [
        (name, _number(value), _interval(scores, name), fewer(scores, name))
        for name, value in headlines(scores).items()
    ]
    headers = ("score", "value", "95 % interval", "")
    tables = [tabulate.tabulate(rows, headers=headers, disable_numparse=True)]
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
    if scores.reasons:
        name, reason = next(iter(scores.reasons.items()))
        tables.append(f"undefined: {len(scores.reasons)} scores ({name}: {reason}, ...)")
    return "\n\n".join(tables)


_SKEWS = ("original", "normalised")


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _interval(scores: Scores, name: str) -> str:
    if name not in scores.intervals:
        return ""
    low, high = scores.intervals[name]
    return f"{low:.3f} to {high:.3f}"


def fewer(scores: Scores, name: str) -> str:
    """`over 7 of 8` of a mean that leaves out what is undefined; else nothing."""
    taken, whole = scores.counts.get(name, (0, 0))
    return f"over {taken} of {whole}" if taken < whole else ""


def as_json(scores: Scores, about: Mapping[str, Any]) -> dict[str, Any]:
    """What `scores.json` holds.

    **Arguments:**

    - `about`: where the predictions come from.

    **Returns:**

    `about` with the versions; and under each score's name: its number in `scores` (null where
    undefined), `[low, high]` in `intervals`, and where it has one its `deviations` (over draws),
    `counts` (`[taken over, of all]`) and reason in `undefined`.
    """
    versions = {"affect_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {
        "about": {**about, "versions": versions},
        "scores": _nulls(scores.values),
        "intervals": {name: list(ends) for name, ends in scores.intervals.items()},
        "deviations": _nulls(scores.deviations),
        "counts": {name: list(pair) for name, pair in scores.counts.items()},
        "undefined": dict(scores.reasons),
    }


def _nulls(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def write(scores: Scores, path: pathlib.Path, about: Mapping[str, Any]) -> None:
    """Writes `scores.json`; it appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(as_json(scores, about), indent=1, allow_nan=False) + "\n")
    partial.replace(path)
