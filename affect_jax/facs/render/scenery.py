"""Draws the surroundings of a face: background, neck, clothes, occlusions, camera effects."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import CLOTHES_COLOURS, Person, Scene

MAX_OFFSET = 64  # pixels by which a sheet is larger than an image
GRAIN_STD = 30.0  # standard deviation of the grain sheet, grey levels
_SHEET_SIZE = painting.CANVAS_SIZE + MAX_OFFSET
_GREY_MATRIX, _COLOUR_MATRIX = np.array([[0.299, 0.587, 0.114]] * 3), np.eye(3)


def draw_background(parameters: Sequence[float]) -> np.ndarray:
    """Crops one of `_background_sheets` and changes its light: uint8 [256, 256, 3].

    **Arguments:**

    - `parameters`: 8 numbers in [0, 1]: sheet, vertical and horizontal offset, brightness,
      contrast, and a colour cast per channel.
    """
    sheet_index, down, right, level, contrast, *cast = parameters
    level, contrast = 60 + 165 * level, 0.5 + contrast
    light = np.zeros((3, 4))
    for channel, value in enumerate(cast):
        light[channel, channel] = contrast
        light[channel, 3] = level + 36 * (value - 0.5) - 128 * contrast
    sheets = _background_sheets()
    sheet = sheets[int(sheet_index * len(sheets))]
    row, column = int(down * MAX_OFFSET), int(right * MAX_OFFSET)
    return cv2.transform(
        sheet[
            row : row + painting.CANVAS_SIZE,
            column : column + painting.CANVAS_SIZE,
        ],
        light,
    )


@functools.cache
def _background_sheets() -> np.ndarray:
    """Backgrounds of gradients with soft blobs, uint8 [32, 320, 320, 3] around 128."""
    rng = np.random.default_rng(7)
    sheets = []
    for _ in range(32):
        level, cast = 18 * rng.standard_normal((2, 2, 1)), 6 * rng.standard_normal((2, 2, 3))
        sheet = cv2.resize((128 + level + cast).astype(np.float32), (80, 80))
        for _ in range(int(rng.integers(0, 6))):
            (x, y), size = rng.integers(0, 80, 2).tolist(), int(rng.integers(6, 22))
            colour = (128 + 26 * rng.standard_normal() + 8 * rng.standard_normal(3)).tolist()
            if rng.random() < 0.5:
                cv2.circle(sheet, (x, y), size, colour, -1)
            else:
                cv2.rectangle(sheet, (x, y), (x + size, y + 3 * size), colour, -1)
        sheet = cv2.GaussianBlur(sheet, (0, 0), float(rng.uniform(1.5, 4.5))).clip(0, 255)
        sheets.append(
            cv2.resize(
                sheet.astype(np.uint8), (_SHEET_SIZE, _SHEET_SIZE), interpolation=cv2.INTER_CUBIC
            )
        )
    return np.stack(sheets)


def trace_neck(points: np.ndarray) -> np.ndarray:
    left, right = points[4], points[12]
    middle, half = (left[0] + right[0]) / 2, 0.36 * (right[0] - left[0])
    bottom = points[8, 1] + 0.75
    sides = painting.curve(
        [
            (middle - half, left[1]),
            (middle - 0.96 * half, bottom - 0.25),
            (middle - 1.5 * half, bottom + 0.3),
        ]
    )
    return np.vstack([sides, (sides * (-1.0, 1.0) + (2 * middle, 0.0))[::-1]])


def draw_clothes(canvas: painting.Canvas, person: Person) -> None:
    points = canvas.rest_points
    middle, bottom = points[8, 0], points[8, 1] + 0.42
    half = 0.36 * (points[12, 0] - points[4, 0])
    right = painting.curve(
        [
            (middle + 1.02 * half, bottom),
            (middle + 1.9 * half, bottom + 0.22),
            (middle + 4.2 * half, bottom + 0.75),
        ]
    )
    collar = painting.curve(
        [(middle - 1.02 * half, bottom), (middle, bottom + 0.38), (middle + 1.02 * half, bottom)]
    )
    left = (right * (-1.0, 1.0) + (2 * middle, 0.0))[::-1]
    floor = np.array([(middle + 4.5 * half, 6.0), (middle - 4.5 * half, 6.0)])
    canvas.fill_polygon(np.concatenate([collar, right, floor, left]), person.clothes)
    seam = np.concatenate([collar, (collar + (0.0, 0.055))[::-1]])
    canvas.fill_polygon(seam, painting.scale_colour(person.clothes, 0.75))


def draw_occlusion(canvas: painting.Canvas, person: Person, scene: Scene) -> None:
    """Draws an object in front of a part of the face; most of the face stays visible."""
    if scene.occlusion == "none":
        return
    rng = np.random.default_rng(scene.occlusion_seed)
    points, side = canvas.points, float(rng.choice((-1.0, 1.0)))
    colour = CLOTHES_COLOURS[int(rng.integers(len(CLOTHES_COLOURS)))]
    if scene.occlusion == "hand":
        _draw_hand(canvas, points[5 if side < 0 else 11] + (side * 0.05, 0.1), side, person)
    elif scene.occlusion == "mask":  # pulled down below the lower lip
        top = points[57] + (0.0, float(rng.uniform(0.03, 0.15)))
        edge = painting.curve(
            [
                points[3],
                (points[3] + top) / 2 + (0.0, 0.12),
                top,
                (points[13] + top) / 2 + (0.0, 0.12),
                points[13],
            ]
        )
        jaw = painting.curve(points[3:14] + (0.0, 0.04))
        cloth = ((196, 218, 230), (236, 236, 236), (40, 42, 48))[int(rng.integers(3))]
        canvas.fill_polygon(np.vstack([edge, jaw[::-1]]), cloth)
        for weight in (0.35, 0.65):
            canvas.draw_line(
                (1 - weight) * edge + weight * jaw,
                painting.scale_colour(cloth, 0.88),
                0.02,
            )
    elif scene.occlusion == "scarf":
        low = points[8, 1] + float(rng.uniform(-0.22, 0.1))
        edge = painting.curve([(-1.5, low - 0.15), (0.0, low), (1.5, low - 0.1)])
        canvas.fill_polygon(np.concatenate([edge, np.array([(2.5, 6.0), (-2.5, 6.0)])]), colour)
        for depth in (0.12, 0.3, 0.52):
            canvas.blend_lines(
                [edge + (0.0, depth)],
                painting.scale_colour(colour, 0.75),
                0.05,
                0.5,
                soft=0.03,
            )
    elif scene.occlusion == "lock":
        for _ in range(7):
            start = (side * rng.uniform(0.1, 0.6), -1.5)
            path = [
                start,
                (side * rng.uniform(0.5, 0.8), -0.6),
                (side * rng.uniform(0.55, 1.0), rng.uniform(-0.1, 0.6)),
            ]
            canvas.draw_line(
                painting.curve(path),
                painting.scale_colour(person.hair, rng.uniform(0.6, 1.1)),
                0.05,
            )
    else:
        centre = (side * rng.uniform(0.9, 1.3), rng.uniform(-1.2, 1.6))
        radii = rng.uniform(0.25, 0.55, 2).tolist()
        canvas.blend_polygons(
            [painting.ellipse(centre, radii, rng.uniform(0, 3))], colour, 1.0, soft=0.06
        )


def _draw_hand(canvas: painting.Canvas, at: np.ndarray, side: float, person: Person) -> None:
    """Draws a hand that holds the chin: four overlapping fingers from the side."""
    tone, dark = (
        painting.scale_colour(person.skin, 0.92),
        painting.scale_colour(person.skin, 0.45),
    )
    canvas.fill_polygon(painting.ellipse(at + (side * 0.62, 0.42), (0.42, 0.62), -0.3 * side), tone)
    for finger in (3, 2, 1, 0):
        root = at + (side * 0.45, 0.05 + 0.2 * finger)
        tip = at + (-side * (0.32 - 0.06 * abs(finger - 1.2)), -0.16 + 0.19 * finger)
        path = painting.curve(np.stack([root, (root + tip) / 2 - (0.0, 0.05), tip]), samples=8)
        canvas.blend_lines([path + (0.0, 0.05)], dark, 0.2, 0.55, soft=0.02)
        canvas.draw_line(path, tone, 0.19)
        canvas.blend_lines(
            [path[1:-1] - (0.0, 0.04)],
            painting.scale_colour(person.skin, 1.12),
            0.05,
            0.6,
            soft=0.03,
        )
        canvas.fill_polygon(
            painting.ellipse(tip, (0.055, 0.045)),
            painting.mix_colours(tone, (255, 222, 212), 0.3),
        )


@functools.cache
def grain_sheet() -> np.ndarray:
    """Camera grain around 128, uint8 [320, 320, 3]; every image uses a crop of this sheet."""
    sheet = np.random.default_rng(68).standard_normal((_SHEET_SIZE, _SHEET_SIZE)).astype(np.float32)
    sheet = cv2.GaussianBlur(sheet, (0, 0), 0.6)
    grey = np.clip(128 + GRAIN_STD / sheet.std() * sheet, 0, 255).astype(np.uint8)
    return cv2.merge([grey, grey, grey])


def apply_camera(image: np.ndarray, scene: Scene) -> np.ndarray:
    """Applies colour of the light, exposure, blur, grain and greyscale to an image."""
    gain = np.array(scene.tint) * (scene.exposure / 255.0)
    image = cv2.transform(image, (_GREY_MATRIX if scene.grey else _COLOUR_MATRIX) * gain[:, None])
    if scene.blur > 1:
        image = cv2.blur(image, (scene.blur, scene.blur))
    row, column = scene.occlusion_seed % MAX_OFFSET, int(scene.background[1] * MAX_OFFSET)
    sheet = grain_sheet()[row : row + painting.CANVAS_SIZE, column : column + painting.CANVAS_SIZE]
    weight = scene.noise / GRAIN_STD
    return cv2.addWeighted(image, 1.0, sheet, weight, -128.0 * weight)
