"""Trained runs to export, and what one of them becomes."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from affect_jax.export import formats
from affect_jax.models.predict_step import predict_step
from affect_jax.run.load import TrainedNetwork, load_network
from tests.trained_runs import settings, write


@pytest.fixture(scope="session")
def run_of(tmp_path_factory) -> Callable[..., TrainedNetwork]:
    """`run_of("alexnet")`: a loaded run of that trunk with every head; made once."""

    @functools.cache
    def make(trunk: str, **changes: Any) -> TrainedNetwork:
        folder = tmp_path_factory.mktemp("runs") / trunk
        return load_network(write(folder, settings(trunk, **changes)))

    return make


@pytest.fixture(scope="session")
def exported(run_of, tmp_path_factory) -> Callable[..., Exported]:
    """`exported("onnx", "alexnet")`: that run, written in that format; once."""

    @functools.cache
    def make(form: str, trunk: str = "resnet18", beside: bool = False) -> Exported:
        folder = tmp_path_factory.mktemp("exported")
        run = run_of(trunk)
        return Exported(run, folder, formats.write(run, form, folder, beside=beside))

    return make


class Exported(NamedTuple):
    run: TrainedNetwork
    folder: pathlib.Path
    made: dict[str, Any]


FACES = 8


def faces_for(run: TrainedNetwork) -> np.ndarray:
    """uint8 [8, S, S, 3]."""
    size = run.config.data.image_size
    return np.random.default_rng(7).integers(0, 256, (FACES, size, size, 3), np.uint8)


_compiled: dict[int, Callable[..., Any]] = {}


def predicted(run: TrainedNetwork, faces: np.ndarray) -> dict[str, np.ndarray]:
    """What evaluation's own step gives for these faces; compiled once a run."""
    if id(run) not in _compiled:
        _compiled[id(run)] = jax.jit(functools.partial(predict_step, run.network))
    return jax.device_get(_compiled[id(run)](run.variables, {"image": faces}))


def onnx_session(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda faces: dict(zip(names, session.run(None, {"image": faces}), strict=True))
