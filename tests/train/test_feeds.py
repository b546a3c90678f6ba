"""Faces in the devices' memory are those that would have been streamed, and train the same."""

from __future__ import annotations

import functools

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
from affect_jax.data.builder import open_split
from affect_jax.data.targets import load_targets, prepare_dataset
from affect_jax.train import feeds, step_metrics
from affect_jax.train.experiment import all_registries, create_experiment, training_rows
from affect_jax.train.intervals import Intervals
from affect_jax.train.state import create_state
from affect_jax.train.step import create_train_step, gather_batch
from tests.releases import shrink, write_release

STEPS = 50


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """AlexNet, whose losses do not amplify a rounding, on a small release."""
    folder = tmp_path_factory.mktemp("faces")
    write_release(folder / "release")
    all_registries()
    config = defaults()
    shrink(config, folder / "release", folder / "data", data__image_size=80, data__crop_size=67)
    config.trunk = {"name": "alexnet", "width": 16}
    config.schedule = {"name": "constant"}
    config.learning_rate = 0.01
    return config


@pytest.fixture(scope="module")
def split(config):
    return open_split(prepare_dataset(config), "training")


@pytest.fixture(scope="module")
def targets(config, split):
    return load_targets(config, split)[0]


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("num_faces", [8, 11])
def test_gathered_batches_are_those_that_are_taken(devices, num_faces):
    """Faces in equal parts on the devices, zeros at the end: each device gets its share of any
    batch."""
    random = np.random.default_rng(num_faces)
    images = random.integers(1, 256, (num_faces, 5, 5, 3), np.uint8)
    columns = {"expression": random.integers(0, 9, num_faces), "valence": random.random(num_faces)}
    targets = make_targets(columns)
    per_device = -(-num_faces // devices)
    held = np.zeros((devices * per_device, 5, 5, 3), np.uint8)
    held[:num_faces] = images
    rows = random.integers(0, num_faces, 8).astype(np.int32)
    found = jax.vmap(gather_batch, in_axes=(0, None, None), axis_name=AXIS)(
        jnp.asarray(held.reshape(devices, per_device, 5, 5, 3)),
        jax.tree.map(jnp.asarray, targets),
        jnp.asarray(rows),
    )
    expected = split_for_devices({**take_rows(targets, rows), "image": images[rows]}, devices)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype, name


def test_the_devices_hold_every_face(config, split):
    size = config.data.image_size
    found = np.asarray(feeds.faces_on_devices(split.records, size))
    expected = loader.decode_all(split.records, image_size=size)
    np.testing.assert_array_equal(found.reshape(-1, size, size, 3)[: len(split)], expected)


def test_an_array_is_filled_piece_by_piece():
    pieces = [(3, np.full((2, 4), 7, np.uint8)), (0, np.full((1, 4), 9, np.uint8))]
    found = np.asarray(parallel.fill((6, 4), lambda device: pieces))
    assert found.shape == (jax.local_device_count(), 6, 4)
    assert found[0, :, 0].tolist() == [9, 0, 0, 7, 7, 0]


def losses(config, split, targets, feed_of) -> list[float]:
    rows = training_rows(config, targets)
    intervals = Intervals(
        rows.steps_per_epoch, total=STEPS, log=20, evaluate=23, save=50, images=50
    )
    compiled = create_experiment(config, targets, rows.steps_per_epoch)
    state, found = parallel.replicate(create_state(compiled)), []
    feed = feed_of(rows, intervals)
    train_step = create_train_step(compiled, resident=feed.resident)
    while len(found) < STEPS:
        with jax.transfer_guard("disallow"):
            inputs, count = next(feed)
            state, metrics = train_step(state, *inputs)
        several = step_metrics.one_a_step([parallel.to_host(metrics)])
        assert len(several) == count
        found += [float(one.compute()["loss"]) for one in several]
    feed.close()
    return found


def test_losses_are_those_of_streamed_faces(config, split, targets):
    size = config.data.image_size

    def streamed(rows, intervals):
        loaded = loader.batches(split.records, targets, rows, image_size=size, stop=STEPS)
        return feeds.StreamedFeed(loaded, prefetch=2)

    def resident(together, rows, intervals):
        return feeds.ResidentFeed(
            split.records, targets, rows, 0, intervals, image_size=size, steps_per_dispatch=together
        )

    expected = losses(config, split, targets, streamed)
    assert expected[0] > expected[-1]
    found = losses(config, split, targets, functools.partial(resident, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(
    total=st.integers(1, 60),
    log=st.integers(1, 20),
    save=st.integers(1, 20),
    most=st.integers(1, 10),
    start=st.integers(0, 60),
)
def test_updates_that_go_out_together_end_where_something_is_due(total, log, save, most, start):
    intervals = Intervals(7, total=total, log=log, evaluate=30, save=save, images=50)
    step, passed = start, {start}
    while step < total:
        count = intervals.steps_per_dispatch(step, most)
        assert count in (1, most)
        step += count
        passed.add(step)
    assert start >= total or step == total
    for name in ("log", "evaluate", "save", "images"):
        due = {number for number in range(start + 1, total + 1) if intervals.due(name, number)}
        assert due <= passed
