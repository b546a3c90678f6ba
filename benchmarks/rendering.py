"""Measures how many faces a second one core renders, compared with JPEG encoding and Matplotlib.

    taskset -c 0 python -m benchmarks.rendering
    taskset -c 0 python -m benchmarks.rendering --size 128

Contenders run in turns, on the same faces, on one thread. Medians of rounds are of processor time,
which hardly depends on other load; the wall-clock rate is also shown. Matplotlib draws the same 68
points as lines, as tools for action units do to show an estimate. `synthetic_faces` also encodes
each face as JPEG.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from affect_jax.data import synthetic_faces
from affect_jax.facs.render import random_face
from benchmarks import harness

OURS = "affect_jax: a face with its labels"
PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "matplotlib")
LINES = (
    range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36), (*range(36, 42), 36),
    (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cv2.setNumThreads(1)
    contenders = measure_rates(create_contenders(args.size), args.faces)
    rates = harness.split_by_clock(harness.run_interleaved(contenders, args.rounds))
    harness.write_result(
        "rendering",
        what=f"Faces/s of one core, {args.size} x {args.size}",
        args=args,
        rows=summary(rates),
        runs=rates,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--size", type=int, default=256, help="size of the images in pixels")
    parser.add_argument("--faces", type=int, default=100, help="per contender and round")
    return harness.parse_args(parser, argv, {"faces": 2, "size": 64})


def create_contenders(size: int) -> dict[str, Callable[[int], Any]]:
    """Returns name -> function that processes the face of an index."""
    faces = [random_face.sample_face(0, index, size=size) for index in range(64)]
    plot = create_line_plot(size)

    def encode(index: int) -> bytes:
        return simplejpeg.encode_jpeg(
            faces[index % 64].image, quality=synthetic_faces.JPEG_QUALITY, colorsubsampling="420"
        )

    def draw_and_encode(index: int) -> dict[str, Any]:
        return synthetic_faces.create_record(random_face.sample_face(0, index, size=size), "")

    return {
        OURS: lambda index: random_face.sample_face(0, index, size=size),
        "the same and JPEG, as in a dataset": draw_and_encode,
        "JPEG alone": encode,
        "Matplotlib: 9 lines through the 68 points": lambda index: plot(faces[index % 64]),
    }


def create_line_plot(size: int) -> Callable[[random_face.RenderedFace], np.ndarray]:
    """Creates a figure once, and returns a function that plots the landmarks of a face in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size / 100, size / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_axis_off()
    lines = [axes.plot([], [], color="black")[0] for _ in LINES]

    def plot(face: random_face.RenderedFace) -> np.ndarray:
        for line, points in zip(lines, LINES, strict=True):
            line.set_data(*face.landmarks[list(points)].T)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    return plot


def measure_rates(
    contenders: dict[str, Callable[[int], Any]], count: int
) -> dict[str, Callable[[], tuple[float, float]]]:
    """Returns name -> function that measures faces/s of wall-clock and of processor time."""

    def prepare(contender: Callable[[int], Any]) -> Callable[[], tuple[float, float]]:
        indices = itertools.count()
        for _ in range(min(count, 20)):  # fills caches
            contender(0)

        def rates() -> tuple[float, float]:
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(count):
                contender(next(indices))
            processor = max(time.process_time() - processor, 1e-9)
            return count / (time.perf_counter() - wall), count / processor

        return rates

    return {name: prepare(contender) for name, contender in contenders.items()}


def summary(rates: dict[str, harness.Runs]) -> list[dict[str, Any]]:
    """Returns a row for each contender: medians, the best round, and the ratio of ours to it."""
    ours = rates["processor"][OURS]
    return [
        {
            "contender": name,
            "faces a second of processor time": statistics.median(runs),
            "best round": max(runs),
            "faces/s": statistics.median(rates["wall"][name]),
            "ours is faster by": harness.format_ratio(ours, runs),
        }
        for name, runs in rates["processor"].items()
    ]


if __name__ == "__main__":
    main()
