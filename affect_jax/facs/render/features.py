"""Draws the features of a face: eyes, brows, glasses, mouth and hair."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render.painting import Canvas, Face, band, colour_map, curve, ellipses, mix
from affect_jax.facs.render.skin import LIP_EDGES, SKULL_TOP

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
_TURN = np.linspace(0, 2 * np.pi, 25)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_RIMS = {
    "round": np.stack([0.36 * _COS, 0.33 * _SIN], axis=1),
    "square": np.stack([0.36 * np.cbrt(_COS), 0.27 * np.cbrt(_SIN)], axis=1),
}

MAX_CLOSED_GAP = 0.035  # face units; a smaller gap between the lips is drawn as a line
TOOTH_COLOUR, TOOTH_GAP_COLOUR = (240, 235, 226), (218, 208, 199)
TONGUE_COLOUR, INSIDE_COLOUR = (166, 78, 82), (46, 14, 18)

_TOOTH_UNITS = [UNITS.index(unit) for unit in (10, 12, 20)]
_SEAM_HEIGHTS = 0.014 + 0.020 * np.sin(np.linspace(0.25, np.pi - 0.25, 24))

# Left half of lines in head coordinates (u, v), from the side of the head to the middle: u is -1 at
# the left edge of the face and 1 at the right edge; v is 0 at the top of the skull, 1 at the brows
# and about 2.7 at the chin.
_HAIRLINES = {
    "short": [(-1.0, 1.5), (-0.95, 1.1), (-0.93, 0.8), (-0.80, 0.46), (-0.42, 0.38), (0, 0.36)],
    "fringe": [(-1.0, 1.42), (-0.97, 1.0), (-0.84, 0.82), (-0.42, 0.86), (0, 0.83)],
    "long": [(-1.0, 1.42), (-0.95, 1.05), (-0.86, 0.66), (-0.5, 0.38), (0, 0.26)],
}
_SHORT_CROWN = [(-1.05, 1.4), (-1.09, 1.0), (-1.1, 0.62), (-0.95, 0.2), (-0.6, -0.07), (0, -0.16)]
_FULL_CROWN = [(-1.1, 1.42), (-1.16, 1.0), (-1.15, 0.62), (-1.0, 0.2), (-0.62, -0.05), (0, -0.14)]
_LONG_BACK = [(-1.1, 4.1), (-1.34, 3.4), (-1.28, 1.6), (-1.2, 0.7), (0, -0.1)]

_HAIR = (
    (0, (0.25, 0.25, 0.25), (0, 0, 0)),
    (128, (1, 1, 1), (0, 0, 0)),
    (255, (1.19, 1.19, 1.19), (76, 71, 63)),
)
STRAND_TONES = (24, 96, 2, 74, 118, 42)  # of neighbouring strands; 64 is no change
_DOWN, _ACROSS = np.linspace(0, 1, 24)[:, None], np.linspace(-1, 1, 24)  # a head


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
    colour = np.minimum(0.65 * face.hair, 0.6 * face.skin)
    width = 0.125 - 0.045 * face.parameters.makeup
    lines = curve(face.points[_BROWS], samples=20) + (0.0, 0.02)
    face.canvas.paint(band(lines, width * _BROW), colour, 0.9, soft=0.014)


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


def draw_mouth(face: Face, lip: np.ndarray) -> None:
    """Draws the area between the lips; `lip` is the colour of the lips."""
    inner = face.points[60:68]
    gap = float(np.max(inner[5:8, 1] - inner[3:0:-1, 1]))
    if gap > MAX_CLOSED_GAP:
        _draw_inside(face, inner, gap)
    else:
        seam = curve(face.points[LIP_EDGES[1:3]]).mean(axis=0)
        dark = mix(0.3 * lip, (40, 10, 12), 0.5)
        face.canvas.paint([band(seam, _SEAM_HEIGHTS)], dark, 0.9, soft=0.012)


def _draw_inside(face: Face, inner: np.ndarray, gap: float) -> None:
    """Draws the open mouth: dark inside, tongue and upper teeth."""
    upper, lower = curve(inner[:5], samples=17), curve(inner[[4, 5, 6, 7, 0]], samples=17)
    outline = np.concatenate([upper, lower])
    part = face.canvas.crop([outline])
    inside = part.layer(INSIDE_COLOUR)
    exposure = float(face.sides[:, _TOOTH_UNITS].max())
    if gap > 0.16:
        middle = inner[5:8].mean(axis=0) + (0.0, 0.02)
        inside.draw(ellipses(middle, (0.24, 0.36 * gap)), TONGUE_COLOUR)
    height = min(0.06 + 0.10 * exposure, (0.45 + 0.4 * exposure) * gap)
    shorter = 1 - 0.25 * np.linspace(-1, 1, 17) ** 2  # towards the corners
    teeth = upper + np.stack([np.zeros(17), height * shorter], axis=1)
    inside.draw([np.concatenate([upper, teeth[::-1]])], TOOTH_COLOUR)
    inside.draw(np.stack([upper, teeth], axis=1)[3:14:2], TOOTH_GAP_COLOUR, width=0.01)
    shade = part.layer((255, 255, 255))  # darker towards the corners and under the lip
    shade.draw(ellipses(inner[[0, 4]], (0.085, 0.085)), (70, 70, 70))
    shade.draw([upper], (120, 120, 120), width=0.045)
    lit = cv2.multiply(inside.image, cv2.blur(shade.image, (5, 5)), scale=1 / 255)
    part.blend(lit, part.mask([outline]))


def draw_back_hair(face: Face) -> None:
    """Draws long hair behind the head."""
    if face.parameters.hair == "long":
        left, right = _to_face(face, [(-1.25, 0.1), (1.25, 0.1)])
        roots = np.linspace(left, right, 32)
        outline = _symmetric_line(face, _LONG_BACK)
        _draw_strands(face, outline, np.stack([roots, roots + (0.0, 4.5)], axis=1), darkness=0.6)


def trace_hair_shadow(face: Face) -> list[np.ndarray]:
    """Returns the outlines of the shadow of the hair on the skin: one, none if bald."""
    if face.parameters.hair == "bald":
        return []
    hairline = _symmetric_line(face, _HAIRLINES[face.parameters.hair])
    return [np.concatenate([hairline - (0.0, 0.3), hairline[::-1] + (0.0, 0.06)])]


def draw_front_hair(face: Face) -> None:
    """Draws the hair on the head down to the forehead."""
    style = face.parameters.hair
    if style == "bald":
        return
    hairline = _symmetric_line(face, _HAIRLINES[style])
    crown = _symmetric_line(face, _SHORT_CROWN if style == "short" else _FULL_CROWN)
    strands = np.stack([crown, hairline], axis=1)[::2]
    _draw_strands(face, np.concatenate([crown, hairline[::-1]]), strands)


def _to_face(face: Face, positions: list[tuple[float, float]]) -> np.ndarray:
    """Converts head coordinates to face coordinates [n, 2]."""
    left, right, brow = face.rest[0, 0], face.rest[16, 0], face.rest[17:27, 1].mean()
    scale, top_middle = ((right - left) / 2, brow - SKULL_TOP), ((left + right) / 2, SKULL_TOP)
    return np.array(positions) * scale + top_middle


def _symmetric_line(face: Face, left: list[tuple[float, float]]) -> np.ndarray:
    """Smooth line [48, 2] through a left half and its mirror image, in face coordinates."""
    return curve(_to_face(face, left + [(-u, v) for u, v in left[-2::-1]]), samples=48)


def _draw_strands(
    face: Face, outline: np.ndarray, strands: np.ndarray, darkness: float = 1.0
) -> None:
    """Fills an outline with hair and draws strands [m, 2, 2] on it; light makes a bright band."""
    part = face.canvas.crop([outline])
    streaks = Canvas(np.full(part.image.shape[:2], 64, np.uint8), part.axes, part.origin)
    streaks.draw(strands, np.resize(STRAND_TONES, (len(strands), 1)), width=0.01)
    across = (_ACROSS - 0.35 * face.parameters.light[0]) ** 2
    sheen = 46 * np.exp(-40.0 * (_DOWN - 0.12 * across - 0.3) ** 2)
    tone = (134 - 26 * (_DOWN + across) + sheen).astype(np.uint8)
    tone = cv2.resize(tone, part.image.shape[1::-1])
    tone = cv2.addWeighted(tone, darkness, cv2.blur(streaks.image, (3, 3)), 1.0, -64.0)
    colours = cv2.applyColorMap(tone, colour_map(_HAIR, face.hair))
    part.blend(colours, cv2.blur(part.mask([outline]), (3, 3)))
