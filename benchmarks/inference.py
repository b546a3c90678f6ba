"""Measures the time per face in JAX and as exported ONNX, compared with EfficientNet-B0 as ONNX.

    python -m benchmarks.inference
    taskset -c 0 python -m benchmarks.inference --clock processor     # a CPU with other work

EfficientNet-B0 is the architecture of the smaller networks of hsemotion-onnx. Their weights are
downloads, so PyTorch exports the network of timm with random weights. Our networks have random
weights too, and use the step and export of the package: they crop and normalise uint8 faces, while
EfficientNet-B0 gets cropped and normalised ones. Everything runs on the CPU, with one thread per
core. Contenders run in turns; ratios are of runs in the same round.
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
from affect_jax.run.trained_network import TrainedNetwork, class_names
from affect_jax.train.experiment import load_registries
from benchmarks import frameworks, harness
from benchmarks.machine import is_installed

NETWORKS = ("alexnet", "alexnet_one_tower", "resnet18")
PEER = "efficientnet_b0"
JAX, ONNX, PEER_ONNX = "JAX", "ONNX", "EfficientNet-B0, ONNX"
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "onnx", "onnxruntime", "torch", "timm")
MARGIN = 32  # pixels by which a stored face is larger than its crop

Predict = Callable[[], Any]  # predicts one batch and waits for it


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    load_registries()
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as folder:
        peer = export_efficientnet(pathlib.Path(folder), args.crop_size) if args.peers else None
        for name in args.networks:
            network = random_network(name, args.crop_size)
            export_dir = pathlib.Path(folder) / name
            export_dir.mkdir()
            formats.write_network(network, "onnx", export_dir)
            for batch_size in args.batches:
                path = export_dir / "model.onnx"
                contenders = create_contenders(network, path, peer, batch_size)
                times = measure(contenders, batch_size, args)
                runs[f"{name}, {batch_size}"] = times
                rows.append(table_row(name, batch_size, times))
                print(harness.markdown_table(rows[-1:]), flush=True)
    harness.write_result(
        "inference",
        what="Milliseconds a face on the CPU; EfficientNet-B0 is timm's, exported by PyTorch",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5, help="per contender and round")
    parser.add_argument("--peers", nargs="*", default=[PEER], choices=[PEER])
    harness.add_clock_argument(parser)
    quick = {"networks": ["resnet18"], "batches": [2], "crop_size": 32, "steps": 1, "peers": []}
    return harness.parse_args(parser, argv, quick)


def random_network(name: str, crop_size: int) -> TrainedNetwork:
    """Returns the network of the protocol with another trunk and random weights."""
    config = defaults()
    config.trunk = {"name": name}
    config.data.crop_size, config.data.image_size = crop_size, crop_size + MARGIN
    network = create_network(config)
    images = jnp.zeros((1, crop_size, crop_size, 3))
    shapes = {"batch_stats": {}, **jax.eval_shape(network.model.init, jax.random.key(0), images)}
    random = np.random.default_rng(0)

    def fill(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        """Draws weights that keep the signal's scale: denormals are slow on some processors."""
        if len(leaf.shape) == 1:
            return np.full(leaf.shape, float(path[-1].key in ("scale", "var")), np.float32)
        std = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return np.float32(std) * random.standard_normal(leaf.shape, np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    classes = class_names(config)
    return TrainedNetwork(pathlib.Path(name), config, network, variables, classes, 0)


def create_session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """Opens an ONNX file with one thread per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def create_contenders(
    network: TrainedNetwork, path: pathlib.Path, peer: pathlib.Path | None, batch_size: int
) -> dict[str, Predict]:
    """Returns name -> function that predicts a batch; each is called once to warm up."""
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (batch_size, *formats.image_shape(network)), np.uint8)
    predict = jax.jit(formats.create_predict_function(network))
    variables, device_faces = jax.device_put((network.variables, faces))
    onnx_session = create_session(path)
    contenders: dict[str, Predict] = {
        JAX: lambda: jax.block_until_ready(predict(variables, device_faces)),
        ONNX: lambda: onnx_session.run(None, {"image": faces}),
    }
    if peer is not None:
        size = network.config.data.crop_size
        crops = frameworks.normalize_arrays(faces[:, :size, :size]).transpose(0, 3, 1, 2)
        images, peer_session = np.ascontiguousarray(crops), create_session(peer)
        contenders[PEER_ONNX] = lambda: peer_session.run(None, {"image": images})
    for predict_batch in contenders.values():
        predict_batch()
    return contenders


def export_efficientnet(folder: pathlib.Path, crop_size: int) -> pathlib.Path | None:
    """Exports EfficientNet-B0 with eight classes and random weights.

    **Returns:** the ONNX file, or None if PyTorch or timm is not installed.
    """
    if not (is_installed("torch") and is_installed("timm")):
        print("skipped: EfficientNet-B0, which needs torch and timm")
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter of PyTorch
        frameworks.torchvision()  # timm imports it
        import timm

        network: Any = timm.create_model("tf_efficientnet_b0", num_classes=8).eval()
        path = folder / f"{PEER}.onnx"
        frameworks.torch().onnx.export(
            network,
            (frameworks.torch().zeros(2, 3, crop_size, crop_size),),
            str(path),
            input_names=["image"],
            output_names=["expression"],
            dynamic_axes={"image": {0: "batch"}, "expression": {0: "batch"}},
            dynamo=False,  # the other exporter needs another package
        )
    return path


def measure(
    contenders: dict[str, Predict], batch_size: int, args: argparse.Namespace
) -> harness.Runs:
    """Returns milliseconds a face of every contender in every round."""

    def milliseconds_per_face(predict: Predict) -> float:
        work = functools.partial(repeat, predict, args.steps)
        return 1000 * harness.measure_seconds(work, args.clock) / (batch_size * args.steps)

    timers = {
        name: functools.partial(milliseconds_per_face, predict)
        for name, predict in contenders.items()
    }
    return harness.run_interleaved(timers, args.rounds)


def repeat(predict: Predict, count: int) -> None:
    for _ in range(count):
        predict()


def table_row(name: str, batch_size: int, times: harness.Runs) -> dict[str, Any]:
    row: dict[str, Any] = {"network": name, "batch": batch_size}
    row |= {contender: statistics.median(values) for contender, values in times.items()}
    row["JAX / ONNX"] = harness.format_ratio(times[JAX], times[ONNX])
    if PEER_ONNX in times:
        row["ONNX / EfficientNet-B0"] = harness.format_ratio(times[ONNX], times[PEER_ONNX])
    return row


if __name__ == "__main__":
    main()
