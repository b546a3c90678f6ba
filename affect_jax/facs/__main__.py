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
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from affect_jax.core import labels
from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import writing_to
from affect_jax.core.spreadsheets import escape_formula
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import Estimate, estimate

if TYPE_CHECKING:  # importing it takes seconds; --help does not need it
    from affect_jax.data.face_images import Row

VARIANTS = ("manual", "automatic", "second")  # of a release, see `affect_jax.data.affectnet`
MAX_PRINTED_PROBLEMS = 5  # rows with unreadable values


class LabelledFace(NamedTuple):
    """Label and landmarks of a face.

    - `id`, `split`, `expression`: "" for a face without expression.
    - `landmarks`: float [68, 2], pixels; NaN for a face without landmarks.
    - `problem`: why a value is unreadable, or "".
    """

    id: str
    split: str
    expression: str
    landmarks: np.ndarray
    problem: str = ""


@handle_cli_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m affect_jax.facs", description="Estimates action units from 68 landmarks."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manual_dir", type=pathlib.Path, help="folder of an AffectNet release")
    source.add_argument("--prepared", type=pathlib.Path, help="folder with prepared.json")
    parser.add_argument("--variant", choices=VARIANTS, default="manual", help="of the release")
    parser.add_argument("--out", type=pathlib.Path, help=".csv file to write the table to")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != ".csv":
        raise UserError(f"--out={args.out}: name a file that ends in .csv")
    if args.manual_dir:
        faces = list(read_release(args.manual_dir, args.variant))
    else:
        faces = list(read_prepared(args.prepared))
    if not faces:
        raise UserError("the dataset has no faces: its tables contain only a header")
    estimates = estimate(np.stack([face.landmarks for face in faces]))
    if args.out:  # before printing, which fails if the reader closed the pipe
        write_csv(faces, estimates, args.out)
    print_summary(faces, estimates)
    return 0


def print_summary(faces: Sequence[LabelledFace], estimates: Estimate) -> None:
    """Prints the numbers of faces and of unusable values, and the median residual."""
    residuals = estimates.residual[np.isfinite(estimates.residual)]
    unreadable = [face for face in faces if face.problem]
    print(
        f"{len(faces):,} faces, {len(faces) - len(residuals):,} of them without usable landmarks;"
        f" {len(unreadable):,} rows with unreadable values"
    )
    for face in unreadable[:MAX_PRINTED_PROBLEMS]:
        line = f"{face.split}, {face.id}: {face.problem}"
        print(f"  {' '.join(line.split())}")  # an id may contain a newline
    if len(residuals):
        print(f"median residual: {np.median(residuals):.3f} of the inter-eye distance")


def write_csv(faces: Sequence[LabelledFace], estimates: Estimate, out: pathlib.Path) -> None:
    """Writes one row per face, in the order of the dataset."""
    numbers = np.column_stack([estimates.intensities, estimates.residual])
    with writing_to(out.parent), open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", "expression", *(f"AU{unit}" for unit in UNITS), "residual"])
        for face, row in zip(faces, numbers, strict=True):
            cells = [f"{value:.4f}" if np.isfinite(value) else "" for value in row]
            writer.writerow([escape_formula(face.id), face.split, face.expression, *cells])


def read_release(folder: pathlib.Path, variant: str = "manual") -> Iterator[LabelledFace]:
    """Reads the tables of a release. The photographs may be missing; landmarks are in their pixels.

    **Raises:** `UserError` if the release is missing or invalid.
    """
    from affect_jax.data.affectnet import find_tables, read_rows
    from affect_jax.data.face_images import make_ids_unique

    for split, table in find_tables(folder, variant).items():
        for row in make_ids_unique(read_rows(table)):
            yield _parse_row(split, row)


def _parse_row(split: str, row: Row) -> LabelledFace:
    from affect_jax.data import annotation_parsing

    expression, landmarks, problem = -1, None, ""
    try:
        values: Any = row.values
        if row.annotation_prefix:
            values = annotation_parsing.read_annotations(row.annotation_prefix)
        expression = annotation_parsing.parse_expression(values, labels.EXPRESSIONS)
        landmarks = annotation_parsing.parse_landmarks(values)
    except annotation_parsing.UnusableInputError as error:
        problem = str(error)
    name = labels.EXPRESSIONS[expression] if expression >= 0 else ""
    points = np.full((68, 2), np.nan) if landmarks is None else landmarks
    return LabelledFace(row.id, split, name, points, problem)


def read_prepared(folder: pathlib.Path) -> Iterator[LabelledFace]:
    """Reads the labels of a prepared dataset.

    **Raises:** `UserError` if the dataset is missing or damaged.
    """
    import tensorflow_datasets as tfds

    from affect_jax.data import record_reader

    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # each missing or damaged file raises a different type
        raise UserError(f"--prepared={folder}: cannot be read ({first_line(error)})") from error
    for name in builder.info.splits:
        split = record_reader.open_split(builder, name)
        columns = split.columns()
        if columns["expression"].max(initial=-1) >= len(split.classes):
            raise UserError(f"--prepared={folder}: expression.labels.txt is damaged; prepare again")
        points = record_reader.restore_aspect_ratio(
            columns["landmarks"].astype(np.float64), columns["aspect"]
        )
        expression_names = (*split.classes, "")  # index -1: no expression
        for face_id, expression, landmarks in zip(
            columns["id"].tolist(), columns["expression"], points, strict=True
        ):
            yield LabelledFace(face_id, name, expression_names[expression], landmarks)


if __name__ == "__main__":
    sys.exit(main())
