"""Estimates training on an H100 without one: XLA compiles for it, and nothing runs.

    pip install 'affect_jax[cuda]'
    python -m benchmarks.forecast

The compiler needs a description of the GPU, not the GPU. The benchmark counts the kernels of the
compiled program, the bytes that they read and write, and the memory of a run that keeps a whole
training split on the GPU. Bytes and FLOPs give an ideal time: an update at full memory bandwidth or
at full tensor core speed, without communication time. Caches make a real step faster than that, all
else slower, so it is not a measured speed. On a GPU, cuDNN algorithms and tilings are autotuned;
here they are the defaults of XLA.

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
from affect_jax.train import device_feeds
from affect_jax.train.experiment import Experiment, create_experiment, load_registries
from affect_jax.train.state import state_template
from affect_jax.train.step import resident_train_step
from benchmarks import harness, torch_peer
from benchmarks.gpu import BATCH_SIZE, EPOCHS, FACES, IMAGE_SIZE  # the same schedule
from benchmarks.step import create_config

NETWORKS = ("alexnet", "resnet18", "alexnet_one_tower")
BYTES_PER_SECOND = 3.35e12  # data sheet of the NVIDIA H100 SXM
FLOPS_PER_SECOND = {"bfloat16": 989e12, "float32": 494e12}  # same source; float32 as TF32
GIB = 2**30

TARGET_CONFIG = """
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
"""  # XLA's `TargetConfig` of the GPU

SIZES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
SHAPE = re.compile(rf"\b({'|'.join(SIZES)})\[([\d,]*)\]")
INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)")
NO_KERNEL = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "partition-id")
COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if not harness.is_installed("jax-cuda12-plugin"):
        raise SystemExit(
            "the XLA compiler for NVIDIA GPUs is missing: pip install 'affect_jax[cuda]'"
        )
    jax.config.update("jax_platforms", "cpu")  # this process compiles for the GPU only
    load_registries()
    rows = []
    with mock.patch.object(
        jax, "default_backend", return_value="gpu"
    ):  # disables the code for CPUs
        for name in args.networks:
            for dtype in args.types:
                rows += [table_row(name, dtype, num_gpus, args) for num_gpus in args.cards]
                print(harness.markdown_table(rows[-len(args.cards) :]))
    harness.write_result(
        "forecast",
        what=f"An update of {BATCH_SIZE} faces, {FACES:,} of {IMAGE_SIZE} x {IMAGE_SIZE} in GPU "
        "memory, compiled for an H100 and not run",
        args=args,
        rows=rows,
        runs={},
        key=("network", "type", "cards"),
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument(
        "--networks", nargs="+", default=list(NETWORKS), choices=torch_peer.NETWORKS
    )
    parser.add_argument("--types", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--width", type=int, help="of the classifier of alexnet, instead of 4096")
    return harness.parse_args(parser, argv, {"networks": ["alexnet"], "types": ["bfloat16"]})


def table_row(name: str, dtype: str, num_gpus: int, args: argparse.Namespace) -> dict[str, Any]:
    """Compiles the updates of a network for some GPUs and returns a row of the table."""
    config = create_config((name, dtype, BATCH_SIZE, "train"), args)
    targets = make_targets({"expression": np.arange(num_gpus) % 8})
    experiment = create_experiment(config, targets, steps_per_epoch=FACES // BATCH_SIZE)
    text, memory = compile_updates(experiment, targets, num_gpus)
    counts = count_kernels(loop_body(text), face_bytes=memory["faces"] * GIB)
    num_flops = count_training_flops(experiment) * BATCH_SIZE / num_gpus
    seconds = ideal_seconds(counts, num_flops, FLOPS_PER_SECOND[dtype])
    row = {"network": name, "type": dtype, "cards": num_gpus, "kernels": counts.kernels}
    row |= {"collectives": counts.collectives, "GB": counts.bytes / 1e9, "TFLOP": num_flops / 1e12}
    row |= {"GiB of faces": f"{memory['faces']:.1f}", "GiB beside": f"{memory['rest']:.1f}"}
    row |= {"ideal ms": 1000 * seconds}
    return row | {"ideal minutes of the schedule": seconds * (FACES // BATCH_SIZE) * EPOCHS / 60}


def compile_updates(
    experiment: Experiment, targets: Mapping[str, np.ndarray], num_gpus: int
) -> tuple[str, dict[str, float]]:
    """Compiles ten updates in one dispatch.

    **Returns:** the text of the program, and the GiB of memory of each GPU.
    """
    topology: Any = topologies.get_topology_desc(
        platform="cuda", target_config=TARGET_CONFIG, topology=f"1x1x{num_gpus}"
    )
    mesh = Mesh(np.array(topology.devices), (AXIS,))
    replicated, sharded = PartitionSpec(), PartitionSpec(AXIS)

    def shape_of(leaf: Any, spec: PartitionSpec = replicated) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    num_rows = -(-FACES // num_gpus) * num_gpus
    faces = shape_of(jax.ShapeDtypeStruct((num_rows, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), sharded)
    labels = {
        name: shape_of(jax.ShapeDtypeStruct((FACES, *values.shape[1:]), values.dtype))
        for name, values in targets.items()
    }
    rows = shape_of(
        jax.ShapeDtypeStruct((device_feeds.MAX_STEPS_PER_DISPATCH, BATCH_SIZE), np.int32)
    )
    update = jax.shard_map(
        functools.partial(resident_train_step, experiment),
        mesh=mesh,
        in_specs=(replicated, sharded, replicated, replicated),
        out_specs=replicated,
        check_vma=False,
    )
    state = jax.tree.map(shape_of, state_template(experiment))
    compiled = jax.jit(update, donate_argnums=0).lower(state, faces, labels, rows).compile()
    sizes: Any = compiled.memory_analysis()
    face_bytes = num_rows // num_gpus * IMAGE_SIZE**2 * 3
    total_bytes = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
    total_bytes += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return compiled.as_text() or "", {
        "faces": face_bytes / GIB,
        "rest": (total_bytes - face_bytes) / GIB,
    }


def loop_body(text: str) -> list[str]:
    """Returns the instructions of one update: the body of the outermost loop."""
    functions = re.split(r"\n(?=(?:ENTRY )?%[\w.-]+ \()", text)
    (entry,) = (part for part in functions if part.startswith("ENTRY"))
    (body,) = re.findall(r" while\(.*body=%([\w.-]+)", entry)
    (loop,) = (part for part in functions if part.startswith(f"%{body} ("))
    return loop.splitlines()[1:]


class Counts(NamedTuple):
    """Kernels and memory traffic of some instructions."""

    kernels: int
    collectives: int  # kernels that communicate between GPUs
    bytes: float  # read and written by all kernels
    product_bytes: float  # read and written by convolutions and matrix products


def count_kernels(instructions: Sequence[str], face_bytes: float) -> Counts:
    """Counts kernels and bytes.

    An array counts in full for each kernel that reads it. The exception is the array of all faces,
    of which a kernel reads one batch: it counts as much as the output of that kernel.

    **Arguments:** `face_bytes`: bytes of the faces on a GPU, the largest array.
    """
    shapes: dict[str, str] = {}
    kernels, collectives, total_bytes, product_bytes = 0, 0, 0.0, 0.0
    for line in instructions:
        if not (match := INSTRUCTION.match(line.strip())):
            continue
        name, shape, kind, rest = match.groups()
        shapes[name] = shape
        if kind in NO_KERNEL or kind.endswith("-done"):
            continue
        operands = re.findall(r"%([\w.-]+)", rest.split("), ")[0])
        inputs = [size_in_bytes(shapes.get(operand, "")) for operand in operands]
        volume = size_in_bytes(shape)
        # The shape of other "-start" instructions contains inputs and outputs.
        if not kind.endswith("-start") or kind == "all-reduce-start":
            volume += sum(count if count < face_bytes else volume for count in inputs)
        kernels, total_bytes = kernels + 1, total_bytes + volume
        collectives += bool(COLLECTIVE.fullmatch(kind))
        product_bytes += volume if kind == "custom-call" or 'gemm_fusion"' in rest else 0
    return Counts(kernels, collectives, total_bytes, product_bytes)


def ideal_seconds(counts: Counts, num_flops: float, flops_per_second: float) -> float:
    """Returns the time if products are bound by memory or compute, and all else by memory."""
    other_seconds = (counts.bytes - counts.product_bytes) / BYTES_PER_SECOND
    return other_seconds + max(
        counts.product_bytes / BYTES_PER_SECOND, num_flops / flops_per_second
    )


def size_in_bytes(shapes: str) -> float:
    """Returns the bytes of the arrays in a shape string of XLA."""
    return sum(
        SIZES[kind] * np.prod([int(size) for size in dimensions.split(",") if size], dtype=float)
        for kind, dimensions in SHAPE.findall(shapes)
    )


def count_training_flops(experiment: Experiment) -> float:
    """Returns the FLOPs of training a network with one image, as XLA counts them."""
    state = state_template(experiment)
    images = jax.ShapeDtypeStruct(
        (1, experiment.crop_size, experiment.crop_size, 3), experiment.dtype
    )

    def total(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        outputs = experiment.model.apply(
            {"params": params, "batch_stats": stats}, images, train=False
        )
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(outputs)), jnp.zeros(()))

    lowered = jax.jit(jax.grad(total)).lower(state.params["model"], state.batch_stats, images)
    cost: Any = lowered.cost_analysis()
    return cost["flops"]


if __name__ == "__main__":
    main()
