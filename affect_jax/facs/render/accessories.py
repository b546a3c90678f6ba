"""Draws headscarf, beanie and glasses, and traces beards."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.hair import HeadFrame
from affect_jax.facs.render.person_and_scene import Person

_TURN = np.linspace(0, 2 * np.pi, 25)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_RIMS = {
    "round": np.stack([0.36 * _COS, 0.33 * _SIN], axis=1),
    "square": np.stack(
        [
            0.36 * np.sign(_COS) * np.abs(_COS) ** 0.55,
            0.27 * np.sign(_SIN) * np.abs(_SIN) ** 0.55,
        ],
        axis=1,
    ),
}


def draw_headwear(
    canvas: painting.Canvas, head: HeadFrame, outline: np.ndarray, person: Person
) -> None:
    """Draws a headscarf or a beanie in the colour of the clothes."""
    if person.hair_style == "beanie":
        _draw_beanie(canvas, head, person)
    elif person.hair_style == "headscarf":
        _draw_headscarf(canvas, head, outline, person)


def _draw_beanie(canvas: painting.Canvas, head: HeadFrame, person: Person) -> None:
    cloth = person.clothes
    dome = head.smooth_line(
        [
            (-1.08, 0.6),
            (-1.06, 0.25),
            (-0.7, -0.12),
            (0, -0.24),
            (0.7, -0.12),
            (1.06, 0.25),
            (1.08, 0.6),
        ],
        40,
    )
    rim = head.smooth_line([(-1.08, 0.84), (-0.6, 0.74), (0, 0.7), (0.6, 0.74), (1.08, 0.84)], 40)
    top = head.smooth_line([(-1.1, 0.46), (-0.6, 0.38), (0, 0.35), (0.6, 0.38), (1.1, 0.46)], 40)
    canvas.fill_polygon(np.concatenate([dome, rim[::-1]]), cloth)
    ribs = np.stack([0.35 * dome + 0.65 * rim, 0.97 * dome + 0.03 * rim], axis=1)[1:39:3]
    canvas.blend_lines(ribs, painting.scale_colour(cloth, 0.62), 0.03, 0.5, soft=0.012)
    canvas.blend_polygons(
        [painting.ellipse(head.to_face(-0.25, 0.12), (0.45, 0.18))],
        painting.scale_colour(cloth, 1.35),
        0.4,
        soft=0.15,
    )
    canvas.fill_polygon(np.concatenate([top, rim[::-1]]), painting.scale_colour(cloth, 1.1))
    ribs = np.stack([top, rim], axis=1)[1:39:2]
    canvas.blend_lines(ribs, painting.scale_colour(cloth, 0.7), 0.025, 0.5, soft=0.01)
    canvas.blend_lines([top], painting.scale_colour(cloth, 0.55), 0.03, 0.5, soft=0.02)


def _draw_headscarf(
    canvas: painting.Canvas, head: HeadFrame, outline: np.ndarray, person: Person
) -> None:
    cloth = person.clothes
    left_half = [
        (-1.9, 5.5),
        (-1.45, 4.0),
        (-1.12, 2.6),
        (-1.24, 1.5),
        (-1.18, 0.7),
        (-0.78, 0.0),
        (0, -0.2),
    ]
    outside = head.smooth_line(left_half + [(-u, v) for u, v in left_half[-2::-1]], 80)
    middle = np.array(head.to_face(0.0, 1.25))
    opening = (outline - middle) * (0.92, 0.95) + middle
    brow = head.to_face(0, 0.62)[1] + 0.25 * (opening[:, 0] - head.middle) ** 2
    opening[:, 1] = np.maximum(opening[:, 1], brow)
    window = canvas.bounding_window(outside)
    if window is None:
        return
    part = canvas.crop(window)
    painting.fill_image(part.image, cloth)
    part.blend_polygons(
        [painting.ellipse(head.to_face(-0.2, 0.15), (0.5, 0.16))],
        painting.scale_colour(cloth, 1.35),
        0.45,
        soft=0.16,
    )
    edge = np.concatenate([opening, opening[:1]])
    folds = [(edge - middle) * (1 + scale) + middle for scale in (0.05, 0.12, 0.21)]
    part.blend_lines(folds, painting.scale_colour(cloth, 0.62), 0.04, 0.5, soft=0.03)
    drape = [
        head.smooth_line([(-0.9 + shift, 2.5), (-0.2 + shift, 3.1), (0.7 + shift, 3.3)], 16)
        for shift in (-0.2, 0.0, 0.25)
    ]
    part.blend_lines(drape, painting.scale_colour(cloth, 0.62), 0.06, 0.6, soft=0.05)
    mask = cv2.subtract(part.coverage_mask(outside), part.coverage_mask(opening))
    painting.blend_over(canvas.image[window], part.image, mask)
    canvas.blend_lines([edge], painting.scale_colour(person.skin, 0.35), 0.05, 0.4, soft=0.03)


def draw_glasses(canvas: painting.Canvas, person: Person) -> None:
    if person.glasses == "none":
        return
    points = canvas.rest_points
    frame = ((44, 38, 40), (150, 112, 62), (96, 50, 40))[person.hair_seed % 3]
    middles = points[[[37, 38, 40, 41], [43, 44, 46, 47]]].mean(axis=1) * (1.0, 0.0) + _LENSES
    rims = _RIMS[person.glasses] + middles[:, None]
    temples = np.stack([middles + _HINGES, points[[0, 16]] + _EARS], axis=1)
    glints = middles[:, None] + _GLINT
    canvas.blend_lines(rims + (0.0, 0.035), painting.scale_colour(person.skin, 0.4), 0.02, 0.3)
    canvas.blend_lines(glints, (255, 255, 255), 0.04, 0.25)
    thickness = max(1, round(0.034 * canvas.unit))
    bridge = painting.curve([(-0.13, 0.0), (0.0, -0.035), (0.13, 0.0)], samples=8)
    lines = canvas.shapes_to_fixed_point([*rims, *temples, bridge])
    cv2.polylines(
        canvas.image,
        lines,
        False,
        frame,
        thickness,
        cv2.LINE_AA,
        painting.FIXED_POINT_BITS,
    )


_LENSES = np.array([(-0.03, 0.05), (0.03, 0.05)])
_HINGES = np.array([(-0.36, -0.08), (0.36, -0.08)])
_EARS = np.array([(0.04, -0.02), (-0.04, -0.02)])
_GLINT = np.array([(-0.24, 0.08), (-0.09, -0.18)])


def trace_beard(canvas: painting.Canvas, person: Person) -> list[np.ndarray]:
    """Returns the outlines of the skin under a beard, without the lips."""
    points, beard = canvas.points, person.beard
    outlines = []
    lip = painting.curve(points[48:55] + (0.0, -0.012), samples=20)
    if beard in ("moustache", "goatee", "full", "stubble"):
        top = painting.curve(
            [
                points[48] + (-0.07, 0.05),
                points[49] + (-0.04, -0.05),
                points[50] + (0.0, -0.12),
                points[51] + (0.0, -0.09),
                points[52] + (0.0, -0.12),
                points[53] + (0.04, -0.05),
                points[54] + (0.07, 0.05),
            ],
            samples=20,
        )
        outlines.append(np.concatenate([top, lip[::-1]]))
    if beard in ("full", "stubble"):
        knots = [
            points[14] + (-0.02, -0.1),
            (points[54] + points[13]) / 2 + (0.05, -0.14),
            points[54] + (0.08, 0.0),
            points[57] + (0.14, 0.03),
            points[57] + (-0.14, 0.03),
            points[48] + (-0.08, 0.0),
            (points[48] + points[3]) / 2 + (-0.05, -0.14),
            points[2] + (0.02, -0.1),
        ]
        jaw_line = painting.curve(points[2:15], samples=30) + (
            0.0,
            0.04 if beard == "full" else 0.0,
        )
        outlines.append(np.concatenate([jaw_line, painting.curve(knots, samples=30)]))
    if beard == "goatee":
        chin, left, right = points[8], points[48], points[54]
        knots = [left + (-0.06, 0.05), left + (0.06, 0.10), points[57] + (-0.10, 0.05),
                 points[57] + (0.10, 0.05), right + (-0.06, 0.10), right + (0.06, 0.05),
                 chin + (0.28, -0.16), chin + (0.0, 0.05), chin + (-0.28, -0.16)]  # fmt: skip
        outlines.append(painting.curve(knots, closed=True, samples=40))
    return outlines
