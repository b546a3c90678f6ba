"""Whether ten times as many faces take ten times as long, and no more memory.

    python -m benchmarks.growth              # 1,000 to 100,000 faces
    python -m benchmarks.growth --full       # also 1,000,000

A few rendered faces are written to records again and again, under ids of their own, and a tiny
network is trained on them with the package's `train_and_evaluate`, faces streamed (`cache none`): so the
time is that of reading, decoding, shuffling and keeping the books. Each run is a process of its
own, whose peak of resident memory the system tells. Processor time is a run's less that of one that
ends after its first steps, so that starting, compiling, hashing, evaluation and saving are not in
it. The peer of a size is the smallest one, in the same round.
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
from affect_jax.core import environment
from affect_jax.data import DATASETS, synthetic_faces
from affect_jax.data.builder import FacesBuilder, FacesConfig, prepare_records
from affect_jax.data.targets import prepare_dataset
from affect_jax.facs.render import sample
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import all_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import recording

DIFFERENT = 64  # faces that are drawn
VALIDATION = 64
WARM = 10  # steps that compile and fill buffers, before the clock starts
PACKAGES = ("jax", "jaxlib", "flax", "grain", "array-record", "tensorflow-datasets")
MIB = 1 << 20
PARTS = ("prepare", "start", "run")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child_part:  # in a process of its own
        environment.choose_fusions()
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = {
            f"{count:,}": functools.partial(apart, count, pathlib.Path(folder), options)
            for count in options.sizes + ([1_000_000] if options.full else [])
        }
        runs = recording.take_turns(work, options.rounds)
    recording.keep(
        "growth",
        what=f"An epoch of streamed {options.image_size} x {options.image_size} faces, "
        f"ResNet18 of width {options.width}, batches of {options.batch_size}",
        options=options,
        rows=summary(runs),
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    found.add_argument("--full", action="store_true", help="also a million faces")
    found.add_argument("--image_size", type=int, default=64)
    found.add_argument("--crop_size", type=int, default=32)
    found.add_argument("--width", type=int, default=4)
    found.add_argument("--batch_size", type=int, default=100)
    found.add_argument("--steps", type=int, default=200, help="of a run, or an epoch if longer")
    found.add_argument("--child_part", choices=PARTS, help=argparse.SUPPRESS)
    found.add_argument("--child_faces", type=int, help=argparse.SUPPRESS)
    found.add_argument("--child_folder", type=pathlib.Path, help=argparse.SUPPRESS)
    quick = {"sizes": [24], "image_size": 40, "batch_size": 4, "steps": 4}
    return recording.parse(found, arguments, quick)


class RepeatedFaces(FacesBuilder, skip_registration=True):
    """A few drawn faces, each written many times."""

    name = "repeated_faces"

    def __init__(self, *, count: int, image_size: int, data_dir: str):
        self._count, self._image_size = count, image_size
        config = FacesConfig(name=f"{count}_{image_size}", image_size=image_size)
        super().__init__(config=config, data_dir=data_dir)

    def _split_generators(self, dl_manager: Any) -> Any:
        drawn = [
            synthetic_faces.drawn_record(
                sample.sample(0, number, size=self._image_size, skew="balanced"), ""
            )
            for number in range(DIFFERENT)
        ]

        def split(name: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
            for number in range(count):
                face, identifier = drawn[number % DIFFERENT], f"{name}/{number:07d}"
                image = io.BytesIO(face["image"].getvalue())  # tfds reads one to its end
                yield identifier, {**face, "image": image, "id": identifier}

        return {
            "training": split("training", self._count),
            "validation": split("validation", VALIDATION),
        }


@DATASETS.register("repeated_faces")
def repeated_faces(
    *, manual_dir: str = "", data_dir: str = "data", image_size: int = 64, count: int = 1000
) -> RepeatedFaces:
    del manual_dir
    return prepare_records(RepeatedFaces(count=count, image_size=image_size, data_dir=data_dir))


def apart(count: int, folder: pathlib.Path, options: argparse.Namespace) -> dict[str, float]:
    """What a run of so many faces took; its records are prepared before, once."""
    if not (folder / "data" / "repeated_faces" / f"{count}_{options.image_size}").is_dir():
        in_a_process("prepare", count, folder, options)
    start, run = (in_a_process(part, count, folder, options) for part in ("start", "run"))
    processor = run["processor_seconds"] - start["processor_seconds"]
    return {
        "seconds_a_thousand_faces": 1000 * run["seconds"] / run["faces"],
        "processor_seconds_a_thousand_faces": 1000 * processor / run["faces"],
        "peak_mib": run["peak_mib"],
    }


def in_a_process(
    part: str, count: int, folder: pathlib.Path, options: argparse.Namespace
) -> dict[str, float]:
    """`measure` in a process of its own."""
    names = ("image_size", "crop_size", "width", "batch_size", "steps")
    given = [f"--{name}={getattr(options, name)}" for name in names]
    child = [f"--child_part={part}", f"--child_faces={count}", f"--child_folder={folder}"]
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *given, *child],
        cwd=recording.FOLDER.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Does a part: prepares the records, or trains for the first steps, or to the end.

    **Returns:** of a training all its processor time, its peak of resident memory in MiB, and how
    many faces followed the first steps in how many seconds.
    """
    all_registries()
    config = config_of(options)
    prepare_dataset(config)
    if options.child_part == "prepare":
        return {}
    begin = time.process_time()
    with tempfile.TemporaryDirectory(dir=options.child_folder) as name:
        workdir = Workdir(pathlib.Path(name))
        workdir.create()
        with contextlib.redirect_stdout(io.StringIO()):  # the table of its scores
            train_and_evaluate(config, workdir)
        lines = [
            json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()
        ]
    trained = [line for line in lines if "train.loss" in line and line["step"] >= WARM]
    return {
        "processor_seconds": time.process_time() - begin,
        "seconds": trained[-1]["time"] - trained[0]["time"],
        "faces": (trained[-1]["step"] - trained[0]["step"]) * options.batch_size,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
    }


def config_of(options: argparse.Namespace) -> Config:
    """A tiny network, evaluated and saved at its end alone."""
    config = defaults()
    config.data.name, config.data.data_dir = "repeated_faces", str(options.child_folder / "data")
    config.data.options = {"count": options.child_faces}
    config.data.image_size, config.data.crop_size = options.image_size, options.crop_size
    config.data.cache = "none"
    config.trunk = {"name": "resnet18", "width": options.width}
    config.batch_size = options.batch_size
    config.evaluation.batch_size = VALIDATION
    config.evaluation.draws = 2
    after = max(options.steps, options.child_faces // options.batch_size)
    total = WARM + (after if options.child_part == "run" else 0)
    config.duration = config.evaluate_every = config.checkpoint.every = config.images_every = {
        "steps": total,
        "epochs": 0.0,
    }
    config.log_every = WARM
    return config


def summary(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    def of(size: str, key: str) -> list[float]:
        return [run[key] for run in runs[size]]

    clocks = {
        "s a thousand faces": "seconds_a_thousand_faces",
        "of processor time": "processor_seconds_a_thousand_faces",
    }
    smallest = next(iter(runs))
    least = of(smallest, "peak_mib")
    rows = []
    for name in runs:
        row: dict[str, Any] = {"faces": name}
        for title, key in clocks.items():
            row[title] = statistics.median(of(name, key))
            row[f"{title}, to the smallest"] = recording.times(of(name, key), of(smallest, key))
        peaks = of(name, "peak_mib")
        more = statistics.median(b - a for a, b in zip(least, peaks, strict=True))
        row["peak memory, MiB"] = round(statistics.median(peaks))
        row["more than the smallest, MiB"] = round(more)
        rows.append(row)
    return rows


if __name__ == "__main__":
    environment.use_huge_pages()
    main()
