"""Scores of each demographic group, from a file of group labels.

    id,gender,age
    validation/0000001.jpg,woman,60-69

The file has one row for each face. `id` is the id in `predictions.parquet`, and each of the other
columns is a grouping. A face with an empty cell belongs to no group of that grouping.
"""

from __future__ import annotations

import collections
import csv
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.metrics import confidence_intervals, protocol
from affect_jax.metrics.predictions import Predictions

MAX_GROUPS = 50  # a column with more distinct values does not contain group labels
GROUP_SCORES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.valence.ccc",
    "dimensional.arousal.ccc",
    "action_units.mean.f1",
)

GroupLabels = dict[str, dict[str, str]]  # column -> id -> group


def read_group_labels(path: pathlib.Path) -> GroupLabels:
    """Reads group labels from a CSV file.

    **Raises:** `UserError` if the file is missing or unreadable, has no column `id` or no other
    column, repeats an id, or has a column with fewer than 2 or more than `MAX_GROUPS` values.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval="", strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--groups={path}: cannot be read: {reason}") from error
    columns = [name for name in (rows[0] if rows else {}) if name not in (None, "id")]
    if not rows or "id" not in rows[0] or not columns:
        raise UserError(
            f"--groups={path}: needs at least one row, a column 'id' and a column of group labels"
        )
    most_common_id, count = collections.Counter(row["id"] for row in rows).most_common(1)[0]
    if count > 1:
        raise UserError(f"--groups={path}: id {most_common_id!r} appears {count} times")
    labels: GroupLabels = {}
    for column in columns:
        cells = {row["id"]: row[column].strip() for row in rows}
        labels[column] = {id: group for id, group in cells.items() if group}
        num_groups = len(set(labels[column].values()))
        if not 2 <= num_groups <= MAX_GROUPS:
            raise UserError(
                f"--groups={path}: column {column!r} has {num_groups} different values; "
                f"it needs 2 to {MAX_GROUPS}"
            )
    return labels


def score_groups(predictions: Predictions, labels: GroupLabels) -> list[dict[str, Any]]:
    """Scores the groups of each grouping, the largest group first.

    **Returns:** for each grouping, `{"name": column, "unknown": number of faces without a group,
    "groups": [{"group", "faces", "scores", "intervals"}]}`. The scores are those of `GROUP_SCORES`
    that the whole table has; None if a score is undefined for a group.
    """
    groupings = []
    scores = protocol.score(predictions, draws=1).values
    names = [name for name in GROUP_SCORES if name in scores]
    for column, group_by_id in labels.items():
        groups = np.array([group_by_id.get(id, "") for id in predictions.id.tolist()])
        counts = collections.Counter(groups[groups != ""].tolist())
        entries = []
        for group, count in counts.most_common():
            members = predictions.select(np.flatnonzero(groups == group))
            entries.append({"group": group, "faces": count, **_score_group(members, names)})
        num_unknown = int(np.sum(groups == ""))
        groupings.append({"name": column, "unknown": num_unknown, "groups": entries})
    return groupings


def _score_group(predictions: Predictions, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    result = protocol.score(predictions, draws=1, bootstrap=confidence_intervals.REPLICATES)
    values = {name: result.values.get(name, math.nan) for name in names}
    return {
        "scores": {name: None if math.isnan(value) else value for name, value in values.items()},
        "intervals": {n: list(result.intervals[n]) for n in names if n in result.intervals},
    }
