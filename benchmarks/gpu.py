"""Measures steps and the training schedule of the protocol on one GPU.

    python -m benchmarks.gpu            # prints one table; ends within eight minutes
    python -m benchmarks.gpu --quick    # on any machine, tiny, to test the command

Steps are measured as in `benchmarks.step`. The schedule is that of the protocol: 20 epochs of
287,651 faces in batches of 256, an evaluation of 4,000 faces after each. The faces are random
bytes, 256 x 256, all in GPU memory (fewer if it is too small), and the updates are those of a run
with `data.cache=device`: rows of shuffled batches, ten updates a dispatch. One epoch is measured
and multiplied. The PyTorch value is its step alone, without data loading, times the same number of
steps.

Each part runs in its own process, with the GPU memory to itself, until a deadline. Measurements
made before the deadline are used. A measurement that fails is logged and skipped.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core import parallel
from affect_jax.core.batch import make_targets
from affect_jax.core.errors import first_line
from affect_jax.core.labels import TRAINING_COUNTS
from affect_jax.models.network import predict_step
from affect_jax.train.device_feeds import MAX_STEPS_PER_DISPATCH
from affect_jax.train.experiment import create_experiment, load_registries
from affect_jax.train.state import create_state, eval_variables
from affect_jax.train.step import create_train_step
from benchmarks import harness, step, torch_peer
from benchmarks.step import COMPILED, EAGER, OURS, Case

FACES, EPOCHS = sum(TRAINING_COUNTS[:8]), 20  # the schedule of the protocol
VALIDATION_FACES = 4_000
IMAGE_SIZE, BATCH_SIZE = 256, 256
TARGET_MINUTES = {"alexnet": 2.0, "resnet18": 4.0}  # of the schedule on an H100
CASES = tuple(
    (name, dtype, size)
    for dtype, size in (("bfloat16", 256), ("bfloat16", 1024), ("float32", 256))
    for name in ("alexnet", "resnet18", "alexnet_one_tower")
)
PARTS = {  # the share of `--minutes` after which each ends; GPU memory settings of JAX
    "schedule": (0.45, {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".95"}),
    "steps": (1.0, {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),  # PyTorch shares the GPU
}
MATRIX_SIZE = 8192  # of the product that measures the peak: launch overhead does not matter
PRODUCTS_PER_SYNC = 10  # waiting after each product would leave the GPU idle

Emit = Callable[[dict[str, Any]], Any]  # saves one measurement


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.child_part:  # in a child process
        with args.child_lines.open("a") as file:
            measure(
                args.child_part,
                args,
                lambda measurement: print(json.dumps(measurement), file=file, flush=True),
            )
        return
    measurements: list[dict[str, Any]] = []
    start = time.time()
    for part, (share, _) in PARTS.items():
        if args.quick:
            measure(part, args, measurements.append)
        else:
            measurements += measure_in_process(part, argv, start + 60 * share * args.minutes)
    if not any(measurement["part"] in PARTS for measurement in measurements):
        raise SystemExit("nothing was measured; see the lines above")
    harness.write_result(
        "gpu",
        what=f"Steps in images/s; the schedule in minutes, {EPOCHS} epochs of {FACES:,} faces",
        args=args,
        rows=table_rows(measurements),
        runs=measurements,
        accelerator=next(line["name"] for line in measurements if line["part"] == "device"),
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=7.5, help="time limit of all parts")
    parser.add_argument(
        "--networks", nargs="+", default=["alexnet", "resnet18", "alexnet_one_tower"]
    )
    parser.add_argument("--faces", type=int, default=FACES, help="in GPU memory")
    parser.add_argument("--batch_size", type=int, help="instead of 256 and 1024")
    parser.add_argument("--steps", type=int, default=20, help="per contender and round")
    parser.add_argument("--dispatches", type=int, help="of ten updates; default: one epoch")
    parser.add_argument("--child_part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--child_lines", type=pathlib.Path, help=argparse.SUPPRESS)
    step.add_network_arguments(parser)
    parser.set_defaults(clock="wall")
    quick = {"networks": ["alexnet"], "faces": 24, "crop_size": 67, "batch_size": 4, "width": 16}
    return harness.parse_args(parser, argv, quick | {"steps": 1, "dispatches": 1, "peers": [EAGER]})


def measure_in_process(
    part: str, argv: Sequence[str] | None, deadline: float
) -> list[dict[str, Any]]:
    """Runs a part in a child process and returns its measurements up to the deadline."""
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder) / "lines"
        command = [sys.executable, "-m", "benchmarks.gpu"]
        command += sys.argv[1:] if argv is None else list(argv)
        command += [f"--child_part={part}", f"--child_lines={lines}"]
        try:
            subprocess.run(
                command,
                env=os.environ | PARTS[part][1],
                cwd=harness.FOLDER.parent,
                timeout=max(1.0, deadline - time.time()),
            )
        except subprocess.TimeoutExpired:
            print(f"{part}: stopped at the deadline", file=sys.stderr)
        return (
            [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        )


def measure(part: str, args: argparse.Namespace, emit: Emit) -> None:
    """Runs one of `PARTS`, and emits each measurement as soon as it is made."""
    if jax.default_backend() == "cpu" and not args.quick:
        raise SystemExit("JAX sees no GPU; use --quick to test the command on a CPU")
    load_registries()
    emit({"part": "device", "name": jax.devices()[0].device_kind})
    if part == "steps":
        measure_steps(args, emit)
        return
    for name in (name for name in args.networks if name in TARGET_MINUTES):
        gc.collect()  # frees the faces of the previous network
        try:
            emit({"part": part, "network": name} | measure_schedule(name, args))
        except Exception as error:  # out of memory
            print(f"skipped: schedule, {name}: {first_line(error)}", file=sys.stderr)


def measure_steps(args: argparse.Namespace, emit: Emit) -> None:
    """Emits the peak FLOP/s of the device, then images/s of training and evaluation steps."""
    emit({"part": "peak", "flops": measure_peak_flops(256 if args.quick else MATRIX_SIZE)})
    for name, dtype, batch_size in select_cases(args):
        for kind in step.KINDS:
            gc.collect()  # frees the memory of the previous case
            if torch_peer.torch_device().type == "cuda":
                torch_peer.torch().cuda.empty_cache()
            rates = step.measure((name, dtype, batch_size, kind), args)
            case = {"part": "steps", "network": name, "type": dtype, "batch": batch_size}
            num_flops = count_flops(
                name, crop_size=args.crop_size, training=kind == "train", width=args.width
            )
            emit(case | {"step": kind, "flops": num_flops, "rates": rates})


def select_cases(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Returns the (network, dtype, batch size) to measure."""
    cases = [case for case in CASES if case[0] in args.networks]
    if args.batch_size:
        cases = [(name, dtype, args.batch_size) for name, dtype, n in cases if n == BATCH_SIZE]
    return cases[:1] if args.quick else cases


def measure_schedule(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measures the updates of one epoch and one evaluation, and returns the time of all epochs."""
    case: Case = (name, "bfloat16", args.batch_size or BATCH_SIZE, "train")
    batch_size, image_size = case[2], IMAGE_SIZE if not args.quick else args.crop_size
    num_faces = min(args.faces, max_faces_in_memory(image_size))
    targets = make_targets({"expression": np.arange(num_faces) % 8})
    config = step.create_config(case, args)
    experiment = create_experiment(config, targets, steps_per_epoch=FACES // batch_size)
    train_steps = create_train_step(experiment, resident=True)
    faces, labels = random_faces(num_faces, image_size), parallel.replicate(targets)
    state = parallel.replicate(create_state(experiment))
    dispatches = args.dispatches or FACES // batch_size // MAX_STEPS_PER_DISPATCH
    num_rows = (dispatches + 1) * MAX_STEPS_PER_DISPATCH * batch_size
    rows = np.random.default_rng(0).permutation(np.resize(np.arange(num_faces), num_rows))
    rows = rows.astype(np.int32).reshape(-1, MAX_STEPS_PER_DISPATCH, batch_size)
    state, _ = train_steps(state, faces, labels, parallel.replicate(rows[-1]))  # compiles

    def train() -> None:
        nonlocal state
        for dispatch in range(dispatches):
            state, metrics = train_steps(state, faces, labels, parallel.replicate(rows[dispatch]))
            if dispatch % 5 == 4:  # as often as a run logs
                jax.block_until_ready(metrics)
        jax.block_until_ready(state)

    predict = parallel.parallelize_per_device(functools.partial(predict_step, experiment))
    eval_batch = {"image": faces[:, : batch_size // len(faces)]}
    eval_batch["valid"] = jnp.ones(eval_batch["image"].shape[:2], bool)

    def evaluate() -> None:
        variables = eval_variables(state)
        num_batches = -(-VALIDATION_FACES // batch_size)
        jax.block_until_ready([predict(variables, eval_batch) for _ in range(num_batches)])

    jax.block_until_ready(predict(eval_variables(state), eval_batch))  # compiles
    steps = dispatches * MAX_STEPS_PER_DISPATCH
    step_seconds = harness.measure_seconds(train) / steps
    eval_seconds = 0.0 if args.quick else harness.measure_seconds(evaluate)
    return {
        "seconds_a_step": step_seconds,
        "seconds_an_evaluation": eval_seconds,
        "faces_held": num_faces,
        "steps": steps,
        "minutes": EPOCHS * (FACES // batch_size * step_seconds + eval_seconds) / 60,
        "batch": batch_size,
        "type": case[1],
    }


def max_faces_in_memory(image_size: int) -> int:
    """Returns how many faces fit in GPU memory beside a step with batches of 256."""
    free = parallel.free_device_bytes()
    return FACES if free is None else max(1, (free - (6 << 30)) // (3 * image_size**2))


def random_faces(count: int, image_size: int) -> jax.Array:
    """Creates uint8 [D, count / D, S, S, 3] on the devices: the same random batch repeated."""
    batch, _ = step.random_faces(BATCH_SIZE, image_size)
    count //= jax.local_device_count()

    def pieces(_: int) -> Any:
        for first in range(0, count, BATCH_SIZE):
            yield first, batch[: count - first]

    return parallel.create_device_array((count, image_size, image_size, 3), pieces)


def measure_peak_flops(size: int) -> float:
    """Returns the FLOP/s of a product of two random bfloat16 matrices: the best of ten runs."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)

    def multiply() -> None:
        jax.block_until_ready([product(matrix, matrix) for _ in range(PRODUCTS_PER_SYNC)])

    multiply()
    seconds = min(harness.measure_seconds(multiply) for _ in range(10))
    return 2 * size**3 * PRODUCTS_PER_SYNC / seconds


def count_flops(name: str, *, crop_size: int, training: bool, width: int | None = None) -> float:
    """Returns the FLOPs of the products and convolutions of a network for one image.

    PyTorch's counter counts them. A multiply-add counts as two. With `training`, the backward pass
    counts too.
    """
    torch = torch_peer.torch()
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = torch_peer.create_network(name, crop_size=crop_size, width=width)
        images = torch.empty(2, 3, crop_size, crop_size)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.convolution_backward: convolution_gradient_flops},
    )
    with counter, torch.set_grad_enabled(training):
        outputs = network(images)
        if training:
            outputs.sum().backward()
    return counter.get_total_flops() / 2


def convolution_gradient_flops(outputs: Any, _: Any, weights: Any, *options: Any, **__: Any) -> int:
    """Returns the FLOPs of the gradients of a convolution, from shapes.

    Each gradient needs as many as the forward pass. PyTorch's own count ignores groups.
    """
    flops_per_gradient = 2 * outputs[0] * math.prod(outputs[2:]) * math.prod(weights)
    return flops_per_gradient * sum(options[-1][:2])  # mask: inputs, weights


def table_rows(measurements: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows: steps in images/s, then schedules in minutes."""

    def of_part(part: str) -> list[Mapping[str, Any]]:
        return [measurement for measurement in measurements if measurement["part"] == part]

    peak_flops = next((peak["flops"] for peak in of_part("peak")), math.inf)
    steps = [measured for measured in of_part("steps") if OURS in measured["rates"]]
    rows = [step_row(measured, peak_flops) for measured in steps]
    return rows + [schedule_row(schedule, steps) for schedule in of_part("schedule")]


def step_row(measured: Mapping[str, Any], peak_flops: float) -> dict[str, Any]:
    rates = measured["rates"]
    best = harness.fastest(rates, [name for name in rates if name != OURS])
    row = {"what": f"{measured['step']}, images/s"}
    row |= {name: measured[name] for name in ("network", "type", "batch")}
    row |= {
        name: round(statistics.median(rates[name])) if name in rates else "-"
        for name in (OURS, EAGER, COMPILED)
    }
    row["to PyTorch's best"] = harness.format_ratio(rates[OURS], rates[best]) if best else "-"
    share = measured["flops"] * statistics.median(rates[OURS]) / peak_flops
    return row | {"of the peak": f"{share:.1%}"}


def schedule_row(schedule: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the row of a schedule; PyTorch's minutes are those of its training step."""
    case = {name: schedule[name] for name in ("network", "type", "batch")}
    row = {"what": f"schedule, {EPOCHS} epochs, minutes"} | case
    row[OURS] = f"{schedule['minutes']:.2f}"
    trained = [measured for measured in steps if measured["step"] == "train"]
    rates = next((m["rates"] for m in trained if case.items() <= m.items()), {})
    images = EPOCHS * (FACES // case["batch"]) * case["batch"]
    for peer in (EAGER, COMPILED):
        minutes = images / statistics.median(rates[peer]) / 60 if peer in rates else None
        row[peer] = "-" if minutes is None else f"{minutes:.2f}"
    return row | {"wanted": f"< {TARGET_MINUTES[case['network']]:g}"}


if __name__ == "__main__":
    main()
