"""Images and labels in Parquet files, as dataset hubs store them.

Source: https://huggingface.co/docs/datasets/image_dataset and `datasets.Features`, whose names of
classes are JSON in the schema's metadata (key `huggingface`).
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from affect_jax.core import labels
from affect_jax.core.errors import UserError, first_line
from affect_jax.data import layouts
from affect_jax.data.face_images import Row

BATCH_SIZE = 64  # rows in memory


@layouts.register_layout("parquet_faces")
def parquet_faces(
    folder: pathlib.Path,
    *,
    image_column: str = "image",
    label_column: str = "label",
    valence_column: str = "",
    arousal_column: str = "",
    classes: Sequence[str] = (),
) -> layouts.Layout:
    """Parquet files with encoded images and labels, such as data/train-00000-of-00002.parquet.

    The split is the first word of the file's name, or the name of its folder.

    **Arguments:**

    - `image_column`: bytes of an image file, or a structure with `bytes` and `path`.
    - `label_column`: name of the class, or its number if the schema has the names.
    - `valence_column`, `arousal_column`: in [-1, 1]; empty: no such column.
    - `classes`: names in the order of their ids, and of the numbers if the schema has no names;
      empty: those of AffectNet.
    """
    columns = {"expression": label_column, "valence": valence_column, "arousal": arousal_column}
    columns = {name: column for name, column in columns.items() if column}
    tables: dict[str, list[str]] = collections.defaultdict(list)
    names: dict[Any, str] = {}
    for path in layouts.list_files(folder):
        if path.endswith(".parquet"):
            word = pathlib.PurePosixPath(path).name.replace(".", "-").split("-")[0]
            if word.isdecimal():
                word = pathlib.PurePosixPath(path).parent.name
            tables[layouts.parse_split(word, folder / path)].append(path)
            names |= _read_names(folder / path, label_column, [image_column, *columns.values()])
    matched = labels.match_classes(
        names.values(), classes or labels.EXPRESSIONS, folder, ordered=bool(classes)
    )
    classes_by_label = {label: matched[name] for label, name in names.items()}
    read_rows = functools.partial(
        _read_rows, folder=folder, image=image_column, columns=columns, classes=classes_by_label
    )
    return layouts.Layout(tables, read_rows, matched, sum(tables.values(), []))


def _read_names(path: pathlib.Path, column: str, required: Sequence[str]) -> dict[Any, str]:
    """Label in a file -> name of its class: that in the schema, or the label as text."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if missing := [name for name in required if name not in schema.names]:
                raise UserError(
                    f"{path}: no column {', '.join(missing)}; it has {', '.join(schema.names)}"
                )
            metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            feature = metadata.get("info", {}).get("features", {}).get(column, {})
            if names := feature.get("names"):
                return dict(enumerate(names))
            values = pa.compute.unique(file.read([column])[column]).to_pylist()
            return {value: str(value) for value in values if value is not None}
    except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a Parquet file of faces: {first_line(error)}") from error


def _read_rows(
    paths: Sequence[str],
    *,
    folder: pathlib.Path,
    image: str,
    columns: Mapping[str, str],
    classes: Mapping[Any, str],
) -> Iterator[Row]:
    for path in paths:
        with pq.ParquetFile(folder / path) as file:
            batches = file.iter_batches(BATCH_SIZE, columns=[image, *columns.values()])
            records = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, record in enumerate(records):
                content = (
                    record[image]["bytes"] if isinstance(record[image], dict) else record[image]
                )
                values = {name: record[column] for name, column in columns.items()}
                values = {name: value for name, value in values.items() if value is not None}
                if "expression" in values:
                    values["expression"] = classes.get(values["expression"], "unknown class")
                yield Row(number, f"{path}#{number}", content or b"", values)
