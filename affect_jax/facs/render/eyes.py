"""Draws eyes and brows, both sides at once."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import Person, Scene, SideIntensities
from affect_jax.facs.render.relief import Relief

IRIS_RADIUS = 0.102  # radius in face units; an iris is 11.7 mm wide, eyes are 63 mm apart
SCLERA_COLOUR: painting.Colour = (236, 232, 230)
SIDES = (-1.0, 1.0)  # left and right side of the image
# Per side: upper lid from the outer corner, lower lid back to it; brow from its outer end.
_LIDS = np.array([[36, 37, 38, 39], [45, 44, 43, 42], [39, 40, 41, 36], [42, 47, 46, 45]])
_BROWS = np.array([[17, 18, 19, 20, 21], [26, 25, 24, 23, 22]])
_OUTWARDS = np.array([(-1.0, 1.0), (1.0, 1.0)])[
    :, None
]  # converts (outwards, down) to (x, y), per side

_CREASE = np.stack([np.zeros(16), np.sin(np.linspace(0.12, np.pi - 0.12, 16))], axis=1)
_LASH = np.concatenate([[0.0], 0.55 + 0.45 * np.sin(np.linspace(0.7, np.pi, 16))])
_BROW = np.interp(np.linspace(0, 1, 20), (0, 0.3, 0.75, 1), (0.1, 0.7, 1.0, 0.85))
_SHADOW = np.full(16, 0.10)  # of the upper lid on the eyeball
_HAIRS = np.arange(1, 19, 2)  # hairs of a brow, from its outer end
_THICK = np.stack([np.zeros(9), _BROW[_HAIRS]], axis=1)
_LEAN = np.array((0.06, 0.0)) + 0.008 * np.random.default_rng(17).standard_normal((9, 2))


class Lids(NamedTuple):
    """Edges [2, 16, 2] of the lids of both eyes, and the opening of each eye, in face units."""

    upper: np.ndarray  # from the outer corner
    lower: np.ndarray  # back to it
    gaps: tuple[float, float]


def trace_lids(canvas: painting.Canvas) -> Lids:
    edges = painting.curves(canvas.points[_LIDS], samples=16)
    high, low = edges[:2, :, 1].min(axis=1), edges[2:, :, 1].max(axis=1)
    left, right = (low - high).tolist()
    return Lids(edges[:2], edges[2:], (left, right))


def sculpt_eyes(
    relief: Relief,
    canvas: painting.Canvas,
    edges: Lids,
    units: list[SideIntensities],
    person: Person,
) -> None:
    """Adds eyeballs, lid creases and bags under the eyes to the relief."""
    points = canvas.points.tolist()
    creases = edges.upper.copy()
    for index, (side, brow) in enumerate(zip(units, _BROWS.tolist(), strict=True)):
        outer, inner = edges.upper[index, 0].tolist(), edges.upper[index, 15].tolist()
        top = float(edges.upper[index, :, 1].min())
        middle, bottom = (outer[0] + inner[0]) / 2, top + edges.gaps[index]
        bag = max(side.cheek, 0.8 * side.lids)
        relief.add_hills(
            (middle, -0.01, 0.17, 0.085, 0.07),
            (middle, bottom + 0.07, 0.17, 0.04, 0.022 + 0.03 * bag + 0.015 * person.age),
        )
        space = max(0.07, top - sum(points[i][1] for i in brow) / 5)
        rise = min(0.10, 0.34 * space) * (1.0 - 0.45 * side.wide) * (1.0 + 0.25 * side.closed)
        creases[index] -= rise * _CREASE
    lines = np.concatenate([creases, edges.lower + (0.0, 0.012)])
    relief.add_creases(lines, (0.6, 0.6, 0.25, 0.25))
    lid = np.concatenate([edges.upper, creases[:, ::-1]], axis=1)
    for outline in lid:
        relief.add_shadow(outline, 0.10 + 0.06 * person.lashes)


def draw_eyes(canvas: painting.Canvas, edges: Lids, person: Person, scene: Scene) -> None:
    open_eyes = [index for index, gap in enumerate(edges.gaps) if gap > 0.045]
    if open_eyes:
        _draw_eyeballs(canvas, edges, open_eyes, person, scene)
    dark = painting.mix_colours(painting.scale_colour(person.brow, 0.4), (24, 16, 16), 0.6)
    wing = edges.upper[:, :1] + _OUTWARDS * (0.055 * person.lashes, -0.03 * person.lashes)
    lines = np.concatenate([wing, edges.upper], axis=1)
    widths = (0.024 + 0.024 * person.lashes) * _LASH + 0.004
    for lash in canvas.to_fixed_point(painting.band_outlines(lines, widths)):
        cv2.fillPoly(canvas.image, [lash], dark, cv2.LINE_AA, painting.FIXED_POINT_BITS)
    for index, gap in enumerate(edges.gaps):
        if gap <= 0.08:
            _draw_closed_lashes(canvas, edges.upper[index], SIDES[index], person, dark)


def _draw_eyeballs(
    canvas: painting.Canvas,
    edges: Lids,
    open_eyes: list[int],
    person: Person,
    scene: Scene,
) -> None:
    """Draws white, iris, pupil and catchlight of the open eyes, clipped by the lids."""
    outlines = np.concatenate([edges.upper, edges.lower], axis=1)[open_eyes]
    window = canvas.bounding_window(outlines.reshape(-1, 2))
    if window is None:
        return
    part = canvas.crop(window)
    painting.fill_image(
        part.image,
        painting.mix_colours(painting.scale_colour(SCLERA_COLOUR, 0.74), person.skin, 0.25),
    )
    centres = []
    for outline, index in zip(outlines, open_eyes, strict=True):
        (outer, _), (inner, height) = outline[0].tolist(), outline[15].tolist()
        bottom, gap = float(outline[:, 1].max()), edges.gaps[index]
        middle = (outer + inner) / 2
        part.fill_circle(middle, bottom - gap / 2 + 0.01, 0.145, SCLERA_COLOUR)
        part.fill_circle(inner, height, 0.04, (206, 138, 128))
        # A relaxed upper lid covers the top of the iris; the lower lid touches its bottom.
        centre_y = bottom - 0.92 * IRIS_RADIUS if gap < 2.15 * IRIS_RADIUS else bottom - gap / 2
        centres.append((middle + scene.gaze[0], centre_y + scene.gaze[1]))
    cv2.blur(part.image, (5, 5), dst=part.image)
    left = 0.036 if scene.light[0] >= 0 else -0.036
    for x, y in centres:
        _draw_iris(part, x, y, person.iris, left)
    fixed = part.to_fixed_point(outlines)
    shade = np.full(part.image.shape[:2], 255, np.uint8)
    for shadow in part.to_fixed_point(painting.band_outlines(edges.upper[open_eyes], _SHADOW)):
        cv2.fillPoly(shade, [shadow], (104,), cv2.LINE_AA, painting.FIXED_POINT_BITS)
    part.image = painting.apply_light(part.image, cv2.blur(shade, (5, 5)))
    for x, y in centres:
        part.fill_circle(x + left, y - 0.036, 0.026, (255, 255, 255))
    mask = np.zeros(part.image.shape[:2], np.uint8)
    for outline in fixed:
        cv2.fillPoly(mask, [outline], (255,), cv2.LINE_AA, painting.FIXED_POINT_BITS)
    region = canvas.image[window]
    painting.blend_over(region, part.image, mask)
    rim = painting.mix_colours(painting.scale_colour(person.skin, 0.62), (120, 50, 44), 0.3)
    cv2.polylines(
        region,
        list(fixed[:, 17:31]),
        False,
        rim,
        1,
        cv2.LINE_AA,
        painting.FIXED_POINT_BITS,
    )


def _draw_iris(
    part: painting.Canvas,
    x: float,
    y: float,
    iris: painting.Colour,
    left: float,
) -> None:
    """Draws a dark rim, the colour, a lighter crescent opposite to the light, and the pupil."""
    part.fill_circle(x, y, IRIS_RADIUS, painting.scale_colour(iris, 0.36))
    part.fill_circle(x, y, 0.82 * IRIS_RADIUS, iris)
    part.fill_circle(x - 0.4 * left, y + 0.034, 0.050, painting.scale_colour(iris, 1.5))
    part.fill_circle(x, y, 0.42 * IRIS_RADIUS, (12, 10, 12))


def _draw_closed_lashes(
    canvas: painting.Canvas,
    upper: np.ndarray,
    side: float,
    person: Person,
    dark: painting.Colour,
) -> None:
    """Draws lashes along the seam of closed lids."""
    shares = np.array((0.1, 0.23, 0.36, 0.5, 0.63, 0.76, 0.9))
    roots = upper[(15 * shares).astype(int)]
    tips = roots + np.stack([side * 0.05 * (1 - 2 * shares), np.full(7, 0.05)], axis=1)
    lashes = np.stack([roots, tips], axis=1)
    canvas.blend_lines(lashes, dark, 0.012, 0.3 + 0.5 * person.lashes)


def draw_brows(canvas: painting.Canvas, person: Person) -> None:
    """Draws the brows as soft bands with single hairs, in one colour."""
    lines = painting.curves(canvas.points[_BROWS], samples=20) + (0.0, 0.02)
    bands = painting.band_outlines(lines, 0.9 * person.brow_width * _BROW)
    window = canvas.bounding_window(bands.reshape(-1, 2), 8)
    if window is None:
        return
    thick = person.brow_width * _THICK
    roots = lines[:, _HAIRS] + 0.36 * thick
    tips = lines[:, _HAIRS - 1] + _OUTWARDS * _LEAN - 0.40 * thick
    part = canvas.crop(window)
    mask = np.zeros(part.image.shape[:2], np.uint8)
    for band in part.to_fixed_point(bands):
        cv2.fillPoly(mask, [band], (190,), cv2.LINE_AA, painting.FIXED_POINT_BITS)
    mask = cv2.blur(mask, (3, 3))
    hairs = part.to_fixed_point(np.stack([roots, tips], axis=2)).reshape(-1, 2, 2)
    cv2.polylines(mask, list(hairs), False, (220,), 1, cv2.LINE_AA, painting.FIXED_POINT_BITS)
    painting.fill_image(part.image, person.brow)
    painting.blend_over(canvas.image[window], part.image, cv2.blur(mask, (2, 2)))
