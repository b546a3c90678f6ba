"""Command that estimates the action units of each face of a dataset from its landmarks.

    python -m affect_jax.facs --manual_dir=/path/to/AffectNet --out=units.csv
    python -m affect_jax.facs --prepared=data/affectnet/manual_256/1.1.0 --out=units.csv
    python -m affect_jax.facs --recovery

It reads landmarks and labels, no images. The table has the columns id (the path in the source),
split, expression, AU1, AU2, ..., AU43 and residual. The cells of a face without landmarks are
empty. The command also prints how well the units separate expressions from neutral. With
--recovery, it prints the estimation error on faces that the rig generates.

This is the only module of `affect_jax.facs` that imports `affect_jax.data`.
"""

from __future__ import annotations

import csv
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError, first_line

if TYPE_CHECKING:  # these imports take seconds; --help does not need them
    import numpy as np

    from affect_jax.data.face_images import Row
    from affect_jax.facs.estimation import Estimate

VARIANTS = ("manual", "automatic", "second")  # of a release, see `affect_jax.data.affectnet`
MAX_PRINTED_PROBLEMS = 5  # rows with unreadable values


class LabelledFaces(NamedTuple):
    """Labels and landmarks of the n faces of a dataset.

    - `ids`, `splits`: str [n].
    - `expressions`: str [n], names; "" for a face without expression.
    - `landmarks`: float [n, 68, 2], pixels; NaN for a face without landmarks.
    - `unreadable`: "split, id: reason" of each row with an invalid value. The other values of such
      a row are used.
    """

    ids: np.ndarray
    splits: np.ndarray
    expressions: np.ndarray
    landmarks: np.ndarray
    unreadable: list[str]


@handle_cli_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m affect_jax.facs",
        description="Estimates action units from 68 landmarks. Prints how well they separate"
        " expressions from neutral.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manual_dir", type=pathlib.Path, help="folder of an AffectNet release")
    source.add_argument(
        "--prepared",
        type=pathlib.Path,
        help="folder of a prepared dataset (contains prepared.json)",
    )
    source.add_argument(
        "--recovery",
        action="store_true",
        help="generate landmarks from random units and print the estimation error",
    )
    parser.add_argument(
        "--variant", choices=VARIANTS, default="manual", help="variant of the release"
    )
    parser.add_argument("--out", type=pathlib.Path, help=".csv file to write the table to")
    args = parser.parse_args(argv)
    if args.out:
        check_output_path(args.out)
    if args.recovery and args.out:
        raise UserError("--out: not available with --recovery, which only prints its table")
    if args.recovery:
        print_estimation_error()
    elif args.manual_dir:
        print_report(read_release(args.manual_dir, args.variant), args.out)
    else:
        print_report(read_prepared(args.prepared), args.out)
    return 0


def check_output_path(out: pathlib.Path) -> None:
    """Checks that the table can be written to `out`, before any work.

    **Raises:** `UserError` if the name does not end in .csv or the folder does not exist.
    """
    if out.suffix != ".csv" or out.is_dir():
        raise UserError(f"--out={out}: name a file that ends in .csv")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out={out}: the folder {out.absolute().parent} does not exist")


def print_estimation_error() -> None:
    from affect_jax.facs import estimation_error

    print(estimation_error.format_table())


def print_report(faces: LabelledFaces, out: pathlib.Path | None) -> None:
    """Estimates the units, prints a summary, and writes the table if `out` is not None."""
    import numpy as np

    from affect_jax.facs import expression_auc
    from affect_jax.facs.estimation import estimate

    if not len(faces.ids):
        raise UserError("the dataset has no faces: its tables contain only a header")
    estimates = estimate(faces.landmarks)
    if out:  # before printing, which fails if the reader closed the pipe
        write_csv(faces, estimates, out)
    is_estimated = np.isfinite(estimates.residual)
    print(
        f"{len(is_estimated):,} faces, {np.sum(~is_estimated):,} of them without usable landmarks;"
        f" {len(faces.unreadable):,} rows with unreadable values"
    )
    for line in faces.unreadable[:MAX_PRINTED_PROBLEMS]:
        print(f"  {' '.join(line.split())}")  # an id may contain a newline
    if is_estimated.any():
        median = np.median(estimates.residual[is_estimated])
        print(f"median residual: {median:.3f} of the inter-eye distance\n")
    splits = {name: faces.splits == name for name in dict.fromkeys(faces.splits.tolist())}
    if len(splits) > 1:
        splits["all"] = np.full(len(is_estimated), True)
    print("Area under the ROC curve (faces : neutral faces); 0.5 is chance.")
    table = expression_auc.format_table(
        estimates.intensities, faces.landmarks, faces.expressions, splits
    )
    print(table)
    if out:
        print(f"\nwritten: {out}")


def write_csv(faces: LabelledFaces, estimates: Estimate, out: pathlib.Path) -> None:
    """Writes one row per face, in the order of the dataset."""
    import numpy as np

    from affect_jax.facs.action_units import UNITS

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


def read_release(folder: pathlib.Path, variant: str) -> LabelledFaces:
    """Reads the tables of a release. The photographs may be missing; landmarks are in their pixels.

    **Raises:** `UserError` if the release is missing or invalid.
    """
    from affect_jax.data.affectnet import find_tables, read_rows
    from affect_jax.data.image_files_builder import make_ids_unique

    if not folder.is_dir():
        problem = "a file, name the folder it is in" if folder.exists() else "no such folder"
        raise UserError(f"--manual_dir={folder}: {problem}")
    parts = [
        _read_rows(split, make_ids_unique(read_rows(table)), sum(1 for _ in read_rows(table)))
        for split, table in find_tables(folder, variant).items()
    ]
    return _concatenate(parts)


def _read_rows(split: str, rows: Iterable[Row], total: int) -> LabelledFaces:
    import numpy as np

    ids, names, unreadable = [], [], []
    landmarks = np.full((total, 68, 2), np.nan)
    for index, row in enumerate(rows):
        name, points, reasons = _read_row(row)
        ids.append(row.id)
        names.append(name)
        if points is not None:
            landmarks[index] = points
        if reasons:
            unreadable.append(f"{split}, {row.id}: {'; '.join(reasons)}")
    splits = np.full(len(ids), split)
    return LabelledFaces(np.array(ids, str), splits, np.array(names, str), landmarks, unreadable)


def _read_row(row: Row) -> tuple[str, np.ndarray | None, list[str]]:
    """Returns the expression, the landmarks, and the reasons why either cannot be read."""
    from affect_jax.core import labels
    from affect_jax.data import annotation_parsing

    name, points, reasons = "", None, []
    values: Mapping[str, Any] = row.values
    try:
        if row.annotation_prefix:
            values = annotation_parsing.read_annotations(row.annotation_prefix)
        expression = annotation_parsing.parse_expression(values, labels.EXPRESSIONS)
        name = labels.EXPRESSIONS[expression] if expression >= 0 else ""
    except annotation_parsing.UnusableInputError as error:
        reasons.append(str(error))
    try:
        points = annotation_parsing.parse_landmarks(values)
    except annotation_parsing.UnusableInputError as error:
        reasons.append(str(error))
    return name, points, reasons


def read_prepared(folder: pathlib.Path) -> LabelledFaces:
    """Reads the labels of a prepared dataset.

    **Raises:** `UserError` if the dataset is missing or damaged.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    from affect_jax.data import record_reader

    if not (folder / record_reader.PREPARED_FILE).is_file():
        raise UserError(
            f"--prepared={folder}: no prepared dataset, {record_reader.PREPARED_FILE} is missing"
        )
    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # each missing or damaged file raises a different type
        line = first_line(error)
        raise UserError(f"--prepared={folder}: its description cannot be read: {line}") from error
    parts = []
    for name in builder.info.splits:
        split = record_reader.open_split(builder, name)
        columns = split.columns()
        names = np.array([*split.classes, ""])  # index -1: no expression
        parts.append(
            LabelledFaces(
                columns["id"],
                np.full(len(split), name),
                names[columns["expression"]],
                record_reader.restore_aspect_ratio(
                    columns["landmarks"].astype(np.float64), columns["aspect"]
                ),
                [],
            )
        )
    return _concatenate(parts)


def _concatenate(parts: Sequence[LabelledFaces]) -> LabelledFaces:
    import numpy as np

    ids, splits, expressions, landmarks, unreadable = zip(*parts, strict=True)
    return LabelledFaces(
        np.concatenate(ids),
        np.concatenate(splits),
        np.concatenate(expressions),
        np.concatenate(landmarks),
        [line for lines in unreadable for line in lines],
    )


if __name__ == "__main__":
    sys.exit(main())
