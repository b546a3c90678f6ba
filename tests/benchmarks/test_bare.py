"""The step of `benchmarks.bare` is the package's, and needs nothing that may be missing."""

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
from affect_jax.train.experiment import all_registries, create_experiment
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
from benchmarks import bare, recording

SIDE, FACES = 32, 6


def test_updates_are_those_of_the_package(tiny):
    """Without what is random, which has other keys there: two updates, one of each dispatch."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (FACES, SIDE, SIDE, 3), np.uint8)
    labels = random.integers(0, 8, FACES).astype(np.int32)
    all_registries()
    config = defaults()
    config.trunk, config.batch_size = {"name": "alexnet"}, FACES
    config.data.crop_size, config.data.mirror = SIDE, False
    targets = make_targets({"expression": labels})
    compiled = create_experiment(config, targets, steps_per_epoch=10)
    first = create_state(compiled)
    batch = take_rows(targets, np.arange(FACES)) | {"image": images}

    step = functools.partial(train_step, compiled)
    one_device = jax.vmap(step, in_axes=(None, 0), out_axes=None, axis_name=AXIS, axis_size=1)
    update, expected = jax.jit(one_device), first
    for _ in range(2):
        expected, _ = update(expected, split_for_devices(batch, 1))

    ours = bare.Ours({"name": "alexnet"}, dtype="float32", crop_size=SIDE, mirror=False)
    state = ours.create() | {
        "params": jax.tree.map(jnp.copy, first.params["model"]),
        "batch_stats": jax.tree.map(jnp.copy, first.batch_stats),
    }
    rows = np.stack([np.arange(FACES, dtype=np.int32)] * 2)
    found, (losses, _) = bare.compiled(ours.updates)(state, images, labels, rows)
    assert int(found["step"]) == 2 and losses.shape == (2,)
    pairs = ((found["params"], expected.params["model"]),)
    pairs += ((found["batch_stats"], expected.batch_stats),)
    for mine, theirs in pairs:
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, theirs
        )


@pytest.mark.parametrize("several", (False, True))
def test_what_is_timed_is_compiled_before(several):
    """The first update compiles; what is measured are those that follow."""
    ours = bare.Ours({"name": "resnet18", "width": 2}, dtype="float32", crop_size=SIDE)
    faces, labels = np.zeros((FACES, SIDE, SIDE, 3), np.uint8), np.zeros(FACES, np.int32)
    index = np.arange(FACES, dtype=np.int32)
    update = bare.compiled(ours.updates if several else ours.update)
    rest = (faces, labels, index[None] if several else index)

    compilations: list[str] = []

    def listen(event: str, _: float, **about: object) -> None:
        if "backend_compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        state, _ = update(ours.create(), *rest)
        before = len(compilations)
        assert before >= 2
        for _ in range(2):
            state, _ = update(state, *rest)
        assert len(compilations) == before
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_it_imports_where_little_is_installed():
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
    ended = subprocess.run([sys.executable, "-c", code], cwd=recording.FOLDER.parent)
    assert ended.returncode == 0
