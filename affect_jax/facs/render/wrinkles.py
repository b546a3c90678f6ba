"""Adds wrinkles from action units and age to the relief of the skin."""

from __future__ import annotations

import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import Person, SideIntensities
from affect_jax.facs.render.relief import Relief

Knots = list[list[float]]  # lists of floats are faster than arrays of two elements
SIDES = (-1.0, 1.0)  # left and right side of the image
FINE_WIDTH, FOLD_WIDTH = 0.02, 0.034  # widths, face units
MIN_DEPTH = 0.18  # shallower wrinkles are not drawn


def sculpt_wrinkles(
    relief: Relief, canvas: painting.Canvas, units: list[SideIntensities], person: Person
) -> None:
    points, collector = canvas.points.tolist(), _WrinkleCollector(person.age)
    for side, side_units in zip(SIDES, units, strict=True):
        _wrinkle_eye(collector, points, side, side_units)
        _wrinkle_mouth(collector, points, side, side_units)
    _wrinkle_brow(collector, points, units)
    _wrinkle_chin(collector, [points[8][0], points[57][1]], units[0].chin)
    for width, (knots, depths) in collector.lines.items():
        if knots:
            relief.add_creases(painting.curves(np.array(knots), samples=8), depths, width)


class _WrinkleCollector:
    """Collects the wrinkles that are deep enough to be visible, by width."""

    def __init__(self, age: float):
        self.age = age
        self.lines: dict[float, tuple[list, list[float]]] = {
            FINE_WIDTH: ([], []),
            FOLD_WIDTH: ([], []),
        }

    def add(
        self,
        depth: float,
        base: list[float],
        *steps: tuple[float, float],
        width: float = FINE_WIDTH,
    ) -> None:
        """Adds a line through `base` plus each of three `steps`."""
        if depth > MIN_DEPTH:
            x, y = base
            knots, depths = self.lines[width]
            knots.append([(x + dx, y + dy) for dx, dy in steps])
            depths.append(depth)


def _wrinkle_chin(collector: _WrinkleCollector, chin: list[float], chin_raise: float) -> None:
    collector.add(
        0.6 * chin_raise, chin, (-0.24, 0.16), (0.0, 0.09), (0.24, 0.16), width=FOLD_WIDTH
    )
    for x, y in ((-0.13, 0.25), (0.0, 0.22), (0.13, 0.25), (-0.06, 0.32), (0.07, 0.32)):
        collector.add(0.6 * chin_raise, chin, (x - 0.03, y), (x, y - 0.015), (x + 0.03, y))


def _wrinkle_mouth(
    collector: _WrinkleCollector, points: Knots, side: float, units: SideIntensities
) -> None:
    """Adds the nasolabial fold, dimples, and the line below the corner of the mouth."""
    wing, corner = (points[31], points[48]) if side < 0 else (points[35], points[54])
    depth = max(units.smile, 0.9 * units.upper_lip, 0.7 * units.nose, 0.8 * units.dimple)
    start = (side * 0.06, -0.10)
    end = (
        corner[0] - wing[0] + side * (0.13 + 0.05 * units.smile),
        corner[1] - wing[1] + 0.08 - 0.05 * units.smile,
    )
    bulge = side * (0.05 + 0.10 * units.smile)
    middle = (0.55 * start[0] + 0.45 * end[0] + bulge, 0.55 * start[1] + 0.45 * end[1] - 0.02)
    depth = 0.08 + 0.25 * collector.age + 0.7 * depth
    collector.add(depth, wing, start, middle, end, width=FOLD_WIDTH)
    depth = max(0.9 * units.dimple, 0.35 * units.stretch)
    collector.add(
        depth,
        corner,
        (side * 0.11, -0.10),
        (side * 0.17, 0.0),
        (side * 0.10, 0.12),
        width=FOLD_WIDTH,
    )
    depth = 0.75 * units.corners_down + 0.15 * collector.age
    collector.add(
        depth,
        corner,
        (side * 0.05, 0.04),
        (side * 0.11, 0.16),
        (side * 0.11, 0.30),
        width=FOLD_WIDTH,
    )


def _wrinkle_eye(
    collector: _WrinkleCollector, points: Knots, side: float, units: SideIntensities
) -> None:
    """Adds crow's feet, the furrow under the eye, and the wrinkles of the nose, on one side."""
    outer, inner, low = (points[i] for i in ((36, 39, 40) if side < 0 else (45, 42, 47)))
    depth = 0.7 * units.cheek + 0.3 * collector.age
    for across, down, length in ((0.88, -0.48, 0.20), (1.0, -0.05, 0.24), (0.9, 0.43, 0.22)):
        steps = [
            (side * (0.09 + reach * across), 0.02 + reach * down)
            for reach in (0.03, 0.03 + 0.5 * length, 0.03 + length)
        ]
        collector.add(depth, outer, *steps)
    depth = 0.15 + 0.55 * max(units.cheek, 0.8 * units.lids) + 0.25 * collector.age
    across, down = outer[0] - inner[0], outer[1] - inner[1]
    under = (low[0] - inner[0], low[1] - inner[1] + 0.13)
    steps = ((side * 0.04, 0.09), under, (across + side * 0.02, down + 0.10))
    collector.add(depth, inner, *steps, width=FOLD_WIDTH)
    for x, y in ((0.10, 0.12), (0.13, 0.22), (0.12, 0.32)):
        steps = [(side * x, y), (side * (x + 0.08), y + 0.02), (side * (x + 0.13), y + 0.1)]
        collector.add(0.8 * units.nose, [0.0, 0.0], *steps)


def _wrinkle_brow(
    collector: _WrinkleCollector, points: Knots, units: list[SideIntensities]
) -> None:
    """Adds lines of the forehead (raised brows), between the brows (frown), and across the nose."""
    brow = [0.0, sum(point[1] for point in points[17:27]) / 10]
    inner = min(side.inner_up for side in units)
    outer = min(side.outer_up for side in units)
    frown = min(side.frown for side in units)
    nose = max(side.nose for side in units)
    # Inner brows alone wrinkle the middle of the forehead; with the outer brows, all of it.
    width_factor, lift = (1.0, -0.05 * inner) if outer > 0.2 else (0.55, 0.06 * inner)
    for level, reach in ((0.22, 0.62), (0.38, 0.70), (0.54, 0.58)):
        x, y = width_factor * reach, -level - 0.05 * inner
        depth = 0.7 * max(inner, outer) + 0.3 * collector.age
        collector.add(depth, brow, (-x, y + 0.02), (0.0, y + lift), (x, y + 0.02))
    for side, index in zip(SIDES, (21, 22), strict=True):
        x = -side * 0.04
        depth = 0.95 * frown + 0.15 * collector.age
        steps = ((x, -0.16), (x - side * 0.035, -0.01), (x - side * 0.01, 0.16))
        collector.add(depth, points[index], *steps, width=FOLD_WIDTH)
    for y in (0.0, 0.09):
        collector.add(0.7 * nose, [0.0, y], (-0.10, -0.03), (0.0, 0.0), (0.10, -0.03))
