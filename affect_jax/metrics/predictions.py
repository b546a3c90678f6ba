"""The predictions table: reading, checking and writing, for models of this package and others.

The table has one row per face, see `docs/score_yours.md`. Beside the columns listed there, `p_` or
`l_` may have `t_neutral`, ... (target distribution over the classes) and `v_neutral`, ... (numbers
of votes), empty if a face has none. A table without predicted expressions may have `expression` for
scores per expression. Other columns are ignored.

Labels and predicted classes are names, in any case and with the synonyms of `core.labels`, or
numbers. Number i is the class of the i-th `p_` column, or AffectNet's class i if there are none.
If labels are numbers, an AffectNet class (neutral 0 to contempt 7) in another position is an error:
most likely the columns are in alphabetical order, and every score would be silently wrong.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import scipy.special

from affect_jax.core.batch import restrict_distribution
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES, EXPRESSIONS, canonical_name
from affect_jax.core.paths import write_atomically
from affect_jax.metrics.table_columns import (
    is_numeric,
    read_ids,
    read_numbers,
    read_table,
    read_texts,
    require_columns,
)

OTHER_CLASS = -2  # a label of a class that the predictions lack, such as contempt among 7 classes


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Labels and predictions of N faces, in the order of the split; absent columns are None.

    **Arguments:**

    - `id`: str [N], unique.
    - `classes`: the C class names.
    - `expression`: int64 [N], -1 if unlabelled; may be present without `probabilities`.
    - `probabilities`: float64 [N, C].
    - `distribution`, `votes`: float64 [N, C], targets beside `expression`; NaN: not annotated.
    - `is_hard`: whether only the predicted class is known; its probability is then 1.
    - `valence_arousal`, `valence_arousal_predicted`: float64 [N, 2]; missing labels are NaN.
    - `units`: the numbers of the A action units.
    - `action_units`, `action_units_predicted`: float64 [N, A]; missing labels are NaN.
    - `notes`: what the table lacks, for the user.
    """

    id: np.ndarray
    classes: tuple[str, ...] = ()
    expression: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    distribution: np.ndarray | None = None
    votes: np.ndarray | None = None
    is_hard: bool = False
    valence_arousal: np.ndarray | None = None
    valence_arousal_predicted: np.ndarray | None = None
    units: tuple[int, ...] = ()
    action_units: np.ndarray | None = None
    action_units_predicted: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.id)

    def select(self, rows: np.ndarray) -> Predictions:
        """Returns the predictions of the faces at `rows`, int [n]."""
        arrays = {
            field.name: getattr(self, field.name)[rows]
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **arrays)


def drop_contempt(predictions: Predictions) -> Predictions:
    """Returns 8-class predictions as predictions of AffectNet's first 7 classes, renormalised.

    Faces labelled as contempt are unlabelled.
    """
    return restrict_classes(predictions, range(7), range(7))


def restrict_classes(
    predictions: Predictions, ids: Sequence[int], columns: Sequence[int]
) -> Predictions:
    """Returns predictions of some of the classes, renormalised. Faces of others are unlabelled.

    **Arguments:** `ids`: the kept classes of labels, distribution and votes; `columns`: those of
    `probabilities`, in the same order.
    """
    assert predictions.expression is not None
    probabilities = predictions.probabilities
    new_ids = np.full(len(predictions.classes) + 1, -1)  # the last is that of unlabelled faces
    new_ids[list(ids)] = np.arange(len(ids))
    if probabilities is not None:
        kept = probabilities[:, columns]
        total = kept.sum(axis=1, keepdims=True)
        probabilities = kept / np.maximum(total, np.finfo(float).tiny)
    soft = (predictions.distribution, predictions.votes)
    distribution, votes = (None if weights is None else weights[:, ids] for weights in soft)
    if distribution is not None:
        distribution = restrict_distribution(distribution, len(ids))
    return dataclasses.replace(
        predictions,
        classes=tuple(predictions.classes[i] for i in ids),
        expression=new_ids[predictions.expression],
        probabilities=probabilities,
        distribution=distribution,
        votes=votes,
    )


def to_table(predictions: Predictions) -> pyarrow.Table:
    """Converts the predictions to an Arrow table with the columns above."""
    columns = {"id": pyarrow.array(predictions.id.tolist(), pyarrow.string())}
    if predictions.expression is not None:
        labels = predictions.expression
        if _find_moved_class(predictions.classes):  # numbers would be taken for AffectNet's
            labels = np.array([*predictions.classes, ""])[labels]
        unlabelled = predictions.expression < 0
        columns["expression"] = pyarrow.array(labels, mask=unlabelled)
    if predictions.probabilities is not None and predictions.is_hard:
        columns["predicted"] = pyarrow.array(predictions.probabilities.argmax(axis=1))
    elif predictions.probabilities is not None:
        for name, column in zip(predictions.classes, predictions.probabilities.T, strict=True):
            columns[f"p_{name}"] = pyarrow.array(column)
        for prefix, weights in (("t_", predictions.distribution), ("v_", predictions.votes)):
            if weights is not None:
                for name, column in zip(predictions.classes, weights.T, strict=True):
                    columns[prefix + name] = pyarrow.array(column, mask=np.isnan(column))
    units = [f"AU{unit}" for unit in predictions.units]
    for names, labels, predicted in (
        (AXES, predictions.valence_arousal, predictions.valence_arousal_predicted),
        (units, predictions.action_units, predictions.action_units_predicted),
    ):
        if labels is not None and predicted is not None:
            for i, name in enumerate(names):
                columns[name] = pyarrow.array(labels[:, i], mask=np.isnan(labels[:, i]))
                columns[f"{name}_predicted"] = pyarrow.array(predicted[:, i])
    return pyarrow.table(columns)


def write_predictions(predictions: Predictions, path: pathlib.Path) -> None:
    """Writes `.csv` or `.parquet` by the file name's suffix, atomically."""
    write = pyarrow.csv.write_csv if path.suffix == ".csv" else pyarrow.parquet.write_table
    with write_atomically(path) as partial:
        write(to_table(predictions), partial)


def read_predictions(path: pathlib.Path) -> Predictions:
    """Reads and checks a table of predictions: CSV if the file is named so, else Parquet.

    **Raises:** `UserError`, one line, for a missing or unreadable file, a missing column, an
    unknown label, values that are not numbers or out of range, probabilities that do not sum to
    one, or repeated ids.
    """
    return from_table(read_table(path, str(path)), str(path))


def from_table(table: pyarrow.Table, source: str) -> Predictions:
    """Converts an Arrow table to predictions and checks it.

    **Arguments:** `source`: the name of the table in messages.

    **Raises:** as `read_predictions`.
    """
    if "expression" not in table.column_names:
        names = ["expression" if name == "label" else name for name in table.column_names]
        table = table.rename_columns(names)
    columns = table.column_names
    matches = [re.fullmatch(r"AU([1-9][0-9]{0,8})_predicted", column) for column in columns]
    units = tuple(int(match[1]) for match in matches if match)
    axes = AXES if any(f"{axis}_predicted" in columns for axis in AXES) else ()
    prefixes = {column[:2] for column in columns}
    is_labelled = "expression" in columns  # without it, a column l_... may be anything
    has_classes = "predicted" in columns or "p_" in prefixes or ("l_" in prefixes and is_labelled)
    if not (has_classes or axes or units):
        required = "p_<class>, l_<class>, predicted, valence_predicted or AU<n>_predicted"
        require_columns(table, [required], source)
    arrays: dict[str, Any] = {"id": read_ids(table, source)}
    if has_classes or is_labelled:
        arrays |= _read_expression(table, source)
    if axes:
        predicted = [f"{axis}_predicted" for axis in axes]
        arrays["valence_arousal"] = read_numbers(table, axes, source, -1, 1, allow_empty=True)
        arrays["valence_arousal_predicted"] = read_numbers(table, predicted, source)
    if units:
        names = [f"AU{unit}" for unit in units]
        predicted = [f"{name}_predicted" for name in names]
        arrays["action_units"] = read_numbers(table, names, source, 0, 1, allow_empty=True)
        arrays["action_units_predicted"] = read_numbers(table, predicted, source, 0, 1)
    return Predictions(units=units, **arrays)


def _read_expression(table: pyarrow.Table, source: str) -> dict[str, Any]:
    """Reads classes, labels and predicted probabilities: fields of `Predictions`."""
    require_columns(table, ["expression"], source)
    texts = {  # of the columns that hold names, not numbers
        column: read_texts(table, column, source)
        for column in ("expression", "predicted")
        if column in table.column_names and not is_numeric(table[column])
    }
    prefixes = {column[:2] for column in table.column_names}
    prefix = next((prefix for prefix in ("p_", "l_") if prefix in prefixes), "")
    fields: dict[str, Any] = {}
    if prefix:
        columns = [column for column in table.column_names if column.startswith(prefix)]
        classes = tuple(column[2:] for column in columns)
        canonical = tuple(map(canonical_name, classes))
        if "expression" in texts and set(canonical) <= set(EXPRESSIONS[:8]):
            order = sorted(range(len(columns)), key=lambda i: EXPRESSIONS.index(canonical[i]))
            columns, classes = ([x[i] for i in order] for x in (columns, canonical))
        else:
            if "expression" not in texts:
                _check_class_order(classes, source)
            if canonical == EXPRESSIONS[: len(classes)]:
                classes = canonical
        fields["probabilities"] = _read_probabilities(table, columns, source)
        for kind, name in (("t_", "distribution"), ("v_", "votes")):
            soft = [kind + column[2:] for column in columns]
            if set(soft) <= set(table.column_names):
                read = _read_probabilities if kind == "t_" else read_numbers
                fields[name] = read(table, soft, source, 0, allow_empty=True)
    else:
        classes = _find_classes(table, texts, source)
    classes = tuple(classes)
    check_class_names(classes, source)
    if len(set(classes)) < len(classes):
        raise UserError(f"{source}: two columns are of the same class: {', '.join(classes)}")
    labels = _read_classes(table, "expression", texts, classes, source)
    notes = []
    if not prefix and "predicted" in table.column_names:
        predicted = _read_classes(table, "predicted", texts, classes, source)
        if (predicted < 0).any():
            row = int(np.argmax(predicted < 0)) + 1
            raise UserError(f"{source}: column 'predicted', row {row}: is empty or not a class")
        if classes == EXPRESSIONS[:8] and max(labels.max(), predicted.max()) < 7:
            classes = EXPRESSIONS[:7]  # neither labels nor predictions have contempt
        fields |= {"probabilities": np.eye(len(classes))[predicted], "is_hard": True}
        notes.append("hard labels have no AUC, calibration error and top-2 scores")
    if num_other := int(np.sum(labels == OTHER_CLASS)):
        notes.append(f"{num_other:,} faces have a label that is not among the predicted classes")
    labels = np.maximum(labels, -1)
    return {**fields, "classes": classes, "expression": labels, "notes": tuple(notes)}


def _find_classes(
    table: pyarrow.Table, texts: Mapping[str, Sequence[str | None]], source: str
) -> tuple[str, ...]:
    """Finds the classes of labels and predicted classes: AffectNet's, or the names in both columns.

    **Raises:** `UserError` for a mixture of AffectNet's names and others, and of numbers and other
    names, because the order of the classes would be a guess.
    """
    names = {canonical_name(text) for column in texts.values() for text in column if text}
    others = sorted(names - set(EXPRESSIONS))
    if not others:
        return EXPRESSIONS[:8]
    if len(others) < len(names):
        raise UserError(f"{source}: {others[0]!r} is none of {', '.join(EXPRESSIONS)}")
    if "predicted" in table.column_names and len(texts) < 2:
        raise UserError(f"{source}: labels and predicted classes must both be names")
    return tuple(others)


def _read_probabilities(
    table: pyarrow.Table, columns: Sequence[str], source: str, *bounds: float, **options: bool
) -> np.ndarray:
    """Reads `p_` or `t_` columns, or the softmax of `l_` columns: float64 [N, C]."""
    prefix = columns[0][:2]
    if prefix == "l_":
        return scipy.special.softmax(read_numbers(table, columns, source), axis=1)
    probabilities = read_numbers(table, columns, source, *(bounds or (0,)), **options)
    totals = probabilities.sum(axis=1)
    error = np.where(np.isnan(probabilities).all(axis=1), 0, np.abs(totals - 1))
    row = int(np.argmax(error))  # the first NaN, if some columns of a face are empty
    if not error[row] <= 1e-3:
        raise UserError(
            f"{source}: row {row + 1}: the {prefix} columns sum to {totals[row]:.4f}, not to 1"
        )
    return probabilities


def _read_classes(
    table: pyarrow.Table,
    column: str,
    texts: Mapping[str, Sequence[str | None]],
    classes: tuple[str, ...],
    source: str,
) -> np.ndarray:
    """Reads names (if the column is in `texts`) or numbers of classes, int64 [N]; -1 if empty.

    `OTHER_CLASS` marks AffectNet's annotations that are not among AffectNet's predicted classes.
    """
    if column not in texts:
        last = 7 if classes == EXPRESSIONS[:7] else len(classes) - 1
        numbers = read_numbers(table, [column], source, 0, last, allow_empty=True)[:, 0]
        if (numbers % 1 > 0).any():
            raise UserError(f"{source}: column {column!r} must hold whole numbers")
        labels = np.where(np.isnan(numbers), -1, numbers).astype(np.int64)
        return np.where(labels < len(classes), labels, OTHER_CLASS)
    is_affectnet = set(classes) <= set(EXPRESSIONS)
    ids = dict.fromkeys(EXPRESSIONS, OTHER_CLASS) if is_affectnet else {}
    ids |= {canonical_name(name): i for i, name in enumerate(classes)}
    labels = [ids.get(canonical_name(text)) if text else -1 for text in texts[column]]
    if None in labels:
        row = labels.index(None)
        raise UserError(
            f"{source}: column {column!r}, row {row + 1}: {texts[column][row]!r} is none of the "
            f"classes {', '.join(classes)}"
        )
    return np.array(labels, np.int64)


def check_class_names(classes: Sequence[str], source: str) -> None:
    """Raises `UserError` if a class has the name of a mean of scores, `macro`."""
    for name in classes:
        if "macro" in name.split("."):
            raise UserError(
                f"{source}: a class named {name!r} hides the mean over the classes; rename it"
            )


def _check_class_order(classes: tuple[str, ...], source: str) -> None:
    """Raises if one of AffectNet's classes is not at the position of its id."""
    if name := _find_moved_class(classes):
        raise UserError(
            f"{source}: column 'p_{name}' is at the position of label {classes.index(name)}; write "
            f"all p_ columns in this order: p_{', p_'.join(EXPRESSIONS[:8])}; or write the labels "
            "as names"
        )


def _find_moved_class(classes: Sequence[str]) -> str:
    """The first of AffectNet's classes that is not at the position of its id, or ""."""
    ids = enumerate(map(canonical_name, classes))
    moved = (i for i, n in ids if n in EXPRESSIONS and EXPRESSIONS.index(n) != i)
    return next((classes[i] for i in moved), "")
