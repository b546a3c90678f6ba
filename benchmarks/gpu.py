"""Measures steps and the training schedule on one GPU, with few packages besides JAX and PyTorch.

    python -m benchmarks.gpu            # prints one table; ends within eight minutes
    python -m benchmarks.gpu --quick    # on any machine, tiny, to test the command

It needs jax, flax, optax, numpy and torch, see `benchmarks.minimal_step`. Steps are measured as in
`benchmarks.step`.

The schedule is that of the protocol: 20 epochs of 287,651 faces in batches of 256, an evaluation of
4,000 faces after each. The faces are random bytes, 256 x 256, all in GPU memory (fewer if it is too
small). The step gathers shuffled batches by row, ten updates a dispatch; the loss is read every
fifty updates. One epoch is measured and multiplied. The PyTorch value is its step alone, without
data loading, times the same number of steps.

Training steps are measured last with each flag of the XLA compiler, in turns with no flag.

Each part runs in its own process, with the GPU memory to itself, until a deadline. Measurements
made before the deadline are used. A measurement that fails is logged and skipped.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, frameworks, harness
from benchmarks.gpu_steps import (
    our_steps,
    prepare_rate,
    random_faces,
    run_or_skip,
    torch_steps,
)
from benchmarks.gpu_table import (
    COMPILED,
    EAGER,
    EPOCHS,
    FACES,
    OURS,
    TARGET_MINUTES,
    table_rows,
)
from benchmarks.minimal_step import MinimalExperiment, compile_on_first_device

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision")
VALIDATION_FACES = 4_000
IMAGE_SIZE, BATCH_SIZE = 256, 256
STEPS_PER_DISPATCH = 10  # as in `affect_jax.train.device_feeds`
MIN_SECONDS = 30  # no measurement starts with less time left
CASES = tuple(
    (name, dtype, size)
    for dtype, size in (("bfloat16", 256), ("bfloat16", 1024), ("float32", 256))
    for name in ("alexnet", "resnet18", "alexnet_one_tower")
)
PARTS = {  # the share of `--minutes` after which each ends; GPU memory settings of JAX
    "schedule": (0.35, {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".95"}),
    "steps": (0.9, {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),  # PyTorch shares the GPU
    "flags": (1.0, {}),
}
XLA_FLAGS = (  # candidates to measure on one GPU
    "xla_gpu_enable_latency_hiding_scheduler=true",
    "xla_gpu_experimental_enable_fusion_autotuner=true",
    "xla_gpu_enable_triton_gemm=false",
)
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
        what="Steps, also with XLA flags, in images/s; the schedule in minutes, "
        f"{EPOCHS} epochs of {FACES:,} faces",
        args=args,
        rows=table_rows(measurements),
        runs=measurements,
        packages=PACKAGES,
        accelerator=next(line["name"] for line in measurements if line["part"] == "device"),
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=7.5, help="time limit of all parts")
    parser.add_argument(
        "--networks", nargs="+", default=["alexnet", "resnet18", "alexnet_one_tower"]
    )
    parser.add_argument("--faces", type=int, default=FACES, help="in GPU memory")
    parser.add_argument("--types", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--width", type=int, help="of the classifier of alexnet, instead of 4096")
    parser.add_argument("--side", type=int, default=IMAGE_SIZE, help="size of a face in pixels")
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, help="instead of 256 and 1024")
    parser.add_argument("--steps", type=int, default=20, help="a round; fewer for batches over 256")
    parser.add_argument("--dispatches", type=int, help="of ten updates; default: one epoch")
    parser.add_argument("--peers", nargs="*", default=[EAGER, COMPILED], choices=[EAGER, COMPILED])
    parser.add_argument("--flags", nargs="*", default=list(XLA_FLAGS), help="XLA flags, NAME=VALUE")
    parser.add_argument("--child_part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--child_lines", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--child_until", type=float, default=float("inf"), help=argparse.SUPPRESS)
    quick = {"networks": ["alexnet"], "faces": 24, "side": 72, "crop_size": 67, "batch_size": 4}
    return harness.parse_args(
        parser,
        argv,
        quick
        | {"types": ["float32"], "width": 16, "steps": 1, "dispatches": 1, "peers": [EAGER]}
        | {"flags": ["xla_cpu_enable_fast_math=false"]},
    )


def measure_in_process(
    part: str, argv: Sequence[str] | None, deadline: float
) -> list[dict[str, Any]]:
    """Runs a part in a child process and returns its measurements up to the deadline."""
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder) / "lines"
        command = [sys.executable, "-m", "benchmarks.gpu"]
        command += sys.argv[1:] if argv is None else list(argv)
        command += [f"--child_part={part}", f"--child_lines={lines}", f"--child_until={deadline}"]
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
    emit({"part": "device", "name": jax.devices()[0].device_kind})
    if part == "steps":
        measure_steps(args, emit)
        return
    for name in (name for name in args.networks if name in TARGET_MINUTES):
        if part == "schedule":
            schedule = run_or_skip(f"schedule, {name}", measure_schedule, name, args)
            measurements: Iterable[dict[str, Any]] = [schedule] if schedule else []
        else:
            measurements = measure_flags(name, args)
        for measurement in measurements:
            emit({"part": part, "network": name} | measurement)


def measure_steps(args: argparse.Namespace, emit: Emit) -> None:
    """Emits the peak FLOP/s of the device, then images/s of training and evaluation steps."""
    size = 256 if args.quick else flops.MATRIX_SIZE
    peak_flops = run_or_skip("peak FLOP/s", flops.measure_peak_flops, size)
    emit({"part": "peak", "flops": peak_flops})
    count = functools.partial(flops.count_flops, crop_size=args.crop_size, width=args.width)
    for name, dtype, batch_size in select_cases(args):
        if is_too_late(f"{name}, {dtype}, {batch_size}", args):
            continue
        for kind in ("train", "eval"):
            case = {"part": "steps", "network": name, "type": dtype, "batch": batch_size}
            step_flops = run_or_skip(f"FLOPs of {name}", count, name, training=kind == "train")
            rates = step_rates(name, dtype, batch_size, kind, args)
            emit(case | {"step": kind, "operations": step_flops, "rates": rates})


def is_too_late(what: str, args: argparse.Namespace) -> bool:
    """Whether too little time is left to start a measurement; if so, logs that it is skipped."""
    if time.time() + MIN_SECONDS <= args.child_until:
        return False
    print(f"skipped, no time left: {what}", file=sys.stderr)
    return True


def select_cases(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Returns the (network, dtype, batch size) to measure."""
    cases = [case for case in CASES if case[0] in args.networks and case[1] in args.types]
    if args.batch_size:
        cases = [(name, dtype, args.batch_size) for name, dtype, n in cases if n == BATCH_SIZE]
    return cases[:1] if args.quick else cases


def measure_schedule(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measures the updates of one epoch and one evaluation, and returns the time of all epochs."""
    gc.collect()  # frees the faces of the previous network
    batch_size = args.batch_size or BATCH_SIZE
    num_faces = min(args.faces, max_faces_in_memory(args.side))
    dtype, trunk = args.types[0], frameworks.trunk_spec(name, args.width)
    experiment = MinimalExperiment(trunk, dtype=dtype, crop_size=args.crop_size)
    faces = random_faces(num_faces, args.side)
    random = np.random.default_rng(0)
    labels = jnp.asarray(random.integers(0, 8, num_faces), jnp.int32)
    train_steps = compile_on_first_device(experiment.train_steps)
    predict = jax.jit(experiment.predict)
    eval_batch_size = min(batch_size, num_faces)
    dispatches = args.dispatches or FACES // batch_size // STEPS_PER_DISPATCH
    num_rows = (dispatches + 1) * STEPS_PER_DISPATCH * batch_size
    rows = random.permutation(np.resize(np.arange(num_faces), num_rows))
    rows = rows.astype(np.int32).reshape(-1, STEPS_PER_DISPATCH, batch_size)
    state, _ = train_steps(experiment.create_state(), faces, labels, rows[-1])

    def train() -> None:
        nonlocal state
        for dispatch in range(dispatches):
            state, (losses, _) = train_steps(state, faces, labels, rows[dispatch])
            if dispatch % 5 == 4:
                np.asarray(losses)
        jax.block_until_ready(state)

    def evaluate() -> None:
        batches = range(-(-VALIDATION_FACES // eval_batch_size))
        starts = (i * eval_batch_size % (num_faces - eval_batch_size + 1) for i in batches)
        predictions = [predict(state, faces[start : start + eval_batch_size]) for start in starts]
        jax.block_until_ready(predictions)

    evaluate()  # compiles
    steps = dispatches * STEPS_PER_DISPATCH
    step_seconds = harness.measure_seconds(train) / steps
    eval_seconds = 0.0 if args.quick else harness.measure_seconds(evaluate)
    epoch_seconds = FACES // batch_size * step_seconds + eval_seconds
    return {
        "seconds_a_step": step_seconds,
        "seconds_an_evaluation": eval_seconds,
        "faces_held": num_faces,
        "steps": steps,
        "minutes": EPOCHS * epoch_seconds / 60,
        "batch": batch_size,
        "type": dtype,
    }


def max_faces_in_memory(image_size: int) -> int:
    """Returns how many faces fit in memory with a network: of the GPU, or half of the free RAM."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:  # steps of AlexNet and ResNet18 with batches of 256 need 5 GiB
        free = stats["bytes_limit"] - stats["bytes_in_use"] - (6 << 30)
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2
    return max(1, free // (3 * image_size**2))


def measure_flags(name: str, args: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Yields images/s of a training step for each XLA flag, in turns with no flag."""
    dtype, batch_size = args.types[0], args.batch_size or BATCH_SIZE

    def prepare(flag: str) -> Callable[[], float | None] | None:
        what = f"{name} with {flag or 'no flag'}"
        if is_too_late(what, args):
            return None
        create = functools.partial(our_steps, name, dtype, batch_size, "train", args, flag)
        return prepare_rate(what, create, args.steps, batch_size, args)

    default = prepare("")
    for flag in args.flags:
        if default and (changed := prepare(flag)):
            rates: Any = harness.run_interleaved({"": default, flag: changed}, args.rounds)
            if None not in rates[""] + rates[flag]:
                yield {"type": dtype, "batch": batch_size, "flag": flag, "rates": rates}


def step_rates(
    name: str, dtype: str, batch_size: int, kind: str, args: argparse.Namespace
) -> harness.Runs:
    """Returns images/s of the contenders that succeeded in every round."""
    gc.collect()  # frees the memory of the previous case
    if frameworks.torch_device().type == "cuda":
        frameworks.torch().cuda.empty_cache()
    case = (name, dtype, batch_size, kind)
    creators = {OURS: functools.partial(our_steps, *case, args)}
    for peer in args.peers:
        creators[peer] = functools.partial(torch_steps, *case, args, peer == COMPILED)
    steps = max(1, args.steps * BATCH_SIZE // max(batch_size, BATCH_SIZE))
    contenders = {}
    for contender, create in creators.items():
        what = ", ".join(map(str, (contender, *case)))
        measure_rate = prepare_rate(what, create, steps, batch_size, args)
        if measure_rate:
            contenders[contender] = measure_rate
    rates = harness.run_interleaved(contenders, args.rounds)
    return {contender: values for contender, values in rates.items() if None not in values}


if __name__ == "__main__":
    main()
