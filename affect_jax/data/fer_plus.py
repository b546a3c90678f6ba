"""FER+: the faces of FER2013 with the votes of ten raters.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
distribution", ICMI 2016; https://github.com/microsoft/FERPlus describes `fer2013new.csv`. The faces
are those of FER2013 (Goodfellow et al. 2013), 48 x 48 pixels.
"""

from __future__ import annotations

import functools
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import layouts
from affect_jax.data.face_images import Row
from affect_jax.data.image_files_builder import read_csv

NAMES = {
    **{name: name for name in labels.EXPRESSIONS[: labels.NUM_CLASSES]},
    "unknown": "uncertain",
    "NF": "non-face",
}
"""Column of the votes -> class."""

USAGES = {
    "training": ("Training", "FER2013Train"),
    "validation": ("PublicTest", "FER2013Valid"),
    "test": ("PrivateTest", "FER2013Test"),
}
"""Split -> its value of the column `Usage`, and its folder of images."""

SIZE = 48


@layouts.register_layout("fer_plus", extra_features=("expression_distribution", "votes"))
def fer_plus(folder: pathlib.Path) -> layouts.Layout:
    """FER+: votes in fer2013new.csv, faces in fer2013.csv or in FER2013Train/, Valid/ and Test/.

    The folders are those that the script of FER+ writes. The class of a face is the one with the
    most votes, the first of equals.
    """
    tables = [name for name in ("fer2013new.csv", "fer2013.csv") if (folder / name).is_file()]
    if "fer2013new.csv" not in tables:
        raise UserError(f"fer_plus: {folder}: no fer2013new.csv")
    read_rows = functools.partial(_read_rows, folder=folder, with_pixels=len(tables) == 2)
    return layouts.Layout(USAGES, read_rows, NAMES, tables)


def _read_rows(split: tuple[str, str], *, folder: pathlib.Path, with_pixels: bool) -> Iterator[Row]:
    usage, images = split
    votes = read_csv(folder / "fer2013new.csv", ("Usage", "Image name", *NAMES))
    faces = read_csv(folder / "fer2013.csv", ("pixels", "Usage")) if with_pixels else ()
    missing = (0, {"Usage": "", "pixels": ""})
    for (line, row), (_, face) in itertools.zip_longest(votes, faces, fillvalue=missing):
        if with_pixels and row["Usage"] != face["Usage"]:
            raise UserError(
                f"{folder}: line {line} of fer2013new.csv and of fer2013.csv are not the same face;"
                " both files need their original order"
            )
        if row["Usage"] != usage:
            continue
        by_class = {class_name: row[column] for column, class_name in NAMES.items()}
        values = {"votes": [by_class.get(name, 0) for name in labels.EXPRESSIONS]}
        path = f"{images}/{row['Image name'] or f'fer{line - 2:07d}.png'}"
        image, reason = path, ""
        if with_pixels:
            try:
                pixels = np.array(face["pixels"].split(), np.uint8).reshape(SIZE, SIZE)
                image = f"P5 {SIZE} {SIZE} 255\n".encode() + pixels.tobytes()  # a PGM file
            except (ValueError, OverflowError):
                reason = f"pixels: not {SIZE} x {SIZE} numbers from 0 to 255"
        yield Row(line, path, image, values, reason=reason)
