"""The output table of the `predict` command: one row for each face, as JSON lines, CSV or Parquet.

| column | content |
|---|---|
| `id` | unique: source, then `@frame` in a video, then `#face` from the second face on |
| `source` | path of the file as the user wrote it, or `webcam:0` |
| `frame`, `seconds`, `track` | videos only: index from 0; timestamp; number of the track, from 1 |
| `face` | index of the face in its image, the largest is 0; empty without a face |
| `reason` | why the image has no face |
| `x`, `y`, `width`, `height` | box in pixels of the upright image; it may extend beyond the image |
| `confidence` | the detector's score; empty without a detector |
| `predicted` | name of the most probable class |
| `p_<class>` | probability of each class |
| `valence_predicted`, `arousal_predicted` | in [-1, 1] |
| `AU<n>_predicted` | probability of each action unit |

Every image and every frame has at least one row; without a face, it contains the reason. The
prediction columns have the names of `affect_jax.metrics.predictions`, so `affect_jax.evaluate`
scores the table after label columns are added. Numbers are rounded to six decimals.
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

ROW_GROUP_SIZE = 10_000  # rows in memory before they are written to a Parquet file

Row = dict[str, Any]
Columns = dict[str, pyarrow.DataType]


class FaceTable(Protocol):
    """A writer of rows; a context manager. The file appears on exit, unless there is an error."""

    def write(self, row: Row) -> None: ...
    def __enter__(self) -> FaceTable: ...
    def __exit__(self, *error: object) -> None: ...


def face_columns(
    heads: Sequence[str], classes: Sequence[str], units: Sequence[int], *, has_video: bool
) -> Columns:
    """The column names and their types, in order.

    **Arguments:**

    - `heads`, `classes`, `units`: of the predictor.
    - `has_video`: whether any input is a video or webcam.
    """
    integer, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    columns: Columns = {"id": text, "source": text}
    if has_video:
        columns |= {"frame": integer, "seconds": real, "track": integer}
    columns |= {"face": integer, "reason": text}
    columns |= dict.fromkeys(("x", "y", "width", "height", "confidence"), real)
    if "expression" in heads:
        columns |= {"predicted": text, **dict.fromkeys((f"p_{name}" for name in classes), real)}
    if "valence_arousal" in heads:
        columns |= dict.fromkeys((f"{axis}_predicted" for axis in AXES), real)
    if "action_units" in heads:
        columns |= dict.fromkeys((f"AU{unit}_predicted" for unit in units), real)
    return columns


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
    """Yields the rows of an image's n faces; without a face, one row with the reason.

    **Arguments:**

    - `source`: name of the image, video or webcam.
    - `boxes`, `confidence`: [n, 4] and [n], as in `predictor.DetectedFaces`.
    - `outputs`: `{head: [n, ...]}`.
    - `reason`: why the image has no face, or "".
    - `classes`, `units`: of the predictor.
    - `frame`, `seconds`, `tracks`: videos only: index and time of the frame, track of each face.
    """
    name = source.encode("utf-8", "backslashreplace").decode()
    image_id = name if frame is None else f"{name}@{frame}"
    shared: Row = {"source": name, "frame": frame, "seconds": _round(seconds)}
    if not len(boxes):
        yield {"id": image_id, **shared, "reason": reason}
    for face, box in enumerate(boxes.tolist()):
        row: Row = {"id": f"{image_id}#{face}" if face else image_id, **shared, "face": face}
        if tracks is not None:
            row["track"] = int(tracks[face])
        row |= zip(("x", "y", "width", "height"), map(_round, box), strict=True)
        row["confidence"] = _round(confidence[face])
        head_columns = {
            "expression": [f"p_{name}" for name in classes],
            "valence_arousal": [f"{axis}_predicted" for axis in AXES],
            "action_units": [f"AU{unit}_predicted" for unit in units],
        }
        for head, values in outputs.items():
            row |= zip(head_columns[head], map(_round, values[face].tolist()), strict=True)
        if "expression" in outputs:
            row["predicted"] = classes[int(outputs["expression"][face].argmax())]
        yield row


def _round(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 6)


def file_format(path: pathlib.Path | None) -> str:
    """The file suffix, which selects the format; `.jsonl` without a path.

    **Raises:** `UserError` for an unsupported suffix.
    """
    suffix = ".jsonl" if path is None else path.suffix.lower()
    if suffix not in TABLE_FORMATS:
        raise UserError(f"--out={path}: the suffix must be one of {', '.join(TABLE_FORMATS)}")
    return suffix


def open_face_table(path: pathlib.Path | None, columns: Columns) -> FaceTable:
    """Opens a table. Without a path, it prints JSON lines to standard output.

    **Raises:** `UserError` if the suffix is unsupported or the file cannot be written.
    """
    suffix = file_format(path)
    if path is None:
        return _Stdout(columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return TABLE_FORMATS[suffix](path, columns)
    except OSError as error:
        raise UserError(f"--out={path}: cannot be written: {error.strerror}") from error


class _AtomicFile:
    """A file that is written under a temporary name and renamed when it is complete."""

    def __init__(self, path: pathlib.Path):
        self.path, self.partial_path = path, path.with_name(path.name + ".partial")
        self.partial_path.touch()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        if error[0] is None:
            self.partial_path.replace(self.path)
        else:
            self.partial_path.unlink()

    def close(self) -> None:
        raise NotImplementedError


def _format_json_line(row: Row, columns: Columns) -> str:
    """A row as a JSON object without the keys that have no value; `face` is always present."""
    values = {name: row[name] if name in row else None for name in columns}
    values = {name: v for name, v in values.items() if v is not None or name == "face"}
    return json.dumps(values, ensure_ascii=False) + "\n"


class _Stdout:
    def __init__(self, columns: Columns):
        self._columns = columns

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def write(self, row: Row) -> None:
        # Flush each row, so that a program at the other end of a pipe sees it immediately.
        print(_format_json_line(row, self._columns), end="", flush=True)


class _JsonLines(_AtomicFile):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._columns, self._file = columns, self.partial_path.open("w", encoding="utf-8")

    def write(self, row: Row) -> None:
        self._file.write(_format_json_line(row, self._columns))

    def close(self) -> None:
        self._file.close()


class _Csv(_AtomicFile):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._file = self.partial_path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(
            self._file, list(columns), restval="", extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def write(self, row: Row) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


class _Parquet(_AtomicFile):
    def __init__(self, path: pathlib.Path, columns: Columns):
        super().__init__(path)
        self._schema = pyarrow.schema(list(columns.items()))
        self._writer = pyarrow.parquet.ParquetWriter(str(self.partial_path), self._schema)

        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROW_GROUP_SIZE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


TABLE_FORMATS: dict[str, Callable[[Any, Columns], FaceTable]] = {
    ".jsonl": _JsonLines,
    ".json": _JsonLines,
    ".csv": _Csv,
    ".parquet": _Parquet,
}
