"""The step of `benchmarks.minimal_step` equals that of the package and needs few packages."""

from __future__ import annotations

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.parallel import AXIS
from affect_jax.train.experiment import create_experiment, load_registries
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
from benchmarks import harness, minimal_step

SIDE, FACES = 32, 6


def test_updates_equal_those_of_the_package(tiny_networks):
    """Two updates in one dispatch against two steps, without randomness, whose keys differ."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (FACES, SIDE, SIDE, 3), np.uint8)
    labels = random.integers(0, 8, FACES).astype(np.int32)
    load_registries()
    config = defaults()
    config.trunk, config.batch_size = {"name": "alexnet"}, FACES
    config.data.crop_size, config.data.mirror = SIDE, False
    targets = make_targets({"expression": labels})
    experiment = create_experiment(config, targets, steps_per_epoch=10)
    initial = create_state(experiment)
    batch = take_rows(targets, np.arange(FACES)) | {"image": images}

    step = functools.partial(train_step, experiment)
    one_device = jax.vmap(step, in_axes=(None, 0), out_axes=None, axis_name=AXIS, axis_size=1)
    update, expected = jax.jit(one_device), initial
    for _ in range(2):
        expected, _ = update(expected, split_for_devices(batch, 1))

    minimal = minimal_step.MinimalExperiment(
        {"name": "alexnet"}, dtype="float32", crop_size=SIDE, mirror=False
    )
    state = minimal.create_state() | {
        "params": jax.tree.map(jnp.copy, initial.params["model"]),
        "batch_stats": jax.tree.map(jnp.copy, initial.batch_stats),
    }
    rows = np.stack([np.arange(FACES, dtype=np.int32)] * 2)
    updated, (losses, _) = minimal_step.compile_on_first_device(minimal.train_steps)(
        state, images, labels, rows
    )
    assert int(updated["step"]) == 2 and losses.shape == (2,)
    pairs = ((updated["params"], expected.params["model"]),)
    pairs += ((updated["batch_stats"], expected.batch_stats),)
    for actual, reference in pairs:
        assert jax.tree.structure(actual) == jax.tree.structure(reference)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, reference
        )


@pytest.mark.parametrize("steps_in_dispatch", (False, True))
def test_only_the_first_step_compiles(steps_in_dispatch):
    """Benchmarks measure the steps after the first."""
    minimal = minimal_step.MinimalExperiment(
        {"name": "resnet18", "width": 2}, dtype="float32", crop_size=SIDE
    )
    faces, labels = np.zeros((FACES, SIDE, SIDE, 3), np.uint8), np.zeros(FACES, np.int32)
    index = np.arange(FACES, dtype=np.int32)
    update = minimal_step.compile_on_first_device(
        minimal.train_steps if steps_in_dispatch else minimal.train_step
    )
    batch = (faces, labels, index[None] if steps_in_dispatch else index)

    compilations: list[str] = []

    def listen(event: str, _: float, **metadata: object) -> None:
        if "backend_compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state, _ = update(minimal.create_state(), *batch)
        before = len(compilations)
        assert before >= 2
        for _ in range(2):
            state, _ = update(state, *batch)
        assert len(compilations) == before
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_gpu_benchmark_imports_without_optional_packages():
    missing = (
        "clu, ml_collections, tabulate, psutil, grain, tensorflow_datasets, cv2, simplejpeg, PIL, "
        "safetensors, tqdm, pyarrow, tensorboardX, torchvision, keras"
    )
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in "{missing}".split(", "):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import benchmarks.gpu
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=harness.FOLDER.parent)
    assert process.returncode == 0
