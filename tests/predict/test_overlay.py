"""Overlays: positions of boxes and points, labels, and images of all sizes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.facs.action_units import UNITS
from affect_jax.predict import overlay
from affect_jax.predict.inputs import Frame, Source
from affect_jax.predict.overlay import FACE_COLOURS, MAX_SIDE, MIN_SIDE, POINT_COLOUR
from affect_jax.predict.predictor import ImageFaces

NAMES = {"expression": classes(8), "action_units": [f"AU{unit}" for unit in UNITS]}
GREY = (10, 10, 10)
PIXELS = np.full((16, 16, 3), GREY, np.uint8)


def create_result(width: int, height: int, boxes=(), valence_arousal=(0.5, -0.5)) -> ImageFaces:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(boxes)
    expression = np.full((count, 8), 0.02)
    expression[:, 3] = 0.86
    units = np.full((count, 18), 0.25)
    units[:, 5:7] = 0.75
    outputs = {
        "expression": expression,
        "valence_arousal": np.tile(valence_arousal, (count, 1)),
        "action_units": units,
    }
    crops = np.zeros((count, 4, 4, 3), np.uint8)
    reason = "" if count else "no face found"
    return ImageFaces((width, height), boxes, boxes[:, 0], crops, reason, outputs)


def draw(faces: ImageFaces) -> np.ndarray:
    width, height = faces.size
    pixels = np.full((height, width, 3), GREY, np.uint8)
    return overlay.draw_predictions(pixels, faces, NAMES)


def find_pixels(drawing: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The x and y of the pixels of a colour, [n, 2]."""
    rows, columns = np.nonzero((drawing == colour).all(axis=-1))
    return np.stack([columns, rows], axis=1)


def test_box_is_drawn_around_the_face():
    result = create_result(640, 480, [(100, 50, 200, 200)])
    drawing = draw(result)
    assert drawing.shape == (480, 640, 3) and drawing.dtype == np.uint8
    box = find_pixels(drawing[:250], FACE_COLOURS[0])  # the label is below
    np.testing.assert_allclose([box.min(axis=0), box.max(axis=0)], [(100, 50), (300, 249)], atol=2)
    assert len(find_pixels(drawing[110:240, 110:290], GREY)) == 130 * 180  # the face is visible


def test_faces_have_colours_in_order_of_size():
    boxes = [(10, 10, 200, 200), (300, 10, 100, 100)]
    drawing = draw(create_result(640, 480, boxes))
    assert find_pixels(drawing, FACE_COLOURS[0])[:, 0].max() < 300
    assert find_pixels(drawing, FACE_COLOURS[1])[:, 0].min() >= 300


def test_point_is_at_valence_and_arousal():
    def find_point(valence, arousal):
        result = create_result(500, 400, [(40, 40, 320, 320)], (valence, arousal))
        return find_pixels(draw(result), POINT_COLOUR).mean(axis=0)

    right, left, top, bottom = (
        find_point(*values) for values in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    np.testing.assert_allclose(right - left, (80, 0), atol=1)  # two radii: a quarter of the box
    np.testing.assert_allclose(bottom - top, (0, 80), atol=1)
    np.testing.assert_allclose(find_point(0, 0), (right + left) / 2, atol=1)


@pytest.mark.parametrize(
    "heads, label",
    [
        (("expression", "action_units"), "2 surprise 0.86\nAU7 AU9"),
        (("expression",), "2 surprise 0.86"),
        (("action_units",), "2\nAU7 AU9"),
        (("valence_arousal",), "2"),
    ],
)
def test_label_has_the_class_and_the_active_units(heads, label):
    outputs = create_result(400, 400, [(0, 0, 9, 9)]).outputs
    face_outputs = {head: outputs[head][0] for head in heads}
    assert overlay._format_label(2, face_outputs, NAMES) == label


def test_faces_have_the_numbers_of_the_table(monkeypatch):
    texts = []
    monkeypatch.setattr(
        overlay, "_draw_label", lambda pen, corner, text, colour: texts.append(text)
    )
    draw(create_result(400, 400, [(0, 0, 90, 90), (100, 100, 50, 50)]))
    assert sorted(text.split()[0] for text in texts) == ["0", "1"]


def test_network_without_valence_has_no_point():
    result = create_result(400, 400, [(50, 50, 200, 200)])
    del result.outputs["valence_arousal"]
    drawing = draw(result)
    assert not len(find_pixels(drawing, POINT_COLOUR)) and len(
        find_pixels(drawing, FACE_COLOURS[0])
    )


def test_reason_is_drawn_without_a_face():
    drawing = draw(create_result(400, 300))
    assert np.unique(drawing[:100].reshape(-1, 3), axis=0).shape[0] > 10  # a text has many greys
    assert len(find_pixels(drawing[100:], GREY)) == 200 * 400


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (97, 61), (2600, 1600)])
@pytest.mark.parametrize("num_faces", [0, 3])
def test_drawing_of_any_image_size_has_even_sides(size, num_faces):
    boxes = [(-50, -50, 5000, 5000), (0, 0, 1, 1), (4900, 10, 30, 30)][:num_faces]
    drawing = draw(create_result(*size, boxes))
    height, width, _ = drawing.shape
    assert height % 2 == width % 2 == 0 and MIN_SIDE <= max(height, width) <= MAX_SIDE


def test_unwritable_folder_raises(tmp_path):
    (tmp_path / "file").write_text("")
    sources = [Source("a.png", "a.png"), Source("b.mp4", "b.mp4")]
    with pytest.raises(UserError, match="file/a: cannot be written: Not a directory"):
        overlay.OverlayWriter(tmp_path / "file" / "a", sources[:1]).write(
            Frame(sources[0], PIXELS), create_result(16, 16), NAMES
        )
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(UserError, match="b.mp4: cannot be written"):
        overlay.OverlayWriter(tmp_path, sources).write(
            Frame(sources[1], PIXELS, 0, 0.0, 10.0), create_result(16, 16), NAMES
        )


def test_names_may_repeat_and_need_not_be_utf8(tmp_path):
    names = ("x-3.png", "x.jpg", "x.png", os.fsdecode(b"caf\xe9.png"))
    sources = [Source(str(tmp_path / "in" / name), name) for name in names]
    writer = overlay.OverlayWriter(tmp_path / "out", sources)
    for source in sources:
        writer.write(Frame(source, PIXELS), create_result(16, 16), NAMES)
    files = {os.fsencode(path.name) for path in (tmp_path / "out").iterdir()}
    assert files == {b"x-3.jpg", b"x.jpg", b"x-3-3.jpg", b"caf\xe9.jpg"}


@pytest.mark.bad_input
def test_video_in_a_folder_that_is_not_utf8_raises(tmp_path):
    source = Source("b.mp4", "b.mp4")
    writer = overlay.OverlayWriter(tmp_path / os.fsdecode(b"caf\xe9"), [source])
    with pytest.raises(UserError, match="b.mp4: cannot be written"):
        writer.write(Frame(source, PIXELS, 0, 0.0, 10.0), create_result(16, 16), NAMES)
