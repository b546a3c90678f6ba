"""Draws hair behind the head, on the forehead and beside the face.

Head coordinates are (u, v): u is -1 at the left edge of the face and 1 at the right edge; v is 0 at
the top of the skull, 1 at the brows and about 2.7 at the chin.
"""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.render.painting import Canvas, Face, colour_map, curve, mirror, tone_table
from affect_jax.facs.render.relief import SKULL_TOP

# Left half of lines in head coordinates, from the side of the head to the middle.
_HAIRLINES = {
    "short": [(-1.0, 1.5), (-0.95, 1.1), (-0.93, 0.8), (-0.80, 0.46), (-0.42, 0.38), (0, 0.36)],
    "fringe": [(-1.0, 1.42), (-0.97, 1.0), (-0.84, 0.82), (-0.42, 0.86), (0, 0.83)],
    "long": [(-1.0, 1.42), (-0.95, 1.05), (-0.86, 0.66), (-0.5, 0.38), (0, 0.26)],
    "curly": [(-1.0, 1.6), (-0.95, 1.1), (-0.93, 0.8), (-0.80, 0.5), (-0.42, 0.44), (0, 0.41)],
}
_CROWNS = {
    "short": [(-1.05, 1.4), (-1.09, 1.0), (-1.1, 0.62), (-0.95, 0.2), (-0.6, -0.07), (0, -0.16)],
    "fringe": [(-1.1, 1.42), (-1.16, 1.0), (-1.15, 0.62), (-1.0, 0.2), (-0.62, -0.05), (0, -0.14)],
    "long": [(-1.1, 1.42), (-1.16, 1.0), (-1.15, 0.62), (-1.0, 0.22), (-0.62, -0.03), (0, -0.12)],
    "curly": [(-1.16, 1.65), (-1.32, 0.8), (-1.1, 0.1), (-0.62, -0.28), (0, -0.36)],
}
_LONG_BACK = [(-1.1, 4.1), (-1.34, 3.4), (-1.28, 1.6), (-1.2, 0.7), (0, -0.1)]
_LOCK_OUTSIDE = [(-0.9, 0.2), (-1.22, 0.7), (-1.3, 1.6), (-1.26, 3.1), (-1.14, 4.2)]
_LOCK_INSIDE = [(-0.86, 0.3), (-0.95, 0.9), (-1.02, 1.5), (-1.0, 3.1), (-0.98, 4.2)]

_HAIR = tone_table(
    (0, (0.25, 0.25, 0.25), (0, 0, 0)),
    (128, (1, 1, 1), (0, 0, 0)),
    (255, (1.19, 1.19, 1.19), (76, 71, 63)),
)
STRAND_TONES = (24, 96, 2, 74, 118, 42)  # of neighbouring strands; 64 is no change
_ALONG = np.linspace(0, 1, 9)[:, None]  # a strand
_DOWN, _ACROSS = np.linspace(0, 1, 24)[:, None], np.linspace(-1, 1, 24)  # a head


def draw_back_hair(face: Face) -> None:
    """Draws the hair behind the head."""
    if face.parameters.hair == "long":
        outline = _symmetric_line(face, _LONG_BACK)
        left, right = _to_face(face, [(-1.25, 0.1), (1.25, 0.1)])
        roots = np.linspace(left, right, 32)
        _draw_strands(face, outline, _strands(roots, roots + (0.0, 4.5)), darkness=0.6)
    elif face.parameters.hair == "curly":
        face.canvas.draw([_symmetric_line(face, _CROWNS["curly"])], 0.5 * face.hair)


def trace_shadows(face: Face) -> np.ndarray:
    """Returns the outlines [m, n, 2] of the shadow of the hair on the skin: one, none if bald."""
    if face.parameters.hair == "bald":
        return np.empty((0, 4, 2))
    hairline = _symmetric_line(face, _HAIRLINES[face.parameters.hair])
    return np.concatenate([hairline - (0.0, 0.3), hairline[::-1] + (0.0, 0.06)])[None]


def draw_front_hair(face: Face) -> None:
    """Draws the hair on the head down to the forehead, and beside the face."""
    style = face.parameters.hair
    if style == "bald":
        return
    hairline = _symmetric_line(face, _HAIRLINES[style])
    crown = _symmetric_line(face, _CROWNS[style])
    strands = _strands(crown, hairline)[::2]
    if style == "curly":
        crown = crown * (1 + 0.04 * np.sin(1.3 * np.arange(48)))[:, None]
        strands = strands + 0.05 * np.stack([np.sin(9 * _ALONG), np.cos(9 * _ALONG)], axis=-1)[:, 0]
    _draw_strands(face, np.concatenate([crown, hairline[::-1]]), strands)
    if style == "long":
        outside, inside = curve(_to_face(face, _LOCK_OUTSIDE)), curve(_to_face(face, _LOCK_INSIDE))
        lock = np.concatenate([outside, inside[::-1]])
        strands = np.linspace(outside, inside, 12)[:, ::4]
        middle = float(_to_face(face, [(0.0, 0.0)])[0, 0])
        _draw_strands(face, lock, strands, darkness=0.85)
        _draw_strands(face, mirror(lock, middle), mirror(strands, middle), darkness=0.85)


def _to_face(face: Face, positions: list[tuple[float, float]]) -> np.ndarray:
    """Converts head coordinates to face coordinates [n, 2]."""
    left, right, brow = face.rest[0, 0], face.rest[16, 0], face.rest[17:27, 1].mean()
    scale, top_middle = ((right - left) / 2, brow - SKULL_TOP), ((left + right) / 2, SKULL_TOP)
    return np.array(positions) * scale + top_middle


def _symmetric_line(face: Face, left: list[tuple[float, float]]) -> np.ndarray:
    """Smooth line [48, 2] through a left half and its mirror image, in face coordinates."""
    return curve(_to_face(face, left + [(-u, v) for u, v in left[-2::-1]]), samples=48)


def _strands(roots: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns lines [n, 9, 2] of different lengths from roots [n, 2] to ends."""
    lengths = 1.0 + 0.05 * np.sin(7.0 * np.arange(len(roots)))[:, None, None]
    return roots[:, None] + lengths * _ALONG * (ends - roots)[:, None]


def _draw_strands(
    face: Face, outline: np.ndarray, strands: np.ndarray, darkness: float = 1.0
) -> None:
    """Fills an outline with hair and draws strands [m, n, 2] on it; light makes a bright band."""
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
