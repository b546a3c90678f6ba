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
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import simplejpeg
from tabulate import tabulate

from affect_jax.facs import sample
from benchmarks.machine import machine

OURS = "affect_jax: a face with its labels"
PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "matplotlib")
LINES = (
    range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36), (*range(36, 42), 36),
    (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
)  # fmt: skip


def main() -> None:
    options = parse()
    cv2.setNumThreads(1)
    rates = measure(contenders(options.size), options)
    rows = summary(rates)
    print(tabulate(rows, headers="keys", tablefmt="github"))
    result = {"what": "faces/s on one core", "options": vars(options), **machine(PACKAGES)}
    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"summary": rows, "runs": rates}, indent=1) + "\n")
    print(f"\nwritten: {path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, pixels")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--faces", type=int, default=50, help="of each contender, each round")
    parser.add_argument("--out", default="benchmarks/results/rendering.json")
    return parser.parse_args()


def contenders(size: int) -> dict[str, Callable[[int], Any]]:
    """By name, what does one face of a number."""
    faces = [sample.sample(0, index, size=size) for index in range(64)]
    plot = matplotlib_lines(size)

    def encode(index: int) -> bytes:
        return simplejpeg.encode_jpeg(faces[index % 64].image, quality=90, colorsubsampling="420")

    def draw_and_encode(index: int) -> bytes:
        face = sample.sample(0, index, size=size)
        return simplejpeg.encode_jpeg(face.image, quality=90, colorsubsampling="420")

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


def measure(
    found: dict[str, Callable[[int], Any]], options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Faces/s of every contender in every round: of processor time and of the wall clock."""
    rates: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in found}
    for contender in found.values():
        for index in range(20):  # sheets and splines are made once
            contender(index)
    for number in range(options.rounds):
        for name, contender in found.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for index in range(number * options.faces, (number + 1) * options.faces):
                contender(index)
            rates[name]["cpu"].append(options.faces / (time.process_time() - cpu))
            rates[name]["wall"].append(options.faces / (time.perf_counter() - wall))
    return rates


def summary(rates: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """One row a contender: medians, the best round, and how many times as fast ours is."""
    ours = rates[OURS]["cpu"]
    return [
        {
            "contender": name,
            "faces/s of processor time": round(statistics.median(runs["cpu"])),
            "best round": round(max(runs["cpu"])),
            "faces/s of the wall clock": round(statistics.median(runs["wall"])),
            "ours is faster by": f"{statistics.median(a / b for a, b in pairs(ours, runs)):.2f}",
        }
        for name, runs in rates.items()
    ]


def pairs(ours: list[float], runs: dict[str, list[float]]) -> Any:
    return zip(ours, runs["cpu"], strict=True)


if __name__ == "__main__":
    main()
