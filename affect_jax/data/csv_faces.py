"""A folder of images with labels in CSV files; the config names the columns."""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import require_option
from affect_jax.data import DATASETS, annotation_parsing, face_images
from affect_jax.data.image_files_builder import ImageFilesBuilder, read_csv
from affect_jax.data.layouts import parse_split
from affect_jax.data.record_reader import size_and_hash
from affect_jax.data.tfds_builder import FacesConfig, prepare_records
from affect_jax.facs.action_units import UNITS


class CsvFaces(ImageFilesBuilder):
    """Faces from a folder of images, labelled by CSV files.

    Without a box, the face is the whole image, rotated by its EXIF orientation. With a box, the
    orientation is ignored, since the box is in pixels of the stored image.

    **Arguments:**

    - `folder`: the image folder.
    - `tables`: split -> CSV; or, with a split column, one entry for all splits.
    - `columns`: `path`, `split` and the names of `face_images.Row.values` -> the column's name in
      the file; "" if there is no such column.
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
        self.folder, self._tables = folder, tables
        columns = {name: column for name, column in columns.items() if column}
        self.find_rows = functools.partial(_find_rows, tables, columns)
        super().__init__(**options)

    def source_hashes(self) -> dict[str, str]:
        if not self.folder.is_dir():
            raise UserError(f"csv_faces: image folder {self.folder}: no such folder")
        for table in self._tables.values():
            if not table.is_file():
                raise UserError(
                    f"csv_faces: {table}: no such file; set --config.data.manual_dir, and the"
                    " options training_csv and validation_csv relative to it"
                )
        return {
            split: size_and_hash(epath.Path(table))["sha256"]
            for split, table in self._tables.items()
        }


def _find_rows(
    tables: Mapping[str, pathlib.Path], columns: Mapping[str, str]
) -> Iterator[tuple[str, face_images.Row]]:
    for split, table in tables.items():
        line = 0
        for line, texts in read_csv(table, columns.values()):
            # An empty field means "not annotated".
            values = {name: texts[column] for name, column in columns.items()}
            path = values["path"]
            if "split" in values:
                split = parse_split([values["split"].strip()], f"{table}, line {line}")
            values = {name: text for name, text in values.items() if text.strip()}
            yield split, face_images.Row(line, path, path, values)
        if not line:
            raise UserError(f"csv_faces: {table} has no rows")


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
) -> ImageFilesBuilder:
    """A folder of images and one or two CSV files, prepared once.

    An empty column name means that there is no such column; an empty field means "not annotated".
    Valence and arousal are in [-1, 1]; -2 also means "not annotated".

    **Arguments:**

    - `manual_dir`: the folder to which `image_dir` and the names of the tables are relative.
    - `data_dir`: folder for the records, which are written to a subfolder per set of options.
    - `training_csv`, `validation_csv`: names of the tables; the second may be empty: no such split.
    - `image_dir`: folder to which the paths of the images are relative.
    - `path_column`: column with the path of the image.
    - `label_column`: column with the name of the class or its index in `classes`.
    - `valence_column`, `arousal_column`: columns with numbers.
    - `classes`: names of the classes in the order of their ids.
    - `box_columns`: four columns: x, y, width, height of the face in pixels of the image.
    - `landmarks_column`: column with `x1;y1;x2;...`, 68 points in pixels of the image.
    - `action_unit_columns`: columns with intensities. A name begins with AU and a number of
      `facs.action_units.UNITS` (`AU12`, `AU04_r`). Units without a column are not annotated.
    - `action_unit_scale`: the maximum intensity in the file: 1, or 5 if the FACS grades A to E are
      written as numbers.
    - `split_column`: column with the split of each row; `training_csv` is then the only table.
    - `margin`, `max_skipped`, `num_workers`, `beam`: as in `affectnet`.

    **Raises:** `UserError` if files are missing or do not match the options.
    """
    if len(box_columns) not in (0, 4):
        raise UserError(
            f"csv_faces: box_columns = {list(box_columns)}: must be four, for x, y, width, height"
        )
    require_option("data.options.action_unit_scale", action_unit_scale, lambda v: v > 0, "above 0")
    if len(set(classes)) < len(classes):
        raise UserError(f"csv_faces: classes = {list(classes)}: a name occurs twice")
    columns = {
        "path": path_column,
        "split": split_column,
        "expression": label_column,
        "valence": valence_column,
        "arousal": arousal_column,
        "facial_landmarks": landmarks_column,
        **dict(zip(annotation_parsing.BOX_FIELDS, box_columns, strict=False)),
        **{_parse_unit(name): name for name in action_unit_columns},
    }
    base = pathlib.Path(manual_dir).expanduser()
    tables = {"all" if split_column else "training": base / training_csv}
    if validation_csv and not split_column:
        tables["validation"] = base / validation_csv
    files = {"folder": base / image_dir, "tables": tables, "columns": columns}
    # The name of the config, its folder's, changes with each option that affects records.
    options = [image_size, margin, tuple(classes), action_unit_scale, files]
    text = json.dumps(options, default=str, sort_keys=True)
    config = FacesConfig(
        name=f"{image_size}_{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        image_size=image_size,
        margin=margin,
        classes=tuple(classes),
        unit_scale=action_unit_scale,
    )
    limits = {"max_skipped": max_skipped, "num_workers": num_workers, "beam": beam}
    return prepare_records(CsvFaces(config=config, data_dir=data_dir, **files, **limits))


def _parse_unit(column: str) -> str:
    """The unit of a column: `AU12` for "AU12_r"."""
    match = re.match(r"\s*AU0*(\d+)", column)
    if not match or int(match[1]) not in UNITS:
        valid = ", ".join(f"AU{unit}" for unit in UNITS)
        raise UserError(f"csv_faces: action_unit_columns: {column!r} is not one of {valid}")
    return f"AU{match[1]}"
