"""How many faces a core a second preparation turns from photographs into records.

    python -m benchmarks.preparation                  # with 1, 2 and as many workers as cores
    python -m benchmarks.preparation --workers 1 2 4 8

The photographs are rendered, 425 x 425 JPEG, about as large as AffectNet's; each row of the table
has a box that leaves a margin, and 68 landmarks. Preparation is the package's own command path:
rows are parsed and checked, faces cut, resized to 256 x 256, encoded, sorted and written as
records with their labels and hashes. The limit beside it is what no way around exists for: decode,
crop, resize and encode in a tight loop of one process, by the same libraries: once as these are
usually called, once resized by `faces.crop`, which is faster. All take turns.

Two clocks: the wall's, and processor time of all processes together, which other work on the
machine hardly changes. "Of the limit" is by processor time: the share of the work that is the
images' own.
"""

from __future__ import annotations

import argparse
import csv
import functools
import pathlib
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from affect_jax.core import registry
from affect_jax.data import DATASETS, face_images
from benchmarks import recording
from benchmarks.machine import cores

LIMIT = "decode, crop, resize, encode alone"
FASTER = "the same, resized as affect_jax does"
PACKAGES = ("numpy", "simplejpeg", "pillow", "opencv-python-headless", "tensorflow-datasets")
BOX = ("x", "y", "width", "height")
MARGIN = 20  # pixels between the photograph's border and the box


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    registry.load_all("affect_jax.data")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        photographs = write_release(pathlib.Path(folder) / "release", options)
        work: dict[str, Callable[[], Any]] = {
            LIMIT: functools.partial(alone, photographs, options, by_opencv),
            FASTER: functools.partial(alone, photographs, options, by_us),
        }
        for workers in options.workers:
            work[title(workers)] = functools.partial(
                prepare, pathlib.Path(folder), options, workers
            )
        turns = {name: functools.partial(rates, do, options.faces) for name, do in work.items()}
        runs = recording.by_clock(recording.take_turns(turns, options.rounds))
    recording.keep(
        "preparation",
        what=f"Faces/s from JPEG of {options.source_size} x {options.source_size} to records of "
        f"{options.image_size} x {options.image_size}, {options.faces:,} faces a run, processes "
        "and files started anew in each",
        options=options,
        rows=summary(runs, options.workers),
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--faces", type=int, default=20_000, help="of each contender, each round")
    found.add_argument("--different", type=int, default=64, help="photographs among them")
    found.add_argument("--source_size", type=int, default=425)
    found.add_argument("--image_size", type=int, default=256)
    several = sorted({1, 2, cores()})
    found.add_argument("--workers", type=int, nargs="+", default=several)
    quick = {"faces": 6, "different": 2, "source_size": 100, "image_size": 48, "workers": [1]}
    return recording.parse(found, arguments, quick)


def title(workers: int) -> str:
    return "affect_jax, 1 worker" if workers == 1 else f"affect_jax, {workers} workers"


def write_release(folder: pathlib.Path, options: argparse.Namespace) -> list[bytes]:
    """A folder of photographs with a table; the photographs that differ, as files' content."""
    from affect_jax.facs.render import sample  # not in each worker, which imports this module anew

    folder.mkdir()
    drawn = [
        sample.sample(0, number, size=options.source_size) for number in range(options.different)
    ]
    photographs = [
        simplejpeg.encode_jpeg(face.image, quality=90, colorsubsampling="420") for face in drawn
    ]
    side = options.source_size - 2 * MARGIN
    with (folder / "training.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *BOX, "valence", "arousal", "landmarks"])
        for number in range(options.faces):
            face = drawn[number % options.different]
            path = f"{number}.jpg"
            (folder / path).write_bytes(photographs[number % options.different])
            points = ";".join(f"{value:.2f}" for value in np.ravel(face.landmarks))
            box = (MARGIN, MARGIN, side, side)
            table.writerow([path, face.expression, *box, face.valence, face.arousal, points])
    return photographs


def alone(
    photographs: list[bytes], options: argparse.Namespace, cut: Callable[[np.ndarray, int], Any]
) -> None:
    """The limit, on one core."""
    for number in range(options.faces):
        image = simplejpeg.decode_jpeg(photographs[number % len(photographs)], "RGB")
        face = cut(image, options.image_size)
        simplejpeg.encode_jpeg(face, face_images.JPEG_QUALITY, "RGB", colorsubsampling="420")


def by_opencv(image: np.ndarray, size: int) -> np.ndarray:
    inner = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return cv2.resize(inner, (size, size), interpolation=cv2.INTER_AREA)


def by_us(image: np.ndarray, size: int) -> np.ndarray:
    side = len(image) - 2 * MARGIN
    return face_images.crop(image, (MARGIN, MARGIN, side, side), 0.0, size)[0]


def prepare(folder: pathlib.Path, options: argparse.Namespace, workers: int) -> None:
    """The release's records, written to a folder that did not exist and does not afterwards."""
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
        image_size=options.image_size,
    )
    shutil.rmtree(records)


def rates(work: Callable[[], Any], face_images: int) -> tuple[float, float]:
    """Faces a second by both clocks."""
    wall, processor = recording.both_clocks(work)
    return face_images / wall, face_images / processor


def summary(runs: dict[str, recording.Runs], workers: Sequence[int]) -> list[dict[str, Any]]:
    wall, processor = runs["wall"], runs["processor"]
    one = title(min(workers))
    return [
        {
            "contender": name,
            "faces/s": round(statistics.median(wall[name])),
            "to the fewest workers": recording.times(wall[name], wall[one]),
            "faces a second of processor time": round(statistics.median(processor[name])),
            "of the limit": recording.times(processor[name], processor[LIMIT]),
            "of the faster limit": recording.times(processor[name], processor[FASTER]),
        }
        for name in wall
    ]


if __name__ == "__main__":
    main()
