"""Columns of Arrow tables from files of users: reading with errors that name column and row."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from affect_jax.core.errors import UserError, first_line
from affect_jax.metrics.base import MAX_MAGNITUDE


def read_table(path: pathlib.Path, source: str) -> pyarrow.Table:
    """Reads CSV if the file is named so, else Parquet.

    All columns of CSV are text, because inferred types depend on the first rows (007 is not 7).
    Empty cells, `NA`, `nan` and similar texts are null.
    """
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    try:
        if path.suffix.lower() == ".csv":
            with pyarrow.csv.open_csv(path) as start:
                types = dict.fromkeys(start.schema.names, pyarrow.string())
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            return pyarrow.csv.read_csv(path, convert_options=options)
        with pyarrow.parquet.ParquetFile(path) as file:  # no columns from folder names
            return file.read()
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise UserError(
            f"{source}: cannot be read as .parquet or .csv: {first_line(error)}"
        ) from error


def require_columns(table: pyarrow.Table, columns: Sequence[str], source: str) -> None:
    """Raises `UserError` unless a table has each of the columns once."""
    missing = [column for column in columns if table.column_names.count(column) != 1]
    if missing:
        raise UserError(
            f"{source}: missing or duplicate columns: {', '.join(missing)}; "
            f"found: {', '.join(table.column_names)}"
        )


def read_ids(table: pyarrow.Table, source: str) -> np.ndarray:
    """Reads the column `id`, str [N]; raises `UserError` if an id is missing or repeated."""
    require_columns(table, ["id"], source)
    ids = read_texts(table, "id", source)
    if not ids:
        raise UserError(f"{source}: no rows")
    for id, count in collections.Counter(ids).items():
        if count > 1 or id in (None, ""):
            raise UserError(f"{source}: column 'id': {id!r} is empty or duplicate")
    return np.array(ids)


def is_numeric(column: pyarrow.ChunkedArray) -> bool:
    """Whether all values of a column are numbers, also as text."""
    try:
        column.cast(pyarrow.float64())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return False
    return True


def read_texts(table: pyarrow.Table, column: str, source: str) -> list[str | None]:
    """Reads a column as text. **Raises:** `UserError` for values that are not text."""
    try:
        return table[column].cast(pyarrow.string()).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{source}: column {column!r} is not text: {first_line(error)}") from error


def read_numbers(
    table: pyarrow.Table,
    columns: Sequence[str],
    source: str,
    low: float = -MAX_MAGNITUDE,
    high: float = MAX_MAGNITUDE,
    *,
    allow_empty: bool = False,
) -> np.ndarray:
    """Reads columns of numbers in [low, high] as float64 [N, len(columns)]; empty cells are NaN."""
    require_columns(table, columns, source)
    arrays = []
    for column in columns:
        try:
            array = table[column].cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            raise UserError(
                f"{source}: column {column!r} has a value that is not a number: {first_line(error)}"
            ) from error
        valid = (array >= low) & (array <= high) | (allow_empty & np.isnan(array))
        if not valid.all():
            row = int(np.argmin(valid))
            raise UserError(
                f"{source}: column {column!r}, row {row + 1}: {array[row]:g} is not in "
                f"[{low:g}, {high:g}]{' or empty' if allow_empty else ''}"
            )
        arrays.append(array)
    return np.stack(arrays, axis=1)
