"""The predictions table: reading, checking and writing, for models of this package and others.

The table has one row per face. Columns: `id`; `expression` (label id, empty if unlabelled) with
`p_neutral`, `p_happiness`, ... (probabilities that sum to one); `valence`, `arousal` (labels, empty
if unlabelled) with `valence_predicted`, `arousal_predicted`; `AU1`, ... (intensities in [0, 1],
empty if unlabelled) with `AU1_predicted`, ... (probabilities). A table needs only the columns of
the model's own heads, and `expression` for scores per expression. Other columns are ignored.

Label i is the class of the i-th `p_` column. Without `p_` columns, labels are AffectNet's.
AffectNet's classes have fixed ids (neutral 0 to contempt 7). A column with such a name in another
position is an error: most likely the columns are in alphabetical order, and every score would be
silently wrong.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.labels import AXES, EXPRESSIONS
from affect_jax.core.paths import write_atomically
from affect_jax.metrics.base import MAX_MAGNITUDE

EMPTY_CELLS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")
"""Texts that count as missing numbers."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Labels and predictions of N faces, in the order of the split; absent columns are None.

    **Arguments:**

    - `id`: str [N], unique.
    - `classes`: the C class names.
    - `expression`: int64 [N], -1 if unlabelled; may be present without `probabilities`.
    - `probabilities`: float64 [N, C].
    - `valence_arousal`, `valence_arousal_predicted`: float64 [N, 2]; missing labels are NaN.
    - `units`: the numbers of the A action units.
    - `action_units`, `action_units_predicted`: float64 [N, A]; missing labels are NaN.
    """

    id: np.ndarray
    classes: tuple[str, ...] = ()
    expression: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    valence_arousal: np.ndarray | None = None
    valence_arousal_predicted: np.ndarray | None = None
    units: tuple[int, ...] = ()
    action_units: np.ndarray | None = None
    action_units_predicted: np.ndarray | None = None

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


def to_table(predictions: Predictions) -> pyarrow.Table:
    """Converts the predictions to an Arrow table with the columns above."""
    ids = predictions.id.tolist()
    columns: dict[str, pyarrow.Array] = {"id": pyarrow.array(ids, pyarrow.string())}
    if predictions.expression is not None:
        labels = predictions.expression
        columns["expression"] = pyarrow.array(labels, pyarrow.int64(), mask=labels < 0)
    if predictions.probabilities is not None:
        for name, column in zip(predictions.classes, predictions.probabilities.T, strict=True):
            columns[f"p_{name}"] = pyarrow.array(column)
    _add_column_pairs(
        columns, AXES, predictions.valence_arousal, predictions.valence_arousal_predicted
    )
    names = [f"AU{unit}" for unit in predictions.units]
    _add_column_pairs(columns, names, predictions.action_units, predictions.action_units_predicted)
    return pyarrow.table(columns)


def _add_column_pairs(
    columns: dict,
    names: Sequence[str],
    labels: np.ndarray | None,
    predicted: np.ndarray | None,
) -> None:
    if labels is None or predicted is None:
        return
    for i, name in enumerate(names):
        columns[name] = pyarrow.array(labels[:, i], mask=np.isnan(labels[:, i]))
        columns[f"{name}_predicted"] = pyarrow.array(predicted[:, i])


def write_predictions(predictions: Predictions, path: pathlib.Path) -> None:
    """Writes `.csv` or `.parquet` by the file name's suffix, atomically."""
    write = pyarrow.csv.write_csv if path.suffix == ".csv" else pyarrow.parquet.write_table
    with write_atomically(path) as partial:
        write(to_table(predictions), partial)


def read_predictions(path: pathlib.Path) -> Predictions:
    """Reads and checks a table of predictions.

    **Raises:** `UserError`, one line, for a missing or unreadable file, a missing column, an
    unknown label, values that are not numbers or out of range, probabilities that do not sum to
    one, or repeated ids.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a predictions table")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown file type; predictions are read from .parquet or .csv")
    try:
        table = reader(path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        line = first_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]}: {line}") from error
    return from_table(table, str(path))


def read_csv(path: pathlib.Path) -> pyarrow.Table:
    """Reads all columns as text, because inferred types depend on the first rows (007 is not 7)."""
    with pyarrow.csv.open_csv(path) as start:
        names = start.schema.names
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()))
    table = pyarrow.csv.read_csv(path, convert_options=options)
    return table.rename_columns([column.strip() for column in table.column_names])


def _read_parquet(path: pathlib.Path) -> pyarrow.Table:
    with pyarrow.parquet.ParquetFile(path) as file:  # no partition columns from folder names
        return file.read()


READERS = {".csv": read_csv, ".parquet": _read_parquet}


def from_table(table: pyarrow.Table, source: str) -> Predictions:
    """Converts an Arrow table to predictions and checks it.

    **Arguments:**

    - `source`: the name of the table in messages.

    **Raises:** as `read_predictions`.
    """
    columns = table.column_names
    _check_spelling(columns, source)
    classes = tuple(column[2:] for column in columns if column.startswith("p_"))
    matches = [re.fullmatch(r"AU([1-9]\d*)_predicted", column) for column in columns]
    units = tuple(int(match[1]) for match in matches if match)
    has_axes = any(f"{axis}_predicted" in columns for axis in AXES)
    if not (classes or units or has_axes):
        separator = next((c for c in ";\t" if len(columns) == 1 and c in columns[0]), "")
        hint = f"; the separator is {separator!r}, use commas" if separator else ""
        raise UserError(
            f"{source}: no predictions; add p_<class> columns, valence_predicted and "
            f"arousal_predicted, or AU<n>_predicted. Columns: {', '.join(columns)[:80]}{hint}"
        )
    arrays: dict[str, np.ndarray] = {"id": read_ids(table, source)}
    if classes:
        _check_classes(classes, source)
        arrays["probabilities"] = _read_columns(table, [f"p_{c}" for c in classes], source)
        _check_probabilities(arrays["probabilities"], arrays["id"], classes, source)
    if classes or "expression" in columns:
        classes = classes or EXPRESSIONS[:8]
        arrays["expression"] = _read_expressions(table, len(classes), source)
    if has_axes:
        predicted = [f"{axis}_predicted" for axis in AXES]
        arrays["valence_arousal"] = _read_columns(table, AXES, source, allow_empty=True, low=-1)
        arrays["valence_arousal_predicted"] = _read_columns(table, predicted, source)
    if units:
        names = [f"AU{unit}" for unit in units]
        predicted = [f"{name}_predicted" for name in names]
        arrays["action_units"] = _read_columns(table, names, source, allow_empty=True, low=0)
        arrays["action_units_predicted"] = _read_columns(table, predicted, source, low=0)
    return Predictions(classes=classes, units=units, **arrays)


def get_column(table: pyarrow.Table, column: str, source: str) -> pyarrow.ChunkedArray:
    """Returns a column; raises `UserError` if it is missing or there are several."""
    count = table.column_names.count(column)
    if count != 1:
        raise UserError(f"{source}: column {column!r} is {'duplicate' if count else 'missing'}")
    return table[column]


def _check_spelling(columns: list[str], source: str) -> None:
    """Raises if a column name differs from a known one only in spelling; it would be ignored."""
    for column in columns:
        match = re.fullmatch(r"(valence|arousal|au0*(\d+))_predicted", column, re.IGNORECASE)
        if match:
            expected = f"AU{match[2]}" if match[2] else match[1].lower()
            if column != f"{expected}_predicted":
                raise UserError(
                    f"{source}: misspelled column {column!r}; rename it to {expected}_predicted "
                    f"(labels: {expected})"
                )


def _check_classes(classes: tuple[str, ...], source: str) -> None:
    """Raises if one of AffectNet's classes is not at the position of its id."""
    if len(classes) == 1:
        raise UserError(f"{source}: p_{classes[0]} is the only class; at least two are needed")
    for label, class_name in enumerate(classes):
        if class_name in EXPRESSIONS and EXPRESSIONS.index(class_name) != label:
            raise UserError(
                f"{source}: column 'p_{class_name}' is at the position of label {label}, but "
                f"{class_name} is label {EXPRESSIONS.index(class_name)}; write all p_ columns in "
                f"this order: p_{', p_'.join(EXPRESSIONS[:8])}"
            )


def read_ids(table: pyarrow.Table, source: str) -> np.ndarray:
    """Reads the column `id`, str [N]; raises `UserError` if an id is missing or repeated."""
    values = get_column(table, "id", source).to_pylist()
    if not values:
        raise UserError(f"{source}: no rows")
    empty = [row for row, value in enumerate(values) if value is None or value == ""]
    if empty:
        raise UserError(f"{source}: column 'id', row {empty[0] + 1}: empty")
    ids = np.array([str(value) for value in values])
    unique, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise UserError(
            f"{source}: duplicate id {str(unique[counts.argmax()])!r} ({counts.max()} times)"
        )
    return ids


def _read_columns(
    table: pyarrow.Table,
    columns: Sequence[str],
    source: str,
    *,
    allow_empty: bool = False,
    low: float = -math.inf,
) -> np.ndarray:
    """Reads columns as float64 [N, len(columns)], see `_read_numbers`."""
    arrays = [
        _read_numbers(table, column, source, allow_empty=allow_empty, low=low) for column in columns
    ]
    return np.stack(arrays, axis=1)


def _read_numbers(
    table: pyarrow.Table,
    column: str,
    source: str,
    *,
    allow_empty: bool = False,
    low: float = -math.inf,
) -> np.ndarray:
    """Reads a column as float64 [N]; empty cells become NaN.

    **Arguments:**

    - `allow_empty`: whether cells may be empty.
    - `low`: if finite, numbers must be in [low, 1].
    """
    values = get_column(table, column, source)
    if pyarrow.types.is_string(values.type):  # from a CSV
        array = _parse_numbers(values.to_pylist(), column, source)
    else:
        try:
            array = values.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            line = first_line(error)
            raise UserError(
                f"{source}: column {column!r} has a value that is not a number: {line}"
            ) from error
    empty = np.isnan(array)
    if not allow_empty:
        _check_rows(~empty, column, source, lambda row: "empty or not a number")
    usable = empty | (np.abs(array) < MAX_MAGNITUDE)
    _check_rows(usable, column, source, lambda row: f"{array[row]}, not a usable number")
    if math.isfinite(low):
        hint = "; leave the cell empty if there is no label" if allow_empty else ""
        inside = empty | ((array >= low) & (array <= 1))
        _check_rows(
            inside, column, source, lambda row: f"{array[row]:g} is outside [{low:g}, 1]{hint}"
        )
    return array


def _check_rows(
    valid: np.ndarray, column: str, source: str, describe: Callable[[int], str]
) -> None:
    """Raises an error that describes the first row that is not valid."""
    if not valid.all():
        row = int(np.argmin(valid))
        raise UserError(f"{source}: column {column!r}, row {row + 1}: {describe(row)}")


def _parse_numbers(cells: Sequence[str | None], column: str, source: str) -> np.ndarray:
    """Parses text cells to float64 [N]; those in `EMPTY_CELLS` become NaN."""
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        text = (cell or "").strip()
        if text in EMPTY_CELLS:
            continue
        try:
            numbers[row] = float(text)
        except ValueError:
            problem = "unknown label" if column == "expression" else "not a number:"
            hint = "; use its number" if text in EXPRESSIONS else ""
            raise UserError(
                f"{source}: column {column!r}, row {row + 1}: {problem} {text[:40]!r}{hint}"
            ) from None
    return numbers


def _read_expressions(table: pyarrow.Table, num_classes: int, source: str) -> np.ndarray:
    values = _read_numbers(table, "expression", source, allow_empty=True)
    valid = np.isnan(values) | np.isin(values, np.arange(num_classes))
    _check_rows(
        valid,
        "expression",
        source,
        lambda row: f"unknown label {values[row]:g}; labels are 0 to {num_classes - 1}, or empty",
    )
    return np.where(np.isnan(values), -1, values).astype(np.int64)


def _check_probabilities(
    probabilities: np.ndarray, ids: np.ndarray, classes: tuple[str, ...], source: str
) -> None:
    sums = probabilities.sum(axis=1)
    valid = (np.abs(sums - 1) <= 1e-3) & (probabilities.min(axis=1) >= 0)
    if not valid.all():
        row = int(np.argmin(valid))
        lowest = int(probabilities[row].argmin())
        problem = f"p_{', p_'.join(classes)} sum to {sums[row]:.4f}"
        if probabilities[row, lowest] < 0:
            problem = f"p_{classes[lowest]} is {probabilities[row, lowest]:g}"
        raise UserError(
            f"{source}: row {row + 1} (id {ids[row]}): probabilities must be 0 or more and sum to "
            f"1; {problem}"
        )
