"""Command that estimates the action units of each face of a dataset from its landmarks.

    python -m affect_jax.facs --manual_dir=/path/to/AffectNet --out=units.csv
    python -m affect_jax.facs --prepared=data/affectnet/manual_256/1.1.0 --out=units.csv

It reads landmarks and labels, no images. The table has the columns id (the path in the source),
split, expression, AU1, AU2, ..., AU43 and residual. The cells of a face without landmarks are
empty. `python -m benchmarks.action_units` measures how well the units separate expressions.

This is the only module of `affect_jax.facs` that imports `affect_jax.data`.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affect_jax.core import labels
from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError, first_line
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import Estimate, estimate

if TYPE_CHECKING:  # importing it takes seconds; --help does not need it
    from affect_jax.data.face_images import Row

VARIANTS = ("manual", "automatic", "second")  # of a release, see `affect_jax.data.affectnet`
MAX_PRINTED_PROBLEMS = 5  # rows with unreadable values


@dataclasses.dataclass
class LabelledFaces:
    """Labels and landmarks of the n faces of a dataset.

    **Arguments:**

    - `ids`, `splits`, `expressions`: n texts; "" for a face without expression.
    - `landmarks`: n arrays float [68, 2], pixels; NaN for a face without landmarks.
    - `unreadable`: "split, id: reason" of each row with an invalid value.
    """

    ids: list[str] = dataclasses.field(default_factory=list)
    splits: list[str] = dataclasses.field(default_factory=list)
    expressions: list[str] = dataclasses.field(default_factory=list)
    landmarks: list[np.ndarray] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)


@handle_cli_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m affect_jax.facs", description="Estimates action units from 68 landmarks."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manual_dir", type=pathlib.Path, help="folder of an AffectNet release")
    source.add_argument(
        "--prepared",
        type=pathlib.Path,
        help="folder of a prepared dataset (contains prepared.json)",
    )
    parser.add_argument(
        "--variant", choices=VARIANTS, default="manual", help="variant of the release"
    )
    parser.add_argument("--out", type=pathlib.Path, help=".csv file to write the table to")
    args = parser.parse_args(argv)
    if args.out and (args.out.suffix != ".csv" or not args.out.absolute().parent.is_dir()):
        raise UserError(f"--out={args.out}: name a file that ends in .csv, in an existing folder")
    if args.manual_dir:
        faces = read_release(args.manual_dir, args.variant)
    else:
        faces = read_prepared(args.prepared)
    if not faces.ids:
        raise UserError("the dataset has no faces: its tables contain only a header")
    estimates = estimate(np.stack(faces.landmarks))
    if args.out:  # before printing, which fails if the reader closed the pipe
        write_csv(faces, estimates, args.out)
    print_summary(faces, estimates)
    if args.out:
        print(f"written: {args.out}")
    return 0


def print_summary(faces: LabelledFaces, estimates: Estimate) -> None:
    """Prints the numbers of faces and of unusable values, and the median residual."""
    is_estimated = np.isfinite(estimates.residual)
    print(
        f"{len(is_estimated):,} faces, {np.sum(~is_estimated):,} of them without usable landmarks;"
        f" {len(faces.unreadable):,} rows with unreadable values"
    )
    for line in faces.unreadable[:MAX_PRINTED_PROBLEMS]:
        print(f"  {' '.join(line.split())}")  # an id may contain a newline
    if is_estimated.any():
        median = np.median(estimates.residual[is_estimated])
        print(f"median residual: {median:.3f} of the inter-eye distance")


def write_csv(faces: LabelledFaces, estimates: Estimate, out: pathlib.Path) -> None:
    """Writes one row per face, in the order of the dataset."""
    numbers = np.column_stack([estimates.intensities, estimates.residual])
    header = ("id", "split", "expression", *(f"AU{unit}" for unit in UNITS), "residual")
    try:
        with open(out, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            texts = zip(faces.ids, faces.splits, faces.expressions, strict=True)
            for text, row in zip(texts, numbers, strict=True):
                cells = [f"{value:.4f}" if np.isfinite(value) else "" for value in row]
                writer.writerow([*text, *cells])
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from error


def read_release(folder: pathlib.Path, variant: str = "manual") -> LabelledFaces:
    """Reads the tables of a release. The photographs may be missing; landmarks are in their pixels.

    **Raises:** `UserError` if the release is missing or invalid.
    """
    from affect_jax.data.affectnet import find_tables, read_rows
    from affect_jax.data.face_images import make_ids_unique

    faces = LabelledFaces()
    for split, table in find_tables(folder, variant).items():
        for row in make_ids_unique(read_rows(table)):
            _add_row(faces, split, row)
    return faces


def _add_row(faces: LabelledFaces, split: str, row: Row) -> None:
    from affect_jax.data import annotation_parsing

    expression, landmarks = -1, None
    try:
        values: Any = row.values
        if row.annotation_prefix:
            values = annotation_parsing.read_annotations(row.annotation_prefix)
        expression = annotation_parsing.parse_expression(values, labels.EXPRESSIONS)
        landmarks = annotation_parsing.parse_landmarks(values)
    except annotation_parsing.UnusableInputError as error:
        faces.unreadable.append(f"{split}, {row.id}: {error}")
    faces.ids.append(row.id)
    faces.splits.append(split)
    faces.expressions.append(labels.EXPRESSIONS[expression] if expression >= 0 else "")
    faces.landmarks.append(np.full((68, 2), np.nan) if landmarks is None else landmarks)


def read_prepared(folder: pathlib.Path) -> LabelledFaces:
    """Reads the labels of a prepared dataset.

    **Raises:** `UserError` if the dataset is missing or damaged.
    """
    import tensorflow_datasets as tfds

    from affect_jax.data import record_reader

    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # each missing or damaged file raises a different type
        raise UserError(f"--prepared={folder}: cannot be read ({first_line(error)})") from error
    faces = LabelledFaces()
    for name in builder.info.splits:
        split = record_reader.open_split(builder, name)
        columns = split.columns()
        expression_names = np.array([*split.classes, ""])  # index -1: no expression
        faces.ids += columns["id"].tolist()
        faces.splits += [name] * len(split)
        faces.expressions += expression_names[columns["expression"]].tolist()
        faces.landmarks += list(
            record_reader.restore_aspect_ratio(
                columns["landmarks"].astype(np.float64), columns["aspect"]
            )
        )
    return faces


if __name__ == "__main__":
    sys.exit(main())
