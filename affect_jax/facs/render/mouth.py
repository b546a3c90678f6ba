"""Draws lips, teeth and tongue."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render.painting import Canvas, Face, band, curve, ellipses, mix

MAX_CLOSED_GAP = 0.035  # face units; a smaller gap between the lips is drawn as a line
TOOTH_COLOUR, TOOTH_GAP_COLOUR = (240, 235, 226), (218, 208, 199)
TONGUE_COLOUR, INSIDE_COLOUR = (166, 78, 82), (46, 14, 18)

_EDGES = np.array(  # of the lips, from top to bottom, from left to right
    [
        [48, 49, 50, 51, 52, 53, 54],
        [48, 60, 61, 62, 63, 64, 54],
        [48, 60, 67, 66, 65, 64, 54],
        [48, 59, 58, 57, 56, 55, 54],
    ]
)
_TOOTH_UNITS = [UNITS.index(unit) for unit in (10, 12, 20)]
_JAW_DROP = UNITS.index(26)
_SQUARES = np.linspace(-1, 1, 17) ** 2
_SEAM_HEIGHTS = 0.014 + 0.020 * np.sin(np.linspace(0.25, np.pi - 0.25, 24))


def trace_lips(points: np.ndarray) -> list[np.ndarray]:
    """Returns the outlines [48, 2] of the upper and the lower lip."""
    top, upper_seam, lower_seam, bottom = curve(points[_EDGES])
    return [np.concatenate([top, upper_seam[::-1]]), np.concatenate([lower_seam, bottom[::-1]])]


def draw_mouth(face: Face, lip: np.ndarray) -> None:
    """Draws the area between the lips; `lip` is the colour of the lips."""
    inner = face.points[60:68]
    gap = float(np.max(inner[5:8, 1] - inner[3:0:-1, 1]))
    if gap > MAX_CLOSED_GAP:
        _draw_inside(face, inner, gap)
    else:
        seam = curve(face.points[_EDGES[1:3]]).mean(axis=0)
        dark = mix(0.3 * lip, (40, 10, 12), 0.5)
        face.canvas.paint([band(seam, _SEAM_HEIGHTS)], dark, 0.9, soft=0.012)


def _draw_inside(face: Face, inner: np.ndarray, gap: float) -> None:
    """Draws the open mouth: dark inside, tongue, upper teeth, and lower teeth in a wide grin."""
    upper, lower = curve(inner[:5], samples=16), curve(inner[[4, 5, 6, 7, 0]], samples=16)
    outline = np.concatenate([upper, lower])
    part = face.canvas.crop([outline])
    inside = part.layer(INSIDE_COLOUR)
    exposure = float(face.sides[:, _TOOTH_UNITS].max())
    if gap > 0.16:
        middle = inner[5:8].mean(axis=0) + (0.0, 0.02)
        inside.draw(ellipses(middle, (0.24, 0.36 * gap)), TONGUE_COLOUR)
    height = min(0.06 + 0.10 * exposure, (0.45 + 0.4 * exposure) * gap)
    _draw_teeth(inside, inner[:5], -height)
    if exposure > 0.4 and face.sides[0, _JAW_DROP] < 0.5:
        _draw_teeth(inside, inner[[0, 7, 6, 5, 4]], 0.22 * gap)
    shade = part.layer((255, 255, 255))  # darker towards the corners and under the lip
    shade.draw(ellipses(inner[[0, 4]], (0.085, 0.085)), (70, 70, 70))
    shade.draw([upper], (120, 120, 120), width=0.045)
    lit = cv2.multiply(inside.image, cv2.blur(shade.image, (5, 5)), scale=1 / 255)
    part.blend(lit, part.mask([outline]))


def _draw_teeth(inside: Canvas, gum: np.ndarray, height: float) -> None:
    """Draws a row of teeth along the edge [5, 2] of a lip; upper teeth have a negative height."""
    edge = curve(gum, samples=17)
    free = edge - (0.0, height)
    free[:, 1] += 0.25 * height * _SQUARES
    inside.draw([np.concatenate([edge, free[::-1]])], TOOTH_COLOUR)
    inside.draw(np.stack([edge, free], axis=1)[3:14:2], TOOTH_GAP_COLOUR, width=0.01)
