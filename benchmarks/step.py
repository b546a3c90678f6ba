"""How fast a network is trained and applied, beside PyTorch and, for ResNet18, Keras on JAX.

    python -m benchmarks.step                                         # batch 32; on a GPU 256
    python -m benchmarks.step --networks resnet18 --types float32 --rounds 3
    python -m benchmarks.step --batches 256 512 1024                  # on a GPU
    taskset -c 0 python -m benchmarks.step --clock processor          # a CPU with other work

Ours are the package's own steps, from uint8 faces to the next state or to probabilities: crop,
mirroring, normalisation, loss, update, the log's averages and the check for what is not finite are
inside. The peers get images that are already cut and normalised, and keep no averages. All of a
step's inputs are in the device's memory, so nothing is loaded. Contenders take turns; ratios are
of runs in the same round. On a GPU the share of the limit stands beside: operations of the network
(PyTorch counts them) a second, over those of a large product of bfloat16 matrices measured there.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.config import Config, defaults
from affect_jax.core import environment, parallel
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import first_line
from affect_jax.models.predict_step import predict_step
from affect_jax.train.experiment import Experiment, all_registries, create_experiment
from affect_jax.train.state import TrainState, create_state, eval_variables
from affect_jax.train.step import train_step
from benchmarks import limits, peers, recording
from benchmarks.machine import installed

OURS, EAGER, COMPILED, KERAS = "affect_jax", "PyTorch", "PyTorch, compiled", "Keras on JAX"
NETWORKS = ("alexnet", "alexnet_one_tower", "resnet18")
TYPES = ("float32", "bfloat16")
KINDS = ("train", "eval")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision", "keras")
MARGIN = 32  # pixels by which a stored face is larger than its crop

Take = Callable[[int], Any]  # does that many steps and waits for them


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    environment.choose_fusions()  # as every run does; Keras on JAX has the same then
    all_registries()
    accelerator = "" if on_cpu() else jax.devices()[0].device_kind
    peak = 0.0 if on_cpu() else limits.peak()
    rows, runs = [], {}
    for name in options.networks:
        for dtype in options.types:
            for size in options.batches or ([32] if on_cpu() else [256]):
                for kind in options.kinds:
                    case = (name, dtype, size, kind)
                    rates = measure(case, options)
                    runs[", ".join(map(str, case))] = rates
                    rows.append(row_of(case, rates, options, peak))
                    print(recording.table(rows[-1:]), flush=True)
    recording.keep(
        "step" if on_cpu() else "step_gpu",
        what="Images/s of one step; 'to' a peer: how many times its images/s",
        options=options,
        rows=rows,
        runs=runs | ({"bfloat16 product, FLOP/s": peak} if peak else {}),
        packages=PACKAGES,
        accelerator=accelerator,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    found.add_argument("--types", nargs="+", default=list(TYPES), choices=TYPES)
    found.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    found.add_argument("--batches", nargs="+", type=int, help="default: 32, on a GPU 256")
    found.add_argument("--crop_size", type=int, default=224)
    found.add_argument("--width", type=int, help="of alexnet's classifier, instead of 4096")
    found.add_argument("--steps", type=int, default=5, help="of each contender, each round")
    recording.add_clock(found)
    known = [EAGER, COMPILED, KERAS]
    found.add_argument("--peers", nargs="*", default=known, choices=known)
    quick = {"networks": ["alexnet"], "types": ["float32"], "batches": [4], "crop_size": 67}
    return recording.parse(found, arguments, quick | {"steps": 1, "width": 16, "peers": [EAGER]})


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def measure(case: tuple[str, str, int, str], options: argparse.Namespace) -> recording.Runs:
    """Images/s of every contender in every round."""
    takes: dict[str, Take] = {}
    size = case[2]
    for contender, create in contenders(case, options).items():
        if contender != OURS and contender not in options.peers:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the peers' remarks on their own insides
                take = create()
                take(2)  # compiles
        except Exception as error:  # a compiler that is missing, say
            if contender == OURS:
                raise
            print(f"left out: {contender}, {case}: {first_line(error)}")
            continue
        takes[contender] = take

    def rate(take: Take) -> float:
        take(1)  # the other's turn took the caches, and let the system take the freed memory
        work = functools.partial(take, options.steps)
        return size * options.steps / recording.seconds_of(work, options.clock)

    turns = {name: functools.partial(rate, take) for name, take in takes.items()}
    return recording.take_turns(turns, options.rounds)


def contenders(
    case: tuple[str, str, int, str], options: argparse.Namespace
) -> dict[str, Callable[[], Take]]:
    """What makes each contender, by name."""
    name, dtype, size, kind = case
    crop_size = options.crop_size
    faces, labels, cut = random_batch(size, crop_size)
    found: dict[str, Callable[[], Take]] = {
        OURS: lambda: ours(case, options, faces, labels),
    }
    if installed("torch"):
        for contender, compiled in ((EAGER, False), (COMPILED, True)):
            create = functools.partial(
                peers.Side,
                name,
                dtype=dtype,
                crop_size=crop_size,
                width=options.width,
                compiled=compiled,
            )
            found[contender] = functools.partial(in_torch, create, kind, cut, labels)
    if installed("keras") and name == "resnet18":
        found[KERAS] = lambda: in_keras(dtype, crop_size, kind, cut, labels)
    return found


def random_batch(size: int, crop_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stored faces uint8 [B, S, S, 3], labels [B], and the faces as the peers get them."""
    random, side = np.random.default_rng(0), crop_size + MARGIN
    faces = random.integers(0, 256, (size, side, side, 3), np.uint8)
    labels = random.integers(0, 8, size)
    return faces, labels, np.ascontiguousarray(faces[:, :crop_size, :crop_size])


def ours(
    case: tuple[str, str, int, str],
    options: argparse.Namespace,
    faces: np.ndarray,
    labels: np.ndarray,
) -> Take:
    compiled, state, batch = placed(case, options, faces, labels)
    if case[3] == "train":
        update = parallel.on_devices(functools.partial(train_step, compiled))

        def train(count: int) -> None:
            nonlocal state
            for _ in range(count):
                state, _ = update(state, batch)
            jax.block_until_ready(state)

        return train
    predict = parallel.map_devices(functools.partial(predict_step, compiled))
    variables = eval_variables(state)
    images = {name: batch[name] for name in ("image", "valid")}

    def evaluate(count: int) -> None:
        jax.block_until_ready([predict(variables, images) for _ in range(count)])

    return evaluate


def placed(
    case: tuple[str, str, int, str],
    options: argparse.Namespace,
    faces: np.ndarray,
    labels: np.ndarray,
) -> tuple[Experiment, TrainState, dict[str, jax.Array]]:
    """A program, and a fresh state and a batch in the devices' memory."""
    targets = make_targets({"expression": labels})
    compiled = create_experiment(config_of(case, options), targets, steps_per_epoch=1000)
    batch = take_rows(targets, np.arange(case[2])) | {"image": faces}
    split = parallel.shard(split_for_devices(batch, jax.local_device_count()))
    return compiled, parallel.replicate(create_state(compiled)), split


def config_of(case: tuple[str, str, int, str], options: argparse.Namespace) -> Config:
    """The protocol's config with another network."""
    name, dtype, size, _ = case
    config = defaults()
    config.trunk = peers.trunk(name, options.width)
    config.dtype, config.batch_size = dtype, size
    config.data.crop_size = options.crop_size
    return config


def in_torch(
    create: Callable[[], peers.Side], kind: str, cut: np.ndarray, labels: np.ndarray
) -> Take:
    side, images = create(), peers.normalized(cut)
    classes = peers.torch().as_tensor(labels, device=peers.device())

    def take(count: int) -> None:
        for _ in range(count):
            side.update(images, classes) if kind == "train" else side.predict(images)
        peers.synchronize()

    return take


def in_keras(dtype: str, crop_size: int, kind: str, cut: np.ndarray, labels: np.ndarray) -> Take:
    model = peers.keras_resnet18(dtype=dtype, crop_size=crop_size)
    images, classes = jnp.asarray(peers.float_images(cut)), jnp.asarray(labels)

    def take(count: int) -> None:
        for _ in range(count):
            if kind == "train":
                model.train_on_batch(images, classes)
            else:
                model.predict_on_batch(images)

    return take


def row_of(
    case: tuple[str, str, int, str],
    rates: recording.Runs,
    options: argparse.Namespace,
    peak: float,
) -> dict[str, Any]:
    """One row of the table: medians of images/s and of ratios."""
    name, dtype, size, kind = case
    row = {"network": name, "type": dtype, "batch": size, "step": kind}
    row[OURS] = statistics.median(rates[OURS])
    for peer in (EAGER, COMPILED, KERAS):
        if peer in rates:
            row[peer] = statistics.median(rates[peer])
            row[f"to {peer}"] = recording.times(rates[OURS], rates[peer])
    if peak and installed("torch"):
        operations = limits.operations(
            name, crop_size=options.crop_size, training=kind == "train", width=options.width
        )
        row["of the limit"] = f"{operations * row[OURS] / peak:.1%}"
    return row


if __name__ == "__main__":
    environment.use_huge_pages()
    main()
