"""Renders a complete face: the landmarks of the rig, and the parts of the face drawn on them."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs import rig
from affect_jax.facs.render import (
    accessories,
    eyes,
    hair,
    mouth,
    nose,
    painting,
    scenery,
    skin,
    wrinkles,
)
from affect_jax.facs.render.person_and_scene import Person, Scene, SideIntensities

SIZE = painting.CANVAS_SIZE


def pose_points(
    intensities: np.ndarray, person: Person, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the 68 points [68, 2] of a face, with and without the action units.

    Both are in face coordinates and include the yaw of the scene.

    **Arguments:**

    - `intensities`: [2, 18] for the left and right side of the image, in [0, 1].
    """
    points_and_rest = np.concatenate(rig.deform_sides(intensities[None], person.identity[None]))
    rest = points_and_rest[1]
    left_eye, right_eye = rest[36:42, 0].tolist(), rest[42:48, 0].tolist()
    points_and_rest -= ((sum(left_eye) + sum(right_eye)) / 12, sum(rest[36:48, 1].tolist()) / 12)
    points_and_rest /= (sum(right_eye) - sum(left_eye)) / 6
    points, rest = rig.rotate_head(points_and_rest, scene.yaw, 0.0)
    return points, rest


def render_face(
    intensities: np.ndarray, person: Person, scene: Scene, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Renders an image of a face.

    **Arguments:**

    - `intensities`: of the 18 units, in [0, 1]: [18], or [2, 18] for the image's left and right.
    - `size`: side of the image, pixels. Faces are drawn at 256 pixels and resized.

    **Returns:** the image, RGB uint8 [size, size, 3], and its landmarks [68, 2] in pixels.
    """
    sides = intensities if intensities.ndim == 2 else np.stack([intensities, intensities])
    points, rest_points = pose_points(sides, person, scene)
    image = scenery.draw_background(scene.background)
    canvas = painting.Canvas(image, points, rest_points, scene.scale, scene.rotation, scene.centre)
    landmarks = canvas.to_pixels(points)
    image = paint_layers(canvas, sides, person, scene)
    if size != SIZE:
        interpolation = cv2.INTER_AREA if size < SIZE else cv2.INTER_CUBIC
        image = cv2.resize(image, (size, size), interpolation=interpolation)
        landmarks = (landmarks + 0.5) * (size / SIZE) - 0.5  # pixel centres are integers
    return image, landmarks


def paint_layers(
    canvas: painting.Canvas, intensities: np.ndarray, person: Person, scene: Scene
) -> np.ndarray:
    """Paints all parts from back to front on a canvas that contains the background.

    **Arguments:**

    - `intensities`: [2, 18].

    **Returns:** the image [256, 256, 3].
    """
    units = [SideIntensities(*side) for side in intensities.tolist()]
    outline = skin.trace_head(canvas, person)
    light = min(max(scene.light[0], -1.0), 1.0)
    lips, lids = mouth.trace_lips(canvas), eyes.trace_lids(canvas)
    relief = skin.sculpt_head(canvas, units, person)
    nose.sculpt_nose(relief, canvas, units, person)
    eyes.sculpt_eyes(relief, canvas, lids, units, person)
    mouth.sculpt_mouth(relief, lips, units)
    wrinkles.sculpt_wrinkles(relief, canvas, units, person)
    head = hair.measure_head(canvas, person)
    edge = hair.trace_hairline(head, person)
    hair.shade_forehead(relief, edge, person)
    hair.draw_back(canvas, head, person, light)
    skin.draw_skin(canvas, relief, outline, lips, person, scene)
    scenery.draw_clothes(canvas, person)
    mouth.draw_mouth(canvas, lips, units, person.lips)
    eyes.draw_eyes(canvas, lids, person, scene)
    eyes.draw_brows(canvas, person)
    accessories.draw_glasses(canvas, person)
    hair.draw_front(canvas, head, edge, person, light)
    accessories.draw_headwear(canvas, head, outline, person)
    scenery.draw_occlusion(canvas, person, scene)
    return scenery.apply_camera(canvas.image, scene)
