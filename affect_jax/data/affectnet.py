"""AffectNet, in the layouts of its first and second release.

Mollahosseini, Hasani and Mahoor, "AffectNet", IEEE Transactions on Affective Computing, 2017. The
data require a licence from the authors; this module reads the files that they provide.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, read_csv

HEADER = (
    "subDirectory_filePath", *BOX_FIELDS, "facial_landmarks", "expression", "valence", "arousal"
)  # fmt: skip
VARIANTS = {
    "manual": "first release, annotated by hand: training.csv and validation.csv",
    "automatic": "first release, annotated by a network: automatically_annotated.csv",
    "second": "second release, annotated by hand: train_set/ and val_set/",
}
TABLES = {
    "manual": {"training": "training.csv", "validation": "validation.csv"},
    "automatic": {"training": "automatically_annotated.csv", "validation": "validation.csv"},
    "second": {"training": "train_set/annotations", "validation": "val_set/annotations"},
}
"""Variant -> split -> its table: a CSV file, or a folder of `.npy` files."""

ROWS_TO_PROBE = 100


def _folder_name(image_size: int, margin: float, *, variant: str = "manual") -> str:
    return f"{variant}_{image_size}" + (f"_margin_{margin:g}" if margin else "")


@register_layout("affectnet", folder_name=_folder_name)
def affectnet(source: Source, *, variant: str = "manual") -> Iterator[tuple[str, Row]]:
    """AffectNet from a release on disk, prepared once.

    All rows are written, including the expressions "none", "uncertain" and "non-face", which are
    masked in batches. The face is the annotated box, clipped at the border of the image. Boxes and
    landmarks are in pixels of the stored image: EXIF rotation is ignored, as by the tools that made
    the annotations. In the second release, the images are already cropped to the faces, and
    landmarks are in pixels of the crops.

    The automatic set has only a training split. If the manual set's validation.csv and images are
    in the same folder, they become its `validation` split.

    **Arguments:**

    - `manual_dir`: folder of the release, with one level of nesting more or less; not needed after
      the records are prepared.
    - `data_dir`: folder for the records, which are written to a subfolder per variant.
    - `variant`: `manual`, `automatic` or `second`, see `VARIANTS`.
    - `image_size`: side of the stored faces, pixels.
    - `margin`: fraction of the box's width and height that is added on each side.
    - `align`: `box` crops the box, as in the paper; `eyes` rotates and scales the image so that the
      eyes are at fixed places. They come from the landmarks, else from a network (extra `align`).
    - `max_skipped`: fraction of a split's rows that may be unusable; `skipped.csv` lists each.
    - `num_workers`: processes that read images; None: one per core.
    - `beam`: options of an Apache Beam pipeline that reads the images instead, on one or more
      machines, for example `--runner=FlinkRunner --flink_master=...`; the records are the same.

    **Raises:** `UserError` if the release is missing, if too many rows are unusable, or if existing
    records were prepared from another release.
    """
    if variant not in VARIANTS:
        raise UserError(f"affectnet: variant {describe_unknown_name(variant, VARIANTS)}")
    folder = source.folder if source.manual_dir else None
    tables = find_tables(folder, variant)
    source.tables = {
        f"{split}: {table.name}" if table.is_dir() else table.name: table
        for split, table in tables.items()
    }
    return _find_rows(source.folder, tables)


def _find_rows(
    folder: pathlib.Path, tables: Mapping[str, pathlib.Path]
) -> Iterator[tuple[str, Row]]:
    for split, table in tables.items():
        images = str(find_images(folder, table))
        for row in read_rows(table):
            yield split, row._replace(folder=images)


def find_tables(folder: pathlib.Path | None, variant: str) -> dict[str, pathlib.Path]:
    """Finds the table of each split of a release, see `TABLES`.

    **Raises:** `UserError` if a table is missing, with instructions to get the data.
    """
    tables = {}
    for split, name in TABLES[variant].items():
        paths = _find_nearby(folder, name) if folder is not None and folder.is_dir() else []
        found = [path for path in paths if path.is_file() or path.is_dir()]  # not a pipe
        if found:
            tables[split] = found[0]
        elif (variant, split) != ("automatic", "validation"):
            raise UserError(
                f"AffectNet is missing ({name} is not in manual_dir = {str(folder or '')!r},"
                " nor one folder below or above)",
                [
                    "AffectNet needs a licence from its authors (University of Denver):"
                    " http://mohammadmahoor.com/affectnet/",
                    f"Put the {VARIANTS[variant]}, with its images, into one folder and pass its"
                    " path: --config.data.manual_dir=/path/to/AffectNet",
                    "Rendered faces need no licence: python -m affect_jax.main"
                    " --config=configs/alexnet_weighted.py:synthetic_faces",
                ],
            )
    return tables


def _find_nearby(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Finds paths in a folder, in its subfolders and in its parent."""
    folder = folder.absolute()
    globs = folder.glob(pattern), folder.glob(f"*/{pattern}"), folder.parent.glob(pattern)
    return [path for paths in globs for path in sorted(paths)]


def find_images(folder: pathlib.Path, table: pathlib.Path) -> pathlib.Path:
    """Finds the images of a table: the first folder near it with an image of its first rows.

    **Raises:** `UserError` if there is no such folder.
    """
    if table.is_dir():
        return table.parent / "images"
    is_automatic = table.name == TABLES["automatic"]["training"]
    name = "Automatically_Annotated" if is_automatic else "Manually_Annotated"
    probes = [row.image for row in itertools.islice(read_rows(table), ROWS_TO_PROBE)]
    pattern = f"{name}*"
    parents = [
        path for path in (folder.absolute().parent, table.parent.parent) if path.match(pattern)
    ]
    for candidate in _find_nearby(folder, pattern) + _find_nearby(table.parent, pattern) + parents:
        if any(os.path.isfile(os.path.join(candidate, str(probe))) for probe in probes):
            return candidate
    raise UserError(
        f"{table}: none of the images of its first {len(probes)} rows is in a folder {name}_Images"
        f" near {folder}"
    )


def read_rows(table: pathlib.Path) -> Iterator[Row]:
    """Yields the rows of a table, which is a CSV file or a folder of `.npy` files."""
    if table.is_dir():
        names = [name.removesuffix("_exp.npy") for name in os.listdir(table)]
        for number in sorted(int(name) for name in names if name.isdecimal()):
            path = f"{number}.jpg"
            yield Row(number, path, path, {}, os.path.join(table, f"{number}_"))
        return
    for line, row in read_csv(table, HEADER, header=HEADER):
        path = row["subDirectory_filePath"]
        yield Row(line, path, path, {name: row[name] for name in HEADER[1:]})
