"""Measures the training schedule of the protocol on one GPU.

    python -m benchmarks.gpu
    python -m benchmarks.step --types bfloat16 float32 --batch 256    # its steps, beside PyTorch

The schedule is that of the protocol: 20 epochs of 287,651 faces in batches of 256, an evaluation of
4,000 faces after each. The faces are random bytes, 256 x 256, all in GPU memory (fewer if it is too
small), and the updates are those of a run with `data.cache=device`: rows of shuffled batches, ten
updates a dispatch. One epoch is measured and multiplied.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".95")

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core import parallel
from affect_jax.core.batch import make_targets
from affect_jax.core.errors import first_line
from affect_jax.core.labels import TRAINING_COUNTS
from affect_jax.models.network import predict_step
from affect_jax.train.device_feeds import MAX_STEPS_PER_DISPATCH
from affect_jax.train.experiment import Experiment, create_experiment, load_registries
from affect_jax.train.state import create_state, eval_variables
from affect_jax.train.step import create_train_step
from benchmarks import harness, step

FACES, EPOCHS = sum(TRAINING_COUNTS[:8]), 20  # the schedule of the protocol
VALIDATION_FACES = 4_000
TARGET_MINUTES = {"alexnet": "< 2", "resnet18": "< 4"}  # of the schedule on an H100
PRODUCTS_PER_SYNC = 10  # waiting after each product would leave the GPU idle


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        networks=(("alexnet", "resnet18", "alexnet_one_tower"), ("alexnet",)),
        faces=(FACES, 24, "in GPU memory"),
        image_size=(256, 67),
        crop_size=(224, 67),
        batch_size=(256, 4),
        width=harness.WIDTH,
        dispatches=(FACES // 256 // MAX_STEPS_PER_DISPATCH, 1, "of ten updates, measured"),
        matrix_size=(8192, 256, "of the product that measures the peak"),
    )
    if jax.default_backend() == "cpu" and not args.quick:
        raise SystemExit("JAX finds no GPU; --quick tests the command on a CPU")
    load_registries()
    peak_flops = measure_peak_flops(args.matrix_size)
    runs: dict[str, dict[str, float]] = {}
    for name in args.networks:
        try:
            runs[name] = measure_schedule(name, args)
        except Exception as error:  # out of memory; the other networks may fit
            print(f"skipped: {name}: {first_line(error)}", file=sys.stderr)
            continue
        harness.write_result(  # after each network: the next one may run out of time
            "gpu",
            what=f"The schedule in bfloat16, batches of {args.batch_size}: {EPOCHS} epochs of "
            f"{FACES:,} faces; the peak is that of a product of bfloat16 matrices, "
            f"{peak_flops / 1e12:.0f} TFLOP/s",
            args=args,
            rows=[create_row(name, run, peak_flops, args) for name, run in runs.items()],
            runs=runs,
            accelerator=jax.devices()[0].device_kind,
        )


def measure_schedule(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Measures the updates of one epoch and one evaluation."""
    targets = make_targets({"expression": np.arange(num_faces_held(args)) % 8})
    config = step.create_config((name, "bfloat16", args.batch_size, "train"), args)
    experiment = create_experiment(config, targets, steps_per_epoch=FACES // args.batch_size)
    flops = count_training_flops(experiment)
    train_steps = create_train_step(experiment, resident=True)
    num_faces = len(targets["expression"])
    faces, labels = random_faces(num_faces, args), parallel.replicate(targets)
    state = parallel.replicate(create_state(experiment))
    num_rows = (args.dispatches + 1) * MAX_STEPS_PER_DISPATCH * args.batch_size
    rows = np.random.default_rng(0).permutation(np.resize(np.arange(num_faces), num_rows))
    rows = rows.astype(np.int32).reshape(-1, MAX_STEPS_PER_DISPATCH, args.batch_size)
    state, _ = train_steps(state, faces, labels, parallel.replicate(rows[-1]))  # compiles

    def train() -> None:
        nonlocal state
        for dispatch in range(args.dispatches):
            state, metrics = train_steps(state, faces, labels, parallel.replicate(rows[dispatch]))
            if dispatch % 5 == 4:  # as often as a run logs
                jax.block_until_ready(metrics)
        jax.block_until_ready(state)

    predict = parallel.parallelize_per_device(functools.partial(predict_step, experiment))
    batch = {"image": faces[:, : args.batch_size // len(faces)]}
    batch["valid"] = jnp.ones(batch["image"].shape[:2], bool)

    def evaluate() -> None:
        variables = eval_variables(state)
        num_batches = -(-VALIDATION_FACES // args.batch_size)
        jax.block_until_ready([predict(variables, batch) for _ in range(num_batches)])

    jax.block_until_ready(predict(eval_variables(state), batch))  # compiles
    steps = args.dispatches * MAX_STEPS_PER_DISPATCH
    return {
        "seconds_a_step": harness.measure_seconds(train) / steps,
        "seconds_an_evaluation": 0.0 if args.quick else harness.measure_seconds(evaluate),
        "faces_held": num_faces,
        "steps": steps,
        "flops_of_an_image": flops,
    }


def num_faces_held(args: argparse.Namespace) -> int:
    """Returns how many faces fit in GPU memory beside a step with batches of 256."""
    free = parallel.free_device_bytes()
    held = args.faces if free is None else (free - (6 << 30)) // (3 * args.image_size**2)
    return min(args.faces, held)


def random_faces(count: int, args: argparse.Namespace) -> jax.Array:
    """Creates uint8 [D, count / D, S, S, 3] on the devices: the same random batch repeated."""
    batch, _ = step.random_faces(args.batch_size, args.image_size)
    count //= jax.local_device_count()

    def pieces(_: int) -> Any:
        for first in range(0, count, len(batch)):
            yield first, batch[: count - first]

    return parallel.create_device_array((count, args.image_size, args.image_size, 3), pieces)


def measure_peak_flops(size: int) -> float:
    """Returns the FLOP/s of a product of two random bfloat16 matrices: the best of ten runs."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)

    def multiply() -> None:
        jax.block_until_ready([product(matrix, matrix) for _ in range(PRODUCTS_PER_SYNC)])

    multiply()
    seconds = min(harness.measure_seconds(multiply) for _ in range(10))
    return 2 * size**3 * PRODUCTS_PER_SYNC / seconds


def count_training_flops(experiment: Experiment) -> float:
    """Returns the FLOPs of training with one image as XLA counts them, without padding."""
    with jax.default_device(jax.devices("cpu")[0]):  # the client of a GPU counts no FLOPs
        return _count_training_flops(experiment)


def _count_training_flops(experiment: Experiment) -> float:
    state = create_state(experiment)
    images = jnp.zeros((1, experiment.crop_size, experiment.crop_size, 3), experiment.dtype)

    def total(params: Any) -> jax.Array:
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs = experiment.model.apply(variables, images, train=False)
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(outputs)), jnp.zeros(()))

    cost: Any = jax.jit(jax.grad(total)).lower(state.params["model"]).cost_analysis()
    return cost["flops"]


def create_row(
    name: str, run: dict[str, float], peak_flops: float, args: argparse.Namespace
) -> dict[str, Any]:
    steps_per_epoch = FACES // args.batch_size
    seconds = steps_per_epoch * run["seconds_a_step"] + run["seconds_an_evaluation"]
    flops = run["flops_of_an_image"] * args.batch_size / run["seconds_a_step"]
    return {
        "network": name,
        "ms of an update": 1000 * run["seconds_a_step"],
        "images/s": args.batch_size / run["seconds_a_step"],
        "of the peak": f"{flops / peak_flops:.1%}",
        f"minutes of {EPOCHS} epochs": EPOCHS * seconds / 60,
        "wanted": TARGET_MINUTES.get(name, ""),
    }


if __name__ == "__main__":
    main()
