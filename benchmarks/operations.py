"""Breaks the time of a training step on a CPU down by operation, compared with PyTorch.

    taskset -c 0 python -m benchmarks.operations          # one core: operations do not overlap

The profiler of each library records one step, `--rounds` times in turns, and the times of
operations are summed by kind. In JAX the kind follows from the compiled program: the opcode of an
instruction and the name of its layer; a fusion counts as its last operation. In PyTorch it follows
from the operator name. Sums exclude dispatch overhead, so they are below the step time in "A step
of training and evaluation".
"""

from __future__ import annotations

import argparse
import collections
import functools
import math
import pathlib
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from affect_jax.core import env_vars, parallel
from affect_jax.train.experiment import load_registries
from affect_jax.train.step import train_step
from benchmarks import frameworks, harness, step

OURS, PEER = step.OURS, step.EAGER
FORWARD, BACKWARD = "convolutions", "convolutions' gradients"
WEIGHTS, INPUTS = "to weights", "to inputs"
DENSE, NORM, POOL = "dense layers", "normalisation", "pooling"
COPIES, OTHER = "copies and transpositions", "other"
KINDS = (FORWARD, BACKWARD, WEIGHTS, INPUTS, DENSE, NORM, POOL, COPIES, OTHER)
PARTS = (WEIGHTS, INPUTS)  # of BACKWARD; PyTorch has one operation for both
NETWORKS = ("alexnet_one_tower", "resnet18")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "torchvision")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\S+) ([\w\-]+)\(")
TORCH_OPERATORS = (
    (BACKWARD, r"aten::\w*convolution_backward"),
    (FORWARD, r"aten::\w*conv"),
    (DENSE, r"aten::(addmm|mm|linear)$"),
    (NORM, r"aten::\w*(batch_norm|avg_pool3d)"),
    (POOL, r"aten::\w*(max_pool|avg_pool|mean)"),
    (COPIES, r"aten::(copy_|clone|cat|contiguous)"),
)

Milliseconds = dict[str, float]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    env_vars.set_cpu_fusion_types()
    load_registries()
    rows, runs = [], {}
    for name in args.networks:
        contenders: dict[str, Callable[[], Milliseconds]] = {
            OURS: profile_affect_jax(name, args),
            PEER: profile_torch(name, args),
        }
        runs[name] = harness.run_interleaved(contenders, args.rounds)
        rows += table_rows(name, runs[name])
    harness.write_result(
        "operations",
        what=f"Milliseconds of a training step, batch {args.batch}, float32, by the profiler of "
        "each library; to PyTorch: how many times its speed",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=step.NETWORKS)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--crop_size", type=int, default=224)
    parser.set_defaults(rounds=3, width=None)
    quick = {"networks": ["resnet18"], "batch": 2, "crop_size": 32}
    return harness.parse_args(parser, argv, quick)


def profile_affect_jax(name: str, args: argparse.Namespace) -> Callable[[], Milliseconds]:
    """Returns a function that profiles one step: kind -> milliseconds."""
    case = (name, "float32", args.batch, "train")
    faces, labels, _ = step.random_batch(args.batch, args.crop_size)
    experiment, state, batch = step.create_on_devices(case, args, faces, labels)
    update = parallel.parallelize(functools.partial(train_step, experiment))
    kernels = {
        tuple(sorted(leaf.shape))
        for leaf in jax.tree.leaves(state.params["model"])
        if leaf.ndim == 4
    }
    kinds = instruction_kinds(update.lower(state, batch).compile().as_text(), kernels)
    state, _ = jax.block_until_ready(update(state, batch))

    def measure() -> Milliseconds:
        nonlocal state
        total: Milliseconds = collections.defaultdict(float)
        state, _ = jax.block_until_ready(update(state, batch))  # warms up after the other turn
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                state, _ = jax.block_until_ready(update(state, batch))
            for operation, milliseconds in read_trace(pathlib.Path(folder)):
                total[kinds.get(operation, OTHER)] += milliseconds
        return dict(total)

    return measure


def read_trace(folder: pathlib.Path) -> Iterator[tuple[str, float]]:
    """Yields name and milliseconds of each operation in a JAX trace."""
    (path,) = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                if any(key == "hlo_op" for key, _ in event.stats):
                    yield event.name, event.duration_ns / 1e6


def instruction_kinds(text: str, kernels: set[tuple[int, ...]]) -> dict[str, str]:
    """Returns instruction -> kind, from the text of a compiled program.

    **Arguments:**

    - `kernels`: sorted shapes of the kernels of convolutions.
    """
    kinds = {}
    for line in text.splitlines():
        match = INSTRUCTION.match(line)
        if match:
            name, shape, opcode = match.groups()
            source = re.search(r'op_name="([^"]*)"', line)
            kinds[name] = classify(name, shape, opcode, source[1] if source else "", kernels)
    return kinds


def classify(name: str, shape: str, opcode: str, source: str, kernels: set[tuple[int, ...]]) -> str:
    if "/im2col/" in source and (opcode == "dot" or source.endswith("dot_general")):
        return _classify_im2col(shape, source, kernels)
    if opcode == "convolution" or source.endswith("conv_general_dilated"):
        if tuple(sorted(_dimensions(shape))) in kernels:
            return WEIGHTS
        return INPUTS if "transpose(" in source else FORWARD
    if opcode == "dot" or source.endswith("dot_general"):
        return DENSE
    if "/norm/" in source or "reduce_window" in source:
        return NORM
    if "pool" in source:
        return POOL
    return COPIES if re.match(r"(transpose|copy|bitcast|concatenate|slice|pad)", name) else OTHER


def _classify_im2col(shape: str, source: str, kernels: set[tuple[int, ...]]) -> str:
    """Classifies the product of an im2col convolution; its kernel is a matrix [k * l * C, K]."""
    if "transpose(" not in source:
        return FORWARD
    return WEIGHTS if math.prod(_dimensions(shape)) in map(math.prod, kernels) else INPUTS


def _dimensions(shape: str) -> list[int]:
    """`f32[64,3,3,64]{3,2,1,0}` -> 64, 3, 3, 64."""
    return [int(size) for size in re.findall(r"\d+", shape.split("]")[0][4:])]


def profile_torch(name: str, args: argparse.Namespace) -> Callable[[], Milliseconds]:
    """Returns a function that profiles one step: kind -> milliseconds."""
    torch = frameworks.torch()
    trainer = frameworks.TorchTrainer(name, dtype="float32", crop_size=args.crop_size)
    _, labels, crops = step.random_batch(args.batch, args.crop_size)
    images, classes = frameworks.normalize_images(crops), torch.as_tensor(labels)
    trainer.train_step(images, classes)

    def measure() -> Milliseconds:
        trainer.train_step(images, classes)  # warms up after the other turn
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            trainer.train_step(images, classes)
        total: Milliseconds = collections.defaultdict(float)
        for event in profile.key_averages():
            kind = next(
                (kind for kind, name in TORCH_OPERATORS if re.match(name, event.key)), OTHER
            )
            total[kind] += event.self_cpu_time_total / 1e3
        return dict(total)

    return measure


def table_rows(name: str, runs: Mapping[str, Sequence[Milliseconds]]) -> list[dict[str, Any]]:
    """Returns a row for each kind and one for the sum: medians over the rounds."""
    sides = {side: [add_totals(profile) for profile in profiles] for side, profiles in runs.items()}
    rows = []
    for kind in (*KINDS, "sum"):
        ours, theirs = ([profile[kind] for profile in sides[side]] for side in (OURS, PEER))
        row: dict[str, Any] = {"network": name, "operations": kind}
        row[OURS] = statistics.median(ours)
        if kind not in PARTS:
            row[PEER] = statistics.median(theirs)
            row["to PyTorch"] = harness.format_ratio(theirs, ours) if min(ours) > 0 else ""
        rows.append(row)
    return rows


def add_totals(profile: Milliseconds) -> Milliseconds:
    """Adds missing kinds as zero, the total of the gradients of convolutions, and the sum."""
    times = {kind: profile.get(kind, 0.0) for kind in KINDS}
    times[BACKWARD] += sum(times[part] for part in PARTS)
    return times | {"sum": sum(times[kind] for kind in KINDS if kind not in PARTS)}


if __name__ == "__main__":
    env_vars.restart_with_huge_pages()
    main()
