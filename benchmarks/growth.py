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
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks import harness
from benchmarks.preparation import write_release

VALIDATION = 64
WARMUP_STEPS = 10  # compile and fill buffers; not measured


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        sizes=((1_000, 10_000, 100_000), (24,)),
        image_size=(64, 40),
        crop_size=(32, None),
        width=(4, None),
        batch_size=(100, 4),
        steps=(200, 4, "measured steps of a run; at least one epoch"),
    )
    with tempfile.TemporaryDirectory() as name:
        contenders = {}
        for count in args.sizes:
            folder = pathlib.Path(name) / str(count)
            counts = {"training": count, "validation": VALIDATION}
            write_release(folder, counts, size=args.image_size, different=min(count, 64))
            run_main(folder, count, args, "--mode=prepare")
            contenders[f"{count:,}"] = functools.partial(train, folder, count, args)
        runs = harness.run_interleaved(contenders, args.rounds)
    seconds, memory = (
        {f"{size} faces": [run[key] for run in rounds] for size, rounds in runs.items()}
        for key in ("seconds_a_thousand_faces", "peak_mib")
    )
    rows = harness.summarize(
        seconds, "s a thousand faces", {"to the smallest": next(iter(seconds))}
    )
    peaks = harness.summarize(memory, "peak memory, MiB", {})
    harness.write_result(
        "growth",
        what=f"An epoch of streamed {args.image_size} x {args.image_size} faces, "
        f"ResNet18 of width {args.width}, batches of {args.batch_size}",
        args=args,
        rows=[row | peak for row, peak in zip(rows, peaks, strict=True)],
        runs=runs,
    )


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


if __name__ == "__main__":
    main()
