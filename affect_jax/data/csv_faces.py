"""Any folder of images with a CSV table: the columns are named by the config."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, face_images, label_parsing
from affect_jax.data.builder import prepare_records
from affect_jax.data.file_builder import FilesBuilder, FilesConfig, Source, file_hash, read_csv
from affect_jax.facs.action_units import UNITS

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
    - `columns`: `path`, `split` and the names of `faces.Row.values` -> the column's name in the
      file; "" where there is none.
    """

    name = "csv_faces"

    def __init__(
        self,
        *,
        folder: pathlib.Path,
        tables: dict[str, pathlib.Path],
        columns: dict[str, str],
        **options: Any,
    ):
        self._folder, self._tables = folder, tables
        self._columns = {name: column for name, column in columns.items() if column}
        super().__init__(**options)

    def check_source(self) -> None:
        if not self._folder.is_dir():
            raise UserError(f"csv_faces: image folder {self._folder}: no such folder")
        for table in self._tables.values():
            if not table.is_file():
                raise UserError(
                    f"csv_faces: {table}: no such file; it is looked for below"
                    " --config.data.manual_dir, under the names training_csv and validation_csv"
                )

    def source(self) -> dict[str, str]:
        if not all(table.is_file() for table in self._tables.values()):
            return {}  # prepared records are enough
        return {split: file_hash(table) for split, table in self._tables.items()}

    def sources(self) -> dict[str, Source]:
        if "split" in self._columns:
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
        column = self._columns["split"] if "split" in self._columns else None
        for line, row in read_csv(table):
            missing = [name for name in self._columns.values() if name not in row]
            if missing:
                raise UserError(f"{table}: no column {', '.join(missing)}; it has {', '.join(row)}")
            if column is None:
                yield "", line, row
                continue
            split = row[column].strip()
            split = SPLIT_NAMES[split.lower()] if split.lower() in SPLIT_NAMES else split
            if not re.fullmatch(r"[A-Za-z]\w*", split):
                raise UserError(f"{table}, line {line}: {split!r} is no name for a split")
            yield split, line, row

    def _faces(self, table: pathlib.Path, wanted: str) -> Iterator[face_images.Row]:
        labelled = {k: v for k, v in self._columns.items() if k not in ("path", "split")}
        for split, line, row in self._rows(table):
            if split in ("", wanted):
                texts = {name: row[column] for name, column in labelled.items()}
                # An empty field was not annotated.
                values = {name: text for name, text in texts.items() if text.strip()}
                path = row[self._columns["path"]]
                yield face_images.Row(line, path, path, values)


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
    action_unit_columns: Sequence[str] = (),
    action_unit_scale: float = 1.0,
    split_column: str = "",
    classes: Sequence[str] = labels.EXPRESSIONS,
    margin: float = 0.0,
    max_skipped: float = 0.01,
    num_workers: int | None = None,
    beam: str = "",
) -> FilesBuilder:
    """A folder of images and one or two CSV files, prepared once.

    An empty column name says that there is no such column; an empty field, that its face was not
    annotated so. Valence and arousal are in [-1, 1]; -2 stands for "not annotated".

    **Arguments:**

    - `manual_dir`: the folder to which `image_dir` and the tables' names are relative.
    - `data_dir`: where the records are written, in a folder of their own for each set of options.
    - `validation_csv`: empty where there is no such split.
    - `label_column`: holds the class's name or its place in `classes`.
    - `box_columns`: four names: x, y, width, height of the face in pixels of the image.
    - `landmarks_column`: holds `x1;y1;x2;...`, 68 points in pixels of the image.
    - `action_unit_columns`: names that begin with a unit's number, one of
      `facs.action_units.UNITS` (`AU12`, `AU04_r`): how strong it is. Others stay unknown.
    - `action_unit_scale`: how the strongest is written: 1, or 5 for grades A to E as numbers.
    - `split_column`: the split of each row of `training_csv`, which then is the only table.
    - `margin`, `max_skipped`, `num_workers`, `beam`: as in `affectnet`.

    **Raises:** `UserError` for files that are not there or not as the options say.
    """
    if len(box_columns) not in (0, 4):
        raise UserError(f"csv_faces: box_columns = {list(box_columns)}: name x, y, width, height")
    columns = {"path": path_column, "split": split_column, "expression": label_column}
    columns |= {"valence": valence_column, "arousal": arousal_column}
    columns |= {"facial_landmarks": landmarks_column}
    columns |= dict(zip(label_parsing.BOX, box_columns, strict=False))
    columns |= _unit_columns(action_unit_columns, action_unit_scale)
    base = pathlib.Path(manual_dir).expanduser()
    tables = {"all" if split_column else "training": base / training_csv}
    if validation_csv and not split_column:
        tables["validation"] = base / validation_csv
    files = {"folder": base / image_dir, "tables": tables, "columns": columns}
    config = _config(image_size, margin, tuple(classes), action_unit_scale, files)
    limits = {"max_skipped": max_skipped, "num_workers": num_workers, "beam": beam}
    return prepare_records(CsvFaces(config=config, data_dir=data_dir, **files, **limits))


def _unit_columns(names: Sequence[str], scale: float) -> dict[str, str]:
    """`{"AU12": "AU12_r", ...}`: the column of each unit."""
    if not 0 < scale < math.inf:
        raise UserError(f"csv_faces: action_unit_scale = {scale}: must be above 0")
    columns: dict[str, str] = {}
    for name in names:
        match = re.match(r"\s*AU[ _]?0*([1-9]\d*)(?!\d)", name, re.IGNORECASE)
        unit = f"AU{match[1]}" if match else ""
        if not match or int(match[1]) not in UNITS:
            known = ", ".join(f"AU{unit}" for unit in UNITS)
            raise UserError(f"csv_faces: action_unit_columns: {name!r} is none of {known}")
        if unit in columns:
            raise UserError(f"csv_faces: action_unit_columns: two columns of {unit}")
        columns[unit] = name
    return columns


def _config(
    image_size: int, margin: float, classes: tuple[str, ...], scale: float, files: dict[str, Any]
) -> FilesConfig:
    """Its name, which is the folder's, changes with every option that changes the records."""
    text = json.dumps([image_size, margin, classes, scale, files], default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return FilesConfig(
        name=f"{image_size}_{digest}",
        image_size=image_size,
        margin=margin,
        classes=classes,
        unit_scale=scale,
    )
