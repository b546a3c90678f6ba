"""Batches: targets, masks, padding, splitting and checks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.batch import (
    TARGETS,
    Batch,
    has_target,
    make_targets,
    split_for_devices,
    take_rows,
)
from tests.batches import check_batch


def columns(num_faces: int = 22, seed: int = 0) -> dict[str, np.ndarray]:
    """Creates label columns with every id, in which 30% of the other labels are missing."""
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        values = random.uniform(0.1, 1, (num_faces, *shape)).astype(np.float32)
        values[random.uniform(size=num_faces) < 0.3] = np.nan
        return values

    result = {"expression": np.arange(num_faces) % 12 - 1}
    result |= {"valence": draw(()), "arousal": draw(())}
    result |= {"action_units": draw((18,)), "action_unit_sides": draw((2, 18))}
    return result | {"landmarks": draw((68, 2))}


def complete_batch(rows: np.ndarray, side: int = 4) -> Batch:
    batch = take_rows(make_targets(columns()), rows)
    return {**batch, "image": np.ones((len(rows), side, side, 3), np.uint8)}


@pytest.mark.parametrize("num_classes", [7, 8])
def test_labels_that_are_no_class_are_masked(num_classes):
    ids = np.arange(-1, 11)
    targets = make_targets({"expression": ids}, num_classes)
    expected = (ids >= 0) & (ids < num_classes)
    np.testing.assert_array_equal(targets["expression_mask"], expected)
    np.testing.assert_array_equal(targets["expression"], np.where(expected, ids, 0))


@pytest.mark.parametrize("num_classes", [7, 8])
def test_soft_labels_are_renormalised_over_the_classes(num_classes):
    weights = np.random.default_rng(0).dirichlet(np.ones(11), 5)
    weights[0] = np.nan  # has a label only
    weights[1] = np.eye(11)[9]  # uncertain only
    labels = np.array([3, 2, 10, 0, 6])
    columns = {"expression": labels, "expression_distribution": weights}
    soft = make_targets(columns, num_classes)["expression_distribution"]
    np.testing.assert_array_equal(soft[:2], np.eye(num_classes)[[3, 2]])
    assert not soft[2].any()  # the label is masked
    kept = weights[3:, :num_classes]
    np.testing.assert_allclose(soft[3:], kept / kept.sum(axis=1, keepdims=True), rtol=1e-6)
    assert "expression_distribution" not in make_targets({"expression": labels}, num_classes)


def test_missing_annotations_are_masked():
    data = columns()
    data["valence"][0], data["arousal"][0] = 0.5, np.nan
    data["action_units"][1] = 0.5
    data["action_units"][1, 3] = np.nan
    targets = make_targets(data)
    assert not targets["valence_arousal_mask"][0]
    assert targets["action_units_mask"][1].sum() == 17
    for name in ("valence_arousal", "action_units", "action_unit_sides", "landmarks"):
        mask = targets[f"{name}_mask"]
        source = {"valence_arousal": np.stack([data["valence"], data["arousal"]], -1)}.get(name)
        source = data[name] if source is None else source
        np.testing.assert_array_equal(targets[name][mask], source[mask])
        assert not targets[name][~mask].any()


def test_missing_columns_are_masked():
    targets = make_targets({"expression": np.array([1, 2])})
    for name in ("valence_arousal", "action_units", "landmarks"):
        assert not targets[f"{name}_mask"].any()
        assert not targets[name].any()


def test_complete_landmarks_are_not_copied():
    """Landmarks take most of the memory of a run that streams its images."""
    landmarks = np.random.default_rng(0).uniform(size=(22, 68, 2)).astype(np.float32)
    data = {**columns(), "landmarks": landmarks}
    before = landmarks.copy()
    assert np.shares_memory(make_targets(data)["landmarks"], landmarks)
    assert (landmarks == before).all()


def test_targets_have_the_declared_types_and_shapes():
    targets = make_targets(columns())
    for name, (dtype, shape, mask_shape) in TARGETS.items():
        assert targets[name].dtype == dtype and targets[name].shape == (22, *shape)
        assert targets[f"{name}_mask"].dtype == bool
        assert targets[f"{name}_mask"].shape == (22, *mask_shape)


def test_has_target_is_true_for_a_target_of_any_head():
    targets = make_targets(columns())
    expression = has_target(targets, ["expression"])
    np.testing.assert_array_equal(expression, targets["expression_mask"])
    both = has_target(targets, ["expression", "action_units"])
    np.testing.assert_array_equal(both, expression | targets["action_units_mask"].any(axis=1))
    assert both.sum() > expression.sum()


@given(st.lists(st.integers(-1, 21), min_size=1, max_size=12))
def test_take_rows_selects_rows_and_masks_padding(rows):
    rows = np.array(rows)
    targets = make_targets(columns())
    batch = take_rows(targets, rows)
    check_batch({**batch, "image": np.zeros((len(rows), 2, 2, 3), np.uint8)})
    real = rows >= 0
    np.testing.assert_array_equal(batch["valid"], real)
    np.testing.assert_array_equal(batch["index"][real], rows[real])
    for name, values in targets.items():
        np.testing.assert_array_equal(batch[name][real], values[rows[real]])
        assert not batch[name][~real].any()


@given(st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_split_for_devices_keeps_the_order(devices):
    batch = complete_batch(np.arange(12))
    parts = split_for_devices(batch, devices)
    for name, values in batch.items():
        assert parts[name].shape == (devices, 12 // devices, *values.shape[1:])
        np.testing.assert_array_equal(np.concatenate(list(parts[name])), values)
