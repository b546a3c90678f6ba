"""Eyes and brows, both sides at once."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.identity import Person, Scene, Units
from affect_jax.facs.render.relief import Relief

IRIS = 0.102  # radius in face units; an iris is 11.7 mm wide, eyes are 63 mm apart
WHITE: painting.Colour = (236, 232, 230)
SIDES = (-1.0, 1.0)  # the picture's left and right
# Of each side: upper lid from the outer corner, lower lid back to it; brow from its outer end.
_LIDS = np.array([[36, 37, 38, 39], [45, 44, 43, 42], [39, 40, 41, 36], [42, 47, 46, 45]])
_BROWS = np.array([[17, 18, 19, 20, 21], [26, 25, 24, 23, 22]])
_OUTWARDS = np.array([(-1.0, 1.0), (1.0, 1.0)])[:, None]  # turns (out, down) to (x, y), per side

_CREASE = np.stack([np.zeros(16), np.sin(np.linspace(0.12, np.pi - 0.12, 16))], axis=1)
_LASH = np.concatenate([[0.0], 0.55 + 0.45 * np.sin(np.linspace(0.7, np.pi, 16))])
_BROW = np.interp(np.linspace(0, 1, 20), (0, 0.3, 0.75, 1), (0.1, 0.7, 1.0, 0.85))
_SHADOW = np.full(16, 0.10)  # of the upper lid on the ball
_HAIRS = np.arange(1, 19, 2)  # of a brow, from its outer end
_THICK = np.stack([np.zeros(9), _BROW[_HAIRS]], axis=1)
_LEAN = np.array((0.06, 0.0)) + 0.008 * np.random.default_rng(17).standard_normal((9, 2))


class Lids(NamedTuple):
    """Edges [2, 16, 2] of both eyes' lids, and how far each eye is open, in face units."""

    upper: np.ndarray  # from the outer corner
    lower: np.ndarray  # back to it
    gaps: tuple[float, float]


def lids(canvas: painting.Canvas) -> Lids:
    edges = painting.curves(canvas.points[_LIDS], samples=16)
    high, low = edges[:2, :, 1].min(axis=1), edges[2:, :, 1].max(axis=1)
    left, right = (low - high).tolist()
    return Lids(edges[:2], edges[2:], (left, right))


def sculpt_eyes(
    relief: Relief, canvas: painting.Canvas, edges: Lids, units: list[Units], person: Person
) -> None:
    """Balls under the lids, creases above them, bags below."""
    points = canvas.points.tolist()
    creases = edges.upper.copy()
    for place, (own, brow) in enumerate(zip(units, _BROWS.tolist(), strict=True)):
        outer, inner = edges.upper[place, 0].tolist(), edges.upper[place, 15].tolist()
        high = float(edges.upper[place, :, 1].min())
        middle, low = (outer[0] + inner[0]) / 2, high + edges.gaps[place]
        bag = max(own.cheek, 0.8 * own.lids)
        relief.hills(
            (middle, -0.01, 0.17, 0.085, 0.07),
            (middle, low + 0.07, 0.17, 0.04, 0.022 + 0.03 * bag + 0.015 * person.age),
        )
        room = max(0.07, high - sum(points[i][1] for i in brow) / 5)
        rise = min(0.10, 0.34 * room) * (1.0 - 0.45 * own.wide) * (1.0 + 0.25 * own.closed)
        creases[place] -= rise * _CREASE
    lines = np.concatenate([creases, edges.lower + (0.0, 0.012)])
    relief.creases(lines, (0.6, 0.6, 0.25, 0.25))
    lid = np.concatenate([edges.upper, creases[:, ::-1]], axis=1)
    for outline in lid:
        relief.hollow(outline, 0.10 + 0.06 * person.lashes)


def draw_eyes(canvas: painting.Canvas, edges: Lids, person: Person, scene: Scene) -> None:
    shown = [place for place, gap in enumerate(edges.gaps) if gap > 0.045]
    if shown:
        _draw_balls(canvas, edges, shown, person, scene)
    dark = painting.mix(painting.scaled(person.brow, 0.4), (24, 16, 16), 0.6)
    wing = edges.upper[:, :1] + _OUTWARDS * (0.055 * person.lashes, -0.03 * person.lashes)
    lines = np.concatenate([wing, edges.upper], axis=1)
    widths = (0.024 + 0.024 * person.lashes) * _LASH + 0.004
    for lash in canvas.fixed(painting.bands(lines, widths)):
        cv2.fillPoly(canvas.image, [lash], dark, cv2.LINE_AA, painting.SHIFT)
    for place, gap in enumerate(edges.gaps):
        if gap <= 0.08:
            _draw_closed(canvas, edges.upper[place], SIDES[place], person, dark)


def _draw_balls(
    canvas: painting.Canvas, edges: Lids, shown: list[int], person: Person, scene: Scene
) -> None:
    """White, iris, pupil and catch light of the open eyes, cut out by the lids."""
    outlines = np.concatenate([edges.upper, edges.lower], axis=1)[shown]
    window = canvas.window(outlines.reshape(-1, 2))
    if window is None:
        return
    part = canvas.within(window)
    painting.flood(part.image, painting.mix(painting.scaled(WHITE, 0.74), person.skin, 0.25))
    places = []
    for outline, place in zip(outlines, shown, strict=True):
        (outer, _), (inner, height) = outline[0].tolist(), outline[15].tolist()
        low, gap = float(outline[:, 1].max()), edges.gaps[place]
        middle = (outer + inner) / 2
        part.disc(middle, low - gap / 2 + 0.01, 0.145, WHITE)
        part.disc(inner, height, 0.04, (206, 138, 128))
        # A relaxed upper lid covers the iris's top, the lower lid touches it from below.
        centre = low - 0.92 * IRIS if gap < 2.15 * IRIS else low - gap / 2
        places.append((middle + scene.gaze[0], centre + scene.gaze[1]))
    cv2.blur(part.image, (5, 5), dst=part.image)
    left = 0.036 if scene.light[0] >= 0 else -0.036
    for x, y in places:
        _draw_iris(part, x, y, person.iris, left)
    fixed = part.fixed(outlines)
    shade = np.full(part.image.shape[:2], 255, np.uint8)
    for shadow in part.fixed(painting.bands(edges.upper[shown], _SHADOW)):
        cv2.fillPoly(shade, [shadow], (104,), cv2.LINE_AA, painting.SHIFT)
    part.image = painting.shaded(part.image, cv2.blur(shade, (5, 5)))
    for x, y in places:
        part.disc(x + left, y - 0.036, 0.026, (255, 255, 255))
    mask = np.zeros(part.image.shape[:2], np.uint8)
    for outline in fixed:
        cv2.fillPoly(mask, [outline], (255,), cv2.LINE_AA, painting.SHIFT)
    region = canvas.image[window]
    painting.blend(region, part.image, mask)
    rim = painting.mix(painting.scaled(person.skin, 0.62), (120, 50, 44), 0.3)
    cv2.polylines(region, list(fixed[:, 17:31]), False, rim, 1, cv2.LINE_AA, painting.SHIFT)


def _draw_iris(
    part: painting.Canvas, x: float, y: float, iris: painting.Colour, left: float
) -> None:
    """Dark rim, colour, a lighter crescent opposite to the light, pupil."""
    part.disc(x, y, IRIS, painting.scaled(iris, 0.36))
    part.disc(x, y, 0.82 * IRIS, iris)
    part.disc(x - 0.4 * left, y + 0.034, 0.050, painting.scaled(iris, 1.5))
    part.disc(x, y, 0.42 * IRIS, (12, 10, 12))


def _draw_closed(
    canvas: painting.Canvas, upper: np.ndarray, side: float, person: Person, dark: painting.Colour
) -> None:
    """Lashes along the seam of closed lids."""
    shares = np.array((0.1, 0.23, 0.36, 0.5, 0.63, 0.76, 0.9))
    roots = upper[(15 * shares).astype(int)]
    tips = roots + np.stack([side * 0.05 * (1 - 2 * shares), np.full(7, 0.05)], axis=1)
    lashes = np.stack([roots, tips], axis=1)
    canvas.glaze_lines(lashes, dark, 0.012, 0.3 + 0.5 * person.lashes)


def draw_brows(canvas: painting.Canvas, person: Person) -> None:
    """Soft bands with single hairs, in one colour."""
    lines = painting.curves(canvas.points[_BROWS], samples=20) + (0.0, 0.02)
    bands = painting.bands(lines, 0.9 * person.brow_width * _BROW)
    window = canvas.window(bands.reshape(-1, 2), 8)
    if window is None:
        return
    thick = person.brow_width * _THICK
    roots = lines[:, _HAIRS] + 0.36 * thick
    tips = lines[:, _HAIRS - 1] + _OUTWARDS * _LEAN - 0.40 * thick
    part = canvas.within(window)
    mask = np.zeros(part.image.shape[:2], np.uint8)
    for band in part.fixed(bands):
        cv2.fillPoly(mask, [band], (190,), cv2.LINE_AA, painting.SHIFT)
    mask = cv2.blur(mask, (3, 3))
    hairs = part.fixed(np.stack([roots, tips], axis=2)).reshape(-1, 2, 2)
    cv2.polylines(mask, list(hairs), False, (220,), 1, cv2.LINE_AA, painting.SHIFT)
    painting.flood(part.image, person.brow)
    painting.blend(canvas.image[window], part.image, cv2.blur(mask, (2, 2)))
