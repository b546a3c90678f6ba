"""FER+: the faces of FER2013 with the votes of ten raters.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
distribution", ICMI 2016; https://github.com/microsoft/FERPlus describes `fer2013new.csv`. The faces
are those of FER2013 (Goodfellow et al. 2013), 48 x 48 pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, parse_split, read_csv

NAMES = {name: name for name in labels.EXPRESSIONS[: labels.NUM_CLASSES]}
NAMES |= {"unknown": "uncertain", "NF": "non-face"}
"""Column of the votes -> class."""

FOLDERS = {"training": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
SIZE = 48


@register_layout("fer_plus", extra_features=("expression_distribution", "votes"))
def fer_plus(source: Source) -> Iterator[tuple[str, Row]]:
    """FER+: votes in fer2013new.csv, faces in fer2013.csv or in FER2013Train/, Valid/ and Test/.

    The folders are those that the script of FER+ writes. The class of a face is the one with the
    most votes, the first of equals.
    """
    tables = [name for name in ("fer2013new.csv", "fer2013.csv") if name in source.files]
    if "fer2013new.csv" not in tables:
        raise UserError(f"fer_plus: {source.folder}: no fer2013new.csv")
    source.used.update(tables)
    source.class_names.update(NAMES)
    votes = read_csv(source.folder / tables[0], ("Usage", "Image name", *NAMES))
    faces = read_csv(source.folder / tables[1], ("pixels", "Usage")) if tables[1:] else ()
    missing = (0, {"Usage": "", "pixels": ""})
    for (line, row), (_, face) in itertools.zip_longest(votes, faces, fillvalue=missing):
        if faces and row["Usage"] != face["Usage"]:
            raise UserError(
                f"{source.folder}: line {line} of fer2013new.csv and of fer2013.csv are not the"
                " same face; both files need their original order"
            )
        split = parse_split([row["Usage"]])
        by_class = {class_name: row[column] for column, class_name in NAMES.items()}
        values = {"votes": [by_class.get(name, 0) for name in labels.EXPRESSIONS]}
        path = f"{FOLDERS.get(split)}/{row['Image name'] or f'fer{line - 2:07d}.png'}"
        image, reason = path, ""
        if faces:
            try:
                pixels = np.array(face["pixels"].split(), np.uint8).reshape(SIZE, SIZE)
                image = f"P5 {SIZE} {SIZE} 255\n".encode() + pixels.tobytes()  # a PGM file
            except (ValueError, OverflowError):
                reason = f"pixels: not {SIZE} x {SIZE} numbers from 0 to 255"
        yield split, Row(line, path, image, values, reason=reason)
