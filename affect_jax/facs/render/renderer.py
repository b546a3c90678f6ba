"""Renders a complete face: the landmarks of the rig, and the parts of the face drawn on them."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs import rig
from affect_jax.facs.render import features, skin
from affect_jax.facs.render.painting import Canvas, Face, curve, ellipses, mix
from affect_jax.facs.render.parameters import FaceParameters

SIZE = 256  # side of the image in which faces are drawn, pixels
SKIN_COLOURS = np.array(
    [(238.0, 206, 184), (228, 184, 146), (196, 145, 104), (150, 102, 68), (98, 63, 44)]
)
HAIR_COLOURS = np.array([(28.0, 24, 24), (74, 50, 34), (150, 84, 46), (206, 168, 106)])
GREY_HAIR = (176, 174, 172)
CLOTH_COLOURS = np.array(
    [(52.0, 66, 92), (120, 48, 52), (60, 92, 78), (196, 186, 170), (44, 44, 48), (146, 112, 150)]
)


def pose_points(sides: np.ndarray, parameters: FaceParameters) -> tuple[np.ndarray, np.ndarray]:
    """Computes the 68 points [68, 2] of a face, with and without the action units.

    Both are in face coordinates and include the yaw. `sides` are the intensities [2, 18].
    """
    points, rest = rig.deform_sides(sides[None], parameters.identity[None])
    both = rig.normalize_eyes(np.concatenate([points, rest]), rest[0])
    return tuple(rig.turn_head(both, parameters.yaw))


def render_face(
    intensities: np.ndarray, parameters: FaceParameters, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Renders an image of a face.

    **Arguments:**

    - `intensities`: of the 18 units, in [0, 1]: [18], or [2, 18] for the image's left and right.
    - `size`: side of the image, pixels. Faces are drawn at 256 pixels and resized.

    **Returns:** the image, RGB uint8 [size, size, 3], and its landmarks [68, 2] in pixels.
    """
    sides = np.broadcast_to(intensities, (2, intensities.shape[-1]))
    points, rest = pose_points(sides, parameters)
    cos, sin = np.cos(parameters.roll), np.sin(parameters.roll)
    axes = parameters.size * np.array([[cos, sin], [-sin, cos]])
    colours = np.random.default_rng(parameters.surroundings)
    canvas = Canvas(_draw_background(colours), axes, np.array(parameters.centre))
    grey = max(0.0, 2 * parameters.age - 1)
    hair_colour = mix(_interpolate(HAIR_COLOURS, parameters.hair_colour), GREY_HAIR, grey)
    skin_colour = _interpolate(SKIN_COLOURS, parameters.skin_tone)
    face = Face(canvas, points, rest, sides, parameters, skin_colour, hair_colour)
    lip_colour = mix(skin_colour, mix((176, 96, 86), (186, 52, 62), parameters.makeup), 0.55)
    clothes_colour, occlusion_colour = CLOTH_COLOURS[colours.permutation(len(CLOTH_COLOURS))[:2]]
    features.draw_back_hair(face)  # from back to front
    skin.draw_neck_and_ears(face)
    skin.draw_clothes(face, clothes_colour)
    skin.draw_skin(face, lip_colour, features.trace_hair_shadow(face))
    features.draw_mouth(face, lip_colour)
    features.draw_eyes(face)
    features.draw_brows(face)
    features.draw_glasses(face)
    features.draw_front_hair(face)
    _draw_occlusion(face, occlusion_colour)
    image = cv2.convertScaleAbs(canvas.image, alpha=parameters.brightness)
    if parameters.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), parameters.blur)
    landmarks = points @ axes + parameters.centre
    if size != SIZE:
        interpolation = cv2.INTER_AREA if size < SIZE else cv2.INTER_CUBIC
        image = cv2.resize(image, (size, size), interpolation=interpolation)
        landmarks = (landmarks + 0.5) * (size / SIZE) - 0.5  # pixel centres are integers
    return image, landmarks


def _interpolate(colours: np.ndarray, position: float) -> np.ndarray:
    """Interpolates in a list of colours [n, 3]; `position` is 0 for the first, 1 for the last."""
    positions = np.linspace(0, 1, len(colours))
    return np.array([np.interp(position, positions, channel) for channel in colours.T])


def _draw_background(rng: np.random.Generator) -> np.ndarray:
    """A gradient between four random greyish colours, uint8 [256, 256, 3]."""
    level, cast = rng.uniform(60, 225), rng.normal(0.0, 10.0, (2, 2, 3))
    corners = level + rng.normal(0.0, 18.0, (2, 2, 1)) + cast
    corners = corners.clip(0, 255).astype(np.uint8)
    return cv2.resize(corners, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _draw_occlusion(face: Face, cloth: np.ndarray) -> None:
    """Draws something in front of a part of the face; most of the face stays visible."""
    kind, side = face.parameters.occlusion, 1 if face.parameters.surroundings % 2 else -1
    if kind == "mask":  # pulled down below the lower lip
        top = face.points[57] + (0.0, 0.08)
        left, right = face.points[3], face.points[13]
        sag = (0.0, 0.12)
        edge = curve([left, (left + top) / 2 + sag, top, (right + top) / 2 + sag, right])
        jaw = curve(face.points[3:14] + (0.0, 0.04))
        face.canvas.draw([np.concatenate([edge, jaw[::-1]])], cloth)
    elif kind == "object":
        spot = ellipses((0.95 * side, 0.9), (0.4, 0.5), 0.5 * side)
        face.canvas.paint(spot, cloth, 1.0, soft=0.03)
