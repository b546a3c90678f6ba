"""Test images with rendered faces at known positions, for detectors and commands."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np

from affect_jax.facs.render.random_face import sample_face

BACKGROUND = (96, 112, 128)


def draw_scene(
    faces: list[tuple[int, int, int]], size: tuple[int, int] = (400, 300), first: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws an image of rendered faces.

    **Arguments:**

    - `faces`: left, top and side of each rendered face, pixels.
    - `size`: width and height of the image.
    - `first`: index of the first person.

    **Returns:** uint8 [height, width, 3], and the boxes around each face's landmarks, [n, 4].
    """
    width, height = size
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    boxes = []
    for number, (left, top, side) in enumerate(faces, first):
        face = sample_face(3, number, split="validation", skew="balanced", size=160)
        patch = cv2.resize(face.image, (side, side), interpolation=cv2.INTER_AREA)
        image[top : top + side, left : left + side] = patch
        x, y, box_width, box_height = face.box * side / 160
        boxes.append((left + x, top + y, box_width, box_height))
    return image, np.array(boxes, np.float32).reshape(-1, 4)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def write_video(path: pathlib.Path, frames: list[np.ndarray], rate: float = 10.0) -> pathlib.Path:
    """Writes RGB frames of equal size as a Motion JPEG `.avi` video."""
    height, width = frames[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()
    return path
