"""From config and data to targets: where those of action units come from."""

from __future__ import annotations

import types

import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core import labels
from affect_jax.data.targets import load_targets
from affect_jax.facs import estimation, rig

FACES = 6
ASPECT = 0.8  # of the boxes that the faces were cut from


def columns() -> dict[str, np.ndarray]:
    """Six faces: units annotated of the first two, landmarks of all but the last."""
    random = np.random.default_rng(0)
    intensities = random.uniform(0, 1, (FACES, 18))
    points = rig.landmarks(
        intensities,
        identity=np.zeros((FACES, rig.NUM_IDENTITY)),
        scale=np.full(FACES, 60.0),
        rotation=np.zeros(FACES),
        translation=np.full((FACES, 2), 128.0),
    ).astype(np.float32)
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


def load(source: str, heads=("action_units",)):
    config = defaults()
    config.heads, config.data.action_units = heads, source
    classes = labels.EXPRESSIONS
    split = types.SimpleNamespace(
        name="training",
        classes=classes,
        columns=lambda *names: {name: columns()[name] for name in names},
    )
    return load_targets(config, split)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "source, annotated, estimated",
    [("annotated", (0, 1), ()), ("auto", (0, 1), (2, 3, 4)), ("estimated", (), (0, 1, 2, 3, 4))],
)
def test_units_come_from_where_the_config_says(source, annotated, estimated):
    targets, told = load(source)
    known = sorted((*annotated, *estimated))
    assert np.flatnonzero(targets["action_units_mask"].all(axis=1)).tolist() == known
    assert not np.delete(targets["action_units_mask"], known, axis=0).any()
    for face in annotated:
        np.testing.assert_array_equal(targets["action_units"][face], np.float32(0.25))
    found = estimation.estimate(columns()["landmarks"] * (ASPECT, 1))
    for face in estimated:
        np.testing.assert_allclose(
            targets["action_units"][face], found.intensities[face], atol=1e-5
        )
        np.testing.assert_allclose(targets["action_unit_sides"][face], found.sides[face], atol=1e-5)
    known_sides = targets["action_unit_sides_mask"].all(axis=(1, 2))
    assert np.flatnonzero(known_sides).tolist() == known
    unknown = FACES - len(known)
    assert f"annotated of {len(annotated)} faces" in told
    assert f"from landmarks of {len(estimated)}, unknown of the other {unknown}" in told


def test_without_a_head_for_units_none_are_estimated():
    targets, told = load("auto", heads=("expression",))
    assert told == "" and targets["action_units_mask"].all(axis=1).sum() == 2


@pytest.mark.parametrize("source", ["annotated", "auto", "estimated"])
def test_a_non_face_has_no_units(monkeypatch, source):
    given, whole = columns(), load(source)[0]["action_units_mask"]
    given["expression"][[1, 3]] = labels.EXPRESSIONS.index("non-face")
    given["expression"][[0, 2]] = [labels.EXPRESSIONS.index(n) for n in ("none", "uncertain")]
    monkeypatch.setitem(globals(), "columns", lambda: given)
    targets, _ = load(source)
    assert not targets["action_units_mask"][[1, 3]].any()
    assert not targets["action_unit_sides_mask"][[1, 3]].any()
    others = [0, 2, 4, 5]
    np.testing.assert_array_equal(targets["action_units_mask"][others], whole[others])


def test_landmarks_that_are_no_faces_give_no_targets(monkeypatch):
    given = columns()
    given["landmarks"][3] = np.random.default_rng(0).uniform(0, 256, (68, 2))
    monkeypatch.setitem(globals(), "columns", lambda: given)
    targets, told = load("auto")
    assert np.flatnonzero(targets["action_units_mask"].all(axis=1)).tolist() == [0, 1, 2, 4]
    assert "from landmarks of 2, unknown of the other 2" in told
