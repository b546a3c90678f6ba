"""Overlay: draws predictions on an image, with a numbered box on each face and a panel beside it.

A panel shows the class probabilities as bars, valence and arousal as a point in Russell's
circumplex, and the action units. Colours are from the Okabe-Ito palette; the number of a face
repeats what its colour shows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import ACTIVE_THRESHOLD

TEXT_COLOUR, MUTED_COLOUR = (28, 33, 40), (91, 101, 114)
LINE_COLOUR, BACKGROUND, BAR_BACKGROUND = (212, 218, 225), (255, 255, 255), (240, 243, 246)
BLUE, ORANGE = (0, 114, 178), (200, 78, 0)
FACE_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0))

MAX_SIDE, MIN_SIDE = 1280, 320  # longer side of the drawn image, pixels
PANEL_WIDTH = 250
MAX_PANELS = 24  # in one image; faces beyond it have a box only
_LINE_HEIGHT, _BAR_WIDTH, _PLANE_SIZE = 16, 100, 112
_HEADER_HEIGHT, _GAP = 30, 10


class Text(NamedTuple):
    """A text to draw; `anchor` is the point of the text at `position`, as in Pillow."""

    position: tuple[float, float]
    text: str
    size: int = 12
    colour: tuple[int, int, int] = TEXT_COLOUR
    anchor: str = "lm"


class OutputNames(NamedTuple):
    """Names of the classes and numbers of the action units."""

    classes: Sequence[str]
    units: Sequence[int]


def draw_overlay(
    pixels: np.ndarray,
    boxes: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    names: OutputNames,
    *,
    face_numbers: Sequence[int] | None = None,
    panel_columns: int | None = None,
    note: str = "",
) -> np.ndarray:
    """Draws the predictions of one image.

    **Arguments:**

    - `pixels`: uint8 [height, width, 3].
    - `boxes`: float [n, 4] in pixels of the image.
    - `outputs`: `{head: [n, ...]}`.
    - `names`: of the classes and action units.
    - `face_numbers`: number of each face, in a video its track; None: 1, 2, ...
    - `panel_columns`: number of panel columns; None: as many as the faces need. With a fixed
      number, all images of one size give drawings of one size, and faces without a free panel
      have a box only.
    - `note`: text to draw on an image without a face.

    **Returns:** uint8 [height, width, 3], both even: the image, at most `MAX_SIDE` pixels, with the
    panels on its right.
    """
    if face_numbers is None:
        face_numbers = range(1, len(boxes) + 1)
    scale = _display_scale(pixels)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    panel_height = _panel_height(outputs, names)
    rows = max(1, height // panel_height)
    if panel_columns is None:
        panel_columns = -(-min(len(boxes), MAX_PANELS) // rows)
    size = (max(height, panel_height if panel_columns else 0), width + panel_columns * PANEL_WIDTH)
    canvas = np.full((size[0] + size[0] % 2, size[1] + size[1] % 2, 3), BACKGROUND, np.uint8)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[:height, :width] = cv2.resize(pixels, (width, height), interpolation=interpolation)
    image = canvas[:height, :width]
    texts = []
    for index in reversed(range(len(boxes))):  # the largest face last, on top of the others
        texts += _draw_box(image, boxes[index] * scale, face_numbers[index])
    for index in range(min(len(boxes), rows * panel_columns)):
        corner = (width + index // rows * PANEL_WIDTH, index % rows * panel_height)
        face_outputs = {head: values[index] for head, values in outputs.items()}
        texts += _draw_panel(canvas, corner, face_numbers[index], face_outputs, names)
    if note and not len(boxes):
        texts.append(Text((10, 14), note, 14, ORANGE))
    return _draw_texts(canvas, texts)


def _display_scale(pixels: np.ndarray) -> float:
    longer_side = max(pixels.shape[:2])
    return min(max(longer_side, MIN_SIDE), MAX_SIDE) / longer_side


def _panel_height(outputs: Mapping[str, Any], names: OutputNames) -> int:
    height = _HEADER_HEIGHT + _GAP
    if "expression" in outputs:
        height += _LINE_HEIGHT * len(names.classes) + _GAP
    if "valence_arousal" in outputs:
        height += _PLANE_SIZE + 2 * _LINE_HEIGHT + _GAP
    if "action_units" in outputs:
        height += _LINE_HEIGHT * -(-len(names.units) // 3) + _GAP
    return height


def _face_colour(number: int) -> tuple[int, int, int]:
    return FACE_COLOURS[(number - 1) % len(FACE_COLOURS)]


def _draw_box(image: np.ndarray, box: np.ndarray, number: int) -> list[Text]:
    """Draws a box, clipped to the image, and the label for its number."""
    limits = np.array([image.shape[1], image.shape[0]])
    left, top = np.clip(box[:2], 0, limits - 1).round().astype(int).tolist()
    right, bottom = np.clip(box[:2] + box[2:], 1, limits).round().astype(int).tolist()
    thickness = max(2, round(min(image.shape[:2]) / 240))
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), BACKGROUND, thickness + 2)
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), _face_colour(number), thickness)
    label_width = 10 + 8 * len(str(number))
    cv2.rectangle(image, (left, top), (left + label_width, top + 18), _face_colour(number), -1)
    return [Text((left + label_width / 2, top + 9), str(number), 14, TEXT_COLOUR, "mm")]


def _draw_panel(
    canvas: np.ndarray,
    corner: tuple[int, int],
    number: int,
    outputs: Mapping[str, np.ndarray],
    names: OutputNames,
) -> list[Text]:
    left, top = corner[0] + _GAP, corner[1] + _GAP
    label_width = 8 + 8 * len(str(number))
    cv2.rectangle(canvas, (left, top), (left + label_width, top + 18), _face_colour(number), -1)
    texts = [Text((left + label_width // 2, top + 9), str(number), 14, TEXT_COLOUR, "mm")]
    if "expression" in outputs:
        predicted = int(outputs["expression"].argmax())
        texts.append(Text((left + label_width + 12, top + 9), names.classes[predicted], 15))
    top += _HEADER_HEIGHT
    if "expression" in outputs:
        texts += _draw_bars(canvas, (left, top), outputs["expression"], names.classes)
        top += _LINE_HEIGHT * len(names.classes) + _GAP
    if "valence_arousal" in outputs:
        texts += _draw_plane(canvas, (left, top), outputs["valence_arousal"])
        top += _PLANE_SIZE + 2 * _LINE_HEIGHT + _GAP
    if "action_units" in outputs:
        texts += _draw_units(canvas, (left, top), outputs["action_units"], names.units)
    return texts


def _draw_bars(
    canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray, classes: Sequence[str]
) -> list[Text]:
    left, top = corner
    start, predicted, texts = left + 82, int(values.argmax()), []
    for index, (name, value) in enumerate(zip(classes, values.tolist(), strict=True)):
        middle = top + _LINE_HEIGHT * index + _LINE_HEIGHT // 2
        end = start + round(_BAR_WIDTH * value)
        full = (start + _BAR_WIDTH, middle + 4)
        cv2.rectangle(canvas, (start, middle - 5), full, BAR_BACKGROUND, -1)
        if end > start:
            colour = ORANGE if index == predicted else BLUE
            cv2.rectangle(canvas, (start, middle - 5), (end, middle + 4), colour, -1)
        text_colour = TEXT_COLOUR if index == predicted else MUTED_COLOUR
        texts.append(Text((start - 6, middle), _truncate(name), 12, text_colour, "rm"))
        texts.append(Text((start + _BAR_WIDTH + 6, middle), f"{value:.2f}", 12, text_colour))
    return texts


def _draw_plane(canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray) -> list[Text]:
    """Valence to the right, arousal upwards, each from -1 to 1; the circle has radius 1."""
    radius = _PLANE_SIZE // 2
    x, y = corner[0] + 82 + radius - 6, corner[1] + radius
    cv2.circle(canvas, (x, y), radius, LINE_COLOUR, 1, cv2.LINE_AA)
    cv2.line(canvas, (x - radius, y), (x + radius, y), LINE_COLOUR, 1)
    cv2.line(canvas, (x, y - radius), (x, y + radius), LINE_COLOUR, 1)
    valence, arousal = values.tolist()
    point = (round(x + radius * valence), round(y - radius * arousal))
    cv2.line(canvas, (x, y), point, ORANGE, 1, cv2.LINE_AA)
    cv2.circle(canvas, point, 5, ORANGE, -1, cv2.LINE_AA)
    texts = [
        Text((x - radius - 6, y), "unpleasant", 11, MUTED_COLOUR, "rm"),
        Text((x + radius + 6, y), "pleasant", 11, MUTED_COLOUR),
        Text((x + 4, y - radius + 6), "excited", 11, MUTED_COLOUR),
        Text((x + 4, y + radius - 6), "calm", 11, MUTED_COLOUR),
    ]
    below = y + radius + _LINE_HEIGHT // 2 + 2
    for line, (axis, value) in enumerate(zip(AXES, values.tolist(), strict=True)):
        position = (x, below + _LINE_HEIGHT * line)
        texts.append(Text(position, f"{axis} {value:+.2f}", 12, TEXT_COLOUR, "mm"))
    return texts


def _draw_units(
    canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray, units: Sequence[int]
) -> list[Text]:
    """Draws three columns; units that are predicted active are orange with dark text."""
    rows, texts = -(-len(units) // 3), []
    for index, (unit, value) in enumerate(zip(units, values.tolist(), strict=True)):
        left = corner[0] + index // rows * 78
        middle = corner[1] + index % rows * _LINE_HEIGHT + _LINE_HEIGHT // 2
        is_active = value >= ACTIVE_THRESHOLD
        text_colour = TEXT_COLOUR if is_active else MUTED_COLOUR
        texts.append(Text((left, middle), f"AU{unit}", 12, text_colour))
        start = left + 36
        cv2.rectangle(canvas, (start, middle - 4), (start + 32, middle + 3), BAR_BACKGROUND, -1)
        end = start + round(32 * value)
        if end > start:
            colour = ORANGE if is_active else BLUE
            cv2.rectangle(canvas, (start, middle - 4), (end, middle + 3), colour, -1)
    return texts


def _truncate(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _draw_texts(canvas: np.ndarray, texts: Sequence[Text]) -> np.ndarray:
    """Draws with Pillow, because OpenCV's fonts have ASCII characters only."""
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for text in texts:
        pen.text(text.position, text.text, text.colour, _font(text.size), text.anchor)
    return np.asarray(image)
