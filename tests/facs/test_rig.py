"""Tests of the rig: displacements of 68 points by units and persons, mirrored, rotated, scaled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS

K = rig.NUM_IDENTITY
INTENSITIES = arrays(float, (3, len(UNITS)), elements=st.floats(0, 1))
SIDES = arrays(float, (3, 2, len(UNITS)), elements=st.floats(0, 1))
IDENTITIES = arrays(float, (3, K), elements=st.floats(-2, 2))
UPPER, LOWER = [37, 38, 43, 44, 61, 62, 63], [41, 40, 47, 46, 67, 66, 65]

# Unit -> points and the direction in which they move, on the left side of the image.
DIRECTIONS = {
    1: {21: "up"},
    2: {18: "up", 17: "up"},
    4: {21: "down", 20: "in"},
    5: {37: "up", 38: "up"},
    6: {41: "up", 37: "down"},
    7: {40: "up", 38: "down"},
    9: {31: "up", 51: "up", 21: "down"},
    10: {51: "up", 50: "up"},
    12: {48: "up", 60: "out"},
    14: {48: "out", 49: "down"},
    15: {48: "down"},
    17: {8: "up", 57: "up"},
    20: {48: "out"},
    23: {48: "in", 51: "down", 57: "up"},
    24: {51: "down", 57: "up"},
    25: {66: "down", 62: "up"},
    26: {8: "down", 66: "down"},
    43: {37: "down", 38: "down"},
}


def face_points(intensities=None, identity=None) -> np.ndarray:
    """One face in face units [68, 2]."""
    intensities = np.zeros(len(UNITS)) if intensities is None else intensities
    identity = np.zeros(K) if identity is None else identity
    return rig.deform_symmetric(intensities[None], identity[None])[0]


def single_unit(unit: int, intensity: float = 1.0) -> np.ndarray:
    """Intensities [18] with one active unit."""
    return intensity * (np.array(UNITS) == unit)


def test_mirror_is_its_own_inverse_and_matches_ibug():
    assert (rig.MIRROR[rig.MIRROR] == np.arange(68)).all()
    pairs = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 31: 35, 33: 33, 36: 45, 37: 44, 39: 42, 41: 46}
    pairs |= {48: 54, 49: 53, 51: 51, 57: 57, 59: 55, 60: 64, 61: 63, 66: 66, 67: 65}
    assert {point: int(rig.MIRROR[point]) for point in pairs} == pairs


def test_neutral_face_is_in_face_units():
    np.testing.assert_allclose(rig.NEUTRAL[36:42].mean(axis=0), [-0.5, 0], atol=1e-12)
    np.testing.assert_allclose(rig.NEUTRAL[42:48].mean(axis=0), [0.5, 0], atol=1e-12)
    np.testing.assert_allclose(face_points(), rig.NEUTRAL)
    brow, eye, nose, mouth, chin = (rig.NEUTRAL[point, 1] for point in (19, 36, 33, 62, 8))
    assert brow < eye < nose < mouth < chin


@given(INTENSITIES, IDENTITIES)
def test_frontal_faces_are_symmetric(intensities, identity):
    points = rig.deform_symmetric(intensities, identity)
    np.testing.assert_allclose(points[:, rig.MIRROR] * (-1, 1), points, atol=1e-9)


@given(INTENSITIES, IDENTITIES)
def test_lids_and_lips_meet_but_do_not_cross(intensities, identity):
    points = rig.deform_symmetric(intensities, identity)
    assert (points[:, UPPER, 1] <= points[:, LOWER, 1] + 1e-12).all()


def test_equal_sides_give_a_symmetric_face():
    rng = np.random.default_rng(0)
    intensities, identity = rng.uniform(0, 1, (5, len(UNITS))), rng.standard_normal((5, K))
    symmetric = rig.deform_symmetric(intensities, identity)
    points, rest = rig.deform_sides(np.stack([intensities, intensities], axis=1), identity)
    np.testing.assert_allclose(points, symmetric, atol=1e-12)
    np.testing.assert_allclose(
        rest, rig.deform_symmetric(np.zeros_like(intensities), identity), atol=1e-12
    )


@given(SIDES, IDENTITIES)
def test_mirroring_swaps_sides(sides, identity):
    points, _ = rig.deform_sides(sides, identity)
    swapped, _ = rig.deform_sides(sides[:, ::-1], identity)
    np.testing.assert_allclose(points[:, rig.MIRROR] * (-1, 1), swapped, atol=1e-9)


def test_each_side_moves_its_own_half():
    sides = np.zeros((1, 2, len(UNITS)))
    sides[0, 0, UNITS.index(12)] = 1
    points, rest = rig.deform_sides(sides, np.zeros((1, K)))
    moved = np.linalg.norm(points - rest, axis=2)[0]
    assert moved[48] > 0.15 and moved[54] == 0
    assert moved[51] == pytest.approx(
        np.linalg.norm(rig.UNIT_DISPLACEMENTS[UNITS.index(12), 51]) / 2
    )
    np.testing.assert_allclose(
        points - rest, rig.SIDE_DISPLACEMENTS[0, None, UNITS.index(12)], atol=1e-12
    )


@given(INTENSITIES, st.floats(-0.5, 0.5))
def test_turned_head_is_an_orthographic_projection(intensities, yaw):
    """The reference rotates the points in 3-D with SciPy and drops their depth."""
    front = rig.deform_symmetric(intensities, np.zeros((3, K)))
    solid = np.concatenate([front, np.tile(rig.DEPTH[None, :, None], (3, 1, 1))], axis=2)
    rotation = Rotation.from_euler("y", yaw)
    expected = np.stack([rotation.apply(points) for points in solid])[..., :2]
    np.testing.assert_allclose(rig.turn_head(front, yaw), expected, atol=1e-9)


def test_positive_yaw_moves_the_nose_right():
    assert (rig.turn_head(rig.NEUTRAL, 0.3) - rig.NEUTRAL)[30, 0] > 0.05


@pytest.mark.parametrize("unit", UNITS)
def test_unit_moves_points_as_in_facs(unit):
    moved = face_points(single_unit(unit)) - rig.NEUTRAL
    outwards, up = -moved[:, 0], -moved[:, 1]
    for point, direction in DIRECTIONS[unit].items():
        displacement = {"up": up, "down": -up, "out": outwards, "in": -outwards}[direction]
        assert displacement[point] > 0.01, f"AU{unit} moves point {point} {direction}"
    size = np.linalg.norm(moved, axis=1)
    assert 0.03 < size.max() < 0.35  # 2 to 22 mm
    strongest = max(DIRECTIONS[unit], key=lambda point: size[point])
    assert size[strongest] > 0.5 * size.max()


def test_units_add_up():
    """If no lids or lips meet, two units at half intensity give the mean of combined at full."""
    combined = face_points(single_unit(1, 0.5) + single_unit(12, 0.5)) - rig.NEUTRAL
    separate = [face_points(single_unit(unit)) - rig.NEUTRAL for unit in (1, 12)]
    np.testing.assert_allclose(combined, (separate[0] + separate[1]) / 2, atol=0.005)


def test_closed_lids_meet_and_jaw_drop_opens_the_mouth():
    closed = face_points(single_unit(43))
    assert np.abs(closed[[37, 38], 1] - closed[[41, 40], 1]).max() < 0.02
    opened = face_points(single_unit(26))
    assert opened[66, 1] - opened[62, 1] > 0.2


def test_units_and_identities_are_linearly_independent():
    """Landmarks can therefore distinguish all of them."""
    moves = np.concatenate([rig.UNIT_DISPLACEMENTS, rig.IDENTITY_DISPLACEMENTS]).reshape(
        len(UNITS) + K, -1
    )
    directions = moves / np.linalg.norm(moves, axis=1, keepdims=True)
    assert np.linalg.matrix_rank(directions, tol=0.01) == len(UNITS) + K


@pytest.mark.parametrize(
    ("name", "first", "second", "axis", "share"),
    [
        ("face_width", 0, 16, 0, 0.06),
        ("mouth_width", 48, 54, 0, 0.08),
        ("nose_width", 31, 35, 0, 0.12),
        ("lip_fullness", 51, 57, 1, 0.15),
        ("nose_length", 27, 33, 1, 0.08),
        ("eye_size", 36, 39, 0, 0.08),
        ("brow_height", 21, 39, 1, 0.11),
    ],
)
def test_proportions_vary_by_about_a_tenth(name, first, second, axis, share):
    deformed = face_points(identity=1.0 * (np.array(rig.IDENTITY_NAMES) == name))
    length, neutral_length = (
        abs(points[first, axis] - points[second, axis]) for points in (deformed, rig.NEUTRAL)
    )
    assert length / neutral_length - 1 == pytest.approx(share, abs=0.02)


def test_depth_is_symmetric_and_largest_at_the_nose():
    np.testing.assert_array_equal(rig.DEPTH[rig.MIRROR], rig.DEPTH)
    assert rig.DEPTH.argmax() == 30 and rig.DEPTH[:17].max() <= 0
