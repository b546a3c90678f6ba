"""Fixtures: trained runs, their exports, and reference predictions."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from affect_jax.export import formats
from affect_jax.models.network import predict_step
from affect_jax.run.trained_network import TrainedNetwork, load_network
from tests.trained_runs import create_config, write_run


@pytest.fixture(scope="session")
def create_trained(tmp_path_factory) -> Callable[..., TrainedNetwork]:
    """`create_trained("alexnet")` loads a run of that trunk with all heads; cached."""

    @functools.cache
    def create(trunk: str, **changes: Any) -> TrainedNetwork:
        folder = tmp_path_factory.mktemp("runs") / trunk
        return load_network(write_run(folder, create_config(trunk, **changes)))

    return create


@pytest.fixture(scope="session")
def create_exported(create_trained, tmp_path_factory) -> Callable[..., Exported]:
    """`create_exported("onnx", "alexnet")` exports that run in that format; cached.

    `changes` are those of `create_config`.
    """

    @functools.cache
    def export(export_format: str, trunk: str = "resnet18", **changes: Any) -> Exported:
        folder = tmp_path_factory.mktemp("exported")
        trained = create_trained(trunk, **changes)
        return Exported(trained, folder, formats.write_network(trained, export_format, folder))

    return export


class Exported(NamedTuple):
    trained: TrainedNetwork
    folder: pathlib.Path
    result: dict[str, Any]


NUM_FACES = 8


def create_faces(trained: TrainedNetwork) -> np.ndarray:
    """Random faces, uint8 [8, S, S, 3]."""
    size = trained.config.data.image_size
    return np.random.default_rng(7).integers(0, 256, (NUM_FACES, size, size, 3), np.uint8)


_compiled_steps: dict[int, Callable[..., Any]] = {}


def predict(trained: TrainedNetwork, faces: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of `predict_step`, compiled once for each run."""
    if id(trained) not in _compiled_steps:
        _compiled_steps[id(trained)] = jax.jit(functools.partial(predict_step, trained.network))
    return jax.device_get(_compiled_steps[id(trained)](trained.variables, {"image": faces}))


def onnx_session(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda faces: dict(zip(names, session.run(None, {"image": faces}), strict=True))
