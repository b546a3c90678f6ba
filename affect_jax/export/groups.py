"""How unlike groups of people are served, where there are labels of groups.

    id,gender,age
    validation/0000001.jpg,woman,60-69

One row a face, ids as in `predictions.parquet`; every other column is a grouping. An empty cell is
a face that is in none of its groups.
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

MAX_GROUPS = 50  # of a column with more the values are no groups
SHOWN = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.valence.ccc",
    "dimensional.arousal.ccc",
    "action_units.mean.f1",
)

Groupings = dict[str, dict[str, str]]  # column -> id -> group


def read(path: pathlib.Path) -> Groupings:
    """The groupings of a CSV.

    **Raises:** `UserError`, one line: no such file, unreadable, no `id`, no other column, a
    repeated id, a column whose values are no groups.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval="", strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--groups={path}: cannot be read: {reason}") from error
    columns = [name for name in (rows[0] if rows else {}) if name not in (None, "id")]
    if not rows or "id" not in rows[0] or not columns:
        raise UserError(f"--groups={path}: needs rows, a column 'id', and one column a grouping")
    repeated, times = collections.Counter(row["id"] for row in rows).most_common(1)[0]
    if times > 1:
        raise UserError(f"--groups={path}: id {repeated!r} is there {times} times")
    found: Groupings = {}
    for column in columns:
        cells = {row["id"]: row[column].strip() for row in rows}
        found[column] = {id: group for id, group in cells.items() if group}
        count = len(set(found[column].values()))
        if not 2 <= count <= MAX_GROUPS:
            raise UserError(
                f"--groups={path}: column {column!r} has {count} different values; "
                f"a grouping has 2 to {MAX_GROUPS}"
            )
    return found


def scored(table: Predictions, groupings: Groupings) -> list[dict[str, Any]]:
    """Each grouping's groups with their scores, the largest group first.

    **Returns:** `{"name": column, "unknown": faces, "groups": [{"group", "faces", "scores",
    "intervals"}]}` of every grouping; scores are those of `SHOWN` that the whole table has, None
    where a group leaves them undefined.
    """
    found = []
    known = [name for name in SHOWN if name in protocol.score(table, draws=1).values]
    for column, group_of in groupings.items():
        groups = np.array([group_of.get(id, "") for id in table.id.tolist()])
        names = collections.Counter(groups[groups != ""].tolist())
        entries = []
        for name, count in names.most_common():
            part = table.take(np.flatnonzero(groups == name))
            entries.append({"group": name, "faces": count, **_scores(part, known)})
        unknown = int(np.sum(groups == ""))
        found.append({"name": column, "unknown": unknown, "groups": entries})
    return found


def _scores(table: Predictions, known: Sequence[str]) -> dict[str, dict[str, Any]]:
    result = protocol.score(table, draws=1, bootstrap=confidence_intervals.REPLICATES)
    values = {name: result.values.get(name, math.nan) for name in known}
    return {
        "scores": {name: None if math.isnan(value) else value for name, value in values.items()},
        "intervals": {n: list(result.intervals[n]) for n in known if n in result.intervals},
    }
