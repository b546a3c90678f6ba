"""Overlays: positions of boxes, bars and points, and images of all sizes."""

from __future__ import annotations

import numpy as np
import pytest

from affect_jax.core.labels import classes
from affect_jax.facs.action_units import UNITS
from affect_jax.predict import overlay
from affect_jax.predict.overlay import (
    BLUE,
    FACE_COLOURS,
    MAX_SIDE,
    MIN_SIDE,
    ORANGE,
    PANEL_WIDTH,
    OutputNames,
)

NAMES = OutputNames(classes(8), UNITS)
GREY = (10, 10, 10)


def create_outputs(count: int, heads=("expression", "valence_arousal", "action_units")):
    expression = np.full((count, 8), 0.02)
    expression[:, 3] = 0.86
    units = np.full((count, 18), 0.25)
    units[:, 5] = 0.75
    outputs = {
        "expression": expression,
        "valence_arousal": np.tile([0.5, -0.5], (count, 1)),
        "action_units": units,
    }
    return {head: outputs[head] for head in heads}


def create_image(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def count_pixels(drawing: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((drawing == colour).all(axis=-1).sum())


def test_draws_box_on_the_face_and_panel_beside_the_image():
    drawing = overlay.draw_overlay(
        create_image(640, 480), np.array([[100, 50, 200, 200]]), create_outputs(1), NAMES
    )
    assert drawing.shape == (480, 640 + PANEL_WIDTH, 3) and drawing.dtype == np.uint8
    image = drawing[:, :640]
    rows, columns = np.nonzero((image == FACE_COLOURS[0]).all(axis=-1))
    assert abs(columns.min() - 100) <= 3 and abs(columns.max() - 299) <= 3
    assert abs(rows.min() - 50) <= 3 and abs(rows.max() - 249) <= 3
    assert count_pixels(image[60:240, 130:290], GREY) == 180 * 160  # nothing is drawn on the face
    panel = drawing[:, 640:]
    assert count_pixels(panel, ORANGE) > 500 and count_pixels(panel, BLUE) > 200


def test_bar_length_is_proportional_to_probability():
    def count_orange(probability):
        values = {"expression": np.array([[probability, 1 - probability]])}
        names = OutputNames(("one", "two"), ())
        return count_pixels(
            overlay.draw_overlay(create_image(320, 320), np.ones((1, 4)), values, names), ORANGE
        )

    assert count_orange(1.0) == pytest.approx(2 * count_orange(0.5), rel=0.03)


def test_point_is_at_valence_and_arousal():
    def find_extremes(valence, arousal):
        values = {"valence_arousal": np.array([[valence, arousal]])}
        drawing = overlay.draw_overlay(create_image(400, 400), np.ones((1, 4)), values, NAMES)
        rows, columns = np.nonzero((drawing[:, 400:] == ORANGE).all(axis=-1))
        disc = np.array([columns.max(), rows.max()]), np.array([columns.min(), rows.min()])
        return disc

    (right, _), (_, left) = find_extremes(1, 0), find_extremes(-1, 0)
    assert right[0] - left[0] > 100  # to the right: pleasant
    (_, top), (bottom, _) = find_extremes(0, 1), find_extremes(0, -1)
    assert bottom[1] - top[1] > 100  # upwards: excited


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (97, 61), (5000, 3000), (60, 4000)])
@pytest.mark.parametrize("num_faces", [0, 1, 3])
def test_drawing_of_any_image_size_has_even_sides(size, num_faces):
    boxes = np.array([[-50, -50, 5000, 5000], [0, 0, 1, 1], [4900, 10, 30, 30]])[:num_faces]
    drawing = overlay.draw_overlay(
        create_image(*size), boxes, create_outputs(num_faces), NAMES, note="no face"
    )
    assert drawing.shape[0] % 2 == drawing.shape[1] % 2 == 0
    longer_side = max(drawing.shape[0], drawing.shape[1] - PANEL_WIDTH * num_faces)
    assert MIN_SIDE <= longer_side <= MAX_SIDE + 1


def test_panels_of_many_faces_fill_columns():
    boxes = np.tile([10, 10, 20, 20], (30, 1))
    drawing = overlay.draw_overlay(create_image(640, 900), boxes, create_outputs(30), NAMES)
    columns = (drawing.shape[1] - 640) // PANEL_WIDTH
    assert columns == 12  # two panels in each column, 24 at most


def test_video_frames_have_one_size_for_any_number_of_faces():
    sizes = {
        overlay.draw_overlay(
            create_image(320, 240),
            np.ones((num_faces, 4)),
            create_outputs(num_faces),
            NAMES,
            face_numbers=range(7, 7 + num_faces),
            panel_columns=1,
        ).shape
        for num_faces in range(4)
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("head", ["expression", "valence_arousal", "action_units"])
def test_panel_shows_only_existing_heads(head):
    drawing = overlay.draw_overlay(
        create_image(640, 480), np.ones((1, 4)), create_outputs(1, (head,)), NAMES
    )
    all_heads = overlay.draw_overlay(
        create_image(640, 480), np.ones((1, 4)), create_outputs(1), NAMES
    )
    assert 0 < count_pixels(drawing, ORANGE) < count_pixels(all_heads, ORANGE)
