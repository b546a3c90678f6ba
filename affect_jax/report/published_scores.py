"""What was published on AffectNet, and whether a run may stand beside it.

Sources: Mollahosseini, Hasani and Mahoor 2017, Table 7, as Figure 1 of the 2018 summary prints it
(F1 of AlexNet by strategy): of the paper's own test split, which is skewed as the web is and was
never released. On the released validation split, 500 faces of each expression, Orig and Norm are
the same; compare with the paper's Norm. For the dimensional model the same paper's AlexNet on the
validation split, as later work cites it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from affect_jax.core.labels import EXPRESSIONS, VALIDATION_COUNT
from affect_jax.metrics.predictions import Predictions

STRATEGIES = ("imbalanced", "down-sampling", "up-sampling", "weighted-loss")
"""The columns of Table 7."""

COLUMNS = tuple((r, s) for r in ("top1", "top2") for s in ("original", "normalised"))
"""Of one strategy, in the order of `_F1`."""

# Rows: neutral to contempt. Columns: top-1 Orig, Norm, top-2 Orig, Norm of each strategy in turn.
_F1 = """
.63 .49 .82 .66  .58 .49 .78 .70  .61 .50 .81 .64  .57 .52 .81 .77
.88 .65 .95 .80  .85 .68 .92 .85  .85 .71 .95 .80  .82 .73 .92 .88
.63 .60 .84 .81  .64 .60 .81 .78  .60 .57 .81 .77  .63 .61 .83 .81
.61 .64 .84 .86  .53 .63 .75 .83  .57 .66 .80 .81  .51 .63 .77 .86
.52 .54 .78 .79  .54 .57 .80 .82  .56 .58 .75 .76  .56 .66 .79 .86
.52 .55 .76 .78  .53 .64 .74 .81  .53 .59 .70 .72  .48 .66 .69 .83
.65 .59 .83 .80  .62 .60 .79 .78  .63 .59 .81 .77  .60 .60 .81 .81
.08 .08 .49 .49  .22 .32 .60 .70  .15 .18 .42 .42  .27 .59 .58 .79
"""

TEST, VALIDATION = "the paper’s own test split", "the validation split"
"""What the published F1 and the published scores of valence and arousal are of."""

DIMENSIONAL = {
    "dimensional.valence.rmse": 0.37,
    "dimensional.arousal.rmse": 0.41,
    "dimensional.valence.corr": 0.66,
    "dimensional.arousal.corr": 0.54,
    "dimensional.valence.sagr": 0.74,
    "dimensional.arousal.sagr": 0.65,
    "dimensional.valence.ccc": 0.60,
    "dimensional.arousal.ccc": 0.34,
}
"""AlexNet, one network an axis."""


def categorical(strategy: str) -> dict[str, float]:
    """Published F1 of a strategy under the names of `scores.json`.

    The macro scores are the means of the table's columns.

    **Arguments:**

    - `strategy`: one of `STRATEGIES`.
    """
    table = np.array(_F1.split(), float).reshape(8, len(STRATEGIES), len(COLUMNS))
    found = {}
    for column, (rule, skew) in enumerate(COLUMNS):
        values = table[:, STRATEGIES.index(strategy), column]
        prefix = f"categorical.{rule}.{skew}.f1"
        found |= {f"{prefix}.{c}": float(v) for c, v in zip(EXPRESSIONS[:8], values, strict=True)}
        found[f"{prefix}.macro"] = round(float(values.mean()), 6)
    return found


def strategy_of(config: Mapping[str, Any]) -> str:
    """The paper's strategy that a run follows; `weighted-loss`, its best, where none fits.

    **Arguments:**

    - `config`: flat, as `config.flatten` gives it; empty where it is not known.
    """
    sampling = config["sampling.name"] if "sampling.name" in config else ""
    if sampling in ("down", "up"):
        return f"{sampling}-sampling"
    terms = config["losses"] if "losses" in config else []
    plain = [term["name"] for term in terms if term["head"] == "expression"] == ["cross_entropy"]
    return "imbalanced" if sampling == "natural" and plain else "weighted-loss"


def published(config: Mapping[str, Any], classes: tuple[str, ...]) -> dict[str, float]:
    """Everything published that stands beside a run's scores, by their names."""
    return (categorical(strategy_of(config)) if eight(classes) else {}) | DIMENSIONAL


def eight(classes: tuple[str, ...]) -> bool:
    """Whether these are the paper's classes: F1 among others is another task."""
    return tuple(classes) == EXPRESSIONS[:8]


def why_not_comparable(about: Mapping[str, Any], table: Predictions) -> str:
    """Why the paper's numbers may not stand beside a run's; empty where they may.

    The name of the data set is not enough: other faces in AffectNet's layout are read by the same
    code. The validation split of AffectNet has 500 faces of each expression (a hundredth may have
    been unreadable).

    **Arguments:**

    - `about`: of `scores.json`.
    - `table`: the predictions with their labels.
    """
    name = about["data"] if "data" in about else ""
    if not name:
        return "The data set of these predictions was not named."
    if name != "affectnet":
        return f"The data set is {name}, not AffectNet."
    if "split" in about and about["split"] != "validation":
        return f"These are faces of the {about['split']} split; published numbers are of others."
    counts = _label_counts(table)
    if counts is None:
        return (
            "These predictions come without labels of expressions, by which AffectNet’s validation "
            "split is known."
        )
    expected = np.abs(counts - VALIDATION_COUNT) <= 0.02 * VALIDATION_COUNT
    if expected.all():
        return ""
    named = [f"{count:,} {c}" for c, count in zip(table.classes, counts.tolist(), strict=True)]
    return _other_faces(", ".join(named))


def _other_faces(what: str) -> str:
    return (
        "These faces lie in AffectNet’s layout but are not AffectNet’s: its validation split has "
        f"{VALIDATION_COUNT} of each expression, this one has {what}."
    )


def _label_counts(table: Predictions) -> np.ndarray | None:
    """Faces of each class, [C]; None where none is labelled."""
    if table.expression is None or not (table.expression >= 0).any():
        return None
    return np.bincount(table.expression[table.expression >= 0], minlength=len(table.classes))
