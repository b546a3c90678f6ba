"""Measures how time and memory of an epoch grow with the number of faces.

    python -m benchmarks.growth              # 1,000 to 100,000 faces
    python -m benchmarks.growth --full       # also 1,000,000

A few rendered faces are written to records many times, under different ids. `train_and_evaluate`
trains a tiny network on them, with streamed faces (`data.cache=none`), so the time is that of
reading, decoding, shuffling and bookkeeping. Each run is a separate process, whose peak resident
memory the system reports. The processor time of a run that ends after its first steps is
subtracted, so that start, compilation, hashing, evaluation and saving do not count. Each size is
compared with the smallest one in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax.config import Config, defaults
from affect_jax.core import env_vars
from affect_jax.data import DATASETS, synthetic_faces
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig, prepare_records
from affect_jax.facs.render import random_face
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import harness

DISTINCT_FACES = 64  # rendered
VALIDATION = 64
WARMUP_STEPS = 10  # compile and fill buffers; not measured
PACKAGES = ("jax", "jaxlib", "flax", "grain", "array-record", "tensorflow-datasets")
MIB = 1 << 20
PARTS = ("prepare", "start", "run")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.child_part:  # in a child process
        env_vars.set_cpu_fusion_types()
        print(json.dumps(run_part(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            f"{count:,}": functools.partial(measure_size, count, pathlib.Path(folder), args)
            for count in args.sizes + ([1_000_000] if args.full else [])
        }
        runs = harness.run_interleaved(contenders, args.rounds)
    harness.write_result(
        "growth",
        what=f"An epoch of streamed {args.image_size} x {args.image_size} faces, "
        f"ResNet18 of width {args.width}, batches of {args.batch_size}",
        args=args,
        rows=summary(runs),
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--full", action="store_true", help="also a million faces")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--crop_size", type=int, default=32)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument(
        "--steps", type=int, default=200, help="measured steps of a run; at least one epoch"
    )
    parser.add_argument("--child_part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--child_faces", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child_folder", type=pathlib.Path, help=argparse.SUPPRESS)
    quick = {"sizes": [24], "image_size": 40, "batch_size": 4, "steps": 4}
    return harness.parse_args(parser, argv, quick)


class RepeatedFaces(FacesBuilder, skip_registration=True):
    """A few rendered faces, each written many times."""

    name = "repeated_faces"

    def __init__(self, *, count: int, image_size: int, data_dir: str):
        self._count, self._image_size = count, image_size
        config = FacesConfig(name=f"{count}_{image_size}", image_size=image_size)
        super().__init__(config=config, data_dir=data_dir)

    def _split_generators(self, dl_manager: Any) -> Any:
        records = [
            synthetic_faces.create_record(
                random_face.sample_face(0, index, size=self._image_size, skew="balanced"), ""
            )
            for index in range(DISTINCT_FACES)
        ]

        def examples(name: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
            for number in range(count):
                record, identifier = records[number % DISTINCT_FACES], f"{name}/{number:07d}"
                image = io.BytesIO(record["image"].getvalue())  # tfds consumes the stream
                yield identifier, {**record, "image": image, "id": identifier}

        return {
            "training": examples("training", self._count),
            "validation": examples("validation", VALIDATION),
        }


@DATASETS.register("repeated_faces")
def repeated_faces(
    *, manual_dir: str = "", data_dir: str = "data", image_size: int = 64, count: int = 1000
) -> RepeatedFaces:
    del manual_dir
    return prepare_records(RepeatedFaces(count=count, image_size=image_size, data_dir=data_dir))


def measure_size(count: int, folder: pathlib.Path, args: argparse.Namespace) -> dict[str, float]:
    """Measures a run of `count` faces; the first call for a size prepares its records."""
    if not (folder / "data" / "repeated_faces" / f"{count}_{args.image_size}").is_dir():
        run_in_process("prepare", count, folder, args)
    start, run = (run_in_process(part, count, folder, args) for part in ("start", "run"))
    processor = run["processor_seconds"] - start["processor_seconds"]
    return {
        "seconds_a_thousand_faces": 1000 * run["seconds"] / run["faces"],
        "processor_seconds_a_thousand_faces": 1000 * processor / run["faces"],
        "peak_mib": run["peak_mib"],
    }


def run_in_process(
    part: str, count: int, folder: pathlib.Path, args: argparse.Namespace
) -> dict[str, float]:
    """Calls `run_part` in a child process."""
    names = ("image_size", "crop_size", "width", "batch_size", "steps")
    shared_flags = [f"--{name}={getattr(args, name)}" for name in names]
    child_flags = [f"--child_part={part}", f"--child_faces={count}", f"--child_folder={folder}"]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *shared_flags, *child_flags],
        cwd=harness.FOLDER.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def run_part(args: argparse.Namespace) -> dict[str, float]:
    """Prepares the records, trains for the first steps, or trains to the end.

    **Returns:** after training, its processor seconds, its peak resident memory in MiB, and the
    faces and seconds after the first steps.
    """
    load_registries()
    config = create_config(args)
    prepare_dataset(config)
    if args.child_part == "prepare":
        return {}
    start = time.process_time()
    with tempfile.TemporaryDirectory(dir=args.child_folder) as name:
        workdir = Workdir(pathlib.Path(name))
        workdir.create()
        with contextlib.redirect_stdout(io.StringIO()):  # the printed scores
            train_and_evaluate(config, workdir)
        lines = [
            json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()
        ]
    trained = [line for line in lines if "train.loss" in line and line["step"] >= WARMUP_STEPS]
    return {
        "processor_seconds": time.process_time() - start,
        "seconds": trained[-1]["time"] - trained[0]["time"],
        "faces": (trained[-1]["step"] - trained[0]["step"]) * args.batch_size,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
    }


def create_config(args: argparse.Namespace) -> Config:
    """Returns the config of a tiny network that is evaluated and saved only at the end."""
    config = defaults()
    config.data.name, config.data.data_dir = "repeated_faces", str(args.child_folder / "data")
    config.data.options = {"count": args.child_faces}
    config.data.image_size, config.data.crop_size = args.image_size, args.crop_size
    config.data.cache = "none"
    config.trunk = {"name": "resnet18", "width": args.width}
    config.batch_size = args.batch_size
    config.evaluation.batch_size = VALIDATION
    config.evaluation.draws = 2
    measured_steps = max(args.steps, args.child_faces // args.batch_size)
    total = WARMUP_STEPS + (measured_steps if args.child_part == "run" else 0)
    config.duration = config.evaluate_every = config.checkpoint.every = config.images_every = {
        "steps": total,
        "epochs": 0.0,
    }
    config.log_every = WARMUP_STEPS
    return config


def summary(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Returns a row for each size, with ratios to the smallest."""

    def values(size: str, key: str) -> list[float]:
        return [run[key] for run in runs[size]]

    clocks = {
        "s a thousand faces": "seconds_a_thousand_faces",
        "of processor time": "processor_seconds_a_thousand_faces",
    }
    smallest = next(iter(runs))
    smallest_peaks = values(smallest, "peak_mib")
    rows = []
    for name in runs:
        row: dict[str, Any] = {"faces": name}
        for title, key in clocks.items():
            row[title] = statistics.median(values(name, key))
            row[f"{title}, to the smallest"] = harness.format_ratio(
                values(name, key), values(smallest, key)
            )
        peaks = values(name, "peak_mib")
        increase = statistics.median(b - a for a, b in zip(smallest_peaks, peaks, strict=True))
        row["peak memory, MiB"] = round(statistics.median(peaks))
        row["more than the smallest, MiB"] = round(increase)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
