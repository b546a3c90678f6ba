"""Sampling: exact class counts, pure functions of seed and epoch, and slices of processes."""

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


def create_sampler(name: str, **options) -> sampling.Sampler:
    return sampling.SAMPLERS.create({"name": name, **options})


@given(LABELS, SEEDS, EPOCHS)
def test_natural_draws_every_face_once(labels, seed, epoch):
    rows = sampling.shuffle_epoch(create_sampler("natural"), labels, seed, epoch)
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(labels)))


@given(LABELS, SEEDS, EPOCHS, st.integers(1, 12), st.booleans())
def test_down_has_exact_counts_without_repeats(labels, seed, epoch, cap, redraw):
    rows = sampling.shuffle_epoch(
        create_sampler("down", cap=cap, redraw=redraw), labels, seed, epoch
    )
    assert len(np.unique(rows)) == len(rows)
    for label in range(-1, 8):
        expected = 0 if label < 0 else min(cap, int((labels == label).sum()))
        assert (labels[rows] == label).sum() == expected


@given(LABELS, SEEDS, EPOCHS)
def test_up_repeats_every_class_to_the_size_of_the_largest(labels, seed, epoch):
    rows = sampling.shuffle_epoch(create_sampler("up"), labels, seed, epoch)
    class_size = max(((labels == label).sum() for label in range(8)), default=0)
    repeats = np.bincount(rows, minlength=len(labels))
    assert not repeats[labels < 0].any()
    for label in np.unique(labels[labels >= 0]):
        class_repeats = repeats[labels == label]
        assert class_repeats.sum() == class_size
        assert class_repeats.max() - class_repeats.min() <= 1
        assert class_repeats.min() == class_size // len(class_repeats)


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
@given(labels=LABELS, seed=SEEDS, epoch=EPOCHS)
def test_order_is_a_pure_function_of_constant_length(name, labels, seed, epoch):
    first = sampling.shuffle_epoch(create_sampler(name), labels, seed, epoch)
    np.testing.assert_array_equal(
        first, sampling.shuffle_epoch(create_sampler(name), labels, seed, epoch)
    )
    assert first.dtype == np.int64
    assert len(first) == len(sampling.shuffle_epoch(create_sampler(name), labels, seed, epoch + 1))


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
def test_order_changes_with_seed_and_epoch(name):
    labels = np.arange(400) % 8
    orders = [
        sampling.shuffle_epoch(create_sampler(name), labels, s, e) for s in (0, 1) for e in (0, 1)
    ]
    for i in range(4):
        for j in range(i):
            assert (orders[i] == orders[j]).mean() < 0.1


def test_down_redraws_its_subset_each_epoch_only_if_asked():
    labels = np.zeros(100, int)
    for redraw in (True, False):
        subsets = [
            set(
                sampling.shuffle_epoch(
                    create_sampler("down", cap=50, redraw=redraw), labels, 3, epoch
                ).tolist()
            )
            for epoch in (0, 1)
        ]
        assert (subsets[0] == subsets[1]) != redraw


def test_down_and_up_of_affectnet_have_the_papers_sizes():
    counts = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
    labels = np.repeat(np.arange(8), counts)
    assert len(sampling.shuffle_epoch(create_sampler("down"), labels, 0, 0)) == 88_021
    assert len(sampling.shuffle_epoch(create_sampler("up"), labels, 0, 0)) == 8 * 134_415


def test_cap_of_zero_is_an_error():
    with pytest.raises(UserError, match="cap = 0"):
        create_sampler("down", cap=0)


def test_order_is_uniform():
    labels = np.zeros(4, int)
    first = [
        sampling.shuffle_epoch(create_sampler("natural"), labels, 5, epoch)[0]
        for epoch in range(2000)
    ]
    share = np.bincount(first) / 2000
    np.testing.assert_allclose(share, 0.25, atol=0.05)  # five standard deviations


def create_rows(labels, batch_size, seed=0, name="natural", eligible=None):
    return sampling.TrainingRows(
        create_sampler(name), labels, seed=seed, batch_size=batch_size, eligible=eligible
    )


@given(st.integers(8, 60), st.integers(1, 8), SEEDS)
def test_an_epoch_of_batches_is_a_prefix_of_its_order(num_faces, batch_size, seed):
    labels = np.arange(num_faces) % 3
    rows = create_rows(labels, batch_size, seed)
    assert rows.steps_per_epoch == num_faces // batch_size
    for epoch in (0, 1, 2):
        steps = range(epoch * rows.steps_per_epoch, (epoch + 1) * rows.steps_per_epoch)
        seen = np.concatenate([rows[step] for step in steps])
        order = sampling.shuffle_epoch(create_sampler("natural"), labels, seed, epoch)
        np.testing.assert_array_equal(seen, order[: len(seen)])
        assert num_faces - len(seen) < batch_size


@given(st.lists(st.booleans(), min_size=20, max_size=60), SEEDS)
def test_only_eligible_faces_are_drawn(eligible, seed):
    eligible = np.array([True, *eligible])
    rows = create_rows(np.full(len(eligible), -1), 1, seed, eligible=eligible)
    seen = np.concatenate([rows[step] for step in range(rows.steps_per_epoch)])
    np.testing.assert_array_equal(np.sort(seen), np.flatnonzero(eligible))


def test_remaining_faces_differ_from_epoch_to_epoch():
    rows = create_rows(np.zeros(11, int), 4)
    remaining = []
    for epoch in range(20):
        drawn = np.concatenate([rows[epoch * 2 + batch] for batch in (0, 1)])
        remaining.append(frozenset(range(11)) - set(drawn.tolist()))
    assert frozenset.union(*remaining) == frozenset(range(11))


@pytest.mark.parametrize("name", sampling.SAMPLERS.names())
def test_steps_can_be_read_in_any_order(name):
    labels = np.arange(50) % 4
    steps = [0, 31, 7, 5000, 6, 7]
    sequential = create_rows(labels, 6, name=name)
    expected = {step: sequential[step] for step in sorted(steps)}
    random_access = pickle.loads(pickle.dumps(create_rows(labels, 6, name=name)))
    for step in steps:
        np.testing.assert_array_equal(random_access[step], expected[step])


@given(st.sampled_from([1, 2, 3, 4, 6, 12]), SEEDS)
def test_processes_share_a_batch_without_overlap(processes, seed):
    rows = create_rows(np.arange(40) % 3, 12, seed)
    for step in (0, 5):
        parts = [sampling.select_process_rows(rows[step], p, processes) for p in range(processes)]
        np.testing.assert_array_equal(np.concatenate(parts), rows[step])
        assert {len(part) for part in parts} == {12 // processes}


def test_batch_size_not_divisible_by_processes_is_an_error():
    with pytest.raises(ValueError, match="equal division"):
        sampling.select_process_rows(np.arange(10), 0, 4)


def test_batch_larger_than_an_epoch_is_an_error():
    with pytest.raises(UserError, match="batch_size = 12: an epoch of this data has 11 faces"):
        create_rows(np.zeros(11, int), 12)


@given(st.integers(1, 50), st.integers(1, 20))
def test_sequential_rows_are_complete_and_padded(num_faces, batch_size):
    rows = sampling.SequentialRows(num_faces, batch_size)
    parts = [rows[step] for step in range(len(rows))]
    assert {len(part) for part in parts} == {batch_size}
    padded = np.concatenate(parts)
    np.testing.assert_array_equal(padded[:num_faces], np.arange(num_faces))
    assert (padded[num_faces:] == -1).all() and len(padded) - num_faces < batch_size
    with pytest.raises(IndexError):
        rows[len(rows)]
