"""TensorBoard images of faces: landmarks, labels and predictions."""

from __future__ import annotations

import dataclasses

import numpy as np

from affect_jax.facs.action_units import UNITS
from affect_jax.metrics.predictions import Predictions
from affect_jax.train.tensorboard_images import (
    _caption_lines,
    confusion_image,
    face_panel,
)


def table() -> Predictions:
    units = np.zeros((2, len(UNITS)))
    units[0, [UNITS.index(12), UNITS.index(14)]] = 0.8
    return Predictions(
        id=np.array(["a", "b"]),
        classes=("neutral", "contempt"),
        expression=np.array([1, -1]),
        probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]),
        valence_arousal=np.array([[0.5, -0.25], [np.nan, np.nan]]),
        valence_arousal_predicted=np.array([[0.25, 0.125], [0.0, 0.0]]),
        units=UNITS,
        action_units=units,
        action_units_predicted=units[::-1],
    )


def test_caption_lines_start_with_the_label():
    assert _caption_lines(table(), 0) == [
        "contempt: contempt 0.75",
        "valence +0.50: +0.25",
        "arousal -0.25: +0.12",
        "AU 12+14",
        "-> none",
    ]
    assert _caption_lines(table(), 1)[0] == "none: neutral 0.50"
    assert _caption_lines(table(), 1)[-1] == "-> 12+14"


def test_landmarks_are_drawn_on_faces_that_have_them():
    images = np.full((2, 32, 32, 3), 128, np.uint8)
    points = np.zeros((2, 68, 2), np.float32)
    rows = np.arange(2)
    without = face_panel(images, points, table(), rows)
    points[0] = np.random.default_rng(0).uniform(8, 24, (68, 2))
    drawn = face_panel(images, points, table(), rows)
    assert drawn.shape == without.shape and drawn.dtype == np.uint8
    changed = np.flatnonzero((drawn != without).any(axis=(0, 2)))
    first_face = drawn.shape[1] // 6  # the first of six columns
    assert len(changed) and changed.max() < first_face


def test_confusion_image_has_the_fractions_of_annotated_faces():
    image = confusion_image(table())
    assert image.shape == (840, 840, 3) and image.std() > 5
    mistaken = dataclasses.replace(table(), expression=np.array([0, -1]))
    assert (confusion_image(mistaken) != image).any()
