"""Images and labels in Parquet files, as dataset hubs store them.

Source: https://huggingface.co/docs/datasets/image_dataset and `datasets.Features`, whose names of
classes are JSON in the schema's metadata (key `huggingface`).
"""

from __future__ import annotations

import itertools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from affect_jax.core.errors import UserError, first_line
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, parse_split

BATCH_SIZE = 64  # rows in memory


@register_layout("parquet_faces")
def parquet_faces(
    source: Source,
    *,
    image_column: str = "image",
    label_column: str = "label",
    valence_column: str = "",
    arousal_column: str = "",
    classes: Sequence[str] = (),
) -> Iterator[tuple[str, Row]]:
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
    columns = {"image": image_column} | {name: c for name, c in columns.items() if c}
    paths = [path for path in source.files if path.endswith(".parquet")]
    source.used.update(paths)
    names = {path: _read_names(source.folder / path, columns) for path in paths}
    found = itertools.chain.from_iterable(of_file.values() for of_file in names.values())
    matched = source.match_classes(found, classes)
    for path in paths:
        *folders, file = path.split("/")
        word = re.match(r"[A-Za-z]\w*", file)
        split = parse_split([*folders, word[0]] if word else folders)
        for number, values in enumerate(_read_rows(source.folder / path, columns)):
            image = values.pop("image", b"")
            image = image.get("bytes") if isinstance(image, dict) else image
            image = image if isinstance(image, (bytes, str)) else b""
            if "expression" in values:
                values["expression"] = matched[names[path][values["expression"]]]
            yield split, Row(number, f"{path}#{number}", image, values)


def _read_rows(path: pathlib.Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yields the values of each row that are not empty, by the keys of `columns`."""
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_SIZE, columns=list(columns.values())):
                for row in batch.to_pylist():
                    values = {name: row[column] for name, column in columns.items()}
                    yield {name: value for name, value in values.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be used: {first_line(error)}") from error


def _read_names(path: pathlib.Path, columns: Mapping[str, str]) -> dict[Any, str]:
    """Label in a file -> name of its class: that in the schema, or the label as text."""
    label = columns.get("expression")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if missing := set(columns.values()).difference(schema.names):
                found = ", ".join(schema.names)
                raise ValueError(f"no column {', '.join(missing)}; it has {found}")
            if label is None:
                return {}
            metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            feature = metadata.get("info", {}).get("features", {}).get(label, {})
            values = set(file.read([label])[label].to_pylist()) - {None}
        names = dict(enumerate(feature.get("names", ())))
    except (pa.ArrowException, OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be used: {first_line(error)}") from error
    return {value: str(names.get(value, value)) for value in values}
