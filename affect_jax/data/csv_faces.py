"""A folder of images with labels in CSV files; the config names the columns."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import require_option
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, parse_split, read_csv
from affect_jax.facs.action_units import UNITS


@register_layout("csv_faces")
def csv_faces(
    source: Source,
    *,
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
) -> Iterator[tuple[str, Row]]:
    """A folder of images and one or two CSV files, prepared once.

    Without a box, the face is the whole image, rotated by its EXIF orientation. With a box, the
    orientation is ignored, since the box is in pixels of the stored image.

    An empty column name means that there is no such column; an empty field means "not annotated".
    Valence and arousal are in [-1, 1]; -2 also means "not annotated".

    **Arguments:**

    - `training_csv`, `validation_csv`: names of the tables in `manual_dir`; the second may be
      empty: no such split.
    - `image_dir`: folder in `manual_dir` to which the paths of the images are relative.
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

    **Raises:** `UserError` if files are missing or do not match the options.
    """
    if len(box_columns) not in (0, 4):
        raise UserError(
            f"csv_faces: box_columns = {list(box_columns)}: must be four, for x, y, width, height"
        )
    require_option("data.options.action_unit_scale", action_unit_scale, lambda v: v > 0, "above 0")
    columns = {
        "path": path_column,
        "split": split_column,
        "expression": label_column,
        "valence": valence_column,
        "arousal": arousal_column,
        "facial_landmarks": landmarks_column,
        **dict(zip(BOX_FIELDS, box_columns, strict=False)),
        **{_parse_unit(name): name for name in action_unit_columns},
    }
    columns = {name: column for name, column in columns.items() if column}
    folder = source.folder / image_dir
    if not folder.is_dir():
        raise UserError(f"csv_faces: image folder {folder}: no such folder")
    names = {"all" if split_column else "training": training_csv}
    if validation_csv and not split_column:
        names["validation"] = validation_csv
    source.tables = _find_tables(source.folder, names)
    return _find_rows(source.tables, columns, str(folder), action_unit_scale)


def _find_tables(folder: pathlib.Path, names: Mapping[str, str]) -> dict[str, pathlib.Path]:
    """Returns the path of the table of each split. **Raises:** `UserError` if one is missing."""
    tables = {split: folder / name for split, name in names.items()}
    for table in tables.values():
        if not table.is_file():
            raise UserError(
                f"csv_faces: {table}: no such file; set --config.data.manual_dir, and the"
                " options training_csv and validation_csv relative to it"
            )
    return tables


def _find_rows(
    tables: Mapping[str, pathlib.Path],
    columns: Mapping[str, str],
    folder: str,
    unit_scale: float,
) -> Iterator[tuple[str, Row]]:
    for split, table in tables.items():
        line = 0
        for line, texts in read_csv(table, columns.values()):
            values = {name: texts[column] for name, column in columns.items()}
            path = values["path"]
            if "split" in values:
                split = parse_split([values["split"].strip()], f"{table}, line {line}")
            # An empty field means "not annotated".
            values = {name: text for name, text in values.items() if text.strip()}
            yield split, Row(line, path, path, values, folder=folder, unit_scale=unit_scale)
        if not line:
            raise UserError(f"csv_faces: {table} has no rows")


def _parse_unit(column: str) -> str:
    """The unit of a column: `AU12` for "AU12_r"."""
    match = re.match(r"\s*AU0*(\d+)", column)
    if not match or int(match[1]) not in UNITS:
        valid = ", ".join(f"AU{unit}" for unit in UNITS)
        raise UserError(f"csv_faces: action_unit_columns: {column!r} is not one of {valid}")
    return f"AU{match[1]}"
