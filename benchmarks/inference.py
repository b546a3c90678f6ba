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
from affect_jax.models.network import create_network, predict_step
from affect_jax.run.trained_network import TrainedNetwork, class_names
from affect_jax.train.experiment import load_registries
from benchmarks import harness, torch_peer
from benchmarks.step import MARGIN, NETWORKS, random_faces

PEER = "efficientnet_b0"
JAX, ONNX, PEER_ONNX = "JAX", "ONNX", "EfficientNet-B0, ONNX"

Predict = Callable[[], Any]  # predicts one batch and waits for it


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        networks=(NETWORKS, ("resnet18",)),
        batches=((1, 8), (2,)),
        crop_size=(224, 32),
        steps=(5, 1, "per contender and round"),
        peers=((PEER,), ()),
        clock=harness.CLOCK,
    )
    load_registries()
    rows, runs = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        peer = export_efficientnet(folder, args.crop_size) if args.peers else None
        for name in args.networks:
            network = random_network(name, args.crop_size)
            (folder / name).mkdir()
            formats.write_network(network, "onnx", folder / name)
            for batch_size in args.batches:
                paths = {ONNX: folder / name / "model.onnx"} | ({PEER_ONNX: peer} if peer else {})
                times = measure(create_contenders(network, paths, batch_size), batch_size, args)
                runs[f"{name}, {batch_size}"] = times
                rows.append(table_row(name, batch_size, times))
                print(harness.markdown_table(rows[-1:]), flush=True)
    harness.write_result(
        "inference",
        what="Milliseconds a face on the CPU; EfficientNet-B0 is timm's, exported by PyTorch",
        args=args,
        rows=rows,
        runs=runs,
    )


def random_network(name: str, crop_size: int) -> TrainedNetwork:
    """Returns the network of the protocol with another trunk and random weights."""
    config = defaults()
    config.trunk = {"name": name}
    config.data.crop_size, config.data.image_size = crop_size, crop_size + MARGIN
    network = create_network(config)
    images = jnp.zeros((1, crop_size, crop_size, 3))
    variables = {"batch_stats": {}, **jax.jit(network.model.init)(jax.random.key(0), images)}
    classes = class_names(config)
    return TrainedNetwork(pathlib.Path(name), config, network, variables, classes, 0)


def create_contenders(
    network: TrainedNetwork, paths: dict[str, pathlib.Path], batch_size: int
) -> dict[str, Predict]:
    """Returns name -> function that predicts one batch of random faces.

    **Arguments:** `paths`: ONNX files by contender.
    """
    size = network.config.data.crop_size
    faces, _ = random_faces(batch_size, size + MARGIN)
    predict = jax.jit(functools.partial(predict_step, network.network))
    variables, device_faces = jax.device_put((network.variables, {"image": faces}))
    inputs = {ONNX: faces}
    if PEER_ONNX in paths:
        crops = torch_peer.normalize_images(np.ascontiguousarray(faces[:, :size, :size]))
        inputs[PEER_ONNX] = crops.cpu().contiguous().numpy()
    contenders: dict[str, Predict] = {
        JAX: lambda: jax.block_until_ready(predict(variables, device_faces))
    }
    for name, path in paths.items():
        session = create_session(path)
        contenders[name] = functools.partial(session.run, None, {"image": inputs[name]})
    return contenders


def create_session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """Opens an ONNX file with one thread per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = harness.count_cores()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def export_efficientnet(folder: pathlib.Path, crop_size: int) -> pathlib.Path:
    """Exports EfficientNet-B0 with eight classes and random weights; returns the ONNX file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter of PyTorch
        torch_peer.torchvision()  # timm imports it
        import timm

        network: Any = timm.create_model("tf_efficientnet_b0", num_classes=8).eval()
        path = folder / f"{PEER}.onnx"
        torch_peer.torch().onnx.export(
            network,
            (torch_peer.torch().zeros(2, 3, crop_size, crop_size),),
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
        def work() -> None:
            for _ in range(args.steps):
                predict()

        return 1000 * harness.measure_seconds(work, args.clock) / (batch_size * args.steps)

    timers = {}
    for name, predict in contenders.items():
        predict()  # compiles
        timers[name] = functools.partial(milliseconds_per_face, predict)
    return harness.run_interleaved(timers, args.rounds)


def table_row(name: str, batch_size: int, times: harness.Runs) -> dict[str, Any]:
    row: dict[str, Any] = {"network": name, "batch": batch_size}
    row |= {contender: statistics.median(values) for contender, values in times.items()}
    row["JAX / ONNX"] = harness.format_ratio(times[JAX], times[ONNX])
    if PEER_ONNX in times:
        row["ONNX / EfficientNet-B0"] = harness.format_ratio(times[ONNX], times[PEER_ONNX])
    return row


if __name__ == "__main__":
    main()
