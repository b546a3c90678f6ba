"""How long an epoch takes from records to a network trained, scored, logged and saved.

    python -m benchmarks.epoch
    python -m benchmarks.epoch --data affectnet --manual_dir /path/to/AffectNet --network resnet18 \
        --type bfloat16 --batch_size 256
    python -m benchmarks.epoch --num_faces 20480 --passes 14 --num_validation 4000 \
        --type bfloat16 --batch_size 256      # an epoch as long as AffectNet's, of few faces

Ours is the package's own `train_and_evaluate`, once for each place where faces can wait. The peer is a loop
in PyTorch over the same JPEGs and the same epochs: a DataLoader with Pillow, the same network with
channels last, autocast for bfloat16, evaluation and a checkpoint after each epoch, a line of a log
as often. It gets its best settings first: as many workers as load fastest, and `torch.compile`
where its steps are faster. Its scores are the accuracy; ours are the whole protocol.

The first epoch of a run compiles, fills caches and starts workers: it is not counted, on neither
side. An epoch is `--passes` over the faces, evaluated and saved after the last of them. Where the
time of the others went is read from `metrics.jsonl`, which every run writes. What is "step" is all
that a loop does between two lines of its log but waiting for data.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
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
from affect_jax.core import environment, parallel
from affect_jax.core.errors import first_line
from affect_jax.data.builder import open_split
from affect_jax.data.targets import prepare_dataset
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import all_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import peer_data, peers, recording
from benchmarks.machine import cores, installed

PEER = "PyTorch"
CACHES = ("none", "host", "device")
PARTS = ("waiting", "step", "evaluation", "checkpoint", "other")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "torch", "pillow")

Seconds = dict[str, float]  # of all counted epochs: each of PARTS, and "all"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    all_registries()
    parallel.remember_compilations()
    environment.choose_fusions()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        config = config_of(options, folder)
        builder = prepare_dataset(config)
        splits = {part: open_split(builder, part) for part in ("training", "validation")}
        numbers = iter(range(1 << 30))
        work: dict[str, Callable[[], Seconds]] = {
            f"affect_jax, cache {cache}": functools.partial(ours, config, cache, folder, numbers)
            for cache in options.caches
        }
        settings: dict[str, Any] = {}
        if installed("torch"):
            peer = Peer(options, splits, folder)
            settings = peer.settings
            work[PEER] = peer.run
        runs = recording.take_turns(work, options.rounds)
    whole = len(splits["training"]) // options.batch_size * options.batch_size
    faces = options.epochs * options.passes * whole
    passes = f"{options.passes} x " if options.passes > 1 else ""
    device = jax.devices()[0]
    recording.keep(
        "epoch",
        what=f"Seconds of an epoch of {passes}{whole:,} faces, {options.network}, "
        f"{options.type}, batch {options.batch_size}; the peer's settings: {settings}",
        options=options,
        rows=summary(runs, options.epochs, faces),
        runs=runs,
        packages=PACKAGES,
        accelerator="" if device.platform == "cpu" else device.device_kind,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--data", default="synthetic_faces", help="a data set's name")
    found.add_argument("--manual_dir", default="", help="its release")
    found.add_argument("--num_faces", type=int, default=2048, help="of synthetic_faces")
    found.add_argument("--num_validation", type=int, help="faces; default: a sixteenth as many")
    found.add_argument("--passes", type=int, default=1, help="over the faces, of an epoch")
    found.add_argument("--network", default="alexnet", choices=("alexnet", "resnet18"))
    found.add_argument("--type", default="float32", choices=("float32", "bfloat16"))
    found.add_argument("--width", type=int, help="of alexnet's classifier, instead of 4096")
    found.add_argument("--image_size", type=int, default=256)
    found.add_argument("--crop_size", type=int, default=224)
    found.add_argument("--batch_size", type=int, default=64)
    found.add_argument("--epochs", type=int, default=2, help="that count, after the first")
    found.add_argument("--log_every", type=int, default=50)
    found.add_argument("--caches", nargs="+", default=list(CACHES), choices=CACHES)
    found.add_argument("--workers", type=int, nargs="+", default=sorted({0, 2, cores()}))
    found.add_argument("--compile", type=int, default=1, help="0: PyTorch is not compiled")
    quick = {"num_faces": 16, "image_size": 72, "crop_size": 67, "batch_size": 8, "epochs": 1}
    quick |= {"caches": ["none"], "workers": [0], "compile": 0, "log_every": 1, "width": 16}
    return recording.parse(found, arguments, quick)


def config_of(options: argparse.Namespace, folder: pathlib.Path) -> Config:
    """The protocol's config with the options, evaluated and saved after each epoch."""
    config = defaults()
    config.data.name, config.data.manual_dir = options.data, options.manual_dir
    config.data.data_dir = str(folder / "data")
    config.data.image_size, config.data.crop_size = options.image_size, options.crop_size
    if options.data == "synthetic_faces":
        validation = options.num_validation or max(8, options.num_faces // 16)
        sizes = {"num_training": options.num_faces, "num_validation": validation}
        config.data.options = sizes | {"skew": "balanced"}
    config.trunk, config.dtype = peers.trunk(options.network, options.width), options.type
    config.batch_size = config.evaluation.batch_size = options.batch_size
    every = {"epochs": float(options.passes), "steps": 0}
    config.evaluate_every = config.checkpoint.every = config.images_every = every
    config.duration = {"epochs": float((1 + options.epochs) * options.passes), "steps": 0}
    config.log_every = options.log_every
    return config


def ours(config: Config, cache: str, folder: pathlib.Path, numbers: Iterator[int]) -> Seconds:
    """Trains a network of its own and takes its time apart."""
    config = from_dict(to_dict(config))
    config.data.cache = cache
    workdir = Workdir(folder / f"run{next(numbers)}")
    workdir.create()
    workdir.save_config(to_dict(config))
    with contextlib.redirect_stdout(io.StringIO()):  # the table of its scores
        train_and_evaluate(config, workdir)
    return split_of(workdir.path / "metrics.jsonl", config.batch_size, time.time())


def split_of(path: pathlib.Path, batch_size: int, end: float) -> Seconds:
    """Where the time went from the first checkpoint to the end of a run.

    **Arguments:**

    - `path`: the run's `metrics.jsonl`.
    - `end`: when the last checkpoint was written, by the clock of the lines' `time`.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = next(line for line in lines if "time.save_seconds" in line)
    found = dict.fromkeys(PARTS, 0.0) | {"all": end - first["time"]}
    step = first["step"]
    for line in lines:
        if line["step"] <= first["step"]:
            continue
        if "train.images_per_second" in line:
            seconds = (line["step"] - step) * batch_size / line["train.images_per_second"]
            waiting = line["train.data_wait_share"] * seconds
            found["waiting"] += waiting
            found["step"] += seconds - waiting
            step = line["step"]
        for part, name in (("evaluation", "evaluate"), ("checkpoint", "save")):
            if f"time.{name}_seconds" in line:
                found[part] += line[f"time.{name}_seconds"]
    found["other"] = found["all"] - sum(found[part] for part in PARTS[:-1])
    return found


class Peer:
    """The same training in PyTorch, with the settings that are fastest here."""

    def __init__(self, options: argparse.Namespace, splits: Any, folder: pathlib.Path):
        self._options, self._folder = options, folder
        self._data = {}
        for name, split in splits.items():
            files, labels = folder / "files" / name, split.columns()["expression"]
            peer_data.write_files(peer_data.jpegs(split, range(len(split))), files)
            self._data[name] = peer_data.Faces(
                files, labels, options.crop_size, train=name == "training"
            )
        self.settings = {"workers": self._best_workers(), "compiled": self._compiles()}

    def _loader(self, name: str, workers: int, passes: int = 1) -> Any:
        """Passes over the training faces follow one another without a pause, as ours do."""
        return peer_data.loader(
            self._data[name],
            self._options.batch_size,
            workers=workers,
            passes=passes if name == "training" else None,
        )

    def _side(self, compiled: bool) -> peers.Side:
        options = self._options
        return peers.Side(
            options.network,
            dtype=options.type,
            crop_size=options.crop_size,
            compiled=compiled,
            width=options.width,
        )

    def _best_workers(self) -> int:
        """By a pass over the training faces after one that starts them."""
        if len(self._options.workers) == 1:
            return self._options.workers[0]
        seconds = {}
        for workers in self._options.workers:
            loader = self._loader("training", workers)
            next(iter(loader))
            seconds[workers] = recording.seconds_of(lambda loader=loader: list(map(len, loader)))
        return min(seconds, key=lambda workers: seconds[workers])

    def _compiles(self) -> bool:
        """Whether a step of the compiled network is faster."""
        if not self._options.compile:
            return False
        size = self._options.crop_size
        images = peers.normalized(np.zeros((self._options.batch_size, size, size, 3), np.uint8))
        labels = peers.torch().zeros(len(images), dtype=peers.torch().int64, device=images.device)

        def steps(side: peers.Side, count: int) -> None:
            for _ in range(count):
                side.update(images, labels)
            peers.synchronize()

        seconds = []
        for compiled in (False, True):
            side = self._side(compiled)
            try:
                steps(side, 2)
            except Exception as error:  # no compiler, say
                print(f"PyTorch is not compiled: {first_line(error)}")
                return False
            seconds.append(recording.seconds_of(functools.partial(steps, side, 3)))
        return seconds[1] < seconds[0]

    def run(self) -> Seconds:
        """As `ours`: one epoch that does not count, then those that do."""
        side = self._side(self.settings["compiled"])
        workers, passes = self.settings["workers"], self._options.passes
        loaders = {name: self._loader(name, workers, passes) for name in self._data}
        found: Seconds = {}
        begin = 0.0
        for epoch in range(1 + self._options.epochs):
            if epoch < 2:
                found = dict.fromkeys(PARTS, 0.0)
            if epoch == 1:
                begin = time.perf_counter()
            self._epoch(side, loaders, found)
        found["all"] = time.perf_counter() - begin
        found["other"] = found["all"] - sum(found[part] for part in PARTS[:-1])
        return found

    def _epoch(self, side: peers.Side, loaders: dict[str, Any], found: Seconds) -> None:
        torch, now = peers.torch(), time.perf_counter
        mark = now()
        with (self._folder / "peer.log").open("a") as log:
            for step, (images, labels) in enumerate(loaders["training"], 1):
                found["waiting"] += now() - mark
                mark = now()
                side.update(peers.normalized(images), labels.to(peers.device(), non_blocking=True))
                if step % self._options.log_every == 0:
                    peers.synchronize()
                    print(step, now(), file=log, flush=True)
                found["step"] += now() - mark
                mark = now()
            peers.synchronize()
            hits = [
                side.predict(peers.normalized(images)).argmax(1).cpu() == labels
                for images, labels in loaders["validation"]
            ]
            print(float(torch.cat(hits).float().mean()), file=log, flush=True)
        found["evaluation"] += now() - mark
        mark = now()
        state = {"network": side.network.state_dict(), "optimizer": side.optimizer.state_dict()}
        torch.save(state, self._folder / "peer.pt")
        found["checkpoint"] += now() - mark


def summary(runs: dict[str, list[Seconds]], epochs: int, faces: int) -> list[dict[str, Any]]:
    """One row a contender: the median run's seconds, and where they went."""
    rows = []
    for name, several in runs.items():
        one = sorted(several, key=lambda seconds: seconds["all"])[len(several) // 2]
        row = {"contender": name, "seconds an epoch": one["all"] / epochs}
        row["faces/s"] = round(faces / one["all"])
        row |= {part: f"{one[part] / one['all']:.1%}" for part in PARTS}
        if PEER in runs:
            theirs = [seconds["all"] for seconds in runs[PEER]]
            row["faster than PyTorch by"] = recording.times(
                theirs, [seconds["all"] for seconds in several]
            )
        rows.append(row)
    return rows


if __name__ == "__main__":
    environment.use_huge_pages()
    main()
