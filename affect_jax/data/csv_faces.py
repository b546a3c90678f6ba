"""Any folder of images with a CSV table: the columns are named by the config."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax import labels
from affect_jax.data import DATASETS, faces
from affect_jax.data.features import prepare
from affect_jax.data.rows import FilesBuilder, FilesConfig, Source, file_hash, read_csv
from affect_jax.errors import UserError

MAX_SPLITS = 10
SPLIT_NAMES = {"train": "training", "val": "validation", "valid": "validation"}
"""What other people call the two splits that a run uses; other names stay as they are."""


class CsvFaces(FilesBuilder):
    """Faces from a folder of images, labelled by CSV files.

    Without a box the whole image is the face, turned upright as its EXIF entry asks; with a box
    the entry is ignored, as the box is in pixels of the stored image.

    **Arguments:**

    - `folder`: the image folder.
    - `tables`: split -> CSV; or, with a split column, one entry for all splits.
    - `columns`: what `csv_faces` calls `*_column` -> the column's name in the file, "" for none.
    - `box_columns`: names of x, y, width and height; or none.
    """

    name = "csv_faces"

    def __init__(
        self,
        *,
        folder: pathlib.Path,
        tables: dict[str, pathlib.Path],
        columns: dict[str, str],
        box_columns: Sequence[str],
        **options: Any,
    ):
        self._folder, self._tables, self._columns = folder, tables, columns
        self._values = {  # name in `faces.Row.values` -> name in the file
            "expression": columns["label"],
            "valence": columns["valence"],
            "arousal": columns["arousal"],
            "facial_landmarks": columns["landmarks"],
            **dict(zip(faces.BOX, box_columns, strict=False)),
        }
        super().__init__(**options)

    def source(self) -> dict[str, str]:
        if not all(table.is_file() for table in self._tables.values()):
            return {}  # prepared records are enough
        return {split: file_hash(table) for split, table in self._tables.items()}

    def sources(self) -> dict[str, Source]:
        if not self._folder.is_dir():
            raise UserError(f"csv_faces: image folder {self._folder}: no such folder")
        if self._columns["split"]:
            table = self._tables["all"]
            totals = collections.Counter(split for split, _, _ in self._rows(table))
            if len(totals) > MAX_SPLITS:
                column = self._columns["split"]
                raise UserError(f"{table}: column {column} names {len(totals):,} splits")
            tables = {split: table for split in sorted(totals)}
        else:
            tables = self._tables
            totals = {split: sum(1 for _ in self._rows(t)) for split, t in tables.items()}
        return {
            split: Source(functools.partial(self._faces, table, split), totals[split], self._folder)
            for split, table in tables.items()
        }

    def _rows(self, table: pathlib.Path) -> Iterator[tuple[str, int, dict[str, str]]]:
        """Split (as its column names it, or ""), line and texts of each row."""
        wanted = [self._columns["path"], self._columns["split"], *self._values.values()]
        for line, row in read_csv(table):
            missing = [name for name in wanted if name and name not in row]
            if missing:
                raise UserError(f"{table}: no column {', '.join(missing)}; it has {', '.join(row)}")
            split = row[self._columns["split"]].strip() if self._columns["split"] else ""
            split = SPLIT_NAMES[split.lower()] if split.lower() in SPLIT_NAMES else split
            if self._columns["split"] and not re.fullmatch(r"[A-Za-z]\w*", split):
                raise UserError(f"{table}, line {line}: {split!r} is no name for a split")
            yield split, line, row

    def _faces(self, table: pathlib.Path, wanted: str) -> Iterator[faces.Row]:
        for split, line, row in self._rows(table):
            if split in ("", wanted):
                path = row[self._columns["path"]]
                texts = {name: row[column] for name, column in self._values.items() if column}
                # An empty field was not annotated.
                values = {name: text for name, text in texts.items() if text.strip()}
                yield faces.Row(line, path, path, values)


@DATASETS.register("csv_faces")
def csv_faces(
    *,
    manual_dir: str = "",
    data_dir: str = "data",
    image_size: int = 256,
    training_csv: str = "training.csv",
    validation_csv: str = "validation.csv",
    image_dir: str = "",
    path_column: str = "path",
    label_column: str = "label",
    box_columns: Sequence[str] = (),
    valence_column: str = "",
    arousal_column: str = "",
    landmarks_column: str = "",
    split_column: str = "",
    classes: Sequence[str] = labels.EXPRESSIONS,
    margin: float = 0.0,
    max_skipped: float = 0.01,
    num_workers: int | None = None,
) -> FilesBuilder:
    """A folder of images and one or two CSV files, prepared once.

    An empty column name says that there is no such column; an empty field, that its face was not
    annotated so. Valence and arousal are in [-1, 1], -2 stands for "not annotated".

    **Arguments:**

    - `manual_dir`: the folder to which the other paths are relative.
    - `data_dir`: where the records are written, in a folder of their own for each set of options.
    - `image_size`: side of the stored faces, pixels.
    - `training_csv`, `validation_csv`: the tables; an empty `validation_csv`: no such split.
    - `image_dir`: the folder below which the images lie.
    - `label_column`: holds the class's name or its place in `classes`.
    - `box_columns`: four names: x, y, width, height of the face in pixels of the image.
    - `landmarks_column`: holds `x1;y1;x2;...`, 68 points in pixels of the image.
    - `split_column`: the split of each row of `training_csv`, which then is the only table.
    - `margin`, `max_skipped`, `num_workers`: as in `affectnet`.

    **Raises:** `UserError` for files that are not there or not as the options say.
    """
    if len(box_columns) not in (0, 4):
        raise UserError(
            f"csv_faces: box_columns = {list(box_columns)}: give x, y, width and height"
        )
    base = pathlib.Path(manual_dir).expanduser()
    if split_column:
        tables = {"all": base / training_csv}
    else:
        tables = {"training": base / training_csv}
        if validation_csv:
            tables["validation"] = base / validation_csv
    options = {
        "folder": base / image_dir,
        "tables": tables,
        "columns": {
            "path": path_column,
            "label": label_column,
            "valence": valence_column,
            "arousal": arousal_column,
            "landmarks": landmarks_column,
            "split": split_column,
        },
        "box_columns": tuple(box_columns),
    }
    text = json.dumps([options, image_size, margin, list(classes)], default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    config = FilesConfig(
        name=f"{image_size}_{digest}", image_size=image_size, margin=margin, classes=tuple(classes)
    )
    return prepare(
        CsvFaces(
            config=config,
            data_dir=data_dir,
            max_skipped=max_skipped,
            num_workers=num_workers,
            **options,
        )
    )
