"""Draws eyes, brows and glasses."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.render.painting import Face, band, curve, ellipses, mix

SIDES = (-1.0, 1.0)  # left and right side of the image
IRIS_RADIUS = 0.102  # face units; an iris is 11.7 mm wide, eyes are 63 mm apart
SCLERA_COLOUR, TEAR_DUCT_COLOUR = (236, 232, 230), (206, 138, 128)
LID_SHADOW_COLOUR, PUPIL_COLOUR, WHITE = (112, 100, 98), (12, 10, 12), (255, 255, 255)
BROWN, BLUE = (84, 54, 32), (104, 136, 156)
FRAME_COLOUR = (44, 38, 40)
# Per side: upper lid from the outer corner, lower lid back to it; brow from its outer end.
_UPPER_LIDS = np.array([[36, 37, 38, 39], [45, 44, 43, 42]])
_LOWER_LIDS = np.array([[39, 40, 41, 36], [42, 47, 46, 45]])
_BROWS = np.array([[17, 18, 19, 20, 21], [26, 25, 24, 23, 22]])

_LASHES = np.concatenate([[0.0], 0.55 + 0.45 * np.sin(np.linspace(0.7, np.pi, 16))])
_BROW = np.interp(np.linspace(0, 1, 20), (0, 0.3, 0.75, 1), (0.1, 0.7, 1.0, 0.85))
_HAIRS = np.arange(1, 19, 2)  # hairs of a brow, from its outer end
_LEAN = np.array((0.06, 0.0)) + 0.008 * np.random.default_rng(17).standard_normal((9, 2))
_TURN = np.linspace(0, 2 * np.pi, 25)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_RIMS = {
    "round": np.stack([0.36 * _COS, 0.33 * _SIN], axis=1),
    "square": np.stack([0.36 * np.cbrt(_COS), 0.27 * np.cbrt(_SIN)], axis=1),
}


def draw_eyes(face: Face) -> None:
    uppers = curve(face.points[_UPPER_LIDS], samples=16)
    lowers = curve(face.points[_LOWER_LIDS], samples=16)
    lashes = 0.3 + 0.7 * face.parameters.makeup
    dark = mix(0.2 * face.hair, (24, 16, 16), 0.6)
    for side, upper, lower in zip(SIDES, uppers, lowers, strict=True):
        gap = float(lower[:, 1].max() - upper[:, 1].min())
        if gap > 0.045:
            _draw_eyeball(face, upper, lower, gap)
        wing = upper[:1] + (0.055 * side * lashes, -0.03 * lashes)
        line = np.concatenate([wing, upper])
        face.canvas.draw([band(line, 0.004 + (0.024 + 0.024 * lashes) * _LASHES)], dark)


def _draw_eyeball(face: Face, upper: np.ndarray, lower: np.ndarray, gap: float) -> None:
    """Draws white, iris, pupil and catchlight, clipped by the lids [16, 2]."""
    outline = np.concatenate([upper, lower])
    part = face.canvas.crop([outline])
    middle, bottom = (upper[0, 0] + upper[15, 0]) / 2, lower[:, 1].max()
    eye = part.layer(mix(0.74 * np.array(SCLERA_COLOUR), face.skin, 0.25))
    ball_and_duct = [(middle, bottom - gap / 2 + 0.01), upper[15]]
    circles = ellipses(ball_and_duct, [(0.145, 0.145), (0.04, 0.04)])
    eye.draw(circles, [SCLERA_COLOUR, TEAR_DUCT_COLOUR])
    eye.draw([band(upper, 0.10)], LID_SHADOW_COLOUR)
    cv2.blur(eye.image, (5, 5), dst=eye.image)
    # A relaxed upper lid covers the top of the iris; the lower lid touches its bottom.
    iris_y = bottom - (0.92 * IRIS_RADIUS if gap < 2.15 * IRIS_RADIUS else gap / 2)
    blue = min(max(1.2 * face.parameters.hair_colour - face.parameters.skin_tone, 0.0), 1.0)
    iris = mix(BROWN, BLUE, blue)
    left = 0.036 if face.parameters.light[0] >= 0 else -0.036
    # A dark rim, the colour, a lighter crescent opposite to the light, the pupil, a catchlight.
    shifts = [(0, 0), (0, 0), (-0.4 * left, 0.034), (0, 0), (left, -0.036)]
    radii = IRIS_RADIUS * np.array([1.0, 0.82, 0.5, 0.42, 0.26])
    circles = ellipses(np.array(shifts) + (middle, iris_y), np.stack([radii, radii], axis=1))
    eye.draw(circles, [0.36 * iris, iris, 1.5 * iris, PUPIL_COLOUR, WHITE])
    part.blend(eye.image, part.mask([outline]))
    part.draw([lower[1:15]], mix(0.62 * face.skin, (120, 50, 44), 0.3), width=0.012)


def draw_brows(face: Face) -> None:
    """Draws the brows as soft bands with single hairs."""
    colour = np.minimum(0.65 * face.hair, 0.6 * face.skin)
    width = 0.125 - 0.045 * face.parameters.makeup
    lines = curve(face.points[_BROWS], samples=20) + (0.0, 0.02)
    face.canvas.paint(band(lines, 0.9 * width * _BROW), colour, 0.75, soft=0.012)
    thick = np.stack([np.zeros(9), width * _BROW[_HAIRS]], axis=1)
    roots = lines[:, _HAIRS] + 0.36 * thick
    tips = lines[:, _HAIRS - 1] - 0.4 * thick + _LEAN * np.array([[(-1.0, 1.0)], [(1.0, 1.0)]])
    hairs = np.stack([roots, tips], axis=2).reshape(-1, 2, 2)
    face.canvas.draw(hairs, colour, width=0.01)


def draw_glasses(face: Face) -> None:
    if face.parameters.glasses == "none":
        return
    middles = face.rest[[[36, 39], [42, 45]]].mean(axis=1) * (1.03, 0.0) + (0.0, 0.05)
    rims = _RIMS[face.parameters.glasses] + middles[:, None]
    hinges = np.array([(-0.36, -0.08), (0.36, -0.08)])
    temples = np.stack([middles + hinges, face.rest[[0, 16]]], axis=1)
    bridge = curve([(-0.13, 0.0), (0.0, -0.035), (0.13, 0.0)], samples=8)
    bridge = bridge + (middles[:, 0].mean(), 0.0)
    for lines in (rims, temples, bridge[None]):
        face.canvas.draw(lines, FRAME_COLOUR, width=0.034)
