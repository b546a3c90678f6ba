"""Measures training and evaluation steps, compared with PyTorch and Keras on JAX (ResNet18).

    python -m benchmarks.step                                         # batch 32; on a GPU 256
    python -m benchmarks.step --networks resnet18 --types float32 --rounds 3
    python -m benchmarks.step --batches 256 512 1024                  # on a GPU
    taskset -c 0 python -m benchmarks.step --clock processor          # a CPU with other work

Our steps are those of the package, from uint8 faces to the next state or to probabilities. They
include crop, mirroring, normalisation, loss, update, the averages of the log and the check for
non-finite values. The other frameworks get cropped and normalised images and keep no averages. All
inputs are in device memory. Contenders run in turns; ratios are of runs in the same round. On a
GPU, the share of the limit is the FLOP/s of the network (counted by PyTorch) / those of a large
product of bfloat16 matrices on the same GPU.
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
from affect_jax.core import env_vars, parallel
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import first_line
from affect_jax.models.predict_step import predict_step
from affect_jax.train.experiment import Experiment, create_experiment, load_registries
from affect_jax.train.state import TrainState, create_state, eval_variables
from affect_jax.train.step import train_step
from benchmarks import flops, frameworks, harness
from benchmarks.machine import is_installed

OURS, EAGER, COMPILED, KERAS = "affect_jax", "PyTorch", "PyTorch, compiled", "Keras on JAX"
NETWORKS = ("alexnet", "alexnet_one_tower", "resnet18")
TYPES = ("float32", "bfloat16")
KINDS = ("train", "eval")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision", "keras")
MARGIN = 32  # pixels by which a stored face is larger than its crop

Case = tuple[str, str, int, str]  # network, dtype, batch size, train or eval
RunSteps = Callable[[int], Any]  # runs so many steps and waits for them


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    env_vars.set_cpu_fusion_types()  # as every run does; also applies to Keras on JAX
    load_registries()
    accelerator = "" if on_cpu() else jax.devices()[0].device_kind
    peak_flops = 0.0 if on_cpu() else flops.measure_peak_flops()
    rows, runs = [], {}
    for name in args.networks:
        for dtype in args.types:
            for size in args.batches or ([32] if on_cpu() else [256]):
                for kind in args.kinds:
                    case = (name, dtype, size, kind)
                    rates = measure(case, args)
                    runs[", ".join(map(str, case))] = rates
                    rows.append(table_row(case, rates, args, peak_flops))
                    print(harness.markdown_table(rows[-1:]), flush=True)
    harness.write_result(
        "step" if on_cpu() else "step_gpu",
        what="Images/s of one step; 'to' a peer: how many times its images/s",
        args=args,
        rows=rows,
        runs=runs | ({"bfloat16 product, FLOP/s": peak_flops} if peak_flops else {}),
        packages=PACKAGES,
        accelerator=accelerator,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--types", nargs="+", default=list(TYPES), choices=TYPES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--batches", nargs="+", type=int, help="default: 32, on a GPU 256")
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--width", type=int, help="of the classifier of alexnet, instead of 4096")
    parser.add_argument("--steps", type=int, default=5, help="per contender and round")
    harness.add_clock_argument(parser)
    peer_names = [EAGER, COMPILED, KERAS]
    parser.add_argument("--peers", nargs="*", default=peer_names, choices=peer_names)
    quick = {"networks": ["alexnet"], "types": ["float32"], "batches": [4], "crop_size": 67}
    return harness.parse_args(parser, argv, quick | {"steps": 1, "width": 16, "peers": [EAGER]})


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def measure(case: Case, args: argparse.Namespace) -> harness.Runs:
    """Returns images/s of every contender in every round."""
    prepared: dict[str, RunSteps] = {}
    batch_size = case[2]
    for contender, create in create_contenders(case, args).items():
        if contender != OURS and contender not in args.peers:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the other frameworks' internals
                run_steps = create()
                run_steps(2)  # compiles
        except Exception as error:  # a missing compiler, for example
            if contender == OURS:
                raise
            print(f"skipped: {contender}, {case}: {first_line(error)}")
            continue
        prepared[contender] = run_steps

    def images_per_second(run_steps: RunSteps) -> float:
        run_steps(1)  # refills caches and memory that were freed during the other turns
        work = functools.partial(run_steps, args.steps)
        return batch_size * args.steps / harness.measure_seconds(work, args.clock)

    contenders = {
        name: functools.partial(images_per_second, run_steps)
        for name, run_steps in prepared.items()
    }
    return harness.run_interleaved(contenders, args.rounds)


def create_contenders(case: Case, args: argparse.Namespace) -> dict[str, Callable[[], RunSteps]]:
    """Returns name -> function that creates the contender."""
    name, dtype, batch_size, kind = case
    crop_size = args.crop_size
    faces, labels, crops = random_batch(batch_size, crop_size)
    contenders: dict[str, Callable[[], RunSteps]] = {
        OURS: lambda: our_steps(case, args, faces, labels),
    }
    if is_installed("torch"):
        for contender, compiled in ((EAGER, False), (COMPILED, True)):
            create = functools.partial(
                frameworks.TorchTrainer,
                name,
                dtype=dtype,
                crop_size=crop_size,
                width=args.width,
                compiled=compiled,
            )
            contenders[contender] = functools.partial(torch_steps, create, kind, crops, labels)
    if is_installed("keras") and name == "resnet18":
        contenders[KERAS] = lambda: keras_steps(dtype, crop_size, kind, crops, labels)
    return contenders


def random_batch(batch_size: int, crop_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns faces uint8 [B, S, S, 3], labels [B] and crops uint8 [B, c, c, 3]."""
    random, image_size = np.random.default_rng(0), crop_size + MARGIN
    faces = random.integers(0, 256, (batch_size, image_size, image_size, 3), np.uint8)
    labels = random.integers(0, 8, batch_size)
    return faces, labels, np.ascontiguousarray(faces[:, :crop_size, :crop_size])


def our_steps(
    case: Case,
    args: argparse.Namespace,
    faces: np.ndarray,
    labels: np.ndarray,
) -> RunSteps:
    experiment, state, batch = create_on_devices(case, args, faces, labels)
    if case[3] == "train":
        update = parallel.parallelize(functools.partial(train_step, experiment))

        def train(steps: int) -> None:
            nonlocal state
            for _ in range(steps):
                state, _ = update(state, batch)
            jax.block_until_ready(state)

        return train
    predict = parallel.parallelize_per_device(functools.partial(predict_step, experiment))
    variables = eval_variables(state)
    images = {name: batch[name] for name in ("image", "valid")}

    def evaluate(steps: int) -> None:
        jax.block_until_ready([predict(variables, images) for _ in range(steps)])

    return evaluate


def create_on_devices(
    case: Case,
    args: argparse.Namespace,
    faces: np.ndarray,
    labels: np.ndarray,
) -> tuple[Experiment, TrainState, dict[str, jax.Array]]:
    """Returns an experiment, and a new state and a batch in device memory."""
    targets = make_targets({"expression": labels})
    experiment = create_experiment(create_config(case, args), targets, steps_per_epoch=1000)
    batch = take_rows(targets, np.arange(case[2])) | {"image": faces}
    batch = parallel.shard(split_for_devices(batch, jax.local_device_count()))
    return experiment, parallel.replicate(create_state(experiment)), batch


def create_config(case: Case, args: argparse.Namespace) -> Config:
    """Returns the config of the protocol with the network of the case."""
    name, dtype, batch_size, _ = case
    config = defaults()
    config.trunk = frameworks.trunk_spec(name, args.width)
    config.dtype, config.batch_size = dtype, batch_size
    config.data.crop_size = args.crop_size
    return config


def torch_steps(
    create: Callable[[], frameworks.TorchTrainer], kind: str, crops: np.ndarray, labels: np.ndarray
) -> RunSteps:
    trainer, images = create(), frameworks.normalize_images(crops)
    classes = frameworks.torch().as_tensor(labels, device=frameworks.torch_device())

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            trainer.train_step(images, classes) if kind == "train" else trainer.predict(images)
        frameworks.synchronize()

    return run_steps


def keras_steps(
    dtype: str, crop_size: int, kind: str, crops: np.ndarray, labels: np.ndarray
) -> RunSteps:
    model = frameworks.create_keras_resnet18(dtype=dtype, crop_size=crop_size)
    images, classes = jnp.asarray(frameworks.normalize_arrays(crops)), jnp.asarray(labels)

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            if kind == "train":
                model.train_on_batch(images, classes)
            else:
                model.predict_on_batch(images)

    return run_steps


def table_row(
    case: Case,
    rates: harness.Runs,
    args: argparse.Namespace,
    peak_flops: float,
) -> dict[str, Any]:
    """Returns a row of the table: medians of images/s and of ratios."""
    name, dtype, batch_size, kind = case
    row = {"network": name, "type": dtype, "batch": batch_size, "step": kind}
    row[OURS] = statistics.median(rates[OURS])
    for peer in (EAGER, COMPILED, KERAS):
        if peer in rates:
            row[peer] = statistics.median(rates[peer])
            row[f"to {peer}"] = harness.format_ratio(rates[OURS], rates[peer])
    if peak_flops and is_installed("torch"):
        step_flops = flops.count_flops(
            name, crop_size=args.crop_size, training=kind == "train", width=args.width
        )
        row["of the limit"] = f"{step_flops * row[OURS] / peak_flops:.1%}"
    return row


if __name__ == "__main__":
    main()
