"""Measures how many photographs a second preparation converts into records.

    python -m benchmarks.preparation                  # 1, 2 and as many workers as cores
    python -m benchmarks.preparation --workers 1 2 4 8

The photographs are rendered, 425 x 425 JPEG, about as large as those of AffectNet. Each row of the
table has a box with a margin around it, and 68 landmarks. Preparation uses the code of the package:
it parses and checks rows, crops faces, resizes them to 256 x 256, and encodes, sorts and writes
records with labels and hashes. The limit is the unavoidable work: decoding, cropping, resizing and
encoding in a loop of one process, with the same libraries. All contenders run in turns.
"""

from __future__ import annotations

import argparse
import csv
import functools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from affect_jax.core import registry
from affect_jax.data import DATASETS, face_images
from benchmarks import harness

LIMIT = "decode, crop, resize, encode alone"
BOX = ("x", "y", "width", "height")
MARGIN = 20  # pixels between the photograph's border and the box


def main(argv: Sequence[str] | None = None) -> None:
    worker_counts = tuple(sorted({1, 2, harness.count_cores()}))
    args = harness.parse_args(
        __doc__,
        argv,
        faces=(20_000, 6, "per contender and round"),
        different=(64, 2, "number of distinct photographs"),
        source_size=(425, 100),
        image_size=(256, 48),
        workers=(worker_counts, (1,)),
    )
    registry.import_submodules("affect_jax.data")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        release = pathlib.Path(folder) / "release"
        photographs = write_release(
            release, {"training": args.faces}, size=args.source_size, different=args.different
        )
        tasks: dict[str, Callable[[], Any]] = {
            LIMIT: functools.partial(process_images, photographs, args),
        }
        for workers in args.workers:
            tasks[contender_name(workers)] = functools.partial(
                prepare, pathlib.Path(folder), args, workers
            )
        contenders = {
            name: functools.partial(faces_per_second, task, args.faces)
            for name, task in tasks.items()
        }
        runs = harness.run_interleaved(contenders, args.rounds)
    ratios = {
        "to the fewest workers": contender_name(min(args.workers)),
        "of the limit": LIMIT,
    }
    harness.write_result(
        "preparation",
        what=f"Faces/s from JPEG of {args.source_size} x {args.source_size} to records of "
        f"{args.image_size} x {args.image_size}, {args.faces:,} faces a run, processes "
        "and files created for each",
        args=args,
        rows=harness.summarize(runs, "faces/s", ratios),
        runs=runs,
    )


def contender_name(workers: int) -> str:
    return "affect_jax, 1 worker" if workers == 1 else f"affect_jax, {workers} workers"


def write_release(
    folder: pathlib.Path, counts: Mapping[str, int], *, size: int, different: int
) -> list[bytes]:
    """Writes a table for each split, and links to a few rendered photographs.

    **Returns:** the distinct photographs as JPEG.

    **Arguments:** `counts`: faces of each split.
    """
    from affect_jax.facs.render import random_face

    folder.mkdir()
    faces = [
        random_face.sample_face(0, index, size=size, skew="balanced") for index in range(different)
    ]
    photographs = [
        simplejpeg.encode_jpeg(face.image, quality=90, colorsubsampling="420") for face in faces
    ]
    for index, photograph in enumerate(photographs):
        (folder / f"{index}.jpg").write_bytes(photograph)
    box = (MARGIN, MARGIN, size - 2 * MARGIN, size - 2 * MARGIN)
    for split, count in counts.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", *BOX, "valence", "arousal", "landmarks"])
            for number in range(count):
                face = faces[number % different]
                path = f"{split}{number}.jpg"
                (folder / path).hardlink_to(folder / f"{number % different}.jpg")
                points = ";".join(f"{value:.2f}" for value in np.ravel(face.landmarks))
                table.writerow([path, face.expression, *box, face.valence, face.arousal, points])
    return photographs


def process_images(photographs: list[bytes], args: argparse.Namespace) -> None:
    """Decodes, crops, resizes and encodes on one core: the limit."""
    size = (args.image_size, args.image_size)
    for index in range(args.faces):
        image = simplejpeg.decode_jpeg(photographs[index % len(photographs)], "RGB")
        box = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
        face = cv2.resize(box, size, interpolation=cv2.INTER_AREA)
        simplejpeg.encode_jpeg(face, face_images.JPEG_QUALITY, "RGB", colorsubsampling="420")


def prepare(folder: pathlib.Path, args: argparse.Namespace, workers: int) -> None:
    """Prepares the records of the release in a new folder, and removes it."""
    records = folder / "records"
    spec = {
        "name": "csv_faces",
        "validation_csv": "",
        "box_columns": BOX,
        "valence_column": "valence",
        "arousal_column": "arousal",
        "landmarks_column": "landmarks",
        "num_workers": workers,
    }
    DATASETS.create(
        spec,
        manual_dir=str(folder / "release"),
        data_dir=str(records),
        image_size=args.image_size,
    )
    shutil.rmtree(records)


def faces_per_second(task: Callable[[], Any], num_faces: int) -> float:
    return num_faces / harness.measure_seconds(task)


if __name__ == "__main__":
    main()
