"""What XLA makes of training for an H100 where there is none: it compiles, and nothing runs.

    pip install 'affect_jax[cuda]'
    python -m benchmarks.forecast

The compiler needs a description of the card, not the card. What it made is counted: kernels, the
bytes that they read and write, the memory of a run that holds a whole training split. From bytes
and operations follows an ideal: what an update would take if each byte came from memory at its full
bandwidth, or else the tensor cores were never idle, and cards exchanged gradients in no time.
Caches make a step shorter, all else longer: it is no speed. cuDNN's algorithms and tilings are
chosen by trying them on a card; here they are XLA's defaults.

The updates are those of runs with `data.cache=device`: `step.resident_train_step`.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax.core.batch import make_targets
from affect_jax.core.parallel import AXIS
from affect_jax.models.kernels import convolutions
from affect_jax.train import feeds
from affect_jax.train.experiment import Experiment, all_registries, create_experiment
from affect_jax.train.state import state_template
from affect_jax.train.step import resident_train_step
from benchmarks import recording
from benchmarks.gpu import BATCH, EPOCHS, FACES, SIDE  # the same schedule
from benchmarks.machine import installed
from benchmarks.step import config_of

NETWORKS = ("alexnet", "resnet18", "alexnet_one_tower")
PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "flax", "optax")
BYTES_A_SECOND = 3.35e12  # NVIDIA's data sheet of the H100 SXM
OPERATIONS_A_SECOND = {"bfloat16": 989e12, "float32": 494e12}  # the same; float32 as TF32
GIB = 2**30

CARD = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""  # as XLA describes it: its `TargetConfig`

SIZES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
SHAPE = re.compile(rf"\b({'|'.join(SIZES)})\[([\d,]*)\]")
INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
NO_KERNEL = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id")
COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if not installed("jax-cuda12-plugin"):
        raise SystemExit("no compiler for NVIDIA's cards: pip install 'affect_jax[cuda]'")
    jax.config.update("jax_platforms", "cpu")  # of this process: the card is only compiled for
    all_registries()
    rows = []
    with mock.patch.object(jax, "default_backend", return_value="gpu"):  # what is for CPUs is off
        for name in options.networks:
            for dtype in options.types:
                rows += [row_of(name, dtype, number, options) for number in options.cards]
                print(recording.table(rows[-len(options.cards) :]))
    recording.keep(
        "forecast",
        what=f"An update of {BATCH} faces, {FACES:,} of {SIDE} x {SIDE} held, compiled for an "
        "H100 and not run",
        options=options,
        rows=rows,
        runs={},
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    found.add_argument("--types", nargs="+", default=["bfloat16", "float32"])
    found.add_argument("--cards", type=int, nargs="+", default=[1, 8])
    found.add_argument("--crop_size", type=int, default=224)
    found.add_argument("--width", type=int, help="of alexnet's classifier, instead of 4096")
    return recording.parse(found, arguments, {"networks": ["alexnet"], "types": ["bfloat16"]})


def row_of(name: str, dtype: str, cards: int, options: argparse.Namespace) -> dict[str, Any]:
    config = config_of((name, dtype, BATCH, "train"), options)
    targets = make_targets({"expression": np.arange(cards) % 8})
    made = create_experiment(config, targets, steps_per_epoch=FACES // BATCH)
    text, memory = compiled(made, targets, cards)
    found = count(loop_of(text), held=memory["faces"] * GIB)
    needed = operations(made) * BATCH / cards
    seconds = ideal(found, needed, OPERATIONS_A_SECOND[dtype])
    row = {"network": name, "type": dtype, "cards": cards, "kernels": found.kernels}
    row |= {"collectives": found.collectives, "GB": found.moved / 1e9, "TFLOP": needed / 1e12}
    row |= {"GiB of faces": f"{memory['faces']:.1f}", "GiB beside": f"{memory['rest']:.1f}"}
    row |= {"ideal ms": 1000 * seconds}
    return row | {"ideal minutes of the schedule": seconds * (FACES // BATCH) * EPOCHS / 60}


def compiled(
    made: Experiment, targets: Mapping[str, np.ndarray], cards: int
) -> tuple[str, dict[str, float]]:
    """XLA's text of ten updates in one dispatch, and GiB of each card's memory."""
    topology: Any = topologies.get_topology_desc(
        platform="cuda", target_config=CARD, topology=f"1x1x{cards}"
    )
    mesh = Mesh(np.array(topology.devices), (AXIS,))
    whole, split = PartitionSpec(), PartitionSpec(AXIS)

    def shape_of(leaf: Any, spec: PartitionSpec = whole) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    held = -(-FACES // cards) * cards
    faces = shape_of(jax.ShapeDtypeStruct((held, SIDE, SIDE, 3), np.uint8), split)
    labels = {
        name: shape_of(jax.ShapeDtypeStruct((FACES, *values.shape[1:]), values.dtype))
        for name, values in targets.items()
    }
    rows = shape_of(jax.ShapeDtypeStruct((feeds.MAX_STEPS_PER_DISPATCH, BATCH), np.int32))
    update = jax.shard_map(
        functools.partial(resident_train_step, made),
        mesh=mesh,
        in_specs=(whole, split, whole, whole),
        out_specs=whole,
        check_vma=False,
    )
    state = jax.tree.map(shape_of, state_template(made))
    found = jax.jit(update, donate_argnums=0).lower(state, faces, labels, rows).compile()
    sizes: Any = found.memory_analysis()
    of_faces = held // cards * SIDE**2 * 3
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
    needed += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return found.as_text() or "", {
        "faces": of_faces / GIB,
        "rest": (needed - of_faces) / GIB,
    }


def loop_of(text: str) -> list[str]:
    """The instructions of one update: the body of the outermost loop."""
    functions = re.split(r"\n(?=(?:ENTRY )?%[\w.-]+ \()", text)
    (entry,) = (part for part in functions if part.startswith("ENTRY"))
    (body,) = re.findall(r" while\(.*body=%([\w.-]+)", entry)
    (found,) = (part for part in functions if part.startswith(f"%{body} ("))
    return found.splitlines()[1:]


class Counted(NamedTuple):
    kernels: int
    collectives: int  # of these kernels: in which cards wait for one another
    moved: float  # bytes that they read and write
    by_products: float  # of these bytes: by convolutions and products


def count(instructions: Sequence[str], held: float) -> Counted:
    """What some instructions are.

    An array counts whole for each kernel that takes it, except the faces, of which a kernel takes
    a batch: what it writes counts twice.

    **Arguments:** `held`: bytes of the faces on a card, more than of any other array.
    """
    shapes: dict[str, str] = {}
    kernels, collectives, moved, by_products = 0, 0, 0.0, 0.0
    for line in instructions:
        if not (match := INSTRUCTION.match(line.strip())):
            continue
        name, shape, kind, rest = match.groups()
        shapes[name] = shape
        if kind in NO_KERNEL or kind.endswith("-done"):
            continue
        operands = re.findall(r"%([\w.-]+)", rest.split("), ")[0])
        taken, volume = [size(shapes.get(one, "")) for one in operands], size(shape)
        if not kind.endswith("-start") or kind == "all-reduce-start":  # others' shapes hold both
            volume += sum(one if one < held else volume for one in taken)
        kernels, moved = kernels + 1, moved + volume
        collectives += bool(COLLECTIVE.fullmatch(kind))
        by_products += volume if kind == "custom-call" or 'gemm_fusion"' in rest else 0
    return Counted(kernels, collectives, moved, by_products)


def ideal(found: Counted, operations: float, a_second: float) -> float:
    """Seconds, where products wait for memory or for the tensor cores and all else for memory."""
    other = (found.moved - found.by_products) / BYTES_A_SECOND
    return other + max(found.by_products / BYTES_A_SECOND, operations / a_second)


def size(shapes: str) -> float:
    """Bytes of the arrays that a text of XLA's names."""
    return sum(
        SIZES[kind] * np.prod([int(side) for side in sides.split(",") if side], dtype=float)
        for kind, sides in SHAPE.findall(shapes)
    )


def operations(made: Experiment) -> float:
    """Floating-point operations of a network's training with one image, as XLA counts them."""
    state = state_template(made)
    images = jax.ShapeDtypeStruct((1, made.crop_size, made.crop_size, 3), made.dtype)

    def total(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        outputs = made.model.apply({"params": params, "batch_stats": stats}, images, train=False)
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(outputs)), jnp.zeros(()))

    with mock.patch.object(convolutions, "_few_channels", return_value=False):  # blocks add zeros
        lowered = jax.jit(jax.grad(total)).lower(state.params["model"], state.batch_stats, images)
    counted: Any = lowered.cost_analysis()
    return counted["flops"]


if __name__ == "__main__":
    main()
