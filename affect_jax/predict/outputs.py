"""The output table of the `predict` command: one row for each face, as JSON lines, CSV or Parquet.

| column | content |
|---|---|
| `id` | unique: source, then `@frame` in a video, then `#face` from the second face on |
| `source` | path of the file as the user wrote it, or `webcam:0` |
| `frame`, `seconds` | videos only: index from 0; timestamp |
| `face` | index of the face in its image, the largest is 0; empty without a face |
| `reason` | why the image has no face |
| `x`, `y`, `width`, `height` | box in pixels of the upright image; it may extend beyond the image |
| `confidence` | the detector's score; empty without a detector |
| `predicted` | name of the most probable class |
| `uncertain` | whether its probability is below 0.5 |
| `p_<class>` | probability of each class |
| `valence_predicted`, `arousal_predicted` | in [-1, 1] |
| `AU<n>_predicted` | probability of each action unit |

Every image and every frame has at least one row. The prediction columns have the names of
`affect_jax.metrics.predictions`, so `affect_jax.evaluate` scores the table after label columns are
added. Numbers are rounded to six decimals. In CSV files, a text that a spreadsheet would run as a
formula begins with `'`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet

from affect_jax.core.errors import UserError
from affect_jax.core.labels import MIN_CERTAIN
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.core.spreadsheets import escape_formula

if TYPE_CHECKING:
    from affect_jax.predict.inputs import Frame
    from affect_jax.predict.predictor import ImageFaces

OUT_SUFFIXES = (".jsonl", ".csv", ".parquet")
ROWS_IN_MEMORY = 10_000  # before they are written to a Parquet file

Row = dict[str, Any]
Names = Mapping[str, Sequence[str]]  # see `TrainedNetwork.output_names`
Columns = dict[str, pyarrow.DataType]


def name_columns(head: str, names: Sequence[str]) -> list[str]:
    """Returns the names of the columns of a head's values."""
    return [f"p_{name}" if head == "expression" else f"{name}_predicted" for name in names]


def face_columns(names: Names, *, has_video: bool) -> Columns:
    """Returns the names of the columns and their types, in order."""
    integer, real, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
    columns: Columns = {"id": text, "source": text}
    if has_video:
        columns |= {"frame": integer, "seconds": real}
    columns |= {"face": integer, "reason": text}
    columns |= dict.fromkeys(("x", "y", "width", "height", "confidence"), real)
    if "expression" in names:
        columns |= {"predicted": text, "uncertain": pyarrow.bool_()}
    for head in names:
        columns |= dict.fromkeys(name_columns(head, names[head]), real)
    return columns


def face_rows(frame: Frame, faces: ImageFaces, names: Names) -> Iterator[Row]:
    """Yields the rows of the faces of an image or frame; without a face, one with the reason."""
    source = frame.source.name.encode("utf-8", "backslashreplace").decode()
    image_id = source if frame.number is None else f"{source}@{frame.number}"
    shared: Row = {"source": source, "frame": frame.number, "seconds": _round(frame.seconds)}
    if not len(faces.boxes):
        yield {"id": image_id, **shared, "face": None, "reason": faces.reason}
    for face, box in enumerate(faces.boxes.tolist()):
        row: Row = {"id": f"{image_id}#{face}" if face else image_id, **shared, "face": face}
        row |= zip(("x", "y", "width", "height"), map(_round, box), strict=True)
        row["confidence"] = _round(faces.confidence[face])
        for head in names:
            values = faces.outputs[head][face]
            if head == "expression":
                row["predicted"] = names[head][int(values.argmax())]
                row["uncertain"] = bool(values.max() < MIN_CERTAIN)
            row |= zip(name_columns(head, names[head]), map(_round, values.tolist()), strict=True)
        yield row


def _round(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 6)


@contextlib.contextmanager
def open_face_table(path: pathlib.Path | None, columns: Columns) -> Iterator[Callable[[Row], Any]]:
    """Yields a function that writes a row to a file, or JSON lines to standard output.

    The file has a temporary name until it is complete; if there is an error, it is deleted.

    **Raises:** `UserError` if the suffix is unsupported or the file cannot be written.
    """
    if path is None:
        # Each row is flushed, so that a program at the other end of a pipe sees it immediately.
        yield lambda row: print(_format_json_line(row), flush=True)
        return
    if path.suffix not in OUT_SUFFIXES:
        raise UserError(f"--out={path}: the suffix must be one of {', '.join(OUT_SUFFIXES)}")
    with writing_to(path.parent), write_atomically(path) as partial:
        if path.suffix == ".parquet":
            with partial.open("wb") as file, _open_parquet(file, columns) as write:
                yield write
            return
        with partial.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                yield lambda row: print(_format_json_line(row), file=file)
            else:
                table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
                table.writeheader()
                yield lambda row: table.writerow(
                    {name: escape_formula(value) for name, value in row.items()}
                )


def _format_json_line(row: Row) -> str:
    """A row as a JSON object without the keys that have no value; `face` is always present."""
    kept = {key: value for key, value in row.items() if key == "face" or value is not None}
    return json.dumps(kept, ensure_ascii=False)


@contextlib.contextmanager
def _open_parquet(file: Any, columns: Columns) -> Iterator[Callable[[Row], Any]]:
    """Yields a function that writes a row; rows are written in groups."""
    schema = pyarrow.schema(list(columns.items()))
    rows: list[Row] = []
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:

        def write(row: Row) -> None:
            rows.append(row)
            if len(rows) >= ROWS_IN_MEMORY:
                flush()

        def flush() -> None:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            rows.clear()

        yield write
        flush()


@contextlib.contextmanager
def open_feature_file(path: pathlib.Path | None) -> Iterator[dict[str, np.ndarray]]:
    """Yields a dictionary for the features of each face by its id, which it writes at the end.

    **Arguments:** `path`: a file ending in `.npz` or `.parquet`, for `id`, str [N], and `features`,
    float32 [N, F]; None: nothing is written.

    **Raises:** `UserError` if the suffix is another or the file cannot be written.
    """
    features: dict[str, np.ndarray] = {}
    if path is None:
        yield features
        return
    if path.suffix not in (".npz", ".parquet"):
        raise UserError(f"--features={path}: the suffix must be .npz or .parquet")
    with writing_to(path.parent), write_atomically(path) as partial:
        yield features
        ids, values = [*features], [*features.values()]
        if path.suffix == ".parquet":
            rows = pyarrow.array(values, pyarrow.list_(pyarrow.float32()))
            pyarrow.parquet.write_table(pyarrow.table({"id": ids, "features": rows}), partial)
            return
        with partial.open("wb") as file:
            rows = np.array(values) if values else np.empty((0, 0), np.float32)
            np.savez(file, id=np.array(ids, str), features=rows)
