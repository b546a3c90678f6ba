"""Scores of a table of predictions, written to `scores.json`. Needs neither JAX nor a network.

A CSV file of group labels adds the scores of each group:

    id,gender,age
    validation/0000001.jpg,woman,60-69

It has one row for each face. `id` is the id in `predictions.parquet`, and each of the other columns
is a grouping. A face with an empty cell belongs to no group of that grouping. `FILE:gender,age`
selects columns of any table; if it has no `id`, its first column has the ids.
"""

from __future__ import annotations

import collections
import datetime
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tabulate

from affect_jax.core.errors import UserError
from affect_jax.core.paths import writing_to
from affect_jax.metrics import class_order, protocol, protocol_matrix, resampling
from affect_jax.metrics.predictions import Predictions
from affect_jax.metrics.table_columns import read_ids, read_table, read_texts, require_columns

MAX_GROUPS = 50  # a column with more distinct values does not contain group labels
DIFFERENCE_HEADERS = ("largest difference", "worst group or class", "value")
MIN_FACES = 30  # rates of fewer faces are not compared
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

    **Arguments:** `about`: the origin of the predictions; the others as for `protocol.score`.

    **Raises:** `UserError` if no face has a label, or none a group, or the file cannot be written.
    """
    result = protocol.score(table, draws=draws, bootstrap=bootstrap)
    if not result.values:
        raise UserError(f"{about['predictions']}: no face has a label to score a prediction with")
    groups, differences, warnings = score_groups(table, group_labels or {}, bootstrap=bootstrap)
    protocols = protocol_matrix.score_protocols([table], result, groups, bootstrap=bootstrap)
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
    others = class_order.describe_wrong_order(table), protocol.describe_constant_prediction(table)
    if warnings := [*warnings, *filter(None, others)]:
        about["warning"] = "; ".join(warnings)
        print("".join(f"warning: {warning}\n" for warning in warnings))
    with writing_to(out):
        parts = {"groups": groups, "group_differences": differences, "protocols": protocols}
        protocol.write_scores(result, out / "scores.json", about, **parts)
    print(protocol.format_summary(result))
    rows, headers = protocol_matrix.list_rows(protocols), protocol_matrix.HEADERS
    print(f"\n{tabulate.tabulate(rows, headers, disable_numparse=True)}")
    for column, rows in differences.items():
        print(f"\nby {column}\n{tabulate.tabulate(list_differences(rows), DIFFERENCE_HEADERS)}")
    if not_scored:
        print(f"\nnot scored: {'; '.join(not_scored)}")
    print(f"\nwritten: {out / 'scores.json'}")


def read_group_labels(path: pathlib.Path | None) -> GroupLabels:
    """Reads group labels from a file, `FILE` or `FILE:COLUMN,...`; without a file there are none.

    **Raises:** `UserError` if the file is missing or unreadable, has no column `id` or no other
    column, repeats an id, or has a column with fewer than 2 or more than `MAX_GROUPS` values.
    """
    if path is None:
        return {}
    source = f"--groups={path}"
    name, _, columns = (str(path), "", "") if path.is_file() else str(path).partition(":")
    table = read_table(pathlib.Path(name), source)
    if columns:
        id_column = "id" if "id" in table.column_names else table.column_names[0]
        selected = [id_column, *columns.split(",")]
        require_columns(table, selected, source)
        table = table.select(selected).rename_columns(["id", *selected[1:]])
    ids = read_ids(table, source).tolist()
    labels: GroupLabels = {}
    for column in table.drop_columns(["id"]).column_names:
        groups = zip(ids, read_texts(table, column, source), strict=True)
        labels[column] = {id: group for id, group in groups if group}
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
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], list[str]]:
    """Scores the groups of each grouping, the largest group first, and compares them.

    **Returns:** `groups` of `scores.json`, grouping -> group -> `{"faces": number of its faces,
    "labelled": {model: number of those with its labels}, "scores": {name: number}, "intervals":
    {name: [low, high]}}` with those of `GROUP_SCORES` that the whole table has, None if a score is
    undefined for a group; `group_differences`, see `compare_groups`, by grouping; and warnings of
    what is too small to be compared.

    **Raises:** `UserError` if no face is in a group of a grouping.
    """
    if not labels:
        return {}, {}, []
    all_scores = protocol.score(predictions, draws=1).values
    names = [name for name in GROUP_SCORES if name in all_scores]
    models = protocol.select_inputs(predictions).keys()
    groupings, differences, warnings = {}, {}, []
    for column, group_of in labels.items():
        groups = np.array([group_of.get(id, "") for id in predictions.id.tolist()])
        counts = collections.Counter(groups[groups != ""].tolist()).most_common()
        if not counts:
            raise UserError(f"--groups: no id of column {column!r} is that of a scored face")
        tables = {group: predictions.select(groups == group) for group, _ in counts}
        groupings[column] = {}
        for group, table in tables.items():
            scores = protocol.score(table, draws=1, bootstrap=bootstrap)
            values = {name: scores.values.get(name, math.nan) for name in names}
            inputs = protocol.select_inputs(table)
            labelled = {m: len(inputs[m][0]) if m in inputs else 0 for m in models}
            groupings[column][group] = {
                "faces": len(table),
                "labelled": labelled,
                "scores": protocol.nan_to_none(values),
                "intervals": {n: list(scores.intervals[n]) for n in names if n in scores.intervals},
            }
            warnings += [f"{column} {group}: {text}" for text in _find_too_few(table, labelled)]
        if found := compare_groups(tables, groupings[column]):
            differences[column] = found
    return groupings, differences, warnings


def _find_too_few(table: Predictions, labelled: Mapping[str, int]) -> list[str]:
    """Describes what of a group is not compared because fewer than `MIN_FACES` are labelled."""
    texts = []
    count, model = min((count, model) for model, count in labelled.items())
    if count < MIN_FACES:
        texts.append(f"only {count} faces with {model} labels, too few to compare")
    if labelled.get("categorical", 0) >= MIN_FACES:
        labels = enumerate(table.classes)
        rare = [name for i, name in labels if np.sum(table.expression == i) < MIN_FACES]
        if rare:
            texts.append(f"recall of {', '.join(rare)} not compared, fewer than {MIN_FACES} faces")
    return texts


def compare_groups(
    tables: Mapping[str, Predictions], scored: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Computes the largest differences between groups.

    The demographic parity difference is that of the rate at which a class is predicted, the equal
    opportunity difference (Hardt et al. 2016) that of its recall, both of the class where it
    is largest. Groups, and classes in a group, with fewer than `MIN_FACES` labelled faces are left
    out.

    **Returns:** measure -> `{"value": number, "where": the worst group or the class}`.
    """
    found: dict[str, tuple[float, str]] = {}
    for name in GROUP_SCORES:
        model = name.partition(".")[0]
        large = [g for g, x in scored.items() if x["labelled"].get(model, 0) >= MIN_FACES]
        scores = {group: scored[group]["scores"].get(name) for group in large}
        values = sorted((value, group) for group, value in scores.items() if value is not None)
        if len(values) > 1:
            gap = values[-1][0] - values[0][0]
            found[f"{name}, gap to the worst group"] = gap, values[0][1]
    pairs = [
        (table.probabilities.argmax(axis=1), table.expression)
        for table in tables.values()
        if table.probabilities is not None and table.expression is not None
    ]
    for i, name in enumerate(next(iter(tables.values())).classes if pairs else ()):
        for measure, selected in (
            ("demographic parity difference", [predicted for predicted, _ in pairs]),
            ("equal opportunity difference", [x[labels == i] for x, labels in pairs]),
        ):
            rates = [
                np.mean(predicted == i) for predicted in selected if len(predicted) >= MIN_FACES
            ]
            if len(rates) > 1:
                gap = float(max(rates) - min(rates)), name
                found[measure] = max(gap, found.get(measure, gap))
    return {measure: {"value": value, "where": where} for measure, (value, where) in found.items()}


def list_differences(differences: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Lists the cells below `DIFFERENCE_HEADERS` for the differences of a grouping."""
    return [(name, str(row["where"]), f"{row['value']:.3f}") for name, row in differences.items()]
