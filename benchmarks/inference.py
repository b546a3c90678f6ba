"""Time per face of a network in JAX and as exported ONNX, beside EfficientNet-B0 as ONNX.

    python -m benchmarks.inference
    taskset -c 0 python -m benchmarks.inference --clock processor     # a CPU with other work

EfficientNet-B0 stands for hsemotion-onnx's smaller networks, which are of this architecture; their
weights are downloads, so timm's network with random weights is exported here by PyTorch. Ours have
random weights too, and are the package's own step and export: they take uint8 faces, crop and
normalise them; the peer gets what is already cut and normalised. Everything runs on the CPU, with
as many threads as there are cores. Contenders take turns; ratios are of runs in the same round.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime

from affect_jax.config import defaults
from affect_jax.export import formats
from affect_jax.models.network import create_network
from affect_jax.run.load import TrainedNetwork, class_names
from affect_jax.train.experiment import all_registries
from benchmarks import peers, recording
from benchmarks.machine import installed

NETWORKS = ("alexnet", "alexnet_one_tower", "resnet18")
PEER = "efficientnet_b0"
JAX, ONNX, PEER_ONNX = "JAX", "ONNX", "EfficientNet-B0, ONNX"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "onnx", "onnxruntime", "torch", "timm")
MARGIN = 32  # pixels by which a stored face is larger than its crop

Take = Callable[[], Any]  # predicts one batch and waits for it


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    all_registries()
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        peer = export_peer(pathlib.Path(folder), options.crop_size) if options.peers else None
        for name in options.networks:
            network = random_network(name, options.crop_size)
            place = pathlib.Path(folder) / name
            place.mkdir()
            formats.write(network, "onnx", place)
            for size in options.batches:
                takes = contenders(network, place / "model.onnx", peer, size)
                times = measure(takes, size, options)
                runs[f"{name}, {size}"] = times
                rows.append(row_of(name, size, times))
                print(recording.table(rows[-1:]), flush=True)
    recording.keep(
        "inference",
        what="Milliseconds a face on the CPU; EfficientNet-B0 is timm's, exported by PyTorch",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    found.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    found.add_argument("--crop_size", type=int, default=224)
    found.add_argument("--steps", type=int, default=5, help="of each contender, each round")
    found.add_argument("--peers", nargs="*", default=[PEER], choices=[PEER])
    recording.add_clock(found)
    quick = {"networks": ["resnet18"], "batches": [2], "crop_size": 32, "steps": 1, "peers": []}
    return recording.parse(found, arguments, quick)


def random_network(name: str, crop_size: int) -> TrainedNetwork:
    """The protocol's network with another trunk, as if it had been trained."""
    config = defaults()
    config.trunk = {"name": name}
    config.data.crop_size, config.data.image_size = crop_size, crop_size + MARGIN
    network = create_network(config)
    images = jnp.zeros((1, crop_size, crop_size, 3))
    shapes = {"batch_stats": {}, **jax.eval_shape(network.model.init, jax.random.key(0), images)}
    random = np.random.default_rng(0)

    def fill(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        """Of a size that keeps the signal: numbers that vanish are slow on some processors."""
        if len(leaf.shape) == 1:
            return np.full(leaf.shape, float(path[-1].key in ("scale", "var")), np.float32)
        deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return np.float32(deviation) * random.standard_normal(leaf.shape, np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    classes = class_names(config)
    return TrainedNetwork(pathlib.Path(name), config, network, variables, classes, 0)


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """A file of ONNX with a thread a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def contenders(
    network: TrainedNetwork, path: pathlib.Path, peer: pathlib.Path | None, size: int
) -> dict[str, Take]:
    """What predicts a batch of each contender, by name; each has done so once."""
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (size, *formats.image_shape(network)), np.uint8)
    compiled = jax.jit(formats.predictor(network))
    variables, placed = jax.device_put((network.variables, faces))
    ours = session(path)
    takes: dict[str, Take] = {
        JAX: lambda: jax.block_until_ready(compiled(variables, placed)),
        ONNX: lambda: ours.run(None, {"image": faces}),
    }
    if peer is not None:
        crop = network.config.data.crop_size
        cut = peers.float_images(faces[:, :crop, :crop]).transpose(0, 3, 1, 2)
        given, theirs = np.ascontiguousarray(cut), session(peer)
        takes[PEER_ONNX] = lambda: theirs.run(None, {"image": given})
    for take in takes.values():
        take()
    return takes


def export_peer(folder: pathlib.Path, crop_size: int) -> pathlib.Path | None:
    """EfficientNet-B0 with eight classes and random weights; None where PyTorch or timm is not."""
    if not (installed("torch") and installed("timm")):
        print("left out: EfficientNet-B0, which needs torch and timm")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of PyTorch's exporter on itself
        peers.torchvision()  # timm wants it
        import timm

        network: Any = timm.create_model("tf_efficientnet_b0", num_classes=8).eval()
        path = folder / f"{PEER}.onnx"
        peers.torch().onnx.export(
            network,
            (peers.torch().zeros(2, 3, crop_size, crop_size),),
            str(path),
            input_names=["image"],
            output_names=["expression"],
            dynamic_axes={"image": {0: "batch"}, "expression": {0: "batch"}},
            dynamo=False,  # the other exporter needs a package more
        )
    return path


def measure(takes: dict[str, Take], size: int, options: argparse.Namespace) -> recording.Runs:
    """Milliseconds a face of every contender in every round."""

    def time(take: Take) -> float:
        work = functools.partial(repeat, take, options.steps)
        return 1000 * recording.seconds_of(work, options.clock) / (size * options.steps)

    turns = {name: functools.partial(time, take) for name, take in takes.items()}
    return recording.take_turns(turns, options.rounds)


def repeat(take: Take, count: int) -> None:
    for _ in range(count):
        take()


def row_of(name: str, size: int, times: recording.Runs) -> dict[str, Any]:
    row: dict[str, Any] = {"network": name, "batch": size}
    row |= {contender: statistics.median(found) for contender, found in times.items()}
    row["JAX / ONNX"] = recording.times(times[JAX], times[ONNX])
    if PEER_ONNX in times:
        row["ONNX / EfficientNet-B0"] = recording.times(times[ONNX], times[PEER_ONNX])
    return row


if __name__ == "__main__":
    main()
