"""What was predicted, drawn: a box and a number on each face, and its card beside the picture.

A card has the expression's bars, valence and arousal as a dot in Russell's plane, and the action
units. Colours are Okabe and Ito's; the number says the same a second time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import ACTIVE

INK, MUTED, RULE, PAPER = (28, 33, 40), (91, 101, 114), (212, 218, 225), (255, 255, 255)
BLUE, ORANGE = (0, 114, 178), (200, 78, 0)
FACES = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0))

LARGEST, SMALLEST = 1280, 320  # of the drawn picture's longer side, pixels
CARD = 250  # width of a card
MOST_CARDS = 24  # of a picture; further faces have a box only
_LINE, _BAR, _PLANE = 16, 100, 112
_HEADER, _GAP = 30, 10


class Text(NamedTuple):
    """A text that waits to be drawn: `place` is its left (or right) end, and its middle."""

    place: tuple[float, float]
    text: str
    size: int = 12
    colour: tuple[int, int, int] = INK
    anchor: str = "lm"


class Names(NamedTuple):
    """What the outputs are called: of classes; numbers of action units."""

    classes: Sequence[str]
    units: Sequence[int]


def draw(
    pixels: np.ndarray,
    boxes: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    names: Names,
    *,
    numbers: Sequence[int] | None = None,
    columns: int | None = None,
    note: str = "",
) -> np.ndarray:
    """**Arguments:**

    - `pixels`: uint8 [height, width, 3].
    - `boxes`: float [n, 4] in its pixels; `outputs`: `{head: [n, ...]}`.
    - `numbers`: of the faces, tracks in a film; None: 1, 2, ...
    - `columns`: of cards; None: as many as the faces need. With a number given, all pictures of one
      size become drawings of one size, and faces without room have a box only.
    - `note`: of a picture without a face.

    **Returns:** uint8 [height, width, 3], both even: the picture, at most `LARGEST` pixels, with
    the cards at its right.
    """
    numbers = list(numbers) if numbers is not None else list(range(1, len(boxes) + 1))
    scale = _scale(pixels)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    card = _card_height(outputs, names)
    rows = max(1, height // card)
    if columns is None:
        columns = -(-min(len(boxes), MOST_CARDS) // rows)
    size = (max(height, card if columns else 0), width + columns * CARD)
    canvas = np.full((size[0] + size[0] % 2, size[1] + size[1] % 2, 3), PAPER, np.uint8)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[:height, :width] = cv2.resize(pixels, (width, height), interpolation=kind)
    picture = canvas[:height, :width]
    texts = []
    for place in reversed(range(len(boxes))):  # the largest face last, on top of the others
        texts += _box(picture, boxes[place] * scale, numbers[place])
    shown = min(len(boxes), rows * columns)
    for place in range(shown):
        corner = (width + place // rows * CARD, place % rows * card)
        one = {head: values[place] for head, values in outputs.items()}
        texts += _card(canvas, corner, numbers[place], one, names)
    if note and not len(boxes):
        texts.append(Text((10, 14), note, 14, ORANGE))
    return _write(canvas, texts)


def _scale(pixels: np.ndarray) -> float:
    longer = max(pixels.shape[:2])
    return min(max(longer, SMALLEST), LARGEST) / longer


def _card_height(outputs: Mapping[str, Any], names: Names) -> int:
    height = _HEADER + _GAP
    if "expression" in outputs:
        height += _LINE * len(names.classes) + _GAP
    if "valence_arousal" in outputs:
        height += _PLANE + 2 * _LINE + _GAP
    if "action_units" in outputs:
        height += _LINE * -(-len(names.units) // 3) + _GAP
    return height


def _colour(number: int) -> tuple[int, int, int]:
    return FACES[(number - 1) % len(FACES)]


def _box(picture: np.ndarray, box: np.ndarray, number: int) -> list[Text]:
    """The box, within the picture, and its number."""
    limits = np.array([picture.shape[1], picture.shape[0]])
    left, top = np.clip(box[:2], 0, limits - 1).round().astype(int).tolist()
    right, bottom = np.clip(box[:2] + box[2:], 1, limits).round().astype(int).tolist()
    thick = max(2, round(min(picture.shape[:2]) / 240))
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), PAPER, thick + 2)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _colour(number), thick)
    wide = 10 + 8 * len(str(number))
    cv2.rectangle(picture, (left, top), (left + wide, top + 18), _colour(number), -1)
    return [Text((left + wide / 2, top + 9), str(number), 14, INK, "mm")]


def _card(
    canvas: np.ndarray,
    corner: tuple[int, int],
    number: int,
    outputs: Mapping[str, np.ndarray],
    names: Names,
) -> list[Text]:
    left, top = corner[0] + _GAP, corner[1] + _GAP
    cv2.rectangle(
        canvas, (left, top), (left + 8 + 8 * len(str(number)), top + 18), _colour(number), -1
    )
    texts = [Text((left + 4 + 4 * len(str(number)), top + 9), str(number), 14, INK, "mm")]
    middle = left + 20 + 8 * len(str(number))
    if "expression" in outputs:
        likely = int(outputs["expression"].argmax())
        texts.append(Text((middle, top + 9), names.classes[likely], 15))
    top += _HEADER
    if "expression" in outputs:
        texts += _bars(canvas, (left, top), outputs["expression"], names.classes)
        top += _LINE * len(names.classes) + _GAP
    if "valence_arousal" in outputs:
        texts += _plane(canvas, (left, top), outputs["valence_arousal"])
        top += _PLANE + 2 * _LINE + _GAP
    if "action_units" in outputs:
        texts += _units(canvas, (left, top), outputs["action_units"], names.units)
    return texts


def _bars(
    canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray, classes: Sequence[str]
) -> list[Text]:
    left, top = corner
    start, likely, texts = left + 82, int(values.argmax()), []
    for place, (name, value) in enumerate(zip(classes, values.tolist(), strict=True)):
        middle = top + _LINE * place + _LINE // 2
        end = start + round(_BAR * value)
        cv2.rectangle(canvas, (start, middle - 5), (start + _BAR, middle + 4), (240, 243, 246), -1)
        if end > start:
            colour = ORANGE if place == likely else BLUE
            cv2.rectangle(canvas, (start, middle - 5), (end, middle + 4), colour, -1)
        ink = INK if place == likely else MUTED
        texts.append(Text((start - 6, middle), _short(name), 12, ink, "rm"))
        texts.append(Text((start + _BAR + 6, middle), f"{value:.2f}", 12, ink))
    return texts


def _plane(canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray) -> list[Text]:
    """Valence to the right, arousal upwards, each from -1 to 1; the circle has radius 1."""
    radius = _PLANE // 2
    x, y = corner[0] + 82 + radius - 6, corner[1] + radius
    cv2.circle(canvas, (x, y), radius, RULE, 1, cv2.LINE_AA)
    cv2.line(canvas, (x - radius, y), (x + radius, y), RULE, 1)
    cv2.line(canvas, (x, y - radius), (x, y + radius), RULE, 1)
    valence, arousal = values.tolist()
    dot = (round(x + radius * valence), round(y - radius * arousal))
    cv2.line(canvas, (x, y), dot, ORANGE, 1, cv2.LINE_AA)
    cv2.circle(canvas, dot, 5, ORANGE, -1, cv2.LINE_AA)
    texts = [
        Text((x - radius - 6, y), "unpleasant", 11, MUTED, "rm"),
        Text((x + radius + 6, y), "pleasant", 11, MUTED),
        Text((x + 4, y - radius + 6), "excited", 11, MUTED),
        Text((x + 4, y + radius - 6), "calm", 11, MUTED),
    ]
    below = y + radius + _LINE // 2 + 2
    for line, (axis, value) in enumerate(zip(AXES, values.tolist(), strict=True)):
        place = (x, below + _LINE * line)
        texts.append(Text(place, f"{axis} {value:+.2f}", 12, INK, "mm"))
    return texts


def _units(
    canvas: np.ndarray, corner: tuple[int, int], values: np.ndarray, units: Sequence[int]
) -> list[Text]:
    """Three columns; a unit that is likely active is orange and dark."""
    rows, texts = -(-len(units) // 3), []
    for place, (unit, value) in enumerate(zip(units, values.tolist(), strict=True)):
        left = corner[0] + place // rows * 78
        middle = corner[1] + place % rows * _LINE + _LINE // 2
        active = value >= ACTIVE
        texts.append(Text((left, middle), f"AU{unit}", 12, INK if active else MUTED))
        cv2.rectangle(canvas, (left + 36, middle - 4), (left + 68, middle + 3), (240, 243, 246), -1)
        end = left + 36 + round(32 * value)
        if end > left + 36:
            colour = ORANGE if active else BLUE
            cv2.rectangle(canvas, (left + 36, middle - 4), (end, middle + 3), colour, -1)
    return texts


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _write(canvas: np.ndarray, texts: Sequence[Text]) -> np.ndarray:
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for one in texts:
        pen.text(one.place, one.text, one.colour, _font(one.size), one.anchor)
    return np.asarray(image)
