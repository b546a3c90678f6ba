"""How many faces a core draws a second, beside what frames a picture costs anyway and a peer.

    taskset -c 0 python -m benchmarks.rendering
    taskset -c 0 python -m benchmarks.rendering --size 128

Contenders take turns, face by face of the same list, on one thread; medians of rounds are of
processor time, so that other work on the machine matters little (the wall clock's rate stands
beside it). The peer is Matplotlib, which draws no person but the same 68 points as lines, as tools
for action units do to show an estimate. Encoding is what `synthetic_faces` does besides.
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
from affect_jax.facs.render import sample
from benchmarks import recording

OURS = "affect_jax: a face with its labels"
PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "matplotlib")
LINES = (
    range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36), (*range(36, 42), 36),
    (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cv2.setNumThreads(1)
    runs = recording.take_turns(timed(contenders(options.size), options.faces), options.rounds)
    by_clock = recording.by_clock(runs)
    recording.keep(
        "rendering",
        what=f"Faces/s of one core, {options.size} x {options.size}",
        options=options,
        rows=summary(by_clock),
        runs=by_clock,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--size", type=int, default=256, help="side of the pictures, pixels")
    found.add_argument("--faces", type=int, default=100, help="of each contender, each round")
    return recording.parse(found, arguments, {"faces": 2, "size": 64})


def contenders(size: int) -> dict[str, Callable[[int], Any]]:
    """By name, what does one face of a number."""
    faces = [sample.sample(0, index, size=size) for index in range(64)]
    plot = matplotlib_lines(size)

    def encode(index: int) -> bytes:
        return simplejpeg.encode_jpeg(
            faces[index % 64].image, quality=synthetic_faces.JPEG_QUALITY, colorsubsampling="420"
        )

    def draw_and_encode(index: int) -> dict[str, Any]:
        return synthetic_faces.drawn_record(sample.sample(0, index, size=size), "")

    return {
        OURS: lambda index: sample.sample(0, index, size=size),
        "the same and JPEG, as in a data set": draw_and_encode,
        "JPEG alone": encode,
        "Matplotlib: 9 lines through the 68 points": lambda index: plot(faces[index % 64]),
    }


def matplotlib_lines(size: int) -> Callable[[sample.Face], np.ndarray]:
    """A figure that is kept; only its lines change from face to face."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size / 100, size / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_axis_off()
    lines = [axes.plot([], [], color="black")[0] for _ in LINES]

    def plot(face: sample.Face) -> np.ndarray:
        for line, points in zip(lines, LINES, strict=True):
            line.set_data(*face.landmarks[list(points)].T)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    return plot


def timed(
    found: dict[str, Callable[[int], Any]], count: int
) -> dict[str, Callable[[], tuple[float, float]]]:
    """Each contender's faces/s, by the wall's clock and of processor time, of its next faces."""

    def one(contender: Callable[[int], Any]) -> Callable[[], tuple[float, float]]:
        numbers = itertools.count()
        for _ in range(min(count, 20)):  # sheets and splines are made once
            contender(0)

        def rates() -> tuple[float, float]:
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(count):
                contender(next(numbers))
            processor = max(time.process_time() - processor, 1e-9)
            return count / (time.perf_counter() - wall), count / processor

        return rates

    return {name: one(contender) for name, contender in found.items()}


def summary(rates: dict[str, recording.Runs]) -> list[dict[str, Any]]:
    """One row a contender: medians, the best round, and how many times as fast ours is."""
    ours = rates["processor"][OURS]
    return [
        {
            "contender": name,
            "faces a second of processor time": statistics.median(runs),
            "best round": max(runs),
            "faces/s": statistics.median(rates["wall"][name]),
            "ours is faster by": recording.times(ours, runs),
        }
        for name, runs in rates["processor"].items()
    ]


if __name__ == "__main__":
    main()
