"""Alignment: eyes at fixed places, from landmarks or found by a network."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.data import alignment, face_images
from affect_jax.facs.render import random_face

SIZE = 64
BOX = (20.0, 20.0, 216.0, 216.0)


def rendered_face(index):
    """A face of 256 pixels and its landmarks."""
    face = random_face.sample_face(0, index, split="validation", skew="balanced", size=256)
    return face.image, face.landmarks.astype(float)


def rotate(image, landmarks, degrees, scale):
    """Turns a face about the centre of its image."""
    matrix = cv2.getRotationMatrix2D((127.5, 127.5), degrees, scale)
    turned = cv2.warpAffine(image, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    return turned, landmarks @ matrix[:, :2].T + matrix[:, 2]


def eye_centres(landmarks):
    return np.stack([landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)])


@settings(max_examples=30, deadline=None)
@given(
    angle=st.floats(-3, 3),
    distance=st.floats(5, 200),
    centre=st.tuples(st.floats(0, 255), st.floats(0, 255)),
    margin=st.sampled_from([0.0, 0.2]),
)
def test_eyes_are_at_their_places(angle, distance, centre, margin):
    half = distance / 2 * np.array([math.cos(angle), math.sin(angle)])
    eyes = np.stack([centre - half, centre + half])
    image = np.zeros((256, 256, 3), np.uint8)
    face, matrix = alignment.align(image, eyes, margin, SIZE)
    found = (eyes @ matrix[:, :2].T + matrix[:, 2] + 0.5) / SIZE
    expected = 0.5 + (alignment.EYES - 0.5) / (1 + 2 * margin)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert face.shape == (SIZE, SIZE, 3)
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), np.hypot(*matrix[0, :2]) ** 2)


@pytest.mark.parametrize(("degrees", "scale"), [(25, 1.0), (-25, 0.7), (10, 1.2)])
def test_a_turned_face_is_aligned_like_the_upright_one(degrees, scale):
    image, landmarks = rendered_face(0)
    upright, points, aspect = face_images.crop_face(image, BOX, 0.0, SIZE, "eyes", landmarks)
    image, landmarks = rotate(image, landmarks, degrees, scale)
    turned, turned_points, _ = face_images.crop_face(image, BOX, 0.0, SIZE, "eyes", landmarks)
    np.testing.assert_allclose(turned_points, points, atol=1e-3)
    centre = slice(SIZE // 4, -SIZE // 4)
    difference = np.abs(turned.astype(float) - upright)[centre, centre]
    assert difference.mean() < 4 and aspect == 1
    by_box = face_images.crop_face(image, BOX, 0.0, SIZE)[0].astype(float)
    assert np.abs(by_box - upright)[centre, centre].mean() > 3 * difference.mean()


def test_network_finds_the_eyes_of_turned_faces():
    errors = []
    for index in range(12):
        image, landmarks = rotate(*rendered_face(index), 20 * (index % 3 - 1), 0.9)
        found, eyes = alignment.find_eyes(image, BOX, None), eye_centres(landmarks)
        if found is not None:
            distance = np.hypot(*(eyes[1] - eyes[0]))
            errors.append(np.linalg.norm(found - eyes, axis=1).max() / distance)
    assert len(errors) >= 10 and np.median(errors) < 0.2


def test_without_eyes_the_face_is_the_box():
    image = np.full((256, 256, 3), 90, np.uint8)
    image[::7] = 30
    expected, _ = face_images.crop_and_resize(image, BOX, 0.1, SIZE)
    impossible = [np.full((68, 2), 40.0), np.linspace((0, 0), (9e5, 9e5), 68)]
    for landmarks in (None, *impossible):
        face, *_ = face_images.crop_face(image, BOX, 0.1, SIZE, "eyes", landmarks)
        np.testing.assert_array_equal(face, expected)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(alignment.importlib.util, "find_spec", lambda name: None)
    alignment._load_network.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'affect_jax\[align\]'"):
        alignment.find_eyes(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64), None)
