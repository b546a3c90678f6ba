"""What is around a face: background, neck and clothes, things in front of it, the camera."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from affect_jax.facs.drawing import canvas as c
from affect_jax.facs.identity import CLOTHES, Person, Scene

GRAIN = 30.0  # standard deviation of the grain's sheet, grey levels
_GREY = np.array([[0.299, 0.587, 0.114]] * 3)


def background(seed: int) -> np.ndarray:
    """A blurred room: a gradient of two colours with soft blobs, uint8 [256, 256, 3]."""
    rng = np.random.default_rng(seed)
    value = rng.uniform(60, 225)
    corners = (
        value + rng.normal(0, 18, (2, 2, 1)) + rng.normal(0, 9, 3) + rng.normal(0, 5, (2, 2, 3))
    )
    corners = np.minimum(np.maximum(corners, 10), 245)
    small = cv2.resize(corners.astype(np.uint8), (32, 32), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(2, 6))):
            at, size = rng.integers(0, 32, 2).tolist(), int(rng.integers(3, 10))
            colour = (value + rng.normal(0, 26) + rng.normal(0, 9, 3)).tolist()
            if rng.random() < 0.5:
                cv2.circle(small, at, size, colour, -1)
            else:
                cv2.rectangle(small, at, (at[0] + size, at[1] + 3 * size), colour, -1)
        small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(1.0, 2.5)))
    return cv2.resize(small, (c.SIZE, c.SIZE), interpolation=cv2.INTER_CUBIC)


def neck_outline(points: np.ndarray) -> np.ndarray:
    left, right = points[4], points[12]
    middle, half = (left[0] + right[0]) / 2, 0.36 * (right[0] - left[0])
    low = points[8, 1] + 0.75
    sides = c.curve(
        [
            (middle - half, left[1]),
            (middle - 0.96 * half, low - 0.25),
            (middle - 1.5 * half, low + 0.3),
        ]
    )
    return np.vstack([sides, (sides * (-1.0, 1.0) + (2 * middle, 0.0))[::-1]])


def draw_clothes(canvas: c.Canvas, person: Person) -> None:
    points = canvas.rest
    middle, low = points[8, 0], points[8, 1] + 0.42
    half = 0.36 * (points[12, 0] - points[4, 0])
    right = c.curve(
        [
            (middle + 1.02 * half, low),
            (middle + 1.9 * half, low + 0.22),
            (middle + 4.2 * half, low + 0.75),
        ]
    )
    collar = c.curve(
        [(middle - 1.02 * half, low), (middle, low + 0.38), (middle + 1.02 * half, low)]
    )
    left = (right * (-1.0, 1.0) + (2 * middle, 0.0))[::-1]
    floor = np.array([(middle + 4.5 * half, 6.0), (middle - 4.5 * half, 6.0)])
    canvas.fill(np.concatenate([collar, right, floor, left]), person.clothes)
    canvas.line(collar + (0.0, 0.03), c.scaled(person.clothes, 0.75), 0.05)


def draw_occlusion(canvas: c.Canvas, person: Person, scene: Scene) -> None:
    """Something in front of a part of the face; most of the face stays visible."""
    if scene.occlusion == "none":
        return
    rng = np.random.default_rng(scene.occlusion_seed)
    points, side = canvas.points, float(rng.choice((-1.0, 1.0)))
    colour = CLOTHES[int(rng.integers(len(CLOTHES)))]
    if scene.occlusion == "hand":
        _draw_hand(canvas, points[4 if side < 0 else 12] + (side * 0.05, 0.2), side, person)
    elif scene.occlusion == "mask":  # pulled down: from under the lower lip
        top = points[57] + (0.0, float(rng.uniform(0.03, 0.15)))
        edge = c.curve(
            [
                points[3],
                (points[3] + top) / 2 + (0.0, 0.12),
                top,
                (points[13] + top) / 2 + (0.0, 0.12),
                points[13],
            ]
        )
        jaw = c.curve(points[3:14] + (0.0, 0.04))
        cloth = ((196, 218, 230), (236, 236, 236), (40, 42, 48))[int(rng.integers(3))]
        canvas.fill(np.vstack([edge, jaw[::-1]]), cloth)
        for share in (0.35, 0.65):
            canvas.line((1 - share) * edge + share * jaw, c.scaled(cloth, 0.88), 0.02)
    elif scene.occlusion == "scarf":
        low = points[8, 1] + float(rng.uniform(-0.22, 0.1))
        edge = c.curve([(-1.5, low - 0.15), (0.0, low), (1.5, low - 0.1)])
        canvas.fill(np.concatenate([edge, np.array([(2.5, 6.0), (-2.5, 6.0)])]), colour)
        for depth in (0.12, 0.3, 0.52):
            canvas.glaze_lines([edge + (0.0, depth)], c.scaled(colour, 0.75), 0.05, 0.5, soft=0.03)
    elif scene.occlusion == "lock":
        for _ in range(7):
            start = (side * rng.uniform(0.1, 0.6), -1.5)
            path = [
                start,
                (side * rng.uniform(0.5, 0.8), -0.6),
                (side * rng.uniform(0.55, 1.0), rng.uniform(-0.1, 0.6)),
            ]
            canvas.line(c.curve(path), c.scaled(person.hair, rng.uniform(0.6, 1.1)), 0.05)
    else:
        at = (side * rng.uniform(0.9, 1.3), rng.uniform(-1.2, 1.6))
        radii = rng.uniform(0.25, 0.55, 2).tolist()
        canvas.glaze([c.ellipse(at, radii, rng.uniform(0, 3))], colour, 1.0, soft=0.02)


def _draw_hand(canvas: c.Canvas, at: np.ndarray, side: float, person: Person) -> None:
    """Four fingers that lie on the cheek from the side."""
    tone = c.scaled(person.skin, 0.93)
    canvas.fill(c.ellipse(at + (side * 0.55, 0.55), (0.55, 0.5)), tone)
    for finger in range(4):
        root = at + (side * 0.4, 0.22 + 0.19 * finger)
        tip = at + (-side * (0.12 - 0.05 * abs(finger - 1.5)), -0.22 + 0.21 * finger)
        path = np.linspace(root, tip, 8)
        shape = c.ribbon(path, np.array([0.2, 0.2, 0.2, 0.19, 0.18, 0.17, 0.15, 0.09]))
        canvas.glaze([shape + (0.015, 0.025)], c.scaled(person.skin, 0.5), 0.5, soft=0.015)
        canvas.fill(shape, tone)
        canvas.fill(c.ellipse(tip, (0.05, 0.04), -0.6 * side), c.mix(tone, (255, 225, 215), 0.35))


@functools.cache
def _grain() -> np.ndarray:
    """Film grain around 128, uint8 [512, 512, 3]: one sheet, a part of which lies on a picture."""
    sheet = np.random.default_rng(68).standard_normal((512, 512)).astype(np.float32)
    sheet = cv2.GaussianBlur(sheet, (0, 0), 0.6)
    grey = np.clip(128 + GRAIN / sheet.std() * sheet, 0, 255).astype(np.uint8)
    return cv2.merge([grey, grey, grey])


def photograph(image: np.ndarray, scene: Scene) -> np.ndarray:
    """The picture as a camera takes it: colour of the light, exposure, blur, grain, greyscale."""
    gain = scene.exposure / 255.0 * np.asarray(scene.tint)
    image = cv2.transform(image, _GREY * gain if scene.grey else np.diag(gain))
    if scene.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    row, column = scene.occlusion_seed % 256, scene.background % 256
    sheet = _grain()[row : row + c.SIZE, column : column + c.SIZE]
    share = scene.noise / GRAIN
    return cv2.addWeighted(image, 1.0, sheet, share, -128.0 * share)
