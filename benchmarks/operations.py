"""What a training step on a CPU consists of, beside PyTorch: where the time goes that it has more.

    taskset -c 0 python -m benchmarks.operations          # one core: nothing runs beside another

One step of each is recorded by its library's own profiler, `--rounds` times in turns, and its
operations are added up by kind. Ours are told apart by the compiled program: what an instruction
computes, and the name of the layer that it comes from; a fusion counts as its last operation.
PyTorch's are told apart by name. Sums are of the operations alone, without what starts them, so a
total is below the step's time in "A step of training and evaluation".
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

from affect_jax.core import environment, parallel
from affect_jax.train.experiment import all_registries
from affect_jax.train.step import train_step
from benchmarks import peers, recording, step

OURS, PEER = step.OURS, step.EAGER
FORWARD, BACKWARD = "convolutions", "convolutions' gradients"
WEIGHTS, INPUTS, FEWER = "to weights", "to inputs", "to both, by fewer products"
DENSE, NORM, POOL = "dense layers", "normalisation", "pooling"
MOVED, REST = "copies and transpositions", "other"
KINDS = (FORWARD, BACKWARD, WEIGHTS, INPUTS, FEWER, DENSE, NORM, POOL, MOVED, REST)
PARTS = (WEIGHTS, INPUTS, FEWER)  # of BACKWARD; PyTorch has one operation for both
NETWORKS = ("alexnet_one_tower", "resnet18")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "torchvision")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\S+) ([\w\-]+)\(")
THEIRS = (
    (BACKWARD, r"aten::\w*convolution_backward"),
    (FORWARD, r"aten::\w*conv"),
    (DENSE, r"aten::(addmm|mm|linear)$"),
    (NORM, r"aten::\w*(batch_norm|avg_pool3d)"),
    (POOL, r"aten::\w*(max_pool|avg_pool|mean)"),
    (MOVED, r"aten::(copy_|clone|cat|contiguous)"),
)

Milliseconds = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    environment.choose_fusions()
    all_registries()
    rows, runs = [], {}
    for name in options.networks:
        contenders: dict[str, Callable[[], Milliseconds]] = {
            OURS: ours(name, options),
            PEER: in_torch(name, options),
        }
        found = recording.take_turns(contenders, options.rounds)
        runs[name] = found
        rows += rows_of(name, found)
    recording.keep(
        "operations",
        what=f"Milliseconds of a training step of {options.batch}, float32, by its library's "
        "profiler; to PyTorch: how many times its speed",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=step.NETWORKS)
    found.add_argument("--batch", type=int, default=32)
    found.add_argument("--crop_size", type=int, default=224)
    found.set_defaults(rounds=3, width=None)
    quick = {"networks": ["resnet18"], "batch": 2, "crop_size": 32}
    return recording.parse(found, arguments, quick)


def ours(name: str, options: argparse.Namespace) -> Callable[[], Milliseconds]:
    case = (name, "float32", options.batch, "train")
    faces, labels, _ = step.random_batch(options.batch, options.crop_size)
    compiled, state, placed = step.placed(case, options, faces, labels)
    update = parallel.on_devices(functools.partial(train_step, compiled))
    kernels = {
        tuple(sorted(leaf.shape))
        for leaf in jax.tree.leaves(state.params["model"])
        if leaf.ndim == 4
    }
    kinds = kinds_of(update.lower(state, placed).compile().as_text(), kernels)
    state, _ = jax.block_until_ready(update(state, placed))

    def measure() -> Milliseconds:
        nonlocal state
        total: Milliseconds = collections.defaultdict(float)
        state, _ = jax.block_until_ready(update(state, placed))  # after the other's turn
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                state, _ = jax.block_until_ready(update(state, placed))
            for operation, milliseconds in recorded(pathlib.Path(folder)):
                total[kinds.get(operation, REST)] += milliseconds
        return dict(total)

    return measure


def recorded(folder: pathlib.Path) -> Iterator[tuple[str, float]]:
    """Name and milliseconds of each operation that a trace of JAX's holds."""
    (path,) = folder.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                if any(key == "hlo_op" for key, _ in event.stats):
                    yield event.name, event.duration_ns / 1e6


def kinds_of(text: str, kernels: set[tuple[int, ...]]) -> dict[str, str]:
    """Instruction -> kind, from the text of a compiled program.

    **Arguments:**

    - `kernels`: shapes of the convolutions' kernels, each sorted.
    """
    found = {}
    for line in text.splitlines():
        match = INSTRUCTION.match(line)
        if match:
            name, shape, opcode = match.groups()
            source = re.search(r'op_name="([^"]*)"', line)
            found[name] = kind_of(name, shape, opcode, source[1] if source else "", kernels)
    return found


def kind_of(name: str, shape: str, opcode: str, source: str, kernels: set[tuple[int, ...]]) -> str:
    if "/windows/" in source and (opcode == "dot" or source.endswith("dot_general")):
        return _of_windows(shape, source, kernels)
    if "winograd" in source:
        return FEWER if "transpose(" in source else FORWARD
    if opcode == "convolution" or source.endswith("conv_general_dilated"):
        if tuple(sorted(_sides(shape))) in kernels:
            return WEIGHTS
        return INPUTS if "transpose(" in source else FORWARD
    if opcode == "dot" or source.endswith("dot_general"):
        return DENSE
    if "/norm/" in source or "reduce_window" in source:
        return NORM
    if "pool" in source:
        return POOL
    return MOVED if re.match(r"(transpose|copy|bitcast|concatenate|slice|pad)", name) else REST


def _of_windows(shape: str, source: str, kernels: set[tuple[int, ...]]) -> str:
    """A convolution by one product of matrices; its weights are one, [places x C, K], too."""
    if "transpose(" not in source:
        return FORWARD
    return WEIGHTS if math.prod(_sides(shape)) in map(math.prod, kernels) else INPUTS


def _sides(shape: str) -> list[int]:
    """`f32[64,3,3,64]{3,2,1,0}` -> 64, 3, 3, 64."""
    return [int(side) for side in re.findall(r"\d+", shape.split("]")[0][4:])]


def in_torch(name: str, options: argparse.Namespace) -> Callable[[], Milliseconds]:
    torch = peers.torch()
    side = peers.Side(name, dtype="float32", crop_size=options.crop_size)
    _, labels, cut = step.random_batch(options.batch, options.crop_size)
    images, classes = peers.normalized(cut), torch.as_tensor(labels)
    side.update(images, classes)

    def measure() -> Milliseconds:
        side.update(images, classes)  # after the other's turn
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            side.update(images, classes)
        total: Milliseconds = collections.defaultdict(float)
        for event in profile.key_averages():
            kind = next((kind for kind, name in THEIRS if re.match(name, event.key)), REST)
            total[kind] += event.self_cpu_time_total / 1e3
        return dict(total)

    return measure


def rows_of(name: str, runs: Mapping[str, Sequence[Milliseconds]]) -> list[dict[str, Any]]:
    """A row a kind and one for their sum: medians over the rounds."""
    sides = {side: [complete(run) for run in several] for side, several in runs.items()}
    rows = []
    for kind in (*KINDS, "sum"):
        one, other = ([run[kind] for run in sides[side]] for side in (OURS, PEER))
        row: dict[str, Any] = {"network": name, "operations": kind}
        row[OURS] = statistics.median(one)
        if kind not in PARTS:
            row[PEER] = statistics.median(other)
            row["to PyTorch"] = recording.times(other, one) if min(one) > 0 else ""
        rows.append(row)
    return rows


def complete(run: Milliseconds) -> Milliseconds:
    """With a figure for every kind, the gradients of convolutions together, and the sum."""
    found = {kind: run.get(kind, 0.0) for kind in KINDS}
    found[BACKWARD] += sum(found[part] for part in PARTS)
    return found | {"sum": sum(found[kind] for kind in KINDS if kind not in PARTS)}


if __name__ == "__main__":
    environment.use_huge_pages()
    main()
