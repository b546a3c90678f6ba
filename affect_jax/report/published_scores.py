"""Scores published on AffectNet, and whether the data of a run are comparable with them.

Sources: Mollahosseini, Hasani and Mahoor 2017, Table 7, as printed in Figure 1 of the 2018 summary
(F1 of AlexNet by strategy). These scores are on the paper's own test split, which has the skewed
class distribution of the web and was never released. On the released validation split, with 500
faces of each expression, Orig and Norm are the same; compare them with the paper's Norm. The scores
of the dimensional model are those of the same paper's AlexNet on the validation split, as later
work cites them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from affect_jax.core.labels import EXPRESSIONS, VALIDATION_COUNT
from affect_jax.report.runs import Run, count_faces
from affect_jax.report.score_names import RULE_NAMES, SKEW_NAMES

DATA_NAMES = {"affectnet": "AffectNet", "synthetic_faces": "rendered faces (synthetic_faces)"}
"""Display names of datasets; others are displayed by their own name."""

STRATEGIES = ("imbalanced", "down-sampling", "up-sampling", "weighted-loss")
"""The columns of Table 7."""

TABLE7_COLUMNS = {
    f"{RULE_NAMES[rule]} {SKEW_NAMES[skew]}": f"{rule}.{skew}"
    for rule in RULE_NAMES
    for skew in SKEW_NAMES
}
"""The columns of one strategy, in the order of `_F1`: part of a score's name by column header."""

# Rows: neutral to contempt. Columns, for each strategy: top-1 Orig, Norm, top-2 Orig, Norm.
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

TEST_SPLIT, VALIDATION_SPLIT = "the paper’s own test split", "the validation split"
"""The splits of the published F1 and of the published scores of valence and arousal."""

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
"""AlexNet, one network per axis."""


def infer_strategy(config: Mapping[str, Any]) -> str:
    """Infers which of the paper's strategies a run uses; the default is the best, `weighted-loss`.

    **Arguments:** `config`: flat, as returned by `config.flatten`; empty if unknown.
    """
    if not config:
        return "weighted-loss"
    sampling = config["sampling.name"]
    if sampling in ("down", "up"):
        return f"{sampling}-sampling"
    losses = [loss["name"] for loss in config["losses"] if loss["head"] == "expression"]
    is_unweighted = sampling == "natural" and losses == ["cross_entropy"]
    return "imbalanced" if is_unweighted else "weighted-loss"


def why_not_comparable(run: Run) -> str:
    """Explains why a run is not comparable with the paper; an empty string if it is.

    The dataset's name is not sufficient, because the same code reads other faces in AffectNet's
    layout. AffectNet's validation split has 500 faces of each expression; counts may differ by 2 %
    because of unreadable files.
    """
    name, split = run.metadata.get("data", ""), run.metadata.get("split", "validation")
    if name != "affectnet":
        return f"The dataset is {name}, not AffectNet." if name else "The dataset is not named."
    if split != "validation":
        return f"These are faces of the {split} split; published scores are on other splits."
    if run.predictions.expression is None:
        return "Without expression labels, AffectNet’s validation split cannot be identified."
    counts = count_faces(run.predictions)
    if (np.abs(counts - VALIDATION_COUNT) <= 0.02 * VALIDATION_COUNT).all():
        return ""
    texts = [f"{n:,} {name}" for n, name in zip(counts, run.predictions.classes, strict=True)]
    return (
        "These faces use AffectNet’s layout but are not AffectNet’s: its validation split has "
        f"{VALIDATION_COUNT} of each expression, this split has {', '.join(texts)}."
    )


def select_published(run: Run, strategy: str = "") -> dict[str, float]:
    """Returns the published scores by name; empty if the run is not comparable with them.

    The macro scores are the means of the columns of Table 7.

    **Arguments:** `strategy`: one of `STRATEGIES`; by default the strategy of the run.
    """
    if why_not_comparable(run):
        return {}
    scores, classes = dict(DIMENSIONAL), run.predictions.classes
    if tuple(classes) != EXPRESSIONS[:8]:  # F1 among other classes is another score
        return scores
    table = np.array(_F1.split(), float).reshape(8, len(STRATEGIES), len(TABLE7_COLUMNS))
    f1 = table[:, STRATEGIES.index(strategy or infer_strategy(run.config))]
    for values, kind in zip(f1.T.tolist(), TABLE7_COLUMNS.values(), strict=True):
        values.append(round(sum(values) / 8, 6))
        prefix = f"categorical.{kind}.f1"
        scores |= {f"{prefix}.{c}": v for c, v in zip((*classes, "macro"), values, strict=True)}
    return scores


def select_split(name: str) -> str:
    """Returns the AffectNet split on which a score was published."""
    return VALIDATION_SPLIT if name.startswith("dimensional") else TEST_SPLIT


def describe_data(run: Run) -> str:
    """Returns the dataset's display name, `data of unknown origin` if it is not named."""
    name = run.metadata.get("data", "")
    if name == "affectnet" and why_not_comparable(run):
        return "faces in AffectNet’s layout"
    return DATA_NAMES.get(name, name) or "data of unknown origin"


def describe_comparability(run: Run) -> tuple[bool, list[str]]:
    """Returns whether the run is comparable with the paper, and the page's notice about it."""
    if reason := why_not_comparable(run):
        return False, [
            f"Not AffectNet: {describe_data(run)}.",
            f"{reason} Do not compare the scores on this page with scores published on AffectNet.",
        ]
    lines = ["AffectNet, validation split."]
    shown = select_published(run).keys() & run.scores.values.keys()
    if "categorical.top1.original.f1.macro" in shown:
        lines.append(
            "The published F1 scores are those of the paper’s AlexNet, "
            f"{infer_strategy(run.config)}, on {TEST_SPLIT}, which was not released and is skewed. "
            "The validation split has 500 faces of each expression, so Orig and Norm are the same; "
            "compare them with the paper’s Norm."
        )
    if "dimensional.valence.ccc" in shown:
        lines.append(
            "The published scores of valence and arousal are those of the paper’s AlexNet on "
            f"{VALIDATION_SPLIT}, as later work cites them."
        )
    return True, lines
