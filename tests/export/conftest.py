"""Trained runs to export, and what one of them becomes."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from affect_jax import steps, trained
from affect_jax.export import formats
from tests.trained_runs import settings, write


@pytest.fixture(scope="session")
def run_of(tmp_path_factory) -> Callable[..., trained.Trained]:
    """`run_of("alexnet")`: a loaded run of that trunk with every head; made once."""

    @functools.cache
    def make(trunk: str, **changes: Any) -> trained.Trained:
        folder = tmp_path_factory.mktemp("runs") / trunk
        return trained.load(write(folder, settings(trunk, **changes)))

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
    run: trained.Trained
    folder: pathlib.Path
    made: dict[str, Any]


FACES = 8


def faces_for(run: trained.Trained) -> np.ndarray:
    """uint8 [8, S, S, 3]."""
    size = run.config.data.image_size
    return np.random.default_rng(7).integers(0, 256, (FACES, size, size, 3), np.uint8)


_compiled: dict[int, Callable[..., Any]] = {}


def predicted(run: trained.Trained, faces: np.ndarray) -> dict[str, np.ndarray]:
    """What evaluation's own step gives for these faces; compiled once a run."""
    if id(run) not in _compiled:
        _compiled[id(run)] = jax.jit(functools.partial(steps.predict_step, run.network))
    return jax.device_get(_compiled[id(run)](run.variables, {"image": faces}))


def onnx_session(path: pathlib.Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda faces: dict(zip(names, session.run(None, {"image": faces}), strict=True))
