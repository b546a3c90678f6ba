"""Small checkpoints: a state, its template, and folders with saved steps."""

from __future__ import annotations

import pathlib
import shutil

import jax
import numpy as np
import pytest

from affect_jax.run.checkpoints import Checkpoints

TEMPLATE = {
    "step": jax.ShapeDtypeStruct((), np.int32),
    "params": {
        "kernel": jax.ShapeDtypeStruct((64, 3), np.float32),
        "half": jax.ShapeDtypeStruct((5,), jax.numpy.bfloat16),
    },
    "opt_state": (jax.ShapeDtypeStruct((7,), np.float32), {}),
}
INFO = {"epoch": 1.5, "data": "fingerprint", "config": "digest"}


def state_of(step: int) -> dict:
    """Returns a state in which every array depends on the step."""
    random = np.random.default_rng(step)

    def draw(leaf):
        values = random.normal(size=leaf.shape) * 100
        return np.asarray(values, leaf.dtype) if leaf.shape else np.asarray(step, leaf.dtype)

    return jax.tree.map(draw, TEMPLATE)


def assert_same(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def save(folder: pathlib.Path, *steps: int, scores=lambda step: None, **options) -> None:
    with Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), INFO, scores(step))


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return tmp_path / "checkpoints"


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory) -> pathlib.Path:
    """A folder with checkpoints of steps 10 and 20; tests must not change it."""
    folder = tmp_path_factory.mktemp("two_steps") / "checkpoints"
    save(folder, 10, 20)
    return folder


@pytest.fixture
def damaged(two_steps, folder) -> pathlib.Path:
    """A copy of `two_steps` that tests may damage."""
    shutil.copytree(two_steps, folder)
    return folder
