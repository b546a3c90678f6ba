"""One row a face: JSON lines, CSV or Parquet.

| column | |
|---|---|
| `id` | unique: source, `@frame` in a film, `#face` from the second face on |
| `source` | the file as it was named, or `webcam:0` |
| `frame`, `seconds`, `track` | of films: from 0; by the film's times; one number a face, from 1 |
| `face` | place among the image's faces, the largest is 0; empty where there is none |
| `reason` | why there is none |
| `x`, `y`, `width`, `height` | the face's box, pixels of the upright image; it may leave it |
| `confidence` | the detector's score; empty without a detector |
| `predicted` | name of the most probable class |
| `p_<class>` | its probabilities |
| `valence_predicted`, `arousal_predicted` | in [-1, 1] |
| `AU<n>_predicted` | probability of each action unit |

Every image and every frame has a row at least: without a face, one with its reason. The columns of
predictions are those of `affect_jax.metrics.predictions`: with labels beside them, `affect_jax.evaluate`
scores them. Numbers are rounded to six decimals.
"""

from __future__ import annotations

import csv
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet

from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES

ROWS_AT_ONCE = 10_000  # of a Parquet file: a row group

Row = dict[str, Any]
Columns = dict[str, pyarrow.DataType]


class FaceTable(Protocol):
    """Where rows go. A context manager: a file has its name when it is left without an error."""

    def write(self, row: Row) -> None: ...
    def __enter__(self) -> FaceTable: ...
    def __exit__(self, *error: object) -> None: ...


def face_columns(
    heads: Sequence[str], classes: Sequence[str], units: Sequence[int], *, film: bool
) -> Columns:
    """The columns and their types, in order.

    **Arguments:**

    - `film`: whether any input is a video or camera.
    """
    whole, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    found: Columns = {"id": text, "source": text}
    if film:
        found |= {"frame": whole, "seconds": real, "track": whole}
    found |= {"face": whole, "reason": text}
    found |= dict.fromkeys(("x", "y", "width", "height", "confidence"), real)
    if "expression" in heads:
        found |= {"predicted": text, **dict.fromkeys((f"p_{name}" for name in classes), real)}
    if "valence_arousal" in heads:
        found |= dict.fromkeys((f"{axis}_predicted" for axis in AXES), real)
    if "action_units" in heads:
        found |= dict.fromkeys((f"AU{unit}_predicted" for unit in units), real)
    return found


def face_rows(
    source: str,
    boxes: np.ndarray,
    confidence: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    *,
    reason: str,
    classes: Sequence[str],
    units: Sequence[int],
    frame: int | None = None,
    seconds: float | None = None,
    tracks: Sequence[int] | None = None,
) -> Iterator[Row]:
    """The rows of one image's n faces, or its one row without a face.

    **Arguments:**

    - `boxes`, `confidence`, `outputs`: [n, ...], see `predictor.Found`.
    - `reason`: why there is none; else "".
    - `frame`, `seconds`, `tracks`: of a film.
    """
    name = source.encode("utf-8", "backslashreplace").decode()
    beginning = name if frame is None else f"{name}@{frame}"
    shared: Row = {"source": name, "frame": frame, "seconds": _number(seconds)}
    if not len(boxes):
        yield {"id": beginning, **shared, "reason": reason}
    for face, box in enumerate(boxes.tolist()):
        row: Row = {"id": f"{beginning}#{face}" if face else beginning, **shared, "face": face}
        if tracks is not None:
            row["track"] = int(tracks[face])
        row |= zip(("x", "y", "width", "height"), map(_number, box), strict=True)
        row["confidence"] = _number(confidence[face])
        named = {
            "expression": [f"p_{one}" for one in classes],
            "valence_arousal": [f"{axis}_predicted" for axis in AXES],
            "action_units": [f"AU{unit}_predicted" for unit in units],
        }
        for head, values in outputs.items():
            row |= zip(named[head], map(_number, values[face].tolist()), strict=True)
        if "expression" in outputs:
            row["predicted"] = classes[int(outputs["expression"][face].argmax())]
        yield row


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 6)


def file_format(path: pathlib.Path | None) -> str:
    """The ending that decides how rows are written; `.jsonl` without a file.

    **Raises:** `UserError` for another one.
    """
    suffix = ".jsonl" if path is None else path.suffix.lower()
    if suffix not in TABLES:
        raise UserError(f"--out={path}: its ending must be one of {', '.join(TABLES)}")
    return suffix


def open_face_table(path: pathlib.Path | None, columns: Columns) -> FaceTable:
    """Rows into a file, which appears when it is closed; without a path JSON lines on stdout.

    **Raises:** `UserError` where it cannot be written.
    """
    kind = file_format(path)
    if path is None:
        return _Stdout(columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return TABLES[kind](path, columns)
    except OSError as error:
        raise UserError(f"--out={path}: cannot be written: {error.strerror}") from error


class _File:
    """A file that has its name when it is whole."""

    def __init__(self, path: pathlib.Path):
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self.partial.touch()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        if error[0] is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink()

    def close(self) -> None:
        raise NotImplementedError


def _shown(row: Row, columns: Columns) -> str:
    """An object; what has no value is left out, but `face`."""
    given = {name: row[name] if name in row else None for name in columns}
    shown = {name: v for name, v in given.items() if v is not None or name == "face"}
    return json.dumps(shown, ensure_ascii=False) + "\n"


class _Stdout:
    def __init__(self, columns: Columns):
        self._columns = columns

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, row: Row) -> None:
        # At once: a reader at the other end sees each face when it is known.
        print(_shown(row, self._columns), end="", flush=True)


class _Lines(_File):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._columns, self._file = columns, self.partial.open("w", encoding="utf-8")

    def write(self, row: Row) -> None:
        self._file.write(_shown(row, self._columns))

    def close(self) -> None:
        self._file.close()


class _Csv(_File):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._file = self.partial.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(
            self._file, list(columns), restval="", extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def write(self, row: Row) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


class _Parquet(_File):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._schema = pyarrow.schema(list(columns.items()))
        self._writer = pyarrow.parquet.ParquetWriter(str(self.partial), self._schema)
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


TABLES: dict[str, Callable[[Any, Columns], FaceTable]] = {
    ".jsonl": _Lines,
    ".json": _Lines,
    ".csv": _Csv,
    ".parquet": _Parquet,
}
