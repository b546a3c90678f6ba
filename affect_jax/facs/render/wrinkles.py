"""Lines that action units, and age, draw on the skin: creases of the relief."""

from __future__ import annotations

import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.identity import Person, Units
from affect_jax.facs.render.relief import Relief

Knots = list[list[float]]  # points as plain numbers: faster than arrays of two
SIDES = (-1.0, 1.0)  # the picture's left and right
FINE, FOLD = 0.02, 0.034  # widths, face units
SEEN = 0.18  # depth from which on a wrinkle is drawn


def sculpt_wrinkles(
    relief: Relief, canvas: painting.Canvas, units: list[Units], person: Person
) -> None:
    points, draw = canvas.points.tolist(), _Wrinkles(person.age)
    for side, own in zip(SIDES, units, strict=True):
        _wrinkle_eye(draw, points, side, own)
        _wrinkle_mouth(draw, points, side, own)
    _wrinkle_brow(draw, points, units)
    _wrinkle_chin(draw, [points[8][0], points[57][1]], units[0].chin)
    for width, (knots, depths) in draw.found.items():
        if knots:
            relief.creases(painting.curves(np.array(knots), samples=8), depths, width)


class _Wrinkles:
    """Collects what is deep enough to be seen."""

    def __init__(self, age: float):
        self.age = age
        self.found: dict[float, tuple[list, list[float]]] = {FINE: ([], []), FOLD: ([], [])}

    def add(
        self,
        depth: float,
        base: list[float],
        *steps: tuple[float, float],
        width: float = FINE,
    ) -> None:
        """A line through `base` + each of three `steps`."""
        if depth > SEEN:
            x, y = base
            knots, depths = self.found[width]
            knots.append([(x + dx, y + dy) for dx, dy in steps])
            depths.append(depth)


def _wrinkle_chin(draw: _Wrinkles, chin: list[float], rise: float) -> None:
    draw.add(0.6 * rise, chin, (-0.24, 0.16), (0.0, 0.09), (0.24, 0.16), width=FOLD)
    for x, y in ((-0.13, 0.25), (0.0, 0.22), (0.13, 0.25), (-0.06, 0.32), (0.07, 0.32)):
        draw.add(0.6 * rise, chin, (x - 0.03, y), (x, y - 0.015), (x + 0.03, y))


def _wrinkle_mouth(draw: _Wrinkles, points: Knots, side: float, own: Units) -> None:
    """The fold from the nose's wing round the mouth's corner, dimples, the line below a corner."""
    wing, corner = (points[31], points[48]) if side < 0 else (points[35], points[54])
    depth = max(own.smile, 0.9 * own.upper_lip, 0.7 * own.nose, 0.8 * own.dimple)
    start = (side * 0.06, -0.10)
    end = (
        corner[0] - wing[0] + side * (0.13 + 0.05 * own.smile),
        corner[1] - wing[1] + 0.08 - 0.05 * own.smile,
    )
    bulge = side * (0.05 + 0.10 * own.smile)
    middle = (0.55 * start[0] + 0.45 * end[0] + bulge, 0.55 * start[1] + 0.45 * end[1] - 0.02)
    depth = 0.08 + 0.25 * draw.age + 0.7 * depth
    draw.add(depth, wing, start, middle, end, width=FOLD)
    depth = max(0.9 * own.dimple, 0.35 * own.stretch)
    draw.add(
        depth, corner, (side * 0.11, -0.10), (side * 0.17, 0.0), (side * 0.10, 0.12), width=FOLD
    )
    depth = 0.75 * own.corners_down + 0.15 * draw.age
    draw.add(
        depth, corner, (side * 0.05, 0.04), (side * 0.11, 0.16), (side * 0.11, 0.30), width=FOLD
    )


def _wrinkle_eye(draw: _Wrinkles, points: Knots, side: float, own: Units) -> None:
    """Crow's feet, the furrow under the eye, and the nose's wrinkles of one side."""
    outer, inner, low = (points[i] for i in ((36, 39, 40) if side < 0 else (45, 42, 47)))
    depth = 0.7 * own.cheek + 0.3 * draw.age
    for across, down, length in ((0.88, -0.48, 0.20), (1.0, -0.05, 0.24), (0.9, 0.43, 0.22)):
        steps = [
            (side * (0.09 + reach * across), 0.02 + reach * down)
            for reach in (0.03, 0.03 + 0.5 * length, 0.03 + length)
        ]
        draw.add(depth, outer, *steps)
    depth = 0.15 + 0.55 * max(own.cheek, 0.8 * own.lids) + 0.25 * draw.age
    across, down = outer[0] - inner[0], outer[1] - inner[1]
    under = (low[0] - inner[0], low[1] - inner[1] + 0.13)
    steps = ((side * 0.04, 0.09), under, (across + side * 0.02, down + 0.10))
    draw.add(depth, inner, *steps, width=FOLD)
    for x, y in ((0.10, 0.12), (0.13, 0.22), (0.12, 0.32)):
        steps = [(side * x, y), (side * (x + 0.08), y + 0.02), (side * (x + 0.13), y + 0.1)]
        draw.add(0.8 * own.nose, [0.0, 0.0], *steps)


def _wrinkle_brow(draw: _Wrinkles, points: Knots, units: list[Units]) -> None:
    """Lines of the forehead (raised brows), between the brows (frown), across the nose's root."""
    brow = [0.0, sum(point[1] for point in points[17:27]) / 10]
    inner = min(own.inner_up for own in units)
    outer = min(own.outer_up for own in units)
    frown = min(own.frown for own in units)
    nose = max(own.nose for own in units)
    # Inner brows alone fold the forehead's middle upwards, both together all of it across.
    share, lift = (1.0, -0.05 * inner) if outer > 0.2 else (0.55, 0.06 * inner)
    for level, reach in ((0.22, 0.62), (0.38, 0.70), (0.54, 0.58)):
        x, y = share * reach, -level - 0.05 * inner
        depth = 0.7 * max(inner, outer) + 0.3 * draw.age
        draw.add(depth, brow, (-x, y + 0.02), (0.0, y + lift), (x, y + 0.02))
    for side, index in zip(SIDES, (21, 22), strict=True):
        x = -side * 0.04
        depth = 0.95 * frown + 0.15 * draw.age
        steps = ((x, -0.16), (x - side * 0.035, -0.01), (x - side * 0.01, 0.16))
        draw.add(depth, points[index], *steps, width=FOLD)
    for y in (0.0, 0.09):
        draw.add(0.7 * nose, [0.0, y], (-0.10, -0.03), (0.0, 0.0), (0.10, -0.03))
