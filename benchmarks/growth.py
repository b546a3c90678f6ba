"""Measures how time and memory of an epoch grow with the number of faces.

    python -m benchmarks.growth                                  # 1,000 to 100,000 faces
    python -m benchmarks.growth --sizes 1000 1000000

The dataset is a few rendered faces, each under many names. `affect_jax.main` trains a tiny network
on it, with streamed faces (`data.cache=none`), so the time is that of reading, decoding, shuffling
and bookkeeping. The clock starts after the first steps; the system reports the peak resident memory
of the process. Each size is compared with the smallest one in the same round.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from affect_jax.core.labels import EXPRESSIONS
from affect_jax.data import face_images
from affect_jax.facs.render import random_face
from benchmarks import harness

DISTINCT_FACES = 64  # rendered
VALIDATION = 64
WARMUP_STEPS = 10  # compile and fill buffers; not measured


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        contenders = {}
        for count in args.sizes:
            folder = pathlib.Path(name) / str(count)
            write_release(folder, count, args.image_size)
            run_main(folder, count, args, "--mode=prepare")
            contenders[f"{count:,}"] = functools.partial(train, folder, count, args)
        runs = harness.run_interleaved(contenders, args.rounds)
    harness.write_result(
        "growth",
        what=f"An epoch of streamed {args.image_size} x {args.image_size} faces, "
        f"ResNet18 of width {args.width}, batches of {args.batch_size}",
        args=args,
        rows=summary(runs),
        runs=runs,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--crop_size", type=int, default=32)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument(
        "--steps", type=int, default=200, help="measured steps of a run; at least one epoch"
    )
    quick = {"sizes": [24], "image_size": 40, "batch_size": 4, "steps": 4, "rounds": 1}
    return harness.parse_args(parser, argv, quick)


def write_release(folder: pathlib.Path, count: int, image_size: int) -> None:
    """Writes `training.csv`, `validation.csv` and links to a few rendered faces."""
    folder.mkdir()
    faces = [
        random_face.sample_face(0, index, size=image_size, skew="balanced")
        for index in range(min(count, DISTINCT_FACES))
    ]
    for index, face in enumerate(faces):
        (folder / f"{index}.jpg").write_bytes(face_images.encode_jpeg(face.image))
    for split, size in (("training", count), ("validation", VALIDATION)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label"])
            for number in range(size):
                index = number % len(faces)
                path = f"{split}{number}.jpg"
                (folder / path).hardlink_to(folder / f"{index}.jpg")
                table.writerow([path, EXPRESSIONS[faces[index].expression]])


def run_main(folder: pathlib.Path, count: int, args: argparse.Namespace, *flags: str) -> float:
    """Runs `affect_jax.main` on the faces of a folder and returns its peak memory in MiB."""
    steps = WARMUP_STEPS + max(args.steps, count // args.batch_size)
    config = {
        "data.name": "csv_faces",
        "data.manual_dir": folder,
        "data.data_dir": folder / "data",
        "data.image_size": args.image_size,
        "data.crop_size": args.crop_size,
        "data.cache": "none",
        "trunk.name": "resnet18",
        "trunk.width": args.width,
        "batch_size": args.batch_size,
        "evaluation.batch_size": VALIDATION,
        "evaluation.draws": 2,
        "log_every": WARMUP_STEPS,
    }
    for key in ("duration", "evaluate_every", "checkpoint.every", "images_every"):
        config |= {f"{key}.steps": steps, f"{key}.epochs": 0.0}
    command = [sys.executable, "-m", "affect_jax.main", "--config=configs/alexnet_imbalanced.py"]
    command += [f"--config.{key}={value}" for key, value in config.items()]
    process = subprocess.Popen(
        [*command, *flags],
        cwd=harness.FOLDER.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, [*command, *flags])
    return usage.ru_maxrss / 1024


_run_numbers = itertools.count()


def train(folder: pathlib.Path, count: int, args: argparse.Namespace) -> dict[str, float]:
    """Trains, and returns the seconds a thousand faces and the peak memory in MiB."""
    workdir = folder / f"run{next(_run_numbers)}"
    peak_mib = run_main(folder, count, args, f"--workdir={workdir}")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train.loss" in line and line["step"] >= WARMUP_STEPS]
    faces = (trained[-1]["step"] - trained[0]["step"]) * args.batch_size
    seconds = trained[-1]["time"] - trained[0]["time"]
    return {"seconds_a_thousand_faces": 1000 * seconds / faces, "peak_mib": peak_mib}


def summary(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Returns a row for each size, with ratios to the smallest."""

    def values(size: str, key: str) -> list[float]:
        return [run[key] for run in runs[size]]

    smallest = next(iter(runs))
    rows = []
    for size in runs:
        seconds, peaks = values(size, "seconds_a_thousand_faces"), values(size, "peak_mib")
        row = {"faces": size, "s a thousand faces": statistics.median(seconds)}
        row["to the smallest"] = harness.format_ratio(
            seconds, values(smallest, "seconds_a_thousand_faces")
        )
        row["peak memory, MiB"] = round(statistics.median(peaks))
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
