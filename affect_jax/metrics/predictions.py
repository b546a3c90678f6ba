"""The table of predictions: what evaluation writes and what anybody's model may hand in.

One row a face. Columns: `id`; `expression` (label id, empty where there is none) with `p_neutral`,
`p_happiness`, ... (probabilities that sum to one); `valence`, `arousal` (labels, empty where there
are none) with `valence_predicted`, `arousal_predicted`; `AU1`, ... (intensities in [0, 1], empty
where there are none) with `AU1_predicted`, ... (probabilities). A model brings only its own, and
`expression` where scores within expressions are wanted; other columns are not read.

Label i is the class of the i-th `p_` column, and AffectNet's where there are none. AffectNet's
classes have their own ids (neutral 0 to contempt 7), so a column with such a name in another place
is an error, not another numbering: most likely the columns are in alphabetical order, and every
score would be wrong without a word.
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
from affect_jax.metrics.base import LARGEST

MAX_BYTES = 4 << 30  # a larger file is not a table of faces
EMPTY = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")
"""What programs write into the cell of a CSV for a number that is not there."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Labels and predictions of N faces, in the order of the split; absent models are None.

    **Arguments:**

    - `id`: str [N], unique.
    - `expression`: int64 [N], -1 where there is no label, of models without probabilities too;
      `probabilities`: float64 [N, C].
    - `classes`: the C names.
    - `valence_arousal`, `valence_arousal_predicted`: float64 [N, 2]; labels NaN where none.
    - `units`: the A numbers of the action units.
    - `action_units`, `action_units_predicted`: float64 [N, A]; labels NaN where none.
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

    def take(self, rows: np.ndarray) -> Predictions:
        """The table of some of its faces: int [n]."""
        arrays = {
            field.name: getattr(self, field.name)[rows]
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **arrays)


def to_table(predictions: Predictions) -> pyarrow.Table:
    """The predictions as an Arrow table with the columns above."""
    p = predictions
    columns: dict[str, pyarrow.Array] = {"id": pyarrow.array(p.id.tolist(), pyarrow.string())}
    if p.expression is not None:
        none = p.expression < 0
        columns["expression"] = pyarrow.array(p.expression, pyarrow.int64(), mask=none)
    if p.probabilities is not None:
        for name, column in zip(p.classes, p.probabilities.T, strict=True):
            columns[f"p_{name}"] = pyarrow.array(column)
    if p.valence_arousal_predicted is not None:
        _add_pairs(columns, AXES, p.valence_arousal, p.valence_arousal_predicted)
    if p.action_units_predicted is not None:
        names = tuple(f"AU{unit}" for unit in p.units)
        _add_pairs(columns, names, p.action_units, p.action_units_predicted)
    return pyarrow.table(columns)


def _add_pairs(columns: dict, names: tuple[str, ...], labels, predicted: np.ndarray) -> None:
    for i, name in enumerate(names):
        if labels is not None:
            columns[name] = pyarrow.array(labels[:, i], mask=np.isnan(labels[:, i]))
        columns[f"{name}_predicted"] = pyarrow.array(predicted[:, i])


def write_predictions(predictions: Predictions, path: pathlib.Path) -> None:
    """Writes `.parquet` or, by its ending, `.csv`; the file appears whole or not at all."""
    table = to_table(predictions)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, partial)
    else:
        pyarrow.parquet.write_table(table, partial)
    partial.replace(path)


def read_predictions(path: pathlib.Path) -> Predictions:
    """Reads and checks a table.

    **Raises:** `UserError`, one line: no such file, unreadable, missing column, unknown label,
    values that are not numbers or out of range, probabilities that do not sum to one, repeated ids.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of predictions")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than 4 GiB; a table of predictions is not")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: predictions are read from .parquet or .csv files")
    try:
        table = reader(path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        line = first_line(error)
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]}: {line}") from error
    return from_table(table, str(path))


def _read_csv(path: pathlib.Path) -> pyarrow.Table:
    """All columns as text: types would be guessed from the file's start, and 007 is not 7."""
    with pyarrow.csv.open_csv(path) as start:
        names = start.schema.names
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()))
    table = pyarrow.csv.read_csv(path, convert_options=options)
    return table.rename_columns([column.strip() for column in table.column_names])


def _read_parquet(path: pathlib.Path) -> pyarrow.Table:
    with pyarrow.parquet.ParquetFile(path) as file:  # one file, whatever its folder's name says
        return file.read()


READERS = {".csv": _read_csv, ".parquet": _read_parquet}


def from_table(table: pyarrow.Table, name: str) -> Predictions:
    """The checked predictions of a table; `name` is what messages call it."""
    columns = table.column_names
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} is there twice")
    classes = tuple(column[2:] for column in columns if column.startswith("p_"))
    units = [re.fullmatch(r"AU([1-9]\d*)_predicted", column) for column in columns]
    numbers = tuple(int(unit[1]) for unit in units if unit)
    has_axes = any(f"{axis}_predicted" in columns for axis in AXES)
    _check_spelling(columns, name)
    if not (classes or numbers or has_axes):
        separator = next((mark for mark in ";\t" if len(columns) == 1 and mark in columns[0]), "")
        hint = f"; it is separated by {separator!r}, write commas" if separator else ""
        raise UserError(
            f"{name}: no predictions; give p_<class> columns, valence_predicted and "
            f"arousal_predicted, or AU<n>_predicted. Columns: {', '.join(columns)[:80]}{hint}"
        )
    ids = _ids(table, name)
    expression = probabilities = None
    if classes:
        _check_classes(classes, name)
        probabilities = np.stack([_numbers(table, f"p_{c}", name) for c in classes], axis=1)
        _check_probabilities(probabilities, ids, classes, name)
        expression = _expressions(table, len(classes), name)
    elif "expression" in columns:
        classes = EXPRESSIONS[:8]
        expression = _expressions(table, len(classes), name)
    axes = units_labels = units_predicted = predicted = None
    if has_axes:
        axes = _columns(table, AXES, name, empty=True, low=-1)
        predicted = _columns(table, [f"{axis}_predicted" for axis in AXES], name)
    if numbers:
        names = [f"AU{number}" for number in numbers]
        units_labels = _columns(table, names, name, empty=True, low=0)
        units_predicted = _columns(table, [f"{unit}_predicted" for unit in names], name, low=0)
    return Predictions(
        ids,
        classes,
        expression,
        probabilities,
        axes,
        predicted,
        numbers,
        units_labels,
        units_predicted,
    )


def _column(table: pyarrow.Table, column: str, name: str) -> pyarrow.ChunkedArray:
    if column not in table.column_names:
        raise UserError(f"{name}: column {column!r} is missing")
    return table[column]


def _check_spelling(columns: list[str], name: str) -> None:
    """Raises where a column is ours but for its spelling: it would be left out in silence."""
    for column in columns:
        match = re.fullmatch(r"(valence|arousal|au0*(\d+))_predicted", column, re.IGNORECASE)
        if match:
            wanted = f"AU{match[2]}" if match[2] else match[1].lower()
            if column != f"{wanted}_predicted":
                raise UserError(
                    f"{name}: column {column!r}: write {wanted}_predicted (labels: {wanted})"
                )


def _check_classes(classes: tuple[str, ...], name: str) -> None:
    """Raises where one of AffectNet's classes does not stand in the place of its id."""
    if len(classes) == 1:
        raise UserError(f"{name}: p_{classes[0]} alone is no choice between classes")
    known = [EXPRESSIONS.index(one) for one in classes if one in EXPRESSIONS]
    for place, one in enumerate(classes):
        if one in EXPRESSIONS and EXPRESSIONS.index(one) != place:
            if len(known) == len(classes) and known == sorted(known):
                raise UserError(f"{name}: column 'p_{EXPRESSIONS[place]}' is missing")
            raise UserError(
                f"{name}: column 'p_{one}' stands for label {place}, but {one} is label "
                f"{EXPRESSIONS.index(one)}; put the p_ columns in the order of the labels, "
                f"p_{', p_'.join(EXPRESSIONS[:8])}"
            )


def _ids(table: pyarrow.Table, name: str) -> np.ndarray:
    values = _column(table, "id", name).to_pylist()
    if not values:
        raise UserError(f"{name}: no rows")
    empty = [row for row, value in enumerate(values) if value is None or value == ""]
    if empty:
        raise UserError(f"{name}: column 'id', row {empty[0] + 1}: empty")
    ids = np.array([str(value) for value in values])
    different, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise UserError(
            f"{name}: id {str(different[counts.argmax()])!r} is there {counts.max()} times"
        )
    return ids


def _numbers(table: pyarrow.Table, column: str, name: str, empty: bool = False) -> np.ndarray:
    """A column as float64 [N]; empty cells are NaN where allowed."""
    values = _column(table, column, name)
    if pyarrow.types.is_string(values.type):  # of a CSV
        values = _parsed(values, column, name)
    try:
        values = values.cast(pyarrow.float64())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        line = first_line(error)
        raise UserError(
            f"{name}: column {column!r} holds something not a number: {line}"
        ) from error
    array = values.to_numpy(zero_copy_only=False).astype(np.float64)
    bad = np.flatnonzero(~(np.abs(array) < LARGEST) & ~(empty & np.isnan(array)))
    if len(bad):
        row = int(bad[0])
        found = f"{array[row]}, no usable number" if values[row].is_valid else "empty"
        raise UserError(f"{name}: column {column!r}, row {row + 1}: {found}")
    return array


def _parsed(texts: pyarrow.ChunkedArray, column: str, name: str) -> pyarrow.ChunkedArray:
    """Numbers of a column of text, null where a cell is one of `EMPTY`."""
    call = pyarrow.compute.call_function
    texts = call("utf8_trim_whitespace", [texts])
    known = pyarrow.compute.SetLookupOptions(pyarrow.array(EMPTY))
    missing = call("is_in", [texts], known)
    texts = call("if_else", [missing, pyarrow.scalar(None, pyarrow.string()), texts])
    try:
        return texts.cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        row, text = next((i, one) for i, one in enumerate(texts.to_pylist()) if not _number(one))
        what = "unknown label" if column == "expression" else "no number:"
        hint = "; write its number" if text in EXPRESSIONS else ""
        raise UserError(
            f"{name}: column {column!r}, row {row + 1}: {what} {text[:40]!r}{hint}"
        ) from None


def _number(text: str | None) -> bool:
    """Whether Arrow takes a text for a number, or it is none at all."""
    try:
        pyarrow.scalar(text, pyarrow.string()).cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return False
    return True


def _columns(table, columns, name: str, empty: bool = False, low: float = -np.inf) -> np.ndarray:
    arrays = []
    for column in columns:
        array = _numbers(table, column, name, empty)
        outside = np.flatnonzero((array < low) | (array > 1)) if np.isfinite(low) else []
        if len(outside):
            row = outside[0]
            hint = "; leave the cell empty where there is no label" if empty else ""
            raise UserError(
                f"{name}: column {column!r}, row {row + 1}: {array[row]:g} is outside "
                f"[{low:g}, 1]{hint}"
            )
        arrays.append(array)
    return np.stack(arrays, axis=1)


def _expressions(table: pyarrow.Table, num_classes: int, name: str) -> np.ndarray:
    values = _numbers(table, "expression", name, empty=True)
    labels = np.where(np.isnan(values), -1, values)
    bad = np.flatnonzero((labels != np.round(labels)) | (labels < -1) | (labels >= num_classes))
    if len(bad):
        raise UserError(
            f"{name}: column 'expression', row {bad[0] + 1}: unknown label {values[bad[0]]:g}; "
            f"labels are 0 to {num_classes - 1}, empty where there is none"
        )
    return labels.astype(np.int64)


def _check_probabilities(
    probabilities: np.ndarray, ids: np.ndarray, classes: tuple[str, ...], name: str
) -> None:
    sums = probabilities.sum(axis=1)
    negative = probabilities.min(axis=1) < 0
    bad = np.flatnonzero((np.abs(sums - 1) > 1e-3) | negative)
    if len(bad):
        row = bad[0]
        least = int(probabilities[row].argmin())
        found = (
            f"p_{classes[least]} is {probabilities[row, least]:g}"
            if negative[row]
            else f"p_{', p_'.join(classes)} sum to {sums[row]:.4f}"
        )
        raise UserError(
            f"{name}: row {row + 1} (id {ids[row]}): probabilities must be 0 or more and sum to 1; "
            f"{found}"
        )
