"""A whole face: landmarks from the rig, turned and placed, and the parts painted on them."""

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
from affect_jax.facs.render.identity import Person, Scene, Units

SIZE = painting.SIZE


def pose_points(
    intensities: np.ndarray, person: Person, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """The 68 points [68, 2] of a face that may look aside, and at rest, in face coordinates.

    **Arguments:**

    - `intensities`: [2, 18] of the picture's left and right side, in [0, 1].
    """
    both = np.concatenate(rig.uneven(intensities[None], person.shape[None]))
    rest = both[1]
    first, second = rest[36:42, 0].tolist(), rest[42:48, 0].tolist()
    both -= ((sum(first) + sum(second)) / 12, sum(rest[36:48, 1].tolist()) / 12)
    both /= (sum(second) - sum(first)) / 6
    points, rest = rig.turned(both, scene.yaw, 0.0)
    return points, rest


def draw(
    intensities: np.ndarray, person: Person, scene: Scene, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a face, and its landmarks.

    **Arguments:**

    - `intensities`: of the 18 units, in [0, 1]: [18], or [2, 18] for the picture's left and right.
    - `size`: side of the picture, pixels. Faces are drawn at 256 and resized.

    **Returns:** RGB uint8 [size, size, 3] and points [68, 2] in its pixels.
    """
    sides = intensities if intensities.ndim == 2 else np.stack([intensities, intensities])
    points, rest = pose_points(sides, person, scene)
    picture = scenery.background(scene.background)
    canvas = painting.Canvas(picture, points, rest, scene.scale, scene.rotation, scene.centre)
    landmarks = canvas.pixels(points)
    image = paint(canvas, sides, person, scene)
    if size != SIZE:
        how = cv2.INTER_AREA if size < SIZE else cv2.INTER_CUBIC
        image = cv2.resize(image, (size, size), interpolation=how)
        landmarks = (landmarks + 0.5) * (size / SIZE) - 0.5  # pixels' centres are whole numbers
    return image, landmarks


def paint(
    canvas: painting.Canvas, intensities: np.ndarray, person: Person, scene: Scene
) -> np.ndarray:
    """The picture [256, 256, 3], from back to front, on a canvas that holds the background.

    **Arguments:**

    - `intensities`: [2, 18].
    """
    units = [Units(*side) for side in intensities.tolist()]
    outline = skin.head_outline(canvas, person)
    light = min(max(scene.light[0], -1.0), 1.0)
    lips, lids = mouth.lips(canvas), eyes.lids(canvas)
    relief = skin.sculpt_head(canvas, units, person)
    nose.sculpt_nose(relief, canvas, units, person)
    eyes.sculpt_eyes(relief, canvas, lids, units, person)
    mouth.sculpt_mouth(relief, lips, units)
    wrinkles.sculpt_wrinkles(relief, canvas, units, person)
    head = hair.measure(canvas, person)
    edge = hair.hairline(head, person)
    hair.shade_forehead(relief, edge, person)
    hair.draw_back(canvas, head, person, light)
    skin.draw_skin(canvas, relief, outline, lips, person, scene)
    scenery.draw_clothes(canvas, person)
    mouth.draw_mouth(canvas, lips, units, person.lips)
    eyes.draw_eyes(canvas, lids, person, scene)
    eyes.draw_brows(canvas, person)
    accessories.draw_glasses(canvas, person)
    hair.draw_front(canvas, head, edge, person, light)
    accessories.draw_cover(canvas, head, outline, person)
    scenery.draw_occlusion(canvas, person, scene)
    return scenery.photograph(canvas.image, scene)
