"""Command that estimates the action units of each face of a prepared dataset from its landmarks.

    python -m affect_jax.facs --prepared=data/affectnet/manual_256/1.1.0 --out=units.csv

The table has the columns id, split, expression, AU1, AU2, ..., AU43 and residual. The cells of a
face without landmarks are empty. `python -m benchmarks.action_units` measures how well the units
separate expressions.
"""

from __future__ import annotations

import csv
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import writing_to
from affect_jax.core.spreadsheets import escape_formula
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import Estimate, estimate


class LabelledFaces(NamedTuple):
    """Labels and landmarks of n faces."""

    id: np.ndarray  # str [n]
    split: np.ndarray  # str [n]
    expression: np.ndarray  # str [n], "" for a face without expression
    landmarks: np.ndarray  # float64 [n, 68, 2], x and y in the same unit, NaN if unknown


@handle_cli_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser("facs", "Estimates action units from 68 landmarks.")
    parser.add_argument(
        "--prepared", type=pathlib.Path, required=True, help="folder with prepared.json"
    )
    parser.add_argument("--out", type=pathlib.Path, help=".csv file to write the table to")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != ".csv":
        raise UserError(f"--out={args.out}: name a file that ends in .csv")
    faces = read_prepared(args.prepared)
    estimates = estimate(faces.landmarks)
    if args.out:  # before printing, which fails if the reader closed the pipe
        write_csv(faces, estimates, args.out)
    residuals = estimates.residual[np.isfinite(estimates.residual)]
    count = len(faces.id)
    print(f"{count:,} faces, {count - len(residuals):,} of them without usable landmarks")
    if len(residuals):
        print(f"median residual: {np.median(residuals):.3f} of the inter-eye distance")
    return 0


def write_csv(faces: LabelledFaces, estimates: Estimate, out: pathlib.Path) -> None:
    """Writes one row per face, in the order of the dataset."""
    numbers = np.column_stack([estimates.intensities, estimates.residual])
    with writing_to(out.parent), open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", "expression", *(f"AU{unit}" for unit in UNITS), "residual"])
        for *texts, row in zip(faces.id, faces.split, faces.expression, numbers, strict=True):
            cells = [f"{value:.4f}" if np.isfinite(value) else "" for value in row]
            writer.writerow([*map(escape_formula, texts), *cells])


def read_prepared(folder: pathlib.Path) -> LabelledFaces:
    """Reads the labels and landmarks of all splits of a prepared dataset.

    **Raises:** `UserError` if the dataset is missing or damaged.
    """
    import tensorflow_datasets as tfds  # the import takes seconds; --help does not need it

    from affect_jax.data import record_reader

    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # each missing or damaged file raises a different type
        raise UserError(f"--prepared={folder}: cannot be read ({first_line(error)})") from error
    parts = []
    for name in builder.info.splits:
        split = record_reader.open_split(builder, name)
        columns = split.columns("id", "expression", "landmarks", "aspect")
        points = record_reader.restore_aspect_ratio(
            columns["landmarks"].astype(np.float64), columns["aspect"]
        )
        if not np.isin(columns["expression"], range(-1, len(split.classes))).all():
            raise UserError(f"--prepared={folder}: damaged: it has labels of unknown classes")
        expressions = np.array((*split.classes, ""))[columns["expression"]]  # -1: no expression
        parts.append((columns["id"], np.full(len(points), name), expressions, points))
    return LabelledFaces(*map(np.concatenate, zip(*parts, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
