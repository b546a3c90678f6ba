"""Eyes, brows and nose."""

from __future__ import annotations

import numpy as np

from affect_jax.facs.drawing import canvas as c
from affect_jax.facs.identity import Person, Scene, Units

IRIS = 0.098  # radius in face units; an iris is 11.7 mm wide, eyes are 63 mm apart
SIDES = ((-1.0, slice(36, 42), slice(17, 22)), (1.0, slice(42, 48), slice(22, 27)))
_LID = np.sin(np.linspace(0.15, np.pi - 0.1, 16))[:, None]
_LASH = np.concatenate([[0.0], 0.6 + 0.4 * np.sin(np.linspace(0.9, np.pi, 16))])
_PLACES = np.arange(2, 19)
_JITTER = 0.012 * np.random.default_rng(17).standard_normal((17, 2))  # of a brow's hairs
_BROW = np.interp(np.linspace(0, 1, 20), (0, 0.35, 0.8, 1), (0.15, 0.75, 1.1, 0.75))


def lids(canvas: c.Canvas, eye: slice, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges [16, 2] of the upper lid, from the outer corner, and of the lower lid, back to it."""
    points = canvas.points[eye]
    if side > 0:
        points = points[[3, 2, 1, 0, 5, 4]]
    return c.curve(points[[0, 1, 2, 3]], samples=16), c.curve(points[[3, 4, 5, 0]], samples=16)


def shade_eyes(shadows: c.Shadows, units: list[Units]) -> None:
    """Creases of the upper lids, edges of the lower ones."""
    canvas = shadows.canvas
    for (side, eye, brow), own in zip(SIDES, units, strict=True):
        upper, lower = lids(canvas, eye, side)
        room = max(0.08, float(upper[:, 1].min() - canvas.points[brow, 1].mean()))
        rise = min(0.11, 0.36 * room) * (1.0 - 0.4 * own.wide)
        crease = upper - _LID * (0.0, rise)
        shadows.area(np.concatenate([upper, crease[::-1]]), 0.24)
        shadows.line(crease, 0.42)
        shadows.line(lower + (0.0, 0.01), 0.35)


def draw_eyes(canvas: c.Canvas, person: Person, scene: Scene) -> None:
    for side, eye, _ in SIDES:
        upper, lower = lids(canvas, eye, side)
        gap = float(lower[:, 1].max() - upper[:, 1].min())
        if gap > 0.045:
            _draw_ball(canvas, np.concatenate([upper, lower]), person, scene)
        _draw_lashes(canvas, upper, person, side, closed=gap <= 0.08)


def _draw_ball(canvas: c.Canvas, outline: np.ndarray, person: Person, scene: Scene) -> None:
    """White, iris, pupil and catch light, cut out by the lids."""
    window = canvas.window(outline)
    if window is None:
        return
    part = canvas.within(window)
    part.image[...] = c.mix((232, 228, 226), person.skin, 0.10)
    # A relaxed upper lid covers the iris's top, the lower lid touches it from below.
    low, high = outline[:, 1].max(), outline[:, 1].min()
    eye = (outline[0] + outline[15]) / 2
    eye[1] = low - 0.9 * IRIS if low - high < 2.2 * IRIS else (low + high) / 2
    eye += scene.gaze
    part.fill(c.ellipse(eye, (IRIS, IRIS)), c.scaled(person.iris, 0.4))
    part.fill(c.ellipse(eye, (0.82 * IRIS, 0.82 * IRIS)), person.iris)
    part.fill(c.ellipse(eye + (0, 0.035), (0.06, 0.035)), c.scaled(person.iris, 1.3))
    part.fill(c.ellipse(eye, (0.42 * IRIS, 0.42 * IRIS)), (14, 12, 14))
    part.glaze_lines([outline[:16] + (0.0, 0.02)], (40, 30, 30), 0.07, 0.45, soft=0.03)
    glint = eye + (0.035 if scene.light[0] >= 0 else -0.035, -0.035)
    part.fill(c.ellipse(glint, (0.026, 0.026)), (255, 255, 255))
    c.blend(canvas.image[window], part.image, part.mask(outline))


def _draw_lashes(
    canvas: c.Canvas, upper: np.ndarray, person: Person, side: float, closed: bool
) -> None:
    dark = c.mix(c.scaled(person.brow, 0.4), (24, 16, 16), 0.6)
    wing = upper[:1] + (side * 0.05 * person.lashes, -0.025 * person.lashes)
    line = np.concatenate([wing, upper])
    canvas.fill(c.ribbon(line, (0.026 + 0.024 * person.lashes) * _LASH + 0.004), dark)
    if closed:  # lashes show along the whole seam
        lashes = []
        for share in (0.1, 0.23, 0.36, 0.5, 0.63, 0.76, 0.9):
            root = upper[int(share * 15)]
            lashes.append(np.array([root, root + (side * 0.05 * (1 - 2 * share), 0.05)]))
        canvas.glaze_lines(lashes, dark, 0.012, 0.3 + 0.5 * person.lashes)


def draw_brows(canvas: c.Canvas, person: Person) -> None:
    bands, strands = [], []
    for side, _, brow in SIDES:
        points = canvas.points[brow] if side < 0 else canvas.points[brow][::-1]  # outer end first
        line = c.curve(points, samples=20) + (0.0, 0.02)
        widths = person.brow_width * _BROW
        bands.append(c.ribbon(line, widths))
        thick = widths[_PLACES, None]
        roots = line[_PLACES] + 0.3 * thick * (0.0, 1.0)
        tips = roots + (side * 0.05, 0.0) - 0.7 * thick * (0.0, 1.0) + _JITTER
        strands.append(np.stack([roots, tips], axis=1))
    canvas.glaze(bands, person.brow, 0.8, soft=0.014)
    canvas.glaze_lines(np.concatenate(strands), c.scaled(person.brow, 0.7), 0.012, 0.5)


def shade_nose(shadows: c.Shadows, units: list[Units], person: Person, scene: Scene) -> None:
    """The bridge's dark side, wings, nostrils, the hollow above the lip."""
    points = shadows.canvas.points
    away = -1.0 if scene.light[0] >= 0 else 1.0
    bridge = c.curve([(away * 0.12, 0.0), (away * 0.10, 0.2), points[30] + (away * 0.13, -0.05)])
    shadows.area(c.ribbon(bridge, np.linspace(0.03, 0.09, len(bridge))), 0.15)
    shadows.line(c.curve(points[31:36] + (0.0, 0.015), samples=12), 0.3)
    shadows.area(c.ellipse(points[33] + (0.0, 0.03), (0.17, 0.035)), 0.22)
    shadows.area(c.ellipse((points[33] + points[51]) / 2, (0.03, 0.05)), 0.12)
    for side, own, wing, hole in ((-1.0, units[0], 31, 32), (1.0, units[1], 35, 34)):
        flare = 1.0 + 0.35 * max(own.nose, 0.6 * own.upper_lip)
        corner = points[wing]
        rim = corner + [
            (side * 0.02, -0.13), (side * 0.075 * flare, -0.06), (side * 0.06 * flare, 0.015),
            (side * -0.01, 0.035),
        ]  # fmt: skip
        shadows.line(c.curve(rim, samples=12), 0.5)
        spot = 0.6 * points[hole] + 0.4 * corner + (0.0, -0.012)
        radii = (0.058 * person.nostrils * flare, 0.028 * person.nostrils)
        shadows.spot(c.ellipse(spot, radii, side * -0.35), 0.95)
