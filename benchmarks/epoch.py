"""Measures an epoch from records to a trained, evaluated, logged and saved network.

    python -m benchmarks.epoch
    python -m benchmarks.epoch --data affectnet --manual_dir /path/to/AffectNet --network resnet18 \
        --type bfloat16 --batch_size 256
    python -m benchmarks.epoch --num_faces 20480 --passes 14 --num_validation 4000 \
        --type bfloat16 --batch_size 256      # as long as an AffectNet epoch, with fewer faces

Ours is `train_and_evaluate` of the package, once for each setting of `data.cache`. PyTorch runs a
loop over the same JPEGs and epochs: a DataLoader with Pillow, the same network with channels last,
autocast for bfloat16, evaluation and a checkpoint after each epoch, log lines as often. Its
settings are tuned first: the fastest number of workers, and `torch.compile` if its steps are
faster. It only computes the accuracy; ours computes all scores of the protocol.

The first epoch of a run compiles, fills caches and starts workers; it counts on neither side. An
epoch is `--passes` over the faces, evaluated and saved after the last pass. The time of our parts
is read from `metrics.jsonl`. "step" is all time between two log lines except waiting for data.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the card

import jax
import numpy as np

from affect_jax.config import Config, defaults, from_dict, to_dict
from affect_jax.core import env_vars, parallel
from affect_jax.core.errors import first_line
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import frameworks, harness, torch_data
from benchmarks.machine import count_cores, is_installed

PEER = "PyTorch"
CACHES = ("none", "host", "device")
PARTS = ("waiting", "step", "evaluation", "checkpoint", "other")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "torch", "pillow")

Seconds = dict[str, float]  # of all counted epochs: of each of PARTS, and of "all"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    load_registries()
    parallel.enable_compilation_cache()
    env_vars.set_cpu_fusion_types()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        config = create_config(args, folder)
        builder = prepare_dataset(config)
        splits = {part: open_split(builder, part) for part in ("training", "validation")}
        run_numbers = itertools.count()
        contenders: dict[str, Callable[[], Seconds]] = {
            f"affect_jax, cache {cache}": functools.partial(
                run_affect_jax, config, cache, folder, run_numbers
            )
            for cache in args.caches
        }
        settings: dict[str, Any] = {}
        if is_installed("torch"):
            peer = TorchRun(args, splits, folder)
            settings = peer.settings
            contenders[PEER] = peer.run
        runs = harness.run_interleaved(contenders, args.rounds)
    num_faces = len(splits["training"]) // args.batch_size * args.batch_size
    total_faces = args.epochs * args.passes * num_faces
    passes = f"{args.passes} x " if args.passes > 1 else ""
    device = jax.devices()[0]
    harness.write_result(
        "epoch",
        what=f"Seconds of an epoch of {passes}{num_faces:,} faces, {args.network}, "
        f"{args.type}, batch {args.batch_size}; settings of PyTorch: {settings}",
        args=args,
        rows=summary(runs, args.epochs, total_faces),
        runs=runs,
        packages=PACKAGES,
        accelerator="" if device.platform == "cpu" else device.device_kind,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--data", default="synthetic_faces", help="name of a dataset")
    parser.add_argument("--manual_dir", default="", help="folder of its release")
    parser.add_argument("--num_faces", type=int, default=2048, help="faces of synthetic_faces")
    parser.add_argument(
        "--num_validation", type=int, help="validation faces; default: num_faces / 16"
    )
    parser.add_argument("--passes", type=int, default=1, help="passes over the faces in an epoch")
    parser.add_argument("--network", default="alexnet", choices=("alexnet", "resnet18"))
    parser.add_argument("--type", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--width", type=int, help="of the classifier of alexnet, instead of 4096")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2, help="measured epochs, after the first")
    parser.add_argument("--log_every", type=int, default=50)
    parser.add_argument("--caches", nargs="+", default=list(CACHES), choices=CACHES)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({0, 2, count_cores()}))
    parser.add_argument("--compile", type=int, default=1, help="0: do not try torch.compile")
    quick = {"num_faces": 16, "image_size": 72, "crop_size": 67, "batch_size": 8, "epochs": 1}
    quick |= {"caches": ["none"], "workers": [0], "compile": 0, "log_every": 1, "width": 16}
    return harness.parse_args(parser, argv, quick)


def create_config(args: argparse.Namespace, folder: pathlib.Path) -> Config:
    """Returns the config of the protocol with `args`, evaluated and saved after each epoch."""
    config = defaults()
    config.data.name, config.data.manual_dir = args.data, args.manual_dir
    config.data.data_dir = str(folder / "data")
    config.data.image_size, config.data.crop_size = args.image_size, args.crop_size
    if args.data == "synthetic_faces":
        validation = args.num_validation or max(8, args.num_faces // 16)
        sizes = {"num_training": args.num_faces, "num_validation": validation}
        config.data.options = sizes | {"skew": "balanced"}
    config.trunk, config.dtype = frameworks.trunk_spec(args.network, args.width), args.type
    config.batch_size = config.evaluation.batch_size = args.batch_size
    every = {"epochs": float(args.passes), "steps": 0}
    config.evaluate_every = config.checkpoint.every = config.images_every = every
    config.duration = {"epochs": float((1 + args.epochs) * args.passes), "steps": 0}
    config.log_every = args.log_every
    return config


def run_affect_jax(
    config: Config, cache: str, folder: pathlib.Path, run_numbers: Iterator[int]
) -> Seconds:
    """Trains a new network and returns the time of each part."""
    config = from_dict(to_dict(config))
    config.data.cache = cache
    workdir = Workdir(folder / f"run{next(run_numbers)}")
    workdir.create()
    workdir.save_config(to_dict(config))
    with contextlib.redirect_stdout(io.StringIO()):  # the printed scores
        train_and_evaluate(config, workdir)
    return split_seconds(workdir.path / "metrics.jsonl", config.batch_size, time.time())


def split_seconds(path: pathlib.Path, batch_size: int, end: float) -> Seconds:
    """Splits the time from the first checkpoint to the end of a run into its parts.

    **Arguments:**

    - `path`: the run's `metrics.jsonl`.
    - `end`: the time of the last checkpoint, by the same clock as `time` in the file.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = next(line for line in lines if "time.save_seconds" in line)
    seconds = dict.fromkeys(PARTS, 0.0) | {"all": end - first["time"]}
    step = first["step"]
    for line in lines:
        if line["step"] <= first["step"]:
            continue
        if "train.images_per_second" in line:
            elapsed = (line["step"] - step) * batch_size / line["train.images_per_second"]
            waiting = line["train.data_wait_share"] * elapsed
            seconds["waiting"] += waiting
            seconds["step"] += elapsed - waiting
            step = line["step"]
        for part, name in (("evaluation", "evaluate"), ("checkpoint", "save")):
            if f"time.{name}_seconds" in line:
                seconds[part] += line[f"time.{name}_seconds"]
    seconds["other"] = seconds["all"] - sum(seconds[part] for part in PARTS[:-1])
    return seconds


class TorchRun:
    """The same training in PyTorch, with the fastest settings on this machine."""

    def __init__(self, args: argparse.Namespace, splits: Any, folder: pathlib.Path):
        self._args, self._folder = args, folder
        self._data = {}
        for name, split in splits.items():
            files, labels = folder / "files" / name, split.columns()["expression"]
            torch_data.write_files(torch_data.read_jpegs(split, range(len(split))), files)
            self._data[name] = torch_data.FaceFiles(
                files, labels, args.crop_size, train=name == "training"
            )
        self.settings = {"workers": self._best_workers(), "compiled": self._is_compiled_faster()}

    def _create_loader(self, name: str, workers: int, passes: int = 1) -> Any:
        """Creates a loader; the passes of an epoch follow without a pause, as in ours."""
        return torch_data.create_loader(
            self._data[name],
            self._args.batch_size,
            workers=workers,
            passes=passes if name == "training" else None,
        )

    def _create_trainer(self, compiled: bool) -> frameworks.TorchTrainer:
        args = self._args
        return frameworks.TorchTrainer(
            args.network,
            dtype=args.type,
            crop_size=args.crop_size,
            compiled=compiled,
            width=args.width,
        )

    def _best_workers(self) -> int:
        """Returns the number of workers that loads the training faces fastest once started."""
        if len(self._args.workers) == 1:
            return self._args.workers[0]
        seconds = {}
        for workers in self._args.workers:
            loader = self._create_loader("training", workers)
            next(iter(loader))
            seconds[workers] = harness.measure_seconds(lambda loader=loader: list(map(len, loader)))
        return min(seconds, key=lambda workers: seconds[workers])

    def _is_compiled_faster(self) -> bool:
        """Whether a step of the compiled network is faster."""
        if not self._args.compile:
            return False
        size = self._args.crop_size
        images = frameworks.normalize_images(
            np.zeros((self._args.batch_size, size, size, 3), np.uint8)
        )
        labels = frameworks.torch().zeros(
            len(images), dtype=frameworks.torch().int64, device=images.device
        )

        def run_steps(trainer: frameworks.TorchTrainer, steps: int) -> None:
            for _ in range(steps):
                trainer.train_step(images, labels)
            frameworks.synchronize()

        seconds = []
        for compiled in (False, True):
            trainer = self._create_trainer(compiled)
            try:
                run_steps(trainer, 2)
            except Exception as error:  # no C++ compiler, for example
                print(f"PyTorch is not compiled: {first_line(error)}")
                return False
            seconds.append(harness.measure_seconds(functools.partial(run_steps, trainer, 3)))
        return seconds[1] < seconds[0]

    def run(self) -> Seconds:
        """Trains like `run_affect_jax`: one epoch that does not count, then those that do."""
        trainer = self._create_trainer(self.settings["compiled"])
        workers, passes = self.settings["workers"], self._args.passes
        loaders = {name: self._create_loader(name, workers, passes) for name in self._data}
        seconds: Seconds = {}
        start = 0.0
        for epoch in range(1 + self._args.epochs):
            if epoch < 2:
                seconds = dict.fromkeys(PARTS, 0.0)
            if epoch == 1:
                start = time.perf_counter()
            self._run_epoch(trainer, loaders, seconds)
        seconds["all"] = time.perf_counter() - start
        seconds["other"] = seconds["all"] - sum(seconds[part] for part in PARTS[:-1])
        return seconds

    def _run_epoch(
        self, trainer: frameworks.TorchTrainer, loaders: dict[str, Any], seconds: Seconds
    ) -> None:
        """Trains, evaluates and saves, and adds the time of each part to `seconds`."""
        torch, device, now = frameworks.torch(), frameworks.torch_device(), time.perf_counter
        start = now()
        with (self._folder / "peer.log").open("a") as log:
            for step, (images, labels) in enumerate(loaders["training"], 1):
                seconds["waiting"] += now() - start
                start = now()
                trainer.train_step(
                    frameworks.normalize_images(images), labels.to(device, non_blocking=True)
                )
                if step % self._args.log_every == 0:
                    frameworks.synchronize()
                    print(step, now(), file=log, flush=True)
                seconds["step"] += now() - start
                start = now()
            frameworks.synchronize()
            hits = [
                trainer.predict(frameworks.normalize_images(images)).argmax(1).cpu() == labels
                for images, labels in loaders["validation"]
            ]
            print(float(torch.cat(hits).float().mean()), file=log, flush=True)
        seconds["evaluation"] += now() - start
        start = now()
        state = {
            "network": trainer.network.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
        }
        torch.save(state, self._folder / "peer.pt")
        seconds["checkpoint"] += now() - start


def summary(runs: dict[str, list[Seconds]], epochs: int, total_faces: int) -> list[dict[str, Any]]:
    """Returns a row for each contender: the median seconds, and the share of each part."""
    rows = []
    for name, rounds in runs.items():
        median = sorted(rounds, key=lambda seconds: seconds["all"])[len(rounds) // 2]
        row = {"contender": name, "seconds an epoch": median["all"] / epochs}
        row["faces/s"] = round(total_faces / median["all"])
        row |= {part: f"{median[part] / median['all']:.1%}" for part in PARTS}
        if PEER in runs:
            theirs = [seconds["all"] for seconds in runs[PEER]]
            row["faster than PyTorch by"] = harness.format_ratio(
                theirs, [seconds["all"] for seconds in rounds]
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
