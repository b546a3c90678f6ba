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
import pathlib
import re

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from affect_jax.core.errors import UserError, first_line
from affect_jax.core.labels import AXES, EXPRESSIONS
from affect_jax.metrics.base import MAX_MAGNITUDE

MAX_BYTES = 4 << 30  # a larger file is not a predictions table
EMPTY_CELLS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")
"""CSV cells that count as missing numbers."""


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
    axes_predicted, units_predicted = (
        predictions.valence_arousal_predicted,
        predictions.action_units_predicted,
    )
    if axes_predicted is not None:
        _add_column_pairs(columns, AXES, predictions.valence_arousal, axes_predicted)
    if units_predicted is not None:
        names = tuple(f"AU{unit}" for unit in predictions.units)
        _add_column_pairs(columns, names, predictions.action_units, units_predicted)
    return pyarrow.table(columns)


def _add_column_pairs(
    columns: dict, names: tuple[str, ...], labels: np.ndarray | None, predicted: np.ndarray
) -> None:
    for i, name in enumerate(names):
        if labels is not None:
            columns[name] = pyarrow.array(labels[:, i], mask=np.isnan(labels[:, i]))
        columns[f"{name}_predicted"] = pyarrow.array(predicted[:, i])


def write_predictions(predictions: Predictions, path: pathlib.Path) -> None:
    """Writes `.csv` or `.parquet` by the file name's suffix, atomically."""
    table = to_table(predictions)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, partial)
    else:
        pyarrow.parquet.write_table(table, partial)
    partial.replace(path)


def read_predictions(path: pathlib.Path) -> Predictions:
    """Reads and checks a table of predictions.

    **Raises:** `UserError`, one line, for a missing or unreadable file, a missing column, an
    unknown label, values that are not numbers or out of range, probabilities that do not sum to
    one, or repeated ids.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a predictions table")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than 4 GiB, so it is not a predictions table")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown file type; predictions are read from .parquet or .csv")
    try:
        table = reader(path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        line = first_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]}: {line}") from error
    return from_table(table, str(path))


def _read_csv(path: pathlib.Path) -> pyarrow.Table:
    """Reads all columns as text, because inferred types depend on the first rows (007 is not 7)."""
    with pyarrow.csv.open_csv(path) as start:
        names = start.schema.names
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()))
    table = pyarrow.csv.read_csv(path, convert_options=options)
    return table.rename_columns([column.strip() for column in table.column_names])


def _read_parquet(path: pathlib.Path) -> pyarrow.Table:
    with pyarrow.parquet.ParquetFile(path) as file:  # no partition columns from folder names
        return file.read()


READERS = {".csv": _read_csv, ".parquet": _read_parquet}


def from_table(table: pyarrow.Table, source: str) -> Predictions:
    """Converts an Arrow table to predictions and checks it.

    **Arguments:**

    - `source`: the name of the table in messages.

    **Raises:** as `read_predictions`.
    """
    columns = table.column_names
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise UserError(f"{source}: duplicate column {repeated[0]!r}")
    classes = tuple(column[2:] for column in columns if column.startswith("p_"))
    units = [re.fullmatch(r"AU([1-9]\d*)_predicted", column) for column in columns]
    unit_numbers = tuple(int(unit[1]) for unit in units if unit)
    has_axes = any(f"{axis}_predicted" in columns for axis in AXES)
    _check_spelling(columns, source)
    if not (classes or unit_numbers or has_axes):
        separator = next((c for c in ";\t" if len(columns) == 1 and c in columns[0]), "")
        hint = f"; the separator is {separator!r}, use commas" if separator else ""
        raise UserError(
            f"{source}: no predictions; add p_<class> columns, valence_predicted and "
            f"arousal_predicted, or AU<n>_predicted. Columns: {', '.join(columns)[:80]}{hint}"
        )
    ids = _read_ids(table, source)
    expression = probabilities = None
    if classes:
        _check_classes(classes, source)
        probabilities = np.stack([_read_numbers(table, f"p_{c}", source) for c in classes], axis=1)
        _check_probabilities(probabilities, ids, classes, source)
        expression = _read_expressions(table, len(classes), source)
    elif "expression" in columns:
        classes = EXPRESSIONS[:8]
        expression = _read_expressions(table, len(classes), source)
    valence_arousal = action_units = action_units_predicted = valence_arousal_predicted = None
    if has_axes:
        valence_arousal = _read_columns(table, AXES, source, allow_empty=True, low=-1)
        valence_arousal_predicted = _read_columns(
            table, [f"{axis}_predicted" for axis in AXES], source
        )
    if unit_numbers:
        names = [f"AU{number}" for number in unit_numbers]
        action_units = _read_columns(table, names, source, allow_empty=True, low=0)
        action_units_predicted = _read_columns(
            table, [f"{unit}_predicted" for unit in names], source, low=0
        )
    return Predictions(
        ids,
        classes,
        expression,
        probabilities,
        valence_arousal,
        valence_arousal_predicted,
        unit_numbers,
        action_units,
        action_units_predicted,
    )


def _get_column(table: pyarrow.Table, column: str, source: str) -> pyarrow.ChunkedArray:
    if column not in table.column_names:
        raise UserError(f"{source}: column {column!r} is missing")
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
    ids = [EXPRESSIONS.index(class_name) for class_name in classes if class_name in EXPRESSIONS]
    for label, class_name in enumerate(classes):
        if class_name in EXPRESSIONS and EXPRESSIONS.index(class_name) != label:
            if len(ids) == len(classes) and ids == sorted(ids):
                raise UserError(f"{source}: column 'p_{EXPRESSIONS[label]}' is missing")
            raise UserError(
                f"{source}: column 'p_{class_name}' is at the position of label {label}, but "
                f"{class_name} is label {EXPRESSIONS.index(class_name)}; order the p_ columns: "
                f"p_{', p_'.join(EXPRESSIONS[:8])}"
            )


def _read_ids(table: pyarrow.Table, source: str) -> np.ndarray:
    values = _get_column(table, "id", source).to_pylist()
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


def _read_numbers(
    table: pyarrow.Table, column: str, source: str, allow_empty: bool = False
) -> np.ndarray:
    """Reads a column as float64 [N]; empty cells become NaN if allowed."""
    values = _get_column(table, column, source)
    if pyarrow.types.is_string(values.type):  # from a CSV
        values = _parse_numbers(values, column, source)
    try:
        values = values.cast(pyarrow.float64())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        line = first_line(error)
        raise UserError(
            f"{source}: column {column!r} has a value that is not a number: {line}"
        ) from error
    array = values.to_numpy(zero_copy_only=False).astype(np.float64)
    invalid = np.flatnonzero(~(np.abs(array) < MAX_MAGNITUDE) & ~(allow_empty & np.isnan(array)))
    if len(invalid):
        row = int(invalid[0])
        problem = f"{array[row]}, not a usable number" if values[row].is_valid else "empty"
        raise UserError(f"{source}: column {column!r}, row {row + 1}: {problem}")
    return array


def _parse_numbers(texts: pyarrow.ChunkedArray, column: str, source: str) -> pyarrow.ChunkedArray:
    """Parses the numbers of a text column; cells in `EMPTY_CELLS` become null."""
    call = pyarrow.compute.call_function
    texts = call("utf8_trim_whitespace", [texts])
    options = pyarrow.compute.SetLookupOptions(pyarrow.array(EMPTY_CELLS))
    missing = call("is_in", [texts], options)
    texts = call("if_else", [missing, pyarrow.scalar(None, pyarrow.string()), texts])
    try:
        return texts.cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        cells = enumerate(texts.to_pylist())
        row, text = next((i, cell) for i, cell in cells if not _is_number_or_null(cell))
        problem = "unknown label" if column == "expression" else "not a number:"
        hint = "; use its number" if text in EXPRESSIONS else ""
        raise UserError(
            f"{source}: column {column!r}, row {row + 1}: {problem} {text[:40]!r}{hint}"
        ) from None


def _is_number_or_null(text: str | None) -> bool:
    """Whether Arrow parses a text as a number, or it is null."""
    try:
        pyarrow.scalar(text, pyarrow.string()).cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return False
    return True


def _read_columns(
    table, columns, source: str, allow_empty: bool = False, low: float = -np.inf
) -> np.ndarray:
    arrays = []
    for column in columns:
        array = _read_numbers(table, column, source, allow_empty)
        outside = np.flatnonzero((array < low) | (array > 1)) if np.isfinite(low) else []
        if len(outside):
            row = outside[0]
            hint = "; leave the cell empty if there is no label" if allow_empty else ""
            raise UserError(
                f"{source}: column {column!r}, row {row + 1}: {array[row]:g} is outside "
                f"[{low:g}, 1]{hint}"
            )
        arrays.append(array)
    return np.stack(arrays, axis=1)


def _read_expressions(table: pyarrow.Table, num_classes: int, source: str) -> np.ndarray:
    values = _read_numbers(table, "expression", source, allow_empty=True)
    labels = np.where(np.isnan(values), -1, values)
    invalid = np.flatnonzero((labels != np.round(labels)) | (labels < -1) | (labels >= num_classes))
    if len(invalid):
        raise UserError(
            f"{source}: column 'expression', row {invalid[0] + 1}: unknown label "
            f"{values[invalid[0]]:g}; labels are 0 to {num_classes - 1}, or empty"
        )
    return labels.astype(np.int64)


def _check_probabilities(
    probabilities: np.ndarray, ids: np.ndarray, classes: tuple[str, ...], source: str
) -> None:
    sums = probabilities.sum(axis=1)
    negative = probabilities.min(axis=1) < 0
    invalid = np.flatnonzero((np.abs(sums - 1) > 1e-3) | negative)
    if len(invalid):
        row = invalid[0]
        smallest = int(probabilities[row].argmin())
        problem = (
            f"p_{classes[smallest]} is {probabilities[row, smallest]:g}"
            if negative[row]
            else f"p_{', p_'.join(classes)} sum to {sums[row]:.4f}"
        )
        raise UserError(
            f"{source}: row {row + 1} (id {ids[row]}): probabilities must be 0 or more and sum to "
            f"1; {problem}"
        )
