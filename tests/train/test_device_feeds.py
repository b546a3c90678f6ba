"""Faces from the devices' memory equal streamed faces, and train the same."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.config import defaults
from affect_jax.core import parallel
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.parallel import AXIS
from affect_jax.data import loader
from affect_jax.data.dataset import load_targets, prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.train import device_feeds, metrics_log
from affect_jax.train.experiment import create_experiment, create_training_rows, load_registries
from affect_jax.train.state import create_state
from affect_jax.train.step import create_train_step, gather_batch
from affect_jax.train.step_intervals import Intervals
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.releases import shrink_config, write_release

STEPS = 10


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    load_registries()
    config = defaults()
    shrink_config(
        config, folder / "release", folder / "data", data__image_size=24, data__crop_size=20
    )
    config.trunk = {"name": "tiny"}
    config.schedule = {"name": "constant"}
    config.learning_rate = 1e-4  # batch normalisation amplifies rounding errors at larger rates
    return config


@pytest.fixture(scope="module")
def split(config):
    return open_split(prepare_dataset(config), "training")


@pytest.fixture(scope="module")
def targets(config, split):
    return load_targets(config, split)[0]


@pytest.mark.parametrize(("devices", "num_faces"), [(1, 8), (2, 8), (4, 11)])
def test_gathered_batches_equal_taken_batches(devices, num_faces):
    """Faces in equal parts on the devices, zeros at the end: each device gets its share."""
    random = np.random.default_rng(num_faces)
    images = random.integers(1, 256, (num_faces, 5, 5, 3), np.uint8)
    columns = {"expression": random.integers(0, 9, num_faces), "valence": random.random(num_faces)}
    targets = make_targets(columns)
    per_device = -(-num_faces // devices)
    padded = np.zeros((devices * per_device, 5, 5, 3), np.uint8)
    padded[:num_faces] = images
    rows = random.integers(0, num_faces, 8).astype(np.int32)
    gathered = jax.jit(jax.vmap(gather_batch, in_axes=(0, None, None), axis_name=AXIS))(
        jnp.asarray(padded.reshape(devices, per_device, 5, 5, 3)),
        jax.tree.map(jnp.asarray, targets),
        jnp.asarray(rows),
    )
    expected = split_for_devices({**take_rows(targets, rows), "image": images[rows]}, devices)
    assert set(gathered) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(gathered[name], array, err_msg=name)
        assert gathered[name].dtype == array.dtype, name


def test_devices_hold_every_face(config, split):
    size = config.data.image_size
    faces = np.asarray(device_feeds.load_faces_on_devices(split.records, size))
    expected = loader.decode_split(split.records, image_size=size)
    np.testing.assert_array_equal(faces.reshape(-1, size, size, 3)[: len(split)], expected)


def test_array_is_filled_in_pieces():
    pieces = [(3, np.full((2, 4), 7, np.uint8)), (0, np.full((1, 4), 9, np.uint8))]
    filled = np.asarray(parallel.create_device_array((6, 4), lambda device: pieces))
    assert filled.shape == (jax.local_device_count(), 6, 4)
    assert filled[0, :, 0].tolist() == [9, 0, 0, 7, 7, 0]


def losses(config, split, targets, create_feed) -> list[float]:
    rows = create_training_rows(config, targets, split)
    # Dispatches of 5, 1, 1, 1, 1 and 1 updates.
    intervals = Intervals(
        rows.steps_per_epoch, total=STEPS, log=7, evaluate=STEPS, save=STEPS, images=STEPS
    )
    experiment = create_experiment(config, targets, rows.steps_per_epoch)
    state, values = parallel.replicate(create_state(experiment)), []
    feed = create_feed(rows, intervals)
    train_step = create_train_step(experiment, resident=isinstance(feed, device_feeds.ResidentFeed))
    while len(values) < STEPS:
        with jax.transfer_guard("disallow"):
            inputs, count = next(feed)
            state, metrics = train_step(state, *inputs)
        collections = metrics_log.split_steps([jax.device_get(metrics)])
        assert len(collections) == count
        values += [float(collection.compute()["loss"]) for collection in collections]
    feed.close()
    return values


def test_resident_faces_give_the_losses_of_streamed_faces(config, split, targets):
    size = config.data.image_size

    def streamed(rows, intervals):
        batches = loader.load_batches(split.records, targets, rows, image_size=size, stop=STEPS)
        return device_feeds.stream(batches, prefetch=2)

    def resident(rows, intervals):
        feed = device_feeds.ResidentFeed(
            split.records, targets, rows, 0, intervals, image_size=size
        )
        feed._max_steps = 5
        return feed

    expected = losses(config, split, targets, streamed)
    assert len(set(expected)) == STEPS
    resident_losses = losses(config, split, targets, resident)
    np.testing.assert_allclose(resident_losses, expected, rtol=1e-5)


@pytest.mark.slow
def test_augmented_faces_are_equal_in_every_cache_mode(config, split, targets):
    """One step sees the same augmented faces: its loss depends on every pixel."""
    config = copy.deepcopy(config)
    config.data.augment = ({"name": "affine", "degrees": 20.0}, {"name": "mixup"})
    values, used = {}, []
    for cache in ("none", "host", "device"):
        config.data.cache = cache

        def create(rows, intervals):
            return device_feeds.create_feed(
                config, split.records, targets, rows, 0, intervals, used.append
            )

        values[cache] = losses(config, split, targets, create)
    assert len(used) == 2 and used[0].startswith("cache host") and "cache device" in used[1]
    np.testing.assert_allclose(values["host"], values["none"], rtol=1e-6)
    np.testing.assert_allclose(values["device"], values["none"], rtol=1e-5)
    config.data.augment = ()
    plain = losses(config, split, targets, create)
    assert np.abs(np.subtract(plain, values["device"])).min() > 1e-4


@given(
    total=st.integers(1, 60),
    log=st.integers(1, 20),
    save=st.integers(1, 20),
    limit=st.integers(1, 10),
    start=st.integers(0, 60),
)
def test_dispatches_end_where_an_event_is_due(total, log, save, limit, start):
    intervals = Intervals(7, total=total, log=log, evaluate=30, save=save, images=50)
    step, ends = start, {start}
    while step < total:
        count = intervals.steps_per_dispatch(step, limit)
        assert count in (1, limit)
        step += count
        ends.add(step)
    assert start >= total or step == total
    for event in ("log", "evaluate", "save", "images"):
        due = {number for number in range(start + 1, total + 1) if intervals.is_due(event, number)}
        assert due <= ends
