"""What is worn on a head: headscarf, beanie, glasses; and beards."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.hair import Head
from affect_jax.facs.render.identity import Person

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


def draw_cover(canvas: painting.Canvas, head: Head, outline: np.ndarray, person: Person) -> None:
    """A headscarf or a beanie in the clothes' colour."""
    if person.hair_style == "beanie":
        _draw_beanie(canvas, head, person)
    elif person.hair_style == "headscarf":
        _draw_headscarf(canvas, head, outline, person)


def _draw_beanie(canvas: painting.Canvas, head: Head, person: Person) -> None:
    cloth = person.clothes
    dome = head.line(
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
    rim = head.line([(-1.08, 0.84), (-0.6, 0.74), (0, 0.7), (0.6, 0.74), (1.08, 0.84)], 40)
    top = head.line([(-1.1, 0.46), (-0.6, 0.38), (0, 0.35), (0.6, 0.38), (1.1, 0.46)], 40)
    canvas.fill(np.concatenate([dome, rim[::-1]]), cloth)
    ribs = np.stack([0.35 * dome + 0.65 * rim, 0.97 * dome + 0.03 * rim], axis=1)[1:39:3]
    canvas.glaze_lines(ribs, painting.scaled(cloth, 0.62), 0.03, 0.5, soft=0.012)
    canvas.glaze(
        [painting.ellipse(head.at(-0.25, 0.12), (0.45, 0.18))],
        painting.scaled(cloth, 1.35),
        0.4,
        soft=0.15,
    )
    canvas.fill(np.concatenate([top, rim[::-1]]), painting.scaled(cloth, 1.1))
    ribs = np.stack([top, rim], axis=1)[1:39:2]
    canvas.glaze_lines(ribs, painting.scaled(cloth, 0.7), 0.025, 0.5, soft=0.01)
    canvas.glaze_lines([top], painting.scaled(cloth, 0.55), 0.03, 0.5, soft=0.02)


def _draw_headscarf(
    canvas: painting.Canvas, head: Head, outline: np.ndarray, person: Person
) -> None:
    cloth = person.clothes
    half = [
        (-1.9, 5.5),
        (-1.45, 4.0),
        (-1.12, 2.6),
        (-1.24, 1.5),
        (-1.18, 0.7),
        (-0.78, 0.0),
        (0, -0.2),
    ]
    outside = head.line(half + [(-u, v) for u, v in half[-2::-1]], 80)
    middle = np.array(head.at(0.0, 1.25))
    opening = (outline - middle) * (0.92, 0.95) + middle
    brow = head.at(0, 0.62)[1] + 0.25 * (opening[:, 0] - head.middle) ** 2
    opening[:, 1] = np.maximum(opening[:, 1], brow)
    window = canvas.window(outside)
    if window is None:
        return
    part = canvas.within(window)
    painting.flood(part.image, cloth)
    part.glaze(
        [painting.ellipse(head.at(-0.2, 0.15), (0.5, 0.16))],
        painting.scaled(cloth, 1.35),
        0.45,
        soft=0.16,
    )
    edge = np.concatenate([opening, opening[:1]])
    folds = [(edge - middle) * (1 + share) + middle for share in (0.05, 0.12, 0.21)]
    part.glaze_lines(folds, painting.scaled(cloth, 0.62), 0.04, 0.5, soft=0.03)
    drape = [
        head.line([(-0.9 + shift, 2.5), (-0.2 + shift, 3.1), (0.7 + shift, 3.3)], 16)
        for shift in (-0.2, 0.0, 0.25)
    ]
    part.glaze_lines(drape, painting.scaled(cloth, 0.62), 0.06, 0.6, soft=0.05)
    mask = cv2.subtract(part.mask(outside), part.mask(opening))
    painting.blend(canvas.image[window], part.image, mask)
    canvas.glaze_lines([edge], painting.scaled(person.skin, 0.35), 0.05, 0.4, soft=0.03)


def draw_glasses(canvas: painting.Canvas, person: Person) -> None:
    if person.glasses == "none":
        return
    points = canvas.rest
    frame = ((44, 38, 40), (150, 112, 62), (96, 50, 40))[person.hair_seed % 3]
    middles = points[[[37, 38, 40, 41], [43, 44, 46, 47]]].mean(axis=1) * (1.0, 0.0) + _LENSES
    rims = _RIMS[person.glasses] + middles[:, None]
    temples = np.stack([middles + _HINGES, points[[0, 16]] + _EARS], axis=1)
    glints = middles[:, None] + _GLINT
    canvas.glaze_lines(rims + (0.0, 0.035), painting.scaled(person.skin, 0.4), 0.02, 0.3)
    canvas.glaze_lines(glints, (255, 255, 255), 0.04, 0.25)
    thick = max(1, round(0.034 * canvas.unit))
    bridge = painting.curve([(-0.13, 0.0), (0.0, -0.035), (0.13, 0.0)], samples=8)
    lines = canvas.fixed_all([*rims, *temples, bridge])
    cv2.polylines(canvas.image, lines, False, frame, thick, cv2.LINE_AA, painting.SHIFT)


_LENSES = np.array([(-0.03, 0.05), (0.03, 0.05)])
_HINGES = np.array([(-0.36, -0.08), (0.36, -0.08)])
_EARS = np.array([(0.04, -0.02), (-0.04, -0.02)])
_GLINT = np.array([(-0.24, 0.08), (-0.09, -0.18)])


def beard_outlines(canvas: painting.Canvas, person: Person) -> list[np.ndarray]:
    """Areas of the skin under a beard; the lips are not part of them."""
    points, beard = canvas.points, person.beard
    shapes = []
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
        shapes.append(np.concatenate([top, lip[::-1]]))
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
        low = painting.curve(points[2:15], samples=30) + (0.0, 0.04 if beard == "full" else 0.0)
        shapes.append(np.concatenate([low, painting.curve(knots, samples=30)]))
    if beard == "goatee":
        chin, left, right = points[8], points[48], points[54]
        knots = [left + (-0.06, 0.05), left + (0.06, 0.10), points[57] + (-0.10, 0.05),
                 points[57] + (0.10, 0.05), right + (-0.06, 0.10), right + (0.06, 0.05),
                 chin + (0.28, -0.16), chin + (0.0, 0.05), chin + (-0.28, -0.16)]  # fmt: skip
        shapes.append(painting.curve(knots, closed=True, samples=40))
    return shapes
