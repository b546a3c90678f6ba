"""Tests of rendered faces: every unit and parameter is drawn where the landmarks are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render.parameters import (
    GLASSES,
    HAIR_STYLES,
    OCCLUSIONS,
    FaceParameters,
    random_parameters,
)
from affect_jax.facs.render.renderer import pose_points, render_face

PLAIN = FaceParameters()
LIGHT_SKIN, DARK_SKIN = (dataclasses.replace(PLAIN, skin_tone=tone) for tone in (0.0, 0.8))
VALUES = {  # of each parameter: some that differ visibly from the plain face
    "identity": [np.ones(rig.NUM_IDENTITY), -np.ones(rig.NUM_IDENTITY)],
    "skin_tone": [0.0, 1.0],
    "age": [0.6, 1.0],
    "makeup": [0.0, 1.0],
    "hair": [style for style in HAIR_STYLES if style != PLAIN.hair],
    "hair_colour": [0.0, 1.0],
    "glasses": GLASSES[1:],
    "occlusion": OCCLUSIONS[1:],
    "light": [(-1.0, 0.0), (1.0, 0.0), (0.0, 0.6)],
    "brightness": [0.4, 1.1],
    "yaw": [-0.3, 0.3],
    "roll": [-0.4, 0.4],
    "blur": [1.0, 4.0],
    "size": [40.0, 75.0],
    "centre": [(110.0, 107.0), (127.5, 90.0)],
    "surroundings": [1, 2],
}


def units(**intensities: float) -> np.ndarray:
    """`units(AU12=1)` -> intensities [18]."""
    values = np.zeros(len(UNITS))
    for name, value in intensities.items():
        values[UNITS.index(int(name[2:]))] = value
    return values


def mean_brightness(image: np.ndarray, points: np.ndarray) -> float:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (255,))
    return float(image[mask > 0].mean())


def test_size_affects_the_resolution_only():
    large, points = render_face(units(AU12=1.0), PLAIN)
    small, small_points = render_face(units(AU12=1.0), PLAIN, 128)
    assert large.shape == (256, 256, 3) and large.dtype == np.uint8
    np.testing.assert_allclose((small_points + 0.5) * 2 - 0.5, points, atol=1e-9)
    np.testing.assert_array_equal(
        small, cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    )


@pytest.mark.parametrize("parameters", [LIGHT_SKIN, PLAIN])
def test_open_mouth_is_dark(parameters):
    closed_image, closed_points = render_face(units(), parameters)
    opened_image, opened_points = render_face(units(AU25=0.8, AU26=1.0), parameters)
    lips = opened_points[60:68]
    assert np.ptp(lips[:, 1]) > np.ptp(closed_points[60:68, 1]) + 8
    assert mean_brightness(opened_image, lips) < 0.85 * mean_brightness(closed_image, lips)


@pytest.mark.parametrize("parameters", [PLAIN, DARK_SKIN])
def test_closed_eyes_show_no_white(parameters):
    opened, points = render_face(units(AU5=0.5), parameters)
    closed, _ = render_face(units(AU43=1.0), parameters)
    for eye in (points[36:42], points[42:48]):
        low, high = np.floor(eye.min(axis=0)).astype(int), np.ceil(eye.max(axis=0)).astype(int)
        window = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
        # The white of the eye has much more blue than the skin.
        assert opened[window][..., 2].max() > closed[window][..., 2].max() + 30


def test_brows_are_drawn_at_their_landmarks():
    image, points = render_face(units(), LIGHT_SKIN)
    for index in (18, 19, 20, 23, 24, 25):
        x, y = np.round(points[index]).astype(int)
        patch = image[y - 1 : y + 5, x - 2 : x + 3].mean()
        skin = image[y + 8 : y + 11, x - 2 : x + 3].mean()
        assert patch < 0.8 * skin


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_changes_the_face_and_nothing_else(unit):
    rest, _ = render_face(units(), PLAIN)
    half, _ = render_face(units(**{f"AU{unit}": 0.5}), PLAIN)
    full, points = render_face(units(**{f"AU{unit}": 1.0}), PLAIN)
    change = np.abs(full.astype(int) - rest).max(axis=2)
    assert (change > 20).sum() > 40 and not np.array_equal(half, full)
    low, high = points.min(axis=0) - 40, points.max(axis=0) + 30
    rows, columns = np.nonzero(change > 60)
    assert (columns > low[0]).all() and (columns < high[0]).all()
    assert (rows > low[1]).all() and (rows < high[1]).all()


def test_a_unit_on_one_side_changes_that_side():
    sides = np.zeros((2, len(UNITS)))
    sides[1, UNITS.index(12)] = 1.0  # the right side of the image
    rest, _ = render_face(units(), PLAIN)
    change = np.abs(render_face(sides, PLAIN)[0].astype(int) - rest).max(axis=2) > 20
    middle = round(PLAIN.centre[0])
    assert change[:, middle + 15 :].sum() > 10 * change[:, : middle - 15].sum()


def test_all_parameters_are_covered():
    assert set(VALUES) == {field.name for field in dataclasses.fields(FaceParameters)}


@pytest.mark.parametrize("name", VALUES)
def test_every_parameter_changes_the_image(name):
    """At both ends of its range; only pose and proportions move the landmarks."""
    rest, rest_points = render_face(units(), PLAIN)
    for value in VALUES[name]:
        image, points = render_face(units(), dataclasses.replace(PLAIN, **{name: value}))
        assert (np.abs(image.astype(int) - rest).max(axis=2) > 15).sum() > 60
        moves = name in ("identity", "yaw", "roll", "size", "centre")
        assert np.allclose(points, rest_points) != moves


def test_random_parameters_differ_and_are_in_range():
    samples = [random_parameters(np.random.default_rng(seed)) for seed in range(300)]
    for name in ("hair", "glasses", "occlusion"):
        options = {"hair": HAIR_STYLES, "glasses": GLASSES, "occlusion": OCCLUSIONS}[name]
        assert {getattr(sample, name) for sample in samples} == set(options)
    for name, low, high in (
        ("skin_tone", 0, 1), ("age", 0, 1), ("makeup", 0, 1), ("hair_colour", 0, 1),
        ("brightness", 0.4, 1.1), ("yaw", -0.3, 0.3), ("roll", -0.4, 0.4),
        ("blur", 0, 4), ("size", 40, 75),
    ):  # fmt: skip
        values = np.array([getattr(sample, name) for sample in samples])
        assert (values >= low).all() and (values <= high).all() and values.std() > 0, name
    assert np.std([sample.identity for sample in samples], axis=0) == pytest.approx(0.95, abs=0.12)


def test_faces_at_the_edge_of_the_image_are_drawn():
    for centre in ((-60.0, 107.0), (127.5, -150.0), (310.0, 330.0)):
        parameters = dataclasses.replace(
            PLAIN, centre=centre, hair="long", occlusion="mask", glasses="round"
        )
        image, points = render_face(units(AU12=1.0, AU25=1.0), parameters)
        assert image.shape == (256, 256, 3) and ((points < 0) | (points > 255)).any()


@pytest.mark.parametrize("seed", range(3))
def test_landmarks_match_the_rig(seed):
    """A frontal face with equal sides has the points of the rig, normalized by its eyes at rest."""
    rng = np.random.default_rng(seed)
    parameters = dataclasses.replace(random_parameters(rng), yaw=0.0)
    intensities = rng.uniform(0, 1, len(UNITS))
    points, rest = pose_points(np.stack([intensities] * 2), parameters)
    both = np.stack([intensities, np.zeros(len(UNITS))])
    moved, neutral = rig.deform_symmetric(both, np.stack([parameters.identity] * 2))
    left, right = neutral[36:42].mean(axis=0), neutral[42:48].mean(axis=0)
    for actual, expected in ((points, moved), (rest, neutral)):
        expected = (expected - (left + right) / 2) / (right[0] - left[0])
        np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_mirrored_intensities_mirror_the_face():
    rng = np.random.default_rng(1)
    parameters = dataclasses.replace(random_parameters(rng), yaw=0.0)
    sides = rng.uniform(0, 1, (2, len(UNITS)))
    points, _ = pose_points(sides, parameters)
    mirrored, _ = pose_points(sides[::-1].copy(), parameters)
    np.testing.assert_allclose(mirrored[rig.MIRROR] * (-1, 1), points, atol=1e-9)
