"""The rig: what units and persons do to 68 points, mirrored, turned and scaled."""

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
ROTATIONS = arrays(float, 3, elements=st.floats(-3, 3))
UPPER, LOWER = [37, 38, 43, 44, 61, 62, 63], [41, 40, 47, 46, 67, 66, 65]

# Unit -> points with the direction in which they go: the picture's left side.
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


def shape(intensities=None, identity=None) -> np.ndarray:
    """One face in face units [68, 2]."""
    intensities = np.zeros(len(UNITS)) if intensities is None else intensities
    identity = np.zeros(K) if identity is None else identity
    place = (np.ones(1), np.zeros(1), np.zeros((1, 2)))
    return rig.landmarks(intensities[None], identity[None], *place)[0]


def one(unit: int, intensity: float = 1.0) -> np.ndarray:
    return intensity * (np.array(UNITS) == unit)


def test_mirror_is_its_own_inverse_and_ibugs():
    assert (rig.MIRROR[rig.MIRROR] == np.arange(68)).all()
    pairs = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 31: 35, 33: 33, 36: 45, 37: 44, 39: 42, 41: 46}
    pairs |= {48: 54, 49: 53, 51: 51, 57: 57, 59: 55, 60: 64, 61: 63, 66: 66, 67: 65}
    assert {point: int(rig.MIRROR[point]) for point in pairs} == pairs


def test_the_neutral_face_is_in_face_units():
    np.testing.assert_allclose(rig.NEUTRAL[36:42].mean(axis=0), [-0.5, 0], atol=1e-12)
    np.testing.assert_allclose(rig.NEUTRAL[42:48].mean(axis=0), [0.5, 0], atol=1e-12)
    np.testing.assert_allclose(shape(), rig.NEUTRAL)
    brow, eye, nose, mouth, chin = (rig.NEUTRAL[point, 1] for point in (19, 36, 33, 62, 8))
    assert brow < eye < nose < mouth < chin


@given(INTENSITIES, IDENTITIES, ROTATIONS)
def test_mirroring_commutes_with_the_rig(intensities, identity, rotation):
    scale, place = np.array([50.0, 60.0, 70.0]), np.array([[128.0, 100.0]] * 3)
    points = rig.landmarks(intensities, identity, scale, rotation, place)
    other = rig.landmarks(intensities, identity, scale, -rotation, place * (-1, 1))
    np.testing.assert_allclose(points[:, rig.MIRROR] * (-1, 1), other, atol=1e-9)


@given(INTENSITIES, IDENTITIES)
def test_lids_and_lips_meet_and_never_pass(intensities, identity):
    points = rig.landmarks(intensities, identity, np.ones(3), np.zeros(3), np.zeros((3, 2)))
    assert (points[:, UPPER, 1] <= points[:, LOWER, 1] + 1e-12).all()


@given(INTENSITIES, ROTATIONS, st.floats(10, 200))
def test_pose_is_a_similarity(intensities, rotation, size):
    identity, place = np.zeros((3, K)), np.array([[10.0, -20.0]] * 3)
    plain = rig.landmarks(intensities, identity, np.ones(3), np.zeros(3), np.zeros((3, 2)))
    posed = rig.landmarks(intensities, identity, np.full(3, size), rotation, place)
    for points, moved in zip(plain, posed, strict=True):
        edges, seen = points[1:] - points[:-1], moved[1:] - moved[:-1]
        expected = size * np.linalg.norm(edges, axis=1)
        np.testing.assert_allclose(np.linalg.norm(seen, axis=1), expected, atol=1e-9)
        # No reflection: turns keep their sense.
        cross = edges[1:, 0] * edges[:-1, 1] - edges[1:, 1] * edges[:-1, 0]
        turned = seen[1:, 0] * seen[:-1, 1] - seen[1:, 1] * seen[:-1, 0]
        np.testing.assert_allclose(turned, size**2 * cross, atol=1e-6)


def test_sides_that_are_equal_are_those_of_an_even_face():
    rng = np.random.default_rng(0)
    intensities, identity = rng.uniform(0, 1, (5, len(UNITS))), rng.standard_normal((5, K))
    even = rig.even(intensities, identity)
    points, rest = rig.uneven(np.stack([intensities, intensities], axis=1), identity)
    np.testing.assert_allclose(points, even, atol=1e-12)
    np.testing.assert_allclose(rest, rig.even(np.zeros_like(intensities), identity), atol=1e-12)


@given(SIDES, IDENTITIES)
def test_mirroring_swaps_sides(sides, identity):
    points, _ = rig.uneven(sides, identity)
    other, _ = rig.uneven(sides[:, ::-1], identity)
    np.testing.assert_allclose(points[:, rig.MIRROR] * (-1, 1), other, atol=1e-9)


def test_a_side_moves_its_own_half():
    sides = np.zeros((1, 2, len(UNITS)))
    sides[0, 0, UNITS.index(12)] = 1
    points, rest = rig.uneven(sides, np.zeros((1, K)))
    moved = np.linalg.norm(points - rest, axis=2)[0]
    assert moved[48] > 0.15 and moved[54] == 0
    assert moved[51] == pytest.approx(np.linalg.norm(rig.MOVES[UNITS.index(12), 51]) / 2)
    np.testing.assert_allclose(points - rest, rig.SIDE_MOVES[0, None, UNITS.index(12)], atol=1e-12)


@given(INTENSITIES, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_turned_head_is_a_rotation_in_space_seen_from_afar(intensities, yaw, pitch):
    """SciPy's rotation of points with their depth, without it afterwards."""
    identity, place = np.zeros((3, K)), (np.ones(3), np.zeros(3), np.zeros((3, 2)))
    front = rig.landmarks(intensities, identity, *place)
    solid = np.concatenate([front, np.tile(rig.DEPTH[None, :, None], (3, 1, 1))], axis=2)
    turn = Rotation.from_euler("yx", (yaw, -pitch))
    expected = np.stack([turn.apply(points) for points in solid])[..., :2]
    found = rig.landmarks(intensities, identity, *place, yaw, np.full(3, pitch))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_yaw_takes_the_nose_to_the_right_and_pitch_takes_it_down():
    points = rig.NEUTRAL[None]
    assert (rig.turned(points, 0.3, 0.0) - points)[0, 30, 0] > 0.05
    assert (rig.turned(points, 0.0, 0.3) - points)[0, 30, 1] > 0.05


def test_rotation_is_clockwise_as_one_sees_it():
    args = np.zeros((1, len(UNITS))), np.zeros((1, K)), np.ones(1)
    points = rig.landmarks(*args, np.array([0.3]), np.zeros((1, 2)))[0]
    assert points[45, 1] > points[36, 1]  # the eye at the right goes down
    assert points[8, 0] < 0  # the chin goes left


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_moves_what_facs_says(unit):
    moved = shape(one(unit)) - rig.NEUTRAL
    outwards, up = -moved[:, 0], -moved[:, 1]
    for point, direction in DIRECTIONS[unit].items():
        how = {"up": up, "down": -up, "out": outwards, "in": -outwards}[direction]
        assert how[point] > 0.01, f"AU{unit} moves point {point} {direction}"
    size = np.linalg.norm(moved, axis=1)
    assert 0.03 < size.max() < 0.35  # 2 to 22 mm
    strongest = max(DIRECTIONS[unit], key=lambda point: size[point])
    assert size[strongest] > 0.5 * size.max()


def test_units_add_up():
    """As long as no lids or lips meet, half of two units is half of each."""
    both = shape(one(1, 0.5) + one(12, 0.5)) - rig.NEUTRAL
    each = [shape(one(unit)) - rig.NEUTRAL for unit in (1, 12)]
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2, atol=0.005)


def test_closed_eyes_are_closed_and_a_dropped_jaw_opens_the_mouth():
    closed = shape(one(43))
    assert np.abs(closed[[37, 38], 1] - closed[[41, 40], 1]).max() < 0.02
    opened = shape(one(26))
    assert opened[66, 1] - opened[62, 1] > 0.2


def test_each_unit_and_person_is_another_direction():
    """No sum of the others does what one does, so that landmarks can tell all of them."""
    moves = np.concatenate([rig.MOVES, rig.IDENTITY]).reshape(len(UNITS) + K, -1)
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
def test_a_persons_proportions_vary_by_about_a_tenth(name, first, second, axis, share):
    other = shape(identity=1.0 * (np.array(rig.IDENTITY_NAMES) == name))
    length, usual = (
        abs(points[first, axis] - points[second, axis]) for points in (other, rig.NEUTRAL)
    )
    assert length / usual - 1 == pytest.approx(share, abs=0.02)


def test_depth_is_symmetrical_and_the_nose_stands_out():
    np.testing.assert_array_equal(rig.DEPTH[rig.MIRROR], rig.DEPTH)
    assert rig.DEPTH.argmax() == 30 and rig.DEPTH[:17].max() <= 0
