"""Draws the skin of head, ears and neck, with lips and nostrils, and the clothes.

The skin of the head has a relief: its height is the sum of an ellipsoid for the head, hills and
hollows (Gaussians), and creases (blurred lines). Hills and creases are attached to landmarks; their
heights and depths are linear in age and in the intensities of the action units, as the
displacements of the rig are. The skin is darker where it is lower than its surroundings or turned
away from the light.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render.painting import Canvas, Colour, Face, blur, colour_map, curve, ellipses

GRID_STEPS = 33.0  # of the height map, per face unit
COLUMNS, ROWS = 95, 135
LEFT, TOP = -1.42, -1.86  # edges of the height map, face coordinates
_GRID_ORIGIN = GRID_STEPS * np.array((-LEFT, -TOP))
NUM_STRIPS = 5  # of the grid; each is small enough for a matrix product on one thread
GRID_X = (LEFT + np.arange(COLUMNS) / GRID_STEPS).astype(np.float32)
GRID_Y = (TOP + np.arange(ROWS) / GRID_STEPS).astype(np.float32)
FRONTAL_TONE = 128.0  # tone of skin that faces the viewer
SKULL_TOP = -1.64  # y of the top of the skull

AMBIENT = 0.42  # fraction of the light that comes from everywhere
LIGHT_WRAP = 0.3  # skin is translucent, so light also reaches surfaces that are turned away
MAX_CREASE_DEPTH = 0.075  # face units
MIN_CREASE_DEPTH = 0.18  # of `MAX_CREASE_DEPTH`; shallower creases are not drawn
CREASE_DARKNESS = 0.35  # fraction of a crease's depth that darkens it in any light
DEPTH_CONTRAST = 320.0  # tones per face unit of height relative to the surroundings

MIRRORED = (-1.0, 1.0)  # factors of x and y
_NOSE_UNITS = [UNITS.index(unit) for unit in (9, 10)]
_TURN = np.linspace(0, np.pi, 13)[1:-1]
_SKULL = np.stack(
    [np.sign(np.cos(_TURN)) * np.abs(np.cos(_TURN)) ** 0.86, np.sin(_TURN) ** 0.9], axis=1
)
# Dark skin tones are warmer because of subsurface scattering, bright ones are shiny.
_SKIN = (
    (0, (0.10, 0.05, 0.04), (0, 0, 0)),
    (52, (0.47, 0.33, 0.27), (0, 0, 0)),
    (92, (0.78, 0.68, 0.63), (0, 0, 0)),
    (FRONTAL_TONE, (1, 1, 1), (0, 0, 0)),
    (190, (0.86, 0.86, 0.86), (56, 53, 50)),
    (255, (0.50, 0.50, 0.50), (148, 145, 140)),
)
LIP_EDGES = np.array(  # from top to bottom, from left to right
    [
        [48, 49, 50, 51, 52, 53, 54],
        [48, 60, 61, 62, 63, 64, 54],
        [48, 60, 67, 66, 65, 64, 54],
        [48, 59, 58, 57, 56, 55, 54],
    ]
)

# Hills of the left half: landmark, offset outwards and down, width, height (standard deviations),
# rise, rise with age, rise with action units. Points on the midline have a half hill per side.
_HILLS = (
    # forehead, temple, brow
    (27, 0.00, -0.90, 0.62, 0.36, 0.025, 0, {}),
    (27, 0.36, -0.93, 0.26, 0.22, 0.02, 0, {}),
    (36, 0.27, -0.42, 0.16, 0.26, -0.04, 0, {}),
    (19, -0.06, 0.06, 0.28, 0.09, 0.07, 0, {}),
    (21, -0.07, 0.08, 0.12, 0.09, 0.03, 0, {4: 0.05}),
    # eye: socket, inner corner, eyeball, bag
    (39, 0.23, 0.00, 0.25, 0.13, -0.12, 0, {}),
    (39, -0.03, -0.04, 0.09, 0.11, -0.035, 0, {}),
    (39, 0.22, -0.03, 0.17, 0.085, 0.07, 0, {}),
    (39, 0.22, 0.10, 0.17, 0.04, 0.022, 0.02, {6: 0.03, 7: 0.024}),
    # nose: bridge, tip, base, wing
    (28, 0.00, -0.06, 0.11, 0.16, 0.05, 0, {}),
    (29, 0.00, 0.06, 0.12, 0.15, 0.095, 0, {}),
    (30, 0.00, 0.05, 0.095, 0.085, 0.065, 0, {}),
    (33, 0.00, -0.02, 0.05, 0.04, 0.02, 0, {}),
    (31, -0.045, -0.02, 0.06, 0.06, 0.10, 0, {9: 0.03}),
    (31, -0.07, -0.16, 0.05, 0.05, 0.02, 0, {}),
    # cheek: bone, apple, hollow
    (36, 0.03, 0.35, 0.26, 0.17, 0.06, 0, {}),
    (36, -0.11, 0.56, 0.20, 0.16, 0.02, 0, {6: 0.06, 12: 0.09}),
    (4, -0.08, -0.05, 0.20, 0.28, -0.04, -0.04, {}),
    # mouth: muzzle, philtrum, lips, corner, groove below
    (51, 0.00, 0.07, 0.40, 0.24, 0.05, 0, {}),
    (51, 0.00, -0.11, 0.032, 0.09, -0.015, 0, {}),
    (50, -0.01, 0.05, 0.10, 0.045, 0.05, 0, {23: -0.02, 24: -0.03}),
    (49, 0.02, 0.04, 0.08, 0.04, 0.04, 0, {23: -0.02, 24: -0.03}),
    (58, -0.02, -0.07, 0.12, 0.05, 0.06, 0, {23: -0.02, 24: -0.03}),
    (59, 0.02, -0.05, 0.08, 0.04, 0.04, 0, {23: -0.02, 24: -0.03}),
    (48, 0.13, 0.00, 0.09, 0.16, -0.04, 0, {12: -0.03}),
    (57, 0.00, 0.10, 0.22, 0.05, -0.03, 0, {17: -0.01}),
    # chin
    (8, 0.00, -0.24, 0.20, 0.13, 0.045, 0, {17: 0.025}),
)  # fmt: skip

FINE, FOLD = 0.02, 0.034  # widths of creases, face units

# Creases of the left half, through three knots of a landmark, and offsets outwards and down: knots,
# width, depth, depth with age, depth with action units. Depth 1 is `MAX_CREASE_DEPTH`.
_CREASES = (
    # forehead, from the midline outwards: inner and outer part of two lines
    (((27, 0.0, -0.49), (27, 0.17, -0.50), (27, 0.33, -0.49)), FINE, 0, 0.4, {1: 0.7}),
    (((27, 0.0, -0.65), (27, 0.18, -0.66), (27, 0.36, -0.65)), FINE, 0, 0.4, {1: 0.7}),
    (((27, 0.33, -0.49), (27, 0.48, -0.49), (27, 0.62, -0.47)), FINE, 0, 0.4, {2: 0.7}),
    (((27, 0.36, -0.65), (27, 0.53, -0.65), (27, 0.70, -0.63)), FINE, 0, 0.4, {2: 0.7}),
    # frown, root of the nose, side of the nose
    (((21, -0.04, -0.16), (21, -0.075, -0.01), (21, -0.05, 0.16)), FOLD, 0, 0.15, {4: 0.95}),
    (((27, 0.0, 0.05), (27, 0.05, 0.04), (27, 0.10, 0.02)), FINE, 0, 0, {9: 0.7}),
    (((27, 0.10, 0.17), (27, 0.18, 0.19), (27, 0.23, 0.27)), FINE, 0, 0, {9: 0.8}),
    (((27, 0.13, 0.27), (27, 0.21, 0.29), (27, 0.26, 0.37)), FINE, 0, 0, {9: 0.8}),
    # upper lid, lower lid, furrow under the eye, crow's feet
    (((36, -0.01, -0.06), (36, -0.20, -0.185), (39, 0.02, -0.08)), FINE, 0.6, 0, {}),
    (((36, 0.0, 0.02), (41, -0.08, 0.015), (39, 0.0, 0.02)), FINE, 0.25, 0, {}),
    (((39, 0.04, 0.09), (40, 0.0, 0.13), (36, 0.02, 0.10)), FOLD, 0.15, 0.25, {6: 0.5, 7: 0.4}),
    (((36, 0.12, 0.01), (36, 0.20, -0.04), (36, 0.29, -0.09)), FINE, 0, 0.4, {6: 0.7}),
    (((36, 0.12, 0.02), (36, 0.24, 0.01), (36, 0.36, 0.01)), FINE, 0, 0.4, {6: 0.7}),
    (((36, 0.12, 0.03), (36, 0.22, 0.08), (36, 0.31, 0.13)), FINE, 0, 0.4, {6: 0.7}),
    # wing of the nose, nasolabial fold, dimple, fold below the corner of the mouth
    (((31, -0.055, -0.155), (31, 0.04, -0.07), (31, 0.025, 0.025)), FINE, 0.4, 0, {9: 0.2}),
    (((31, 0.06, -0.10), (48, -0.02, -0.22), (48, 0.13, 0.06)), FOLD, 0.08, 0.25,
     {9: 0.45, 10: 0.6, 12: 0.7, 14: 0.5}),
    (((48, 0.11, -0.10), (48, 0.17, 0.0), (48, 0.10, 0.12)), FOLD, 0, 0, {14: 0.9, 20: 0.35}),
    (((48, 0.05, 0.04), (48, 0.11, 0.16), (48, 0.11, 0.30)), FOLD, 0, 0.15, {15: 0.75}),
    # seam of the lips, chin
    (((60, 0.0, 0.0), (61, 0.0, 0.0), (62, 0.0, 0.0)), FINE, 0.35, 0, {}),
    (((60, 0.0, 0.0), (67, 0.0, 0.0), (66, 0.0, 0.0)), FINE, 0.35, 0, {}),
    (((57, 0.24, 0.16), (57, 0.13, 0.11), (57, 0.0, 0.09)), FOLD, 0, 0, {17: 0.6}),
    (((57, 0.16, 0.25), (57, 0.13, 0.235), (57, 0.10, 0.25)), FINE, 0, 0, {17: 0.6}),
    (((57, 0.09, 0.32), (57, 0.06, 0.305), (57, 0.03, 0.32)), FINE, 0, 0, {17: 0.6}),
)  # fmt: skip


def _attach(knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts knots [..., 3] of the left half to landmarks and offsets of both [2, ...]."""
    points = knots[..., 0].astype(int)
    offsets = knots[..., 1:]
    return np.stack([points, rig.MIRROR[points]]), np.stack([offsets * MIRRORED, offsets])


def _weights(rows: list[tuple[float, float, dict[int, float]]]) -> np.ndarray:
    """Weights [20, n] of 1, age and the action units."""
    return np.array(
        [[base, age, *(units.get(u, 0.0) for u in UNITS)] for base, age, units in rows]
    ).T


_HILL_POINTS, _HILL_OFFSETS = _attach(np.array([row[:3] for row in _HILLS]))
_HILL_SIZES = np.tile([row[3:5] for row in _HILLS], (2, 1)).astype(np.float32)
_HILL_WEIGHTS = _weights([row[5:] for row in _HILLS])
_CREASE_POINTS, _CREASE_OFFSETS = _attach(np.array([row[0] for row in _CREASES]))
_CREASE_WIDTHS = np.tile([row[1] for row in _CREASES], 2)
_CREASE_WEIGHTS = _weights([row[2:] for row in _CREASES])


def _trace_head(face: Face) -> np.ndarray:
    """Returns the closed outline [84, 2] of jaw and skull."""
    jaw = face.points[:17]
    middle, half = (jaw[0] + jaw[16]) / 2, (jaw[16, 0] - jaw[0, 0]) / 2
    skull = middle + _SKULL * (1.04 * half, SKULL_TOP - middle[1])
    return curve(np.concatenate([jaw, skull]), closed=True, samples=84)


def draw_neck_and_ears(face: Face) -> None:
    left, right, chin = face.rest[4], face.rest[12], face.points[8]
    middle, half = (left[0] + right[0]) / 2, 0.36 * (right[0] - left[0])
    x, _, z = light_direction(face)
    top, bottom = chin[1] - 0.45, chin[1] + 1.05
    side = curve([(-half, top), (-0.96 * half, bottom - 0.5), (-1.5 * half, bottom)])
    edges = np.stack([side, side * MIRRORED]) + (middle, 0.0)
    outline = np.concatenate([edges[0], edges[1, ::-1]])
    part = face.canvas.crop([outline])
    neck = part.layer((0.62 + 0.24 * z) * face.skin)
    neck.draw(edges, [(0.55 + 0.3 * side * x) * face.skin for side in (-1, 1)], width=0.2)
    neck.draw(ellipses((middle, chin[1] - 0.1), (1.2 * half, 0.4)), 0.5 * face.skin)
    part.blend(cv2.blur(neck.image, (13, 13)), part.mask([outline]))
    for point, side in ((0, -1.0), (16, 1.0)):
        middle, bright = face.rest[point] + (0.02 * side, 0.2), 0.66 + 0.22 * z + 0.22 * side * x
        ears = ellipses((middle, middle), ((0.13, 0.28), (0.07, 0.18)), -0.15 * side)
        face.canvas.draw(ears, [bright * face.skin, 0.85 * bright * face.skin])


def draw_clothes(face: Face, colour: Colour) -> None:
    left, right, chin = face.rest[4], face.rest[12], face.rest[8]
    half, bottom = 0.36 * (right[0] - left[0]), chin[1] + 0.42
    collar = curve([(-1.02 * half, bottom), (0.0, bottom + 0.38), (1.02 * half, bottom)])
    shoulder = curve(
        [(1.02 * half, bottom), (1.9 * half, bottom + 0.22), (4.2 * half, bottom + 0.75)]
    )
    shoulder = np.concatenate([shoulder, [(4.5 * half, 6.0)]])
    outline = np.concatenate([collar, shoulder, shoulder[::-1] * MIRRORED]) + (chin[0], 0.0)
    face.canvas.draw([outline], colour)
    face.canvas.draw([outline[: len(collar)]], 0.75 * np.asarray(colour), width=0.05)


def draw_skin(face: Face, lip: np.ndarray, shadows: list[np.ndarray]) -> None:
    """Draws the skin of the head with shadows, redder cheeks and nose, and lips in their colour."""
    outline = _trace_head(face)
    part = face.canvas.crop([outline])
    tone = _warp_to_image(shade_skin(face, shadows), part)
    skin = Canvas(cv2.applyColorMap(tone, colour_map(_SKIN, face.skin)), part.axes, part.origin)
    cheeks_and_nose = [(-0.68, 0.56), (0.68, 0.56), (0.0, 0.62)]
    blushes = ellipses(cheeks_and_nose, [(0.27, 0.18), (0.27, 0.18), (0.18, 0.12)])
    skin.paint(blushes, face.skin * (1.0, 0.76, 0.72), 0.3, soft=0.09)
    top, upper_seam, lower_seam, bottom = curve(face.points[LIP_EDGES])
    lips = [np.concatenate([top, upper_seam[::-1]]), np.concatenate([lower_seam, bottom[::-1]])]
    lip_mask = cv2.blur(skin.mask(lips), (3, 3))
    skin.blend(cv2.applyColorMap(tone, colour_map(_SKIN, lip)), lip_mask)
    part.blend(skin.image, part.mask([outline]))
    flare = 1.0 + 0.3 * face.sides[:, _NOSE_UNITS].max(axis=1, keepdims=True)
    nostrils = 0.62 * face.points[[32, 34]] + 0.38 * face.points[[31, 35]]
    face.canvas.draw(ellipses(nostrils, flare * (0.05, 0.022)), 0.25 * face.skin)


def _empty_map() -> Canvas:
    """Returns a map of zeros over the head, uint8 [ROWS, COLUMNS]."""
    return Canvas(np.zeros((ROWS, COLUMNS), np.uint8), GRID_STEPS * np.eye(2), _GRID_ORIGIN)


def _warp_to_image(values: np.ndarray, part: Canvas) -> np.ndarray:
    """Warps a map over the head to the pixels of a canvas; edges of the map are repeated."""
    axes = part.axes / GRID_STEPS
    matrix = np.column_stack([axes.T, part.origin - _GRID_ORIGIN @ axes])
    return cv2.warpAffine(values, matrix, part.image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def light_direction(face: Face) -> tuple[float, float, float]:
    """Unit vector towards the light in face coordinates: right, down, to the viewer."""
    right, down = face.parameters.light
    length = math.sqrt(right * right + down * down + 1.0)
    cos, sin = math.cos(face.parameters.roll), math.sin(face.parameters.roll)
    return (right * cos + down * sin) / length, (down * cos - right * sin) / length, 1.0 / length


def shade_skin(face: Face, shadows: list[np.ndarray]) -> np.ndarray:
    """Computes the tones of the skin, uint8 [ROWS, COLUMNS], darker within `shadows`.

    Black is 0, skin that faces the viewer is `FRONTAL_TONE`.
    """
    features = np.column_stack([np.ones(2), np.full(2, face.parameters.age), face.sides])
    creases = _draw_creases(face, features)
    height = _head_shape(face.points[:17]) + _sum_hills(face.points, features)
    height -= creases * np.float32(MAX_CREASE_DEPTH / 255)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=GRID_STEPS / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=GRID_STEPS / 8)
    facing = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    x, y, z = light_direction(face)
    direct = (z - x * slope_x - y * slope_y) * facing  # cosine between normal and light
    direct, frontal = ((1 - LIGHT_WRAP) * cosine + LIGHT_WRAP for cosine in (direct, z))
    light = (1 - AMBIENT) * direct / frontal + AMBIENT * (0.65 + 0.35 * facing)
    relative_height = height - blur(height, 0.1 * GRID_STEPS)
    tone = cv2.convertScaleAbs(
        np.maximum(FRONTAL_TONE * light + DEPTH_CONTRAST * relative_height, 0)
    )
    dark = _empty_map()
    dark.draw(shadows, (70,))
    darkness = cv2.addWeighted(cv2.blur(dark.image, (3, 3)), 1.0, creases, CREASE_DARKNESS, 0.0)
    return cv2.multiply(tone, cv2.bitwise_not(darkness), scale=1 / 255)


def _head_shape(jaw: np.ndarray) -> np.ndarray:
    """Heights float32 [ROWS, COLUMNS] of an ellipsoid that follows the jaw [17, 2]."""
    middle = np.float32(0.3 * (jaw[0, 0] + jaw[16, 0]))  # a head moves less than its edges
    half = np.interp(GRID_Y, jaw[:8, 1], (jaw[16:8:-1, 0] - jaw[:8, 0]) / 2)
    half = 1.05 * np.cbrt(half**3 + (0.62 * half[0]) ** 3)
    above, below = (GRID_Y - 0.3) / (SKULL_TOP - 0.65), (GRID_Y - 0.3) / (jaw[8, 1] - 0.2)
    down = np.where(GRID_Y < 0.3, above**2, below**4).astype(np.float32)
    ball = np.multiply.outer((half**-2).astype(np.float32), (GRID_X - middle) ** 2)
    ball += down[:, None]  # 1 where the head ends
    return np.sqrt(np.maximum(1 - ball * (np.float32(0.55) + np.float32(0.45) * ball), 0.02))


def _sum_hills(points: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Heights float32 [ROWS, COLUMNS] of all hills; `features` [2, 20] are 1, age and units."""
    centres = (points[_HILL_POINTS] + _HILL_OFFSETS).reshape(-1, 2).astype(np.float32)
    across = (GRID_X - centres[:, :1]) / _HILL_SIZES[:, :1]
    down = (GRID_Y - centres[:, 1:]) / _HILL_SIZES[:, 1:]
    across, down = np.exp(np.float32(-0.5) * across**2), np.exp(np.float32(-0.5) * down**2)
    down *= (features @ _HILL_WEIGHTS).reshape(-1, 1).astype(np.float32)
    # For larger products, the BLAS of NumPy starts threads that busy-wait for the next product
    # and take CPU time from the other rendering processes.
    strips = down.T.reshape(NUM_STRIPS, ROWS // NUM_STRIPS, -1)
    return (strips @ across).reshape(ROWS, COLUMNS)


def _draw_creases(face: Face, features: np.ndarray) -> np.ndarray:
    """Depths uint8 [ROWS, COLUMNS] of the creases, 255 is `MAX_CREASE_DEPTH`."""
    depths = (features @ _CREASE_WEIGHTS).reshape(-1)
    lines = curve(face.points[_CREASE_POINTS] + _CREASE_OFFSETS, samples=8).reshape(-1, 8, 2)
    canvas = _empty_map()
    for width in (FINE, FOLD):
        visible = (depths > MIN_CREASE_DEPTH) & (_CREASE_WIDTHS == width)
        canvas.draw(lines[visible], 255 * depths[visible, None], width)
    return cv2.blur(cv2.blur(canvas.image, (3, 3)), (3, 3))
