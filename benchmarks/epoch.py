"""Measures an epoch from records to a trained, evaluated, logged and saved network.

    python -m benchmarks.epoch
    python -m benchmarks.epoch --data affectnet --manual_dir /path/to/AffectNet --network resnet18 \
        --type bfloat16 --batch_size 256
    python -m benchmarks.epoch --num_faces 20480 --passes 14 --num_validation 4000 \
        --type bfloat16 --batch_size 256      # as long as an AffectNet epoch, with fewer faces

Ours is `train_and_evaluate` of the package, once for each setting of `data.cache`. PyTorch runs a
loop over the same JPEGs and epochs, eager and compiled: a DataLoader with Pillow and one worker a
core, the same network with channels last, autocast for bfloat16, evaluation and a checkpoint after
each epoch, log lines as often. It only computes the accuracy; ours computes all scores of the
protocol.

The first epoch of a run compiles, fills caches and starts workers; it counts on neither side. An
epoch is `--passes` over the faces, evaluated and saved after the last pass.
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
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the card

import jax

from affect_jax.config import Config, defaults, from_dict, to_dict
from affect_jax.core import env_vars, parallel
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import harness, torch_peer, torch_training
from benchmarks.step import COMPILED, EAGER

CACHES = ("none", "host", "device")

Seconds = dict[str, float]  # of all counted epochs: "all", and "waiting" for data


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(__doc__, argv)
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
        if harness.is_installed("torch"):
            data = {
                name: torch_training.create_face_files(
                    split, folder / "files" / name, config, train=name == "training"
                )
                for name, split in splits.items()
            }
            for peer in args.peers:
                run = functools.partial(run_torch, data, args, folder, compiled=peer == COMPILED)
                contenders[peer] = run
        runs = harness.run_interleaved(contenders, args.rounds)
    num_faces = len(splits["training"]) // args.batch_size * args.batch_size
    passes = f"{args.passes} x " if args.passes > 1 else ""
    device = jax.devices()[0]
    harness.write_result(
        "epoch" if device.platform == "cpu" else "epoch_gpu",
        what=f"Seconds of an epoch of {passes}{num_faces:,} faces, {args.network}, "
        f"{args.type}, batch {args.batch_size}",
        args=args,
        rows=summary(runs, args.epochs, args.epochs * args.passes * num_faces),
        runs=runs,
        accelerator="" if device.platform == "cpu" else device.device_kind,
    )


def parse_args(documentation: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    return harness.parse_args(
        documentation,
        argv,
        data=("synthetic_faces", None, "name of a dataset"),
        manual_dir=("", None, "folder of its release"),
        num_faces=(2048, 16, "faces of synthetic_faces"),
        num_validation=(0, None, "validation faces; default: num_faces / 16"),
        passes=(1, None, "passes over the faces in an epoch"),
        network=("alexnet", None, "or resnet18"),
        type=("float32", None, "or bfloat16"),
        width=harness.WIDTH,
        image_size=(256, 72),
        crop_size=(224, 67),
        batch_size=(64, 8),
        epochs=(2, 1, "measured epochs, after the first"),
        log_every=(50, 1),
        caches=(CACHES, ("none",), "values of data.cache"),
        peers=((EAGER, COMPILED), (EAGER,)),
        workers=(harness.count_cores(), 0, "of PyTorch's DataLoader"),
    )


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
    config.trunk, config.dtype = torch_peer.trunk_spec(args.network, args.width), args.type
    config.batch_size = config.evaluation.batch_size = args.batch_size
    every = {"epochs": float(args.passes), "steps": 0}
    config.evaluate_every = config.checkpoint.every = config.images_every = every
    config.duration = {"epochs": float((1 + args.epochs) * args.passes), "steps": 0}
    config.log_every = args.log_every
    return config


def run_affect_jax(
    config: Config, cache: str, folder: pathlib.Path, run_numbers: Iterator[int]
) -> Seconds:
    """Trains a new network and returns the time from the first checkpoint to the end of the run."""
    config = from_dict(to_dict(config))
    config.data.cache = cache
    workdir = Workdir(folder / f"run{next(run_numbers)}")
    workdir.create()
    workdir.save_config(to_dict(config))
    with contextlib.redirect_stdout(io.StringIO()):  # the printed scores
        train_and_evaluate(config, workdir)
    end, log = time.time(), (workdir.path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    return counted_seconds(lines, batch_size=config.batch_size, end=end)


def counted_seconds(lines: list[dict[str, Any]], *, batch_size: int, end: float) -> Seconds:
    """Returns the seconds after the first checkpoint of a log, and those of waiting for data.

    **Arguments:** `end`: the time of the last checkpoint, by the clock of the log.
    """
    first = next(line for line in lines if "time.save_seconds" in line)
    waiting, step = 0.0, first["step"]
    for line in lines:
        if line["step"] > first["step"] and "train.images_per_second" in line:
            images = (line["step"] - step) * batch_size
            waiting += line["train.data_wait_share"] * images / line["train.images_per_second"]
            step = line["step"]
    return {"all": end - first["time"], "waiting": waiting}


def run_torch(
    data: dict[str, torch_peer.FaceFiles],
    args: argparse.Namespace,
    folder: pathlib.Path,
    *,
    compiled: bool,
) -> Seconds:
    """Trains like `run_affect_jax`: one epoch that does not count, then those that do."""
    torch = torch_peer.torch()
    trainer = torch_peer.Trainer(
        args.network,
        dtype=args.type,
        crop_size=args.crop_size,
        compiled=compiled,
        width=args.width,
    )
    loaders = {
        name: torch_peer.create_loader(
            faces,
            args.batch_size,
            workers=args.workers,
            passes=args.passes if name == "training" else None,
        )
        for name, faces in data.items()
    }
    seconds = {"all": 0.0, "waiting": 0.0}
    with (folder / "peer.log").open("a") as log:
        for epoch in range(1 + args.epochs):
            start = time.perf_counter()
            waiting = train_torch_epoch(trainer, loaders["training"], args.log_every, log)
            hits = [
                trainer.predict(torch_peer.normalize_images(images)).argmax(1).cpu() == labels
                for images, labels in loaders["validation"]
            ]
            print(float(torch.cat(hits).float().mean()), file=log, flush=True)
            modules = {"network": trainer.network, "optimizer": trainer.optimizer}
            state = {name: module.state_dict() for name, module in modules.items()}
            torch.save(state, folder / "peer.pt")
            if epoch > 0:
                seconds["all"] += time.perf_counter() - start
                seconds["waiting"] += waiting
    return seconds


def train_torch_epoch(
    trainer: torch_peer.Trainer, loader: Any, log_every: int, log: io.TextIOBase
) -> float:
    """Trains for one epoch and returns the seconds of waiting for data."""
    device, waiting, start = torch_peer.torch_device(), 0.0, time.perf_counter()
    for step, (images, labels) in enumerate(loader, 1):
        waiting += time.perf_counter() - start
        labels = labels.to(device, non_blocking=True)
        trainer.train_step(torch_peer.normalize_images(images), labels)
        if step % log_every == 0:
            torch_peer.synchronize()
            print(step, time.perf_counter(), file=log, flush=True)
        start = time.perf_counter()
    torch_peer.synchronize()
    return waiting


def summary(runs: dict[str, list[Seconds]], epochs: int, total_faces: int) -> list[dict[str, Any]]:
    """Returns a row for each contender: medians over the rounds, ratios to the fastest peer."""
    rates = {
        name: [total_faces / seconds["all"] for seconds in rounds] for name, rounds in runs.items()
    }
    peer = harness.fastest(rates, [name for name in runs if name in (EAGER, COMPILED)])
    rows = harness.summarize(rates, "faces/s", {"faster than PyTorch by": peer})
    for row, rounds in zip(rows, runs.values(), strict=True):
        waiting = statistics.median(seconds["waiting"] / seconds["all"] for seconds in rounds)
        seconds = statistics.median(seconds["all"] for seconds in rounds) / epochs
        row |= {"waiting for data": f"{waiting:.1%}", "seconds an epoch": seconds}
    return rows


if __name__ == "__main__":
    main()
