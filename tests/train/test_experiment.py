"""Targets from config and data: the source of action units."""

from __future__ import annotations

import types

import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data.dataset import count_classes, load_targets, most_probable_classes
from affect_jax.facs import estimation, rig

FACES = 6
ASPECT = 0.8  # aspect ratio of the face boxes


def create_columns() -> dict[str, np.ndarray]:
    """Columns of six faces: the first two have annotated units, all but the last have landmarks."""
    random = np.random.default_rng(0)
    intensities = random.uniform(0, 1, (FACES, 18))
    points = rig.deform_symmetric(intensities, np.zeros((FACES, rig.NUM_IDENTITY)))
    points = (60 * points + 128).astype(np.float32)
    points[5] = np.nan
    units = np.full((FACES, 18), np.nan, np.float32)
    units[:2] = 0.25
    return {
        "expression": np.arange(FACES),
        "valence": np.zeros(FACES, np.float32),
        "arousal": np.zeros(FACES, np.float32),
        "action_units": units,
        "action_unit_sides": np.repeat(units[:, None], 2, axis=1),
        "landmarks": points * (1 / ASPECT, 1),  # squared
        "aspect": np.full(FACES, ASPECT, np.float32),
    }


def load_targets_from(source: str, heads=("action_units",), *, soft_labels: bool = False):
    config = defaults()
    config.data.soft_labels = soft_labels
    config.heads, config.data.action_units = heads, source
    classes = labels.EXPRESSIONS
    split = types.SimpleNamespace(
        name="training",
        classes=classes,
        columns=lambda *names: {n: v for n, v in create_columns().items() if n in names},
    )
    return load_targets(config, split)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "source, annotated, estimated",
    [("annotated", (0, 1), ()), ("auto", (0, 1), (2, 3, 4)), ("estimated", (), (0, 1, 2, 3, 4))],
)
def test_source_of_units_follows_the_config(source, annotated, estimated):
    targets, message = load_targets_from(source)
    faces_with_units = sorted((*annotated, *estimated))
    assert np.flatnonzero(targets["action_units_mask"].all(axis=1)).tolist() == faces_with_units
    assert not np.delete(targets["action_units_mask"], faces_with_units, axis=0).any()
    for face in annotated:
        np.testing.assert_array_equal(targets["action_units"][face], np.float32(0.25))
    estimate = estimation.estimate(create_columns()["landmarks"] * (ASPECT, 1))
    for face in estimated:
        np.testing.assert_allclose(
            targets["action_units"][face], estimate.intensities[face], atol=1e-5
        )
        np.testing.assert_allclose(
            targets["action_unit_sides"][face], estimate.sides[face], atol=1e-5
        )
    has_sides = targets["action_unit_sides_mask"].all(axis=(1, 2))
    assert np.flatnonzero(has_sides).tolist() == faces_with_units
    num_unknown = FACES - len(faces_with_units)
    assert f"annotated for {len(annotated)} faces" in message
    assert f"from landmarks for {len(estimated)}, unknown for {num_unknown}" in message


def test_units_are_not_estimated_without_a_head():
    targets, message = load_targets_from("auto", heads=("expression",))
    assert message == "" and targets["action_units_mask"].all(axis=1).sum() == 2


def test_soft_labels_replace_single_classes(monkeypatch):
    """In the class counts and for the sampler, which uses the most probable class."""
    columns = create_columns()
    weights = np.random.default_rng(0).dirichlet(np.ones(11), FACES).astype(np.float32)
    monkeypatch.setitem(globals(), "create_columns", lambda: columns)
    with pytest.raises(UserError, match="^data.soft_labels: affectnet has no distributions"):
        load_targets_from("auto", ("expression",), soft_labels=True)
    columns["expression_distribution"] = weights
    hard, _ = load_targets_from("auto", ("expression",))
    assert "expression_distribution" not in hard
    np.testing.assert_array_equal(count_classes(hard, 8), [1] * FACES + [0, 0])
    targets, _ = load_targets_from("auto", ("expression",), soft_labels=True)
    expected = weights[:, :8] / weights[:, :8].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(count_classes(targets, 8), expected.sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(most_probable_classes(targets), expected.argmax(axis=1))
    np.testing.assert_array_equal(targets["expression"], hard["expression"])


@pytest.mark.parametrize("source", ["annotated", "auto", "estimated"])
def test_non_faces_have_no_units(monkeypatch, source):
    columns, unchanged_mask = create_columns(), load_targets_from(source)[0]["action_units_mask"]
    columns["expression"][[1, 3]] = labels.EXPRESSIONS.index("non-face")
    columns["expression"][[0, 2]] = [labels.EXPRESSIONS.index(n) for n in ("none", "uncertain")]
    monkeypatch.setitem(globals(), "create_columns", lambda: columns)
    targets, _ = load_targets_from(source)
    assert not targets["action_units_mask"][[1, 3]].any()
    assert not targets["action_unit_sides_mask"][[1, 3]].any()
    other_faces = [0, 2, 4, 5]
    np.testing.assert_array_equal(
        targets["action_units_mask"][other_faces], unchanged_mask[other_faces]
    )


def test_implausible_landmarks_give_no_targets(monkeypatch):
    columns = create_columns()
    columns["landmarks"][3] = np.random.default_rng(0).uniform(0, 256, (68, 2))
    monkeypatch.setitem(globals(), "create_columns", lambda: columns)
    targets, message = load_targets_from("auto")
    assert np.flatnonzero(targets["action_units_mask"].all(axis=1)).tolist() == [0, 1, 2, 4]
    assert "from landmarks for 2, unknown for 2" in message
