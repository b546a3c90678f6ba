from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.data import sampling

LABELS = st.lists(st.integers(-1, 7), min_size=1, max_size=80).map(np.array)
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 1000)


def sampler(name: str, **options) -> sampling.Sampler:
    return sampling.SAMPLERS.create({"name": name, **options})


@given(LABELS, SEEDS, EPOCHS)
def test_natural_sees_every_face_once(labels, seed, epoch):
    rows = sampling.order(sampler("natural"), labels, seed, epoch)
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(labels)))


@given(LABELS, SEEDS, EPOCHS, st.integers(1, 12), st.booleans())
def test_down_has_exact_counts_without_repeats(labels, seed, epoch, cap, redraw):
    rows = sampling.order(sampler("down", cap=cap, redraw=redraw), labels, seed, epoch)
    assert len(np.unique(rows)) == len(rows)
    for label in range(-1, 8):
        wanted = 0 if label < 0 else min(cap, int((labels == label).sum()))
        assert (labels[rows] == label).sum() == wanted


@given(LABELS, SEEDS, EPOCHS)
def test_up_repeats_every_class_to_the_size_of_the_largest(labels, seed, epoch):
    rows = sampling.order(sampler("up"), labels, seed, epoch)
    largest = max(((labels == label).sum() for label in range(8)), default=0)
    times = np.bincount(rows, minlength=len(labels))
    assert not times[labels < 0].any()
    for label in np.unique(labels[labels >= 0]):
        of_class = times[labels == label]
        assert of_class.sum() == largest
        assert of_class.max() - of_class.min() <= 1
        assert of_class.min() == largest // len(of_class)


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
@given(labels=LABELS, seed=SEEDS, epoch=EPOCHS)
def test_order_is_a_pure_function_of_constant_length(name, labels, seed, epoch):
    first = sampling.order(sampler(name), labels, seed, epoch)
    np.testing.assert_array_equal(first, sampling.order(sampler(name), labels, seed, epoch))
    assert first.dtype == np.int64
    assert len(first) == len(sampling.order(sampler(name), labels, seed, epoch + 1))


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
def test_order_changes_with_seed_and_epoch(name):
    labels = np.arange(400) % 8
    orders = [sampling.order(sampler(name), labels, s, e) for s in (0, 1) for e in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert (orders[i] == orders[j]).mean() < 0.1


def test_down_draws_anew_each_epoch_or_never():
    labels = np.zeros(100, int)
    for redraw in (True, False):
        draws = [
            set(sampling.order(sampler("down", cap=50, redraw=redraw), labels, 3, epoch).tolist())
            for epoch in (0, 1)
        ]
        assert (draws[0] == draws[1]) != redraw


def test_down_of_affectnet_leaves_the_papers_number():
    counts = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
    labels = np.repeat(np.arange(8), counts)
    assert len(sampling.order(sampler("down"), labels, 0, 0)) == 88_021
    assert len(sampling.order(sampler("up"), labels, 0, 0)) == 8 * 134_415


def test_down_refuses_a_cap_of_nothing():
    with pytest.raises(UserError, match="cap = 0"):
        sampler("down", cap=0)


def test_order_is_uniform():
    labels = np.zeros(4, int)
    first = [sampling.order(sampler("natural"), labels, 5, epoch)[0] for epoch in range(2000)]
    share = np.bincount(first) / 2000
    np.testing.assert_allclose(share, 0.25, atol=0.05)  # five standard deviations


def rows_of(labels, batch_size, seed=0, name="natural", eligible=None):
    return sampling.TrainingRows(
        sampler(name), labels, seed=seed, batch_size=batch_size, eligible=eligible
    )


@given(st.integers(8, 60), st.integers(1, 8), SEEDS)
def test_an_epoch_of_batches_is_a_prefix_of_its_order(num_faces, batch_size, seed):
    labels = np.arange(num_faces) % 3
    rows = rows_of(labels, batch_size, seed)
    assert rows.steps_per_epoch == num_faces // batch_size
    for epoch in (0, 1, 2):
        steps = range(epoch * rows.steps_per_epoch, (epoch + 1) * rows.steps_per_epoch)
        seen = np.concatenate([rows[step] for step in steps])
        order = sampling.order(sampler("natural"), labels, seed, epoch)
        np.testing.assert_array_equal(seen, order[: len(seen)])
        assert num_faces - len(seen) < batch_size


@given(st.lists(st.booleans(), min_size=20, max_size=60), SEEDS)
def test_only_eligible_faces_are_drawn(eligible, seed):
    eligible = np.array([True, *eligible])
    rows = rows_of(np.full(len(eligible), -1), 1, seed, eligible=eligible)
    seen = np.concatenate([rows[step] for step in range(rows.steps_per_epoch)])
    np.testing.assert_array_equal(np.sort(seen), np.flatnonzero(eligible))


def test_faces_left_over_differ_from_epoch_to_epoch():
    rows = rows_of(np.zeros(11, int), 4)
    left = []
    for epoch in range(20):
        seen = np.concatenate([rows[epoch * 2 + place] for place in (0, 1)])
        left.append(frozenset(range(11)) - set(seen.tolist()))
    assert frozenset.union(*left) == frozenset(range(11))


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
def test_any_step_can_be_asked_for_first(name):
    labels = np.arange(50) % 4
    steps = [0, 31, 7, 5000, 6, 7]
    straight = rows_of(labels, 6, name=name)
    expected = {step: straight[step] for step in sorted(steps)}
    jumping = pickle.loads(pickle.dumps(rows_of(labels, 6, name=name)))
    for step in steps:
        np.testing.assert_array_equal(jumping[step], expected[step])


@given(st.sampled_from([1, 2, 3, 4, 6, 12]), SEEDS)
def test_processes_share_a_batch_without_overlap(processes, seed):
    rows = rows_of(np.arange(40) % 3, 12, seed)
    for step in (0, 5):
        parts = [sampling.process_rows(rows[step], p, processes) for p in range(processes)]
        np.testing.assert_array_equal(np.concatenate(parts), rows[step])
        assert {len(part) for part in parts} == {12 // processes}


def test_a_batch_that_processes_do_not_divide_is_refused():
    with pytest.raises(UserError, match="batch_size = 10: must be a multiple of the 4 processes"):
        sampling.process_rows(np.arange(10), 0, 4)


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(UserError, match="batch_size = 12: an epoch of this data has 11 faces"):
        rows_of(np.zeros(11, int), 12)


@given(st.integers(1, 50), st.integers(1, 20))
def test_every_row_comes_once_and_the_rest_is_padding(num_faces, batch_size):
    rows = sampling.EveryRow(num_faces, batch_size)
    parts = [rows[step] for step in range(len(rows))]
    assert {len(part) for part in parts} == {batch_size}
    seen = np.concatenate(parts)
    np.testing.assert_array_equal(seen[:num_faces], np.arange(num_faces))
    assert (seen[num_faces:] == -1).all() and len(seen) - num_faces < batch_size
    with pytest.raises(IndexError):
        rows[len(rows)]


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_position_counts_epochs(step, steps_per_epoch):
    epoch, place = sampling.position(step, steps_per_epoch)
    assert epoch * steps_per_epoch + place == step
    assert 0 <= place < steps_per_epoch
