"""Draws the skin of head, ears and neck, with lips, beard and nostrils, and the clothes."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render.features import trace_lips
from affect_jax.facs.render.painting import (
    Canvas,
    Colour,
    Face,
    blur,
    colour_map,
    curve,
    ellipses,
    mirror,
    tone_table,
)
from affect_jax.facs.render.relief import (
    COLUMNS,
    FRONTAL_TONE,
    ROWS,
    SKULL_TOP,
    grid_canvas,
    light_direction,
    shade_skin,
)

_NOSE_UNITS = [UNITS.index(unit) for unit in (9, 10)]
_TURN = np.linspace(0, np.pi, 13)[1:-1]
# Dark skin tones are warmer because of subsurface scattering, bright ones are shiny.
_SKIN = tone_table(
    (0, (0.10, 0.05, 0.04), (0, 0, 0)),
    (52, (0.47, 0.33, 0.27), (0, 0, 0)),
    (92, (0.78, 0.68, 0.63), (0, 0, 0)),
    (FRONTAL_TONE, (1, 1, 1), (0, 0, 0)),
    (190, (0.86, 0.86, 0.86), (56, 53, 50)),
    (255, (0.50, 0.50, 0.50), (148, 145, 140)),
)
_SKULL = np.stack(
    [np.sign(np.cos(_TURN)) * np.abs(np.cos(_TURN)) ** 0.86, np.sin(_TURN) ** 0.9], axis=1
)
# Landmarks and offsets of the left half: from the corner of the mouth to the middle of the lip, and
# from the ear to the middle of the chin below the lip.
_MOUSTACHE = ([48, 49, 50, 51], [(-0.07, 0.05), (-0.04, -0.05), (0.0, -0.12), (0.0, -0.09)])
_BEARD = ([2, 3, 48, 57, 57], [(0.02, -0.1), (0.25, 0.1), (-0.08, 0), (-0.14, 0.03), (0, 0.03)])


def trace_head(face: Face) -> np.ndarray:
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
    edges = np.stack([side, mirror(side)]) + (middle, 0.0)
    outline = np.concatenate([edges[0], edges[1, ::-1]])
    part = face.canvas.crop([outline])
    neck = part.layer((0.62 + 0.24 * z) * face.skin)
    inside = edges + [[(0.12, 0.0)], [(-0.12, 0.0)]]
    bands = np.concatenate([edges, inside[:, ::-1]], axis=1)
    neck.draw(bands, [(0.55 + 0.3 * side * x) * face.skin for side in (-1, 1)])
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
    outline = np.concatenate([collar, shoulder, mirror(shoulder)[::-1]]) + (chin[0], 0.0)
    face.canvas.draw([outline], colour)
    face.canvas.draw([outline[: len(collar)]], 0.75 * np.asarray(colour), width=0.05)


def draw_skin(face: Face, outline: np.ndarray, lip: np.ndarray, shadows: np.ndarray) -> None:
    """Draws the skin of the head, with redder areas, and the lips in their colour.

    **Arguments:**

    - `outline`, `shadows`: outlines of the head [n, 2], and of shadows on it [m, n, 2].
    """
    tone = shade_skin(face, shadows)
    coloured = cv2.applyColorMap(tone, colour_map(_SKIN, face.skin))
    coloured = cv2.addWeighted(coloured, 1.0, _blood(), -0.00009 * face.skin.sum(), 0.0)
    rgba = cv2.cvtColor(coloured, cv2.COLOR_RGB2RGBA)  # OpenCV is faster with four channels
    part = face.canvas.crop([outline])
    warped = _warp_to_image(cv2.insertChannel(tone, rgba, 3), part)
    tone = cv2.extractChannel(warped, 3)
    skin = Canvas(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), part.axes, part.origin)
    lips = trace_lips(face.points)
    if face.parameters.beard > 0:
        mask = blur(skin.mask(_trace_beard(face.points)), 0.04 * skin.unit)
        hairs = cv2.applyColorMap(tone, colour_map(_SKIN, 0.6 * face.hair))
        skin.blend(hairs, cv2.convertScaleAbs(mask, alpha=0.9 * face.parameters.beard))
    lip_mask = cv2.blur(skin.mask(lips), (3, 3))
    skin.blend(cv2.applyColorMap(tone, colour_map(_SKIN, lip)), lip_mask)
    part.blend(skin.image, part.mask([outline]))
    _draw_nostrils(face)


def _warp_to_image(values: np.ndarray, part: Canvas) -> np.ndarray:
    """Warps a map over the head to the pixels of a canvas; edges of the map are repeated."""
    grid = grid_canvas(values)
    axes = part.axes / grid.unit
    matrix = np.column_stack([axes.T, part.origin - grid.origin @ axes])
    return cv2.warpAffine(values, matrix, part.image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


@functools.cache
def _blood() -> np.ndarray:
    """Light that blood absorbs in cheeks, nose and chin, uint8 [ROWS, COLUMNS, 3]."""
    canvas = grid_canvas(np.zeros((ROWS, COLUMNS), np.uint8))
    centres = [(-0.68, 0.56), (0.68, 0.56), (0.0, 0.62), (0.0, 1.54)]
    radii = [(0.27, 0.18), (0.27, 0.18), (0.18, 0.12), (0.16, 0.10)]
    canvas.draw(ellipses(centres, radii), (255,))
    amount = blur(canvas.image, 0.09 * canvas.unit)
    return cv2.merge([np.zeros_like(amount), amount, amount])


def _trace_beard(points: np.ndarray) -> np.ndarray:
    """Outlines [2, 60, 2] of moustache and beard, without the lips."""
    lip = curve(points[48:55] + (0.0, -0.012), samples=30)
    jaw = curve(points[2:15], samples=30) + (0.0, 0.04)
    outlines = []
    for edge, landmarks, offsets in ((lip, *_MOUSTACHE), (jaw, *_BEARD)):
        left = points[landmarks] + np.array(offsets)
        right = points[rig.MIRROR[landmarks]] + mirror(np.array(offsets))
        knots = np.concatenate([left, right[-2::-1]])
        outlines.append(np.concatenate([edge, curve(knots, samples=30)[::-1]]))
    return np.stack(outlines)


def _draw_nostrils(face: Face) -> None:
    flare = 1.0 + 0.3 * face.sides[:, _NOSE_UNITS].max(axis=1, keepdims=True)
    centres = 0.62 * face.points[[32, 34]] + 0.38 * face.points[[31, 35]]
    face.canvas.draw(ellipses(centres, flare * (0.05, 0.022)), 0.25 * face.skin)
