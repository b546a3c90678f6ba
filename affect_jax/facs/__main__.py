"""Action units of every face of a data set, estimated from its landmarks; no pixel is read.

    python -m affect_jax.facs --manual_dir=/path/to/AffectNet --out=units.csv
    python -m affect_jax.facs --prepared=data/affectnet/manual_256/1.1.0 --out=units.csv
    python -m affect_jax.facs --recovery

The table has the columns id (the path in the source), split, expression, AU1, AU2, ..., AU43 and
residual; cells of a face without landmarks are empty. How well the units tell expressions from
neutral is printed; so is, with --recovery, how exactly the rig finds the units of its own faces.

This module is the way from files to `affect_jax.facs.estimation`, so it alone of its room knows
`affect_jax.data`, and only while it reads.
"""

from __future__ import annotations

import csv
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from affect_jax.core.cli import Parser, answering
from affect_jax.core.errors import UserError, first_line

if TYPE_CHECKING:  # loading takes seconds, --help does not wait for it
    import numpy as np

    from affect_jax.data.face_images import Row
    from affect_jax.facs.estimation import Estimate

VARIANTS = ("manual", "automatic", "second")  # of a release, see `affect_jax.data.affectnet`
MAX_REASONS = 5  # rows that could not be read, shown


class Faces(NamedTuple):
    """What a data set says of its n faces.

    - `ids`, `splits`: str [n].
    - `expression`: str [n], the name, or "" where there is none.
    - `landmarks`: float [n, 68, 2], pixels; NaN where there are none.
    - `unreadable`: "split, id: reason" of each row with something that is not as it should be; what
      else it holds counts.
    """

    ids: np.ndarray
    splits: np.ndarray
    expression: np.ndarray
    landmarks: np.ndarray
    unreadable: list[str]


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m affect_jax.facs",
        description="Estimates action units from 68 landmarks and prints how well they separate"
        " expressions.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manual_dir", type=pathlib.Path, help="folder of an AffectNet release")
    source.add_argument(
        "--prepared",
        type=pathlib.Path,
        help="folder of a prepared data set, which holds prepared.json",
    )
    source.add_argument(
        "--recovery",
        action="store_true",
        help="instead, draw landmarks from units and print the error of finding these again",
    )
    parser.add_argument("--variant", choices=VARIANTS, default="manual", help="of the release")
    parser.add_argument("--out", type=pathlib.Path, help="the table, .csv")
    given = parser.parse_args(arguments)
    if given.out:
        check_out(given.out)
    if given.recovery and given.out:
        raise UserError("--out: the table of --recovery is printed only")
    if given.recovery:
        print_recovery()
    elif given.manual_dir:
        report(read_release(given.manual_dir, given.variant), given.out)
    else:
        report(read_prepared(given.prepared), given.out)
    return 0


def check_out(out: pathlib.Path) -> None:
    """Whether the table can be written there, before any work.

    **Raises:** `UserError` where not.
    """
    if out.suffix != ".csv" or out.is_dir():
        raise UserError(f"--out={out}: name a file that ends in .csv")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.absolute().parent}")


def print_recovery() -> None:
    from affect_jax.facs import estimation_error

    print(estimation_error.table())


def report(faces: Faces, out: pathlib.Path | None) -> None:
    """Estimates, prints what was found, and writes the table where `out` is given."""
    import numpy as np

    from affect_jax.facs import expression_auc
    from affect_jax.facs.estimation import estimate

    if not len(faces.ids):
        raise UserError("the data set has no faces: its tables hold nothing but a header")
    found = estimate(faces.landmarks)
    if out:  # before a word is said, whose reader may be gone
        write(faces, found, out)
    known = np.isfinite(found.residual)
    print(
        f"{len(known):,} faces, {np.sum(~known):,} of them without usable landmarks;"
        f" {len(faces.unreadable):,} rows with something unreadable"
    )
    for line in faces.unreadable[:MAX_REASONS]:
        print(f"  {' '.join(line.split())}")  # an id may hold the end of a line
    if known.any():
        print(f"median residual: {np.median(found.residual[known]):.3f} of the eyes' distance\n")
    splits = {name: faces.splits == name for name in dict.fromkeys(faces.splits.tolist())}
    if len(splits) > 1:
        splits["all"] = np.full(len(known), True)
    print("Area under the ROC curve (faces : neutral faces); 0.5 is chance.")
    print(expression_auc.table(found.intensities, faces.landmarks, faces.expression, splits))
    if out:
        print(f"\nwritten: {out}")


def write(faces: Faces, found: Estimate, out: pathlib.Path) -> None:
    """The table, one row a face, in the order of the data set."""
    import numpy as np

    from affect_jax.facs.action_units import UNITS

    numbers = np.column_stack([found.intensities, found.residual])
    header = ("id", "split", "expression", *(f"AU{unit}" for unit in UNITS), "residual")
    try:
        with open(out, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            texts = zip(faces.ids, faces.splits, faces.expression, strict=True)
            for text, row in zip(texts, numbers, strict=True):
                cells = [f"{value:.4f}" if np.isfinite(value) else "" for value in row]
                writer.writerow([*text, *cells])
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from error


def read_release(folder: pathlib.Path, variant: str) -> Faces:
    """The tables of a release; landmarks are in the pixels of its photographs, which may be away.

    **Raises:** `UserError` where the release is not there or is none.
    """
    import tempfile

    from affect_jax.data import affectnet, file_builder

    if not folder.is_dir():
        what = "a file, name the folder it is in" if folder.exists() else "no such folder"
        raise UserError(f"--manual_dir={folder}: {what}")
    with tempfile.TemporaryDirectory() as nothing:  # that is prepared
        config = affectnet.CONFIGS[variant]
        builder = affectnet.AffectNet(
            config=config, data_dir=nothing, manual_dir=folder, images=False
        )
        sources = builder.sources()
    parts = [
        _read_rows(split, file_builder.unique(source.rows()), source.total)
        for split, source in sources.items()
    ]
    return _joined(parts)


def _read_rows(split: str, found: Iterable[Row], total: int) -> Faces:
    import numpy as np

    ids, names, unreadable = [], [], []
    landmarks = np.full((total, 68, 2), np.nan)
    for place, row in enumerate(found):
        name, points, reasons = _read_row(row)
        ids.append(row.id)
        names.append(name)
        if points is not None:
            landmarks[place] = points
        if reasons:
            unreadable.append(f"{split}, {row.id}: {'; '.join(reasons)}")
    splits = np.full(len(ids), split)
    return Faces(np.array(ids, str), splits, np.array(names, str), landmarks, unreadable)


def _read_row(row: Row) -> tuple[str, np.ndarray | None, list[str]]:
    """Expression, landmarks, and why either cannot be read."""
    from affect_jax.core import labels
    from affect_jax.data import label_parsing

    name, points, reasons = "", None, []
    values: Mapping[str, Any] = row.values or {}
    try:
        if row.annotations:
            values = label_parsing.read_annotations(row.annotations)
        expression = label_parsing.parse_expression(values, labels.EXPRESSIONS)
        name = labels.EXPRESSIONS[expression] if expression >= 0 else ""
    except label_parsing.Unusable as reason:
        reasons.append(str(reason))
    try:
        points = label_parsing.parse_landmarks(values)
    except label_parsing.Unusable as reason:
        reasons.append(str(reason))
    return name, points, reasons


def read_prepared(folder: pathlib.Path) -> Faces:
    """The labels of a prepared data set.

    **Raises:** `UserError` where there is none, or where it is damaged.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    from affect_jax.data import records

    if not (folder / records.PREPARED).is_file():
        raise UserError(f"--prepared={folder}: no prepared data set, {records.PREPARED} is missing")
    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # each file that is missing or damaged has one of its own
        line = first_line(error)
        raise UserError(f"--prepared={folder}: its description cannot be read: {line}") from error
    parts = []
    for name in builder.info.splits:
        split = records.open_split(builder, name)
        columns = split.columns()
        names = np.array([*split.classes, ""])  # place -1: no expression
        parts.append(
            Faces(
                columns["id"],
                np.full(len(split), name),
                names[columns["expression"]],
                records.unsquared(columns["landmarks"].astype(np.float64), columns["aspect"]),
                [],
            )
        )
    return _joined(parts)


def _joined(parts: Sequence[Faces]) -> Faces:
    import numpy as np

    ids, splits, expression, landmarks, unreadable = zip(*parts, strict=True)
    return Faces(
        np.concatenate(ids),
        np.concatenate(splits),
        np.concatenate(expression),
        np.concatenate(landmarks),
        [line for lines in unreadable for line in lines],
    )


if __name__ == "__main__":
    sys.exit(main())
