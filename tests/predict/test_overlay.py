"""Drawings: everything is in its place and within the picture, whatever its size."""

from __future__ import annotations

import numpy as np
import pytest

from affect_jax.core.labels import classes
from affect_jax.facs.action_units import UNITS
from affect_jax.predict import overlay
from affect_jax.predict.overlay import BLUE, CARD, FACES, LARGEST, ORANGE, SMALLEST, Names

NAMES = Names(classes(8), UNITS)
GREY = (10, 10, 10)


def outputs(count: int, heads=("expression", "valence_arousal", "action_units")):
    expression = np.full((count, 8), 0.02)
    expression[:, 3] = 0.86
    units = np.full((count, 18), 0.25)
    units[:, 5] = 0.75
    everything = {
        "expression": expression,
        "valence_arousal": np.tile([0.5, -0.5], (count, 1)),
        "action_units": units,
    }
    return {head: everything[head] for head in heads}


def picture(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def count(drawing: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((drawing == colour).all(axis=-1).sum())


def test_a_box_is_drawn_where_it_is_and_a_card_beside():
    drawing = overlay.draw(picture(640, 480), np.array([[100, 50, 200, 200]]), outputs(1), NAMES)
    assert drawing.shape == (480, 640 + CARD, 3) and drawing.dtype == np.uint8
    scene = drawing[:, :640]
    rows, columns = np.nonzero((scene == FACES[0]).all(axis=-1))
    assert abs(columns.min() - 100) <= 3 and abs(columns.max() - 299) <= 3
    assert abs(rows.min() - 50) <= 3 and abs(rows.max() - 249) <= 3
    assert count(scene[60:240, 130:290], GREY) == 180 * 160  # the face itself stays free
    card = drawing[:, 640:]
    assert count(card, ORANGE) > 500 and count(card, BLUE) > 200


def test_bars_are_as_long_as_they_say():
    def orange(p):
        values = {"expression": np.array([[p, 1 - p]])}
        names = Names(("one", "two"), ())
        return count(overlay.draw(picture(320, 320), np.ones((1, 4)), values, names), ORANGE)

    assert orange(1.0) == pytest.approx(2 * orange(0.5), rel=0.03)


def test_the_dot_is_where_valence_and_arousal_are():
    def dot(valence, arousal):
        values = {"valence_arousal": np.array([[valence, arousal]])}
        drawing = overlay.draw(picture(400, 400), np.ones((1, 4)), values, NAMES)
        rows, columns = np.nonzero((drawing[:, 400:] == ORANGE).all(axis=-1))
        disc = np.array([columns.max(), rows.max()]), np.array([columns.min(), rows.min()])
        return disc

    (right, _), (_, left) = dot(1, 0), dot(-1, 0)
    assert right[0] - left[0] > 100  # to the right: pleasant
    (_, top), (bottom, _) = dot(0, 1), dot(0, -1)
    assert bottom[1] - top[1] > 100  # upwards: excited


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (97, 61), (5000, 3000), (60, 4000)])
@pytest.mark.parametrize("faces", [0, 1, 3])
def test_a_picture_of_any_size_becomes_one_of_even_sides(size, faces):
    boxes = np.array([[-50, -50, 5000, 5000], [0, 0, 1, 1], [4900, 10, 30, 30]])[:faces]
    drawing = overlay.draw(picture(*size), boxes, outputs(faces), NAMES, note="no face")
    assert drawing.shape[0] % 2 == drawing.shape[1] % 2 == 0
    longer = max(drawing.shape[0], drawing.shape[1] - CARD * faces)
    assert SMALLEST <= longer <= LARGEST + 1


def test_cards_of_many_faces_fill_columns():
    boxes = np.tile([10, 10, 20, 20], (30, 1))
    drawing = overlay.draw(picture(640, 900), boxes, outputs(30), NAMES)
    columns = (drawing.shape[1] - 640) // CARD
    assert columns == 12  # two below one another, 24 at most


def test_films_frames_have_one_size_whatever_is_in_them():
    sizes = {
        overlay.draw(
            picture(320, 240),
            np.ones((n, 4)),
            outputs(n),
            NAMES,
            numbers=range(7, 7 + n),
            columns=1,
        ).shape
        for n in range(4)
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("head", ["expression", "valence_arousal", "action_units"])
def test_a_card_shows_only_the_heads_that_there_are(head):
    drawing = overlay.draw(picture(640, 480), np.ones((1, 4)), outputs(1, (head,)), NAMES)
    everything = overlay.draw(picture(640, 480), np.ones((1, 4)), outputs(1), NAMES)
    assert 0 < count(drawing, ORANGE) < count(everything, ORANGE)
