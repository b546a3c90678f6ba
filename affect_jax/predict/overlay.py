"""Overlay: draws predictions on images, and writes the annotated images and videos.

Each face has a box and its number in the table. The label below it shows the most probable class
with its probability, a `?` if it is uncertain, and the active action units. The disc beside it is
Russell's circumplex, with a dot at valence (to the right) and arousal (upwards). Colours are from
the Okabe-Ito palette.
"""

from __future__ import annotations

import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affect_jax.core.errors import UserError
from affect_jax.core.labels import MIN_CERTAIN
from affect_jax.core.paths import is_utf8, writing_to
from affect_jax.facs.action_units import ACTIVE_THRESHOLD
from affect_jax.predict.predictor import ImageFaces, load_pixels

if TYPE_CHECKING:
    from affect_jax.predict.inputs import Frame, Source
    from affect_jax.predict.outputs import Names

TEXT_COLOUR, LINE_COLOUR, BACKGROUND = (28, 33, 40), (91, 101, 114), (255, 255, 255)
POINT_COLOUR = (200, 78, 0)
FACE_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0))

MAX_SIDE, MIN_SIDE = 1280, 320  # longer side of the drawn image, pixels
UNITS_WIDTH = 24  # characters in a line of action units
PADDING = 3  # pixels around a label's text


def draw_predictions(pixels: np.ndarray, faces: ImageFaces, names: Names) -> np.ndarray:
    """Draws the predictions of one image, or the reason if it has no face.

    **Arguments:** `names`: see `TrainedNetwork.output_names`.

    **Returns:** uint8 [height, width, 3], both even; the longer side is that of the image, but at
    least `MIN_SIDE` and at most `MAX_SIDE`.
    """
    longer_side = max(pixels.shape[:2])
    scale = min(max(longer_side, MIN_SIDE), MAX_SIDE) / longer_side
    height, width = (2 * max(1, round(side * scale / 2)) for side in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height))
    pen = ImageDraw.Draw(image)
    pen.font = ImageFont.load_default(max(12, max(width, height) // 64))
    boxes = faces.boxes * scale
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = corners.round().clip(0, [width - 1, height - 1] * 2)
    for face in reversed(range(len(corners))):  # the largest face last, on top of the others
        colour = FACE_COLOURS[face % len(FACE_COLOURS)]
        left, top, right, bottom = corners[face].tolist()
        outputs = {head: values[face] for head, values in faces.outputs.items()}
        line_width = max(2, min(width, height) // 240)
        pen.rectangle((left, top, right, bottom), outline=BACKGROUND, width=line_width + 1)
        pen.rectangle((left, top, right, bottom), outline=colour, width=line_width)
        if "valence_arousal" in outputs:
            radius = max(8, (right - left) // 8)
            x, y = min(right + radius, width - 1 - radius), top + radius
            valence, arousal = (radius * outputs["valence_arousal"]).tolist()
            pen.circle((x, y), radius, BACKGROUND, LINE_COLOUR)
            pen.line((x - radius, y, x + radius, y), LINE_COLOUR)
            pen.line((x, y - radius, x, y + radius), LINE_COLOUR)
            pen.circle((x + valence, y - arousal), max(2, radius / 5), POINT_COLOUR)
        _draw_label(pen, (left, bottom), _format_label(face, outputs, names), colour)
    if not len(boxes):
        _draw_label(pen, (0, 0), faces.reason, BACKGROUND)
    return np.asarray(image)


def _format_label(number: int, outputs: Mapping[str, np.ndarray], names: Names) -> str:
    text = str(number)
    if "expression" in outputs:
        predicted = int(outputs["expression"].argmax())
        probability = outputs["expression"][predicted]
        text += f" {names['expression'][predicted]} {probability:.2f}"
        text += "?" * bool(probability < MIN_CERTAIN)
    if "action_units" in outputs:
        active = np.array(names["action_units"])[outputs["action_units"] >= ACTIVE_THRESHOLD]
        text = "\n".join([text, *textwrap.wrap(" ".join(active), UNITS_WIDTH)])
    return text


def _draw_label(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: tuple[int, int, int]
) -> None:
    """Draws a text on a coloured background at its top left corner, or as near as it fits."""
    width, height = pen.im.size
    text_box = pen.multiline_textbbox((PADDING, PADDING), text)
    left = max(0, min(corner[0], width - text_box[2] - PADDING))
    top = max(0, min(corner[1], height - text_box[3] - PADDING))
    right, bottom = left + text_box[2] + PADDING, top + text_box[3] + PADDING
    pen.rectangle((left, top, right, bottom), fill=colour)
    pen.multiline_text((left + PADDING, top + PADDING), text, TEXT_COLOUR)


class OverlayWriter:
    """Writes annotated images and videos into a folder.

    A file has the name of its source, with the suffix `.jpg` or `.mp4`. If an earlier source has
    the name, the source's number is added: `x.jpg`, `x-2.jpg`.

    **Raises:** `UserError` if the folder is not writable or a file would replace an input.
    """

    def __init__(self, folder: pathlib.Path, sources: Sequence[Source]):
        self._paths: dict[Source, pathlib.Path] = {}
        self._video = cv2.VideoWriter()
        names: set[pathlib.Path] = set()
        inputs = {os.path.realpath(source.name) for source in sources}
        for number, source in enumerate(sources, 1):
            path = folder / source.relative_path
            path = path.with_suffix(".mp4" if source.is_video else ".jpg")
            while path in names:
                path = path.with_stem(f"{path.stem}-{number}")
            names.add(path)
            if os.path.realpath(path) in inputs:
                raise UserError(f"--annotate={folder}: {path} is an input; choose another folder")
            self._paths[source] = path

    def write(self, frame: Frame, faces: ImageFaces, names: Names) -> None:
        """Draws and writes an image, or appends a frame to its video.

        The frames of a video follow each other and have one size.
        """
        path = self._paths[frame.source]
        drawing = draw_predictions(load_pixels(frame.image, upright=True), faces, names)
        pixels, size = drawing[:, :, ::-1], (drawing.shape[1], drawing.shape[0])
        with writing_to(path.parent):
            if frame.number is None:
                path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
                return
            if frame.number == 0:
                self.close()
                code, rate = cv2.VideoWriter.fourcc(*"mp4v"), frame.frames_per_second
                if is_utf8(path):  # OpenCV would crash
                    self._video.open(str(path), cv2.CAP_FFMPEG, code, rate, size)
        if not self._video.isOpened():
            raise UserError(f"--annotate={path}: cannot be written")
        self._video.write(pixels)

    def close(self) -> None:
        """Completes the last video."""
        self._video.release()
