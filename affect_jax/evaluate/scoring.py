"""Scores of a table of predictions, written to `scores.json`. Needs neither JAX nor a network.

A CSV file of group labels adds the scores of each group:

    id,gender,age
    validation/0000001.jpg,woman,60-69

It has one row for each face. `id` is the id in `predictions.parquet`, and each of the other columns
is a grouping. A face with an empty cell belongs to no group of that grouping.
"""

from __future__ import annotations

import collections
import datetime
import math
import pathlib
from typing import Any

import numpy as np
import pyarrow
import tabulate

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import writing_to
from affect_jax.metrics import class_order, protocol, protocol_matrix, resampling
from affect_jax.metrics.predictions import Predictions, read_csv, read_ids

MAX_GROUPS = 50  # a column with more distinct values does not contain group labels
GROUP_SCORES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.valence.ccc",
    "dimensional.arousal.ccc",
    "action_units.mean.f1",
)

GroupLabels = dict[str, dict[str, str]]  # column -> id -> group


def score_table(
    table: Predictions,
    out: pathlib.Path,
    about: dict[str, Any],
    draws: int,
    bootstrap: int,
    group_labels: GroupLabels | None = None,
) -> None:
    """Scores a table, prints a summary and writes `scores.json` into the folder `out`.

    **Arguments:**

    - `about`: the origin of the predictions.
    - `draws`: resamplings of the skew-normalised scores.
    - `bootstrap`: bootstrap samples for the intervals; 0: no intervals.
    - `group_labels`: group labels of the faces, to score each group.

    **Raises:** `UserError` if no face has a label, or none a group, or the file cannot be written.
    """
    result = protocol.score(table, draws=draws, bootstrap=bootstrap)
    if not result.values:
        raise UserError(
            f"{about['predictions']}: no face has a label to score a prediction against"
        )
    groups = score_groups(table, group_labels or {}, bootstrap=bootstrap)
    if group_labels and not groups:
        raise UserError("--groups: no id is that of a scored face")
    protocols = protocol_matrix.score_protocols(table, result, groups, bootstrap=bootstrap)
    about |= {
        "faces": len(table),
        "classes": list(table.classes),
        "draws": draws,
        "bootstrap": bootstrap,
        "interval": resampling.CONFIDENCE_LEVEL,
        "seed": 0,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if not_scored := protocol.describe_unscored(table):
        about["not_scored"] = not_scored
    warnings = (
        class_order.describe_wrong_order(table),
        protocol.describe_constant_prediction(table),
    )
    if warning := "; ".join(filter(None, warnings)):
        about["warning"] = warning
        print(f"warning: {warning}\n")
    with writing_to(out):
        protocol.write_scores(
            result, out / "scores.json", about, groups=groups, protocols=protocols
        )
    print(protocol.format_summary(result))
    print(f"\n{tabulate.tabulate(protocol_matrix.list_rows(protocols), protocol_matrix.HEADERS)}")
    if not_scored:
        print(f"\nnot scored: {'; '.join(not_scored)}")
    print(f"\nwritten: {out / 'scores.json'}")


def read_group_labels(path: pathlib.Path | None) -> GroupLabels:
    """Reads group labels from a CSV file; without a file there are none.

    **Raises:** `UserError` if the file is missing or unreadable, has no column `id` or no other
    column, repeats an id, or has a column with fewer than 2 or more than `MAX_GROUPS` values.
    """
    if path is None:
        return {}
    source = f"--groups={path}"
    if not path.is_file():
        reason = "not a file" if path.exists() else "no such file"  # a pipe would block
        raise UserError(f"{source}: cannot be read: {reason}")
    try:
        table = read_csv(path)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error
    ids = read_ids(table, source).tolist()
    labels: GroupLabels = {}
    for column, groups in table.drop_columns(["id"]).to_pydict().items():
        labels[column] = {id: group for id, group in zip(ids, groups, strict=True) if group}
        num_groups = len(set(labels[column].values()))
        if not 2 <= num_groups <= MAX_GROUPS:
            raise UserError(
                f"{source}: column {column!r} has {num_groups} different values; it needs 2 to "
                f"{MAX_GROUPS}"
            )
    if not labels:
        raise UserError(f"{source}: needs a column of group labels beside 'id'")
    return labels


def score_groups(
    predictions: Predictions, labels: GroupLabels, *, bootstrap: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores the groups of each grouping, the largest group first.

    **Arguments:**

    - `bootstrap`: number of bootstrap samples for the intervals.

    **Returns:** the value of `groups` in `scores.json`: grouping -> group -> `{"faces": number of
    its faces, "scores": {name: number}, "intervals": {name: [low, high]}}`. The scores are those of
    `GROUP_SCORES` that the whole table has; None if a score is undefined for a group. A grouping
    without any of the faces is left out.
    """
    all_scores = protocol.score(predictions, draws=1).values
    names = [name for name in GROUP_SCORES if name in all_scores]
    groupings: dict[str, dict[str, dict[str, Any]]] = {}
    for column, group_of in labels.items():
        groups = np.array([group_of.get(id, "") for id in predictions.id.tolist()])
        for group, count in collections.Counter(groups[groups != ""].tolist()).most_common():
            members = predictions.select(np.flatnonzero(groups == group))
            scores = protocol.score(members, draws=1, bootstrap=bootstrap)
            values = {name: scores.values.get(name, math.nan) for name in names}
            groupings.setdefault(column, {})[group] = {
                "faces": count,
                "scores": protocol.nan_to_none(values),
                "intervals": {n: list(scores.intervals[n]) for n in names if n in scores.intervals},
            }
    return groupings
