"""Whether ten times as many faces take ten times as long, and no more memory.

    python -m benchmarks.growth              # 1,000 to 100,000 faces
    python -m benchmarks.growth --full       # also 1,000,000

A few rendered faces are written to records again and again, under ids of their own, and a tiny
network is trained on them with the package's `train.fit`, faces streamed (`cache none`): so the
time is that of reading, decoding, shuffling and keeping the books. Each run is a process of its
own, whose peak of resident memory the system tells. The peer of a size is the smallest one, in the
same round.
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
from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax import config as configs
from affect_jax import environment, program, train
from affect_jax.data import DATASETS, synthetic_faces
from affect_jax.data.features import FacesBuilder, FacesConfig, prepare
from affect_jax.facs import sample
from affect_jax.workdir import Workdir
from benchmarks import recording

DIFFERENT = 64  # faces that are drawn
VALIDATION = 64
WARM = 10  # steps that compile and fill buffers, before the clock starts
PACKAGES = ("jax", "jaxlib", "flax", "grain", "array-record", "tensorflow-datasets")
MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child_faces is not None:  # in a process of its own
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
    return prepare(RepeatedFaces(count=count, image_size=image_size, data_dir=data_dir))


def apart(count: int, folder: pathlib.Path, options: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process of its own; the records are prepared in another, once."""
    names = ("image_size", "crop_size", "width", "batch_size", "steps")
    given = [f"--{name}={getattr(options, name)}" for name in names]
    for part in ("prepare", "run"):
        done = folder / "data" / "repeated_faces" / f"{count}_{options.image_size}"
        if part == "prepare" and done.is_dir():
            continue
        steps = ["--steps=0"] if part == "prepare" else []
        command = [
            sys.executable,
            "-m",
            "benchmarks.growth",
            f"--child_faces={count}",
            *given,
            *steps,
        ]
        finished = subprocess.run(
            [*command, f"--child_folder={folder}"],
            cwd=recording.FOLDER.parent,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(finished.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Trains once; `options.steps` of 0: only prepares the records.

    **Returns:** seconds a thousand faces, and the process's peak of resident memory in MiB.
    """
    program.registries()
    config = config_of(options)
    program.prepare(config)
    if not options.steps:
        return {}
    with tempfile.TemporaryDirectory(dir=options.child_folder) as name:
        workdir = Workdir(pathlib.Path(name))
        workdir.create()
        with contextlib.redirect_stdout(io.StringIO()):  # the table of its scores
            train.fit(config, workdir)
        lines = [
            json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()
        ]
    trained = [line for line in lines if "train.loss" in line and line["step"] >= WARM]
    faces = (trained[-1]["step"] - trained[0]["step"]) * options.batch_size
    seconds = trained[-1]["time"] - trained[0]["time"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return {"seconds_a_thousand_faces": 1000 * seconds / faces, "peak_mib": peak}


def config_of(options: argparse.Namespace) -> configs.Config:
    """A tiny network, evaluated and saved at its end alone."""
    config = configs.defaults()
    config.data.name, config.data.data_dir = "repeated_faces", str(options.child_folder / "data")
    config.data.options = {"count": options.child_faces}
    config.data.image_size, config.data.crop_size = options.image_size, options.crop_size
    config.data.cache = "none"
    config.trunk = {"name": "resnet18", "width": options.width}
    config.batch_size = options.batch_size
    config.evaluation.batch_size = VALIDATION
    config.evaluation.draws = 2
    total = WARM + max(options.steps, options.child_faces // options.batch_size)
    config.duration = config.evaluate_every = config.checkpoint.every = config.images_every = {
        "steps": total,
        "epochs": 0.0,
    }
    config.log_every = WARM
    return config


def summary(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    smallest = next(iter(runs))
    rows = []
    for name in runs:
        seconds, peaks, fewest, least = (
            [run[key] for run in runs[size]]
            for size in (name, smallest)
            for key in ("seconds_a_thousand_faces", "peak_mib")
        )
        more = statistics.median(b - a for a, b in zip(least, peaks, strict=True))
        rows.append(
            {
                "faces": name,
                "s a thousand faces": statistics.median(seconds),
                "to the smallest": recording.times(seconds, fewest),
                "peak memory, MiB": round(statistics.median(peaks)),
                "more than the smallest, MiB": round(more),
            }
        )
    return rows


if __name__ == "__main__":
    environment.use_huge_pages()
    main()
