"""The head: outline, relief under a light, wrinkles of the action units, ears, neck, blush."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.drawing import canvas as c
from affect_jax.facs.drawing import scenery
from affect_jax.facs.identity import Person, Scene, Units

BOX = (-2.4, -2.7, 2.4, 2.9)  # the relief's extent in face coordinates
GRID = (
    np.linspace(BOX[0], BOX[2], 97, dtype=np.float32),
    np.linspace(BOX[1], BOX[3], 113, dtype=np.float32),
)
Knots = list[list[float]]  # points as plain numbers: faster than arrays of two
WRINKLE = 0.5  # depth of the deepest wrinkle
SIDES = (-1.0, 1.0)  # the picture's left and right


def head_outline(points: np.ndarray, person: Person) -> np.ndarray:
    """Closed outline [96, 2] of jaw and skull."""
    jaw = points[:17]
    middle = (jaw[0] + jaw[16]) / 2
    half = (jaw[16, 0] - jaw[0, 0]) / 2
    turn = np.linspace(0, np.pi, 9)[1:-1]
    tall = person.skull + middle[1]
    across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.8
    skull = np.stack([middle[0] + 1.03 * half * across, middle[1] - tall * np.sin(turn) ** 0.8], 1)
    return c.curve(np.concatenate([jaw, skull]), closed=True, samples=96)


def _relief(points: Knots, units: list[Units], person: Person) -> np.ndarray:
    """Heights [113, 97] of the face over the grid: an ellipsoid and Gaussian hills and hollows."""
    (left, _), (right, _), chin = points[0], points[16], points[8]
    nose, tip = points[30], points[33]
    half, middle = (right - left) / 2, (right + left) / 2
    seam = (points[62][1] + points[66][1]) / 2
    hills = [  # centre x, centre y, width, height, rise
        (nose[0] * 0.5, 0.25 * nose[1], 0.11, 0.42, 0.17),
        (nose[0], nose[1], 0.15, 0.15, 0.16),
        (tip[0], seam - 0.02, 0.36, 0.17, 0.05),
        (points[57][0], points[57][1] + 0.13, 0.24, 0.06, -0.06),
        (chin[0], chin[1] - 0.22, 0.26, 0.17, 0.10 + 0.05 * units[0].chin),
        (0.0, -1.0, 0.7, 0.45, 0.06),
    ]
    for side, own, brow, wing, corner in zip(
        SIDES, units, (19, 24), (31, 35), (48, 54), strict=True
    ):
        ridge, wing, corner = points[brow], points[wing], points[corner]
        smile = max(own.smile, own.cheek)
        hills += [
            (side * 0.5, 0.02, 0.27, 0.17, -0.11),
            (ridge[0], ridge[1] + 0.07, 0.36, 0.10, 0.05 + 0.03 * own.frown),
            (wing[0] - side * 0.02, wing[1] - 0.06, 0.08, 0.08, 0.07),
            (side * 0.66, 0.58 - 0.08 * smile, 0.30, 0.24, 0.07 + 0.09 * smile),
            (corner[0] + side * 0.12, corner[1] - 0.04, 0.10, 0.18, -0.05 - 0.03 * own.smile),
            (side * 0.78, 0.95, 0.20, 0.30, -0.06 * person.gaunt),
        ]
    x, y = GRID
    hill = np.array(hills, np.float32)
    across = np.exp(-0.5 * ((x - hill[:, :1]) / hill[:, 2:3]) ** 2)
    down = np.exp(-0.5 * ((y - hill[:, 1:2]) / hill[:, 3:4]) ** 2)
    inside = (
        np.float32(1.0)
        - ((x - np.float32(middle)) / np.float32(1.12 * half))[None] ** 2
        - ((y + 0.05) / 2.1)[:, None] ** 2
    )
    ball = np.float32(1.15) * np.sqrt(np.maximum(inside, np.float32(0.03)))
    return ball + (down * hill[:, 4:]).T @ across


def relief_tone(canvas: c.Canvas, units: list[Units], person: Person, scene: Scene) -> np.ndarray:
    """Brightness of the skin uint8 [256, 256], 128 = fully lit from the front, before shadows."""
    x, y = GRID
    height = _relief(canvas.points.tolist(), units, person)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125 / (x[1] - x[0]))
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125 / (y[1] - y[0]))
    norm = 1.0 / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    light = (np.asarray(scene.light) / np.linalg.norm(scene.light)).tolist()
    facing = np.maximum((light[2] - light[0] * slope_x - light[1] * slope_y) * norm, 0.0)
    mirror = facing**2  # to the 24th, for the gloss
    mirror = mirror**2 * mirror
    mirror = (mirror**2) ** 2
    values = (132.0 * scene.ambient + 8.0) + 132.0 * (1 - scene.ambient) * facing
    values += (60.0 * person.gloss) * mirror
    np.minimum(values, 255.0, out=values)
    return canvas.warp(values.astype(np.uint8), BOX)


class _Wrinkles:
    """Draws what is deep enough to be seen."""

    def __init__(self, shadows: c.Shadows, age: float):
        self.shadows, self.age = shadows, age

    def add(self, depth: float, base: list[float], *steps: tuple[float, float]) -> None:
        """A line through `base` + each of `steps`."""
        if depth > 0.12:
            x, y = base
            path = c.curve([(x + dx, y + dy) for dx, dy in steps], samples=12)
            self.shadows.line(path, WRINKLE * min(depth, 1.0))


def shade_wrinkles(shadows: c.Shadows, units: list[Units], person: Person) -> None:
    """Lines that the action units, and age, draw on the skin."""
    points, draw = shadows.canvas.points.tolist(), _Wrinkles(shadows, person.age)
    for side, own in zip(SIDES, units, strict=True):
        _wrinkle_eye(draw, points, side, own)
        _wrinkle_mouth(draw, points, side, own)
    _wrinkle_brow(draw, points, units)
    chin, rise = [points[8][0], points[57][1]], units[0].chin
    draw.add(0.12 + 0.7 * rise, chin, (-0.26, 0.19), (0.0, 0.11), (0.26, 0.19))
    for x, y in ((-0.13, 0.27), (0.0, 0.24), (0.13, 0.27), (-0.06, 0.34), (0.07, 0.34)):
        draw.add(0.6 * rise, chin, (x - 0.03, y), (x, y - 0.015), (x + 0.03, y))


def _wrinkle_mouth(draw: _Wrinkles, points: Knots, side: float, own: Units) -> None:
    """The fold from the nose's wing round the mouth's corner, dimples, the line below a corner."""
    wing, corner = (points[31], points[48]) if side < 0 else (points[35], points[54])
    depth = max(own.smile, 0.9 * own.upper_lip, 0.7 * own.nose, 0.8 * own.dimple)
    start = (side * 0.07, -0.10)
    end = (
        corner[0] - wing[0] + side * (0.14 + 0.05 * own.smile),
        corner[1] - wing[1] + 0.10 - 0.05 * own.smile,
    )
    bulge = side * (0.05 + 0.10 * own.smile)
    middle = (0.55 * start[0] + 0.45 * end[0] + bulge, 0.55 * start[1] + 0.45 * end[1] - 0.02)
    draw.add(0.10 + 0.25 * draw.age + 0.65 * depth, wing, start, middle, end)
    depth = max(0.9 * own.dimple, 0.35 * own.stretch)
    draw.add(depth, corner, (side * 0.11, -0.10), (side * 0.17, 0.0), (side * 0.10, 0.12))
    depth = 0.75 * own.corners_down + 0.12 * draw.age
    draw.add(depth, corner, (side * 0.05, 0.04), (side * 0.11, 0.16), (side * 0.11, 0.30))


def _wrinkle_eye(draw: _Wrinkles, points: Knots, side: float, own: Units) -> None:
    """Crow's feet, the furrow under the eye, and the nose's wrinkles of one side."""
    outer, inner, low = (points[i] for i in ((36, 39, 40) if side < 0 else (45, 42, 47)))
    depth = 0.75 * own.cheek + 0.25 * draw.age
    for across, down, length in ((0.88, -0.48, 0.20), (1.0, -0.05, 0.24), (0.9, 0.43, 0.22)):
        steps = [
            (side * (0.09 + reach * across), 0.02 + reach * down)
            for reach in (0.03, 0.03 + 0.5 * length, 0.03 + length)
        ]
        draw.add(depth, outer, *steps)
    depth = 0.22 + 0.5 * max(own.cheek, 0.8 * own.lids) + 0.2 * draw.age
    across, down = outer[0] - inner[0], outer[1] - inner[1]
    under = (low[0] - inner[0], low[1] - inner[1] + 0.13)
    draw.add(depth, inner, (side * 0.04, 0.1), under, (across + side * 0.03, down + 0.11))
    for x, y in ((0.10, 0.12), (0.13, 0.22), (0.12, 0.32)):
        steps = [(side * x, y), (side * (x + 0.08), y + 0.02), (side * (x + 0.13), y + 0.1)]
        draw.add(0.85 * own.nose, [0.0, 0.0], *steps)


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
        bend = [(-0.4 * x, y + lift), (0.0, y + lift / 2), (0.4 * x, y + lift)]
        depth = 0.75 * max(inner, outer) + 0.25 * draw.age
        draw.add(depth, brow, (-x, y + 0.02), *bend, (x, y + 0.02))
    for side, index in zip(SIDES, (21, 22), strict=True):
        x = -side * 0.04
        depth = 0.95 * frown + 0.12 * draw.age
        draw.add(
            depth, points[index], (x, -0.16), (x - side * 0.035, -0.01), (x - side * 0.01, 0.16)
        )
    for y in (0.0, 0.09):
        draw.add(0.7 * nose, [0.0, y], (-0.10, -0.03), (0.0, 0.0), (0.10, -0.03))


def draw_skin(
    shadows: c.Shadows, outline: np.ndarray, units: list[Units], person: Person, scene: Scene
) -> None:
    """Neck, ears and head with their light, and the blush of cheeks and nose."""
    canvas = shadows.canvas
    points = canvas.points
    colours = c.ramp(
        c.mix(c.scaled(person.skin, 0.30), (70, 20, 12), 0.35),
        person.skin,
        c.mix(c.scaled(person.skin, 1.25), (255, 246, 238), 0.35),
    )
    ears = _ears(points, person)
    for ear in ears:
        middle = ear.mean(axis=0)
        shadows.area((ear - middle) * (0.45, 0.6) + middle, 0.3)
    under = [*ears, scenery.neck_outline(canvas.rest)]
    window = canvas.window(np.concatenate([*under, outline]))
    if window is None:
        return
    part = canvas.within(window)
    tone = shadows.fall_on(relief_tone(part, units, person, scene), window)
    low = cv2.subtract(tone, np.full_like(tone, 24))  # the head's shadow lies on the neck
    jaw = part.fixed(c.curve(points[3:14] + (0.0, 0.03)))
    cv2.polylines(low, [jaw], False, (58,), round(0.14 * canvas.unit), cv2.LINE_AA, c.SHIFT)
    low = c.softened(low, 0.07 * canvas.unit)
    head = part.mask(outline)
    tone = cv2.add(
        cv2.multiply(tone, head, scale=1 / 255),
        cv2.multiply(low, cv2.bitwise_not(head), scale=1 / 255),
    )
    c.blend(canvas.image[window], cv2.applyColorMap(tone, colours), part.mask(outline, *under))
    _draw_blush(canvas, units, person)


def _draw_blush(canvas: c.Canvas, units: list[Units], person: Person) -> None:
    red = c.mix(person.skin, (214, 92, 84), 0.5)
    smile = max(own.smile for own in units)
    cheeks = [c.ellipse((side * 0.68, 0.58 - 0.08 * smile), (0.24, 0.18)) for side in SIDES]
    nose = c.ellipse(canvas.points[30], (0.13, 0.1))
    canvas.glaze([*cheeks, nose], red, 0.28 * person.blush + 0.08 * smile, soft=0.07)
    if person.freckles:
        places = np.random.default_rng(person.hair_seed).normal((0.0, 0.42), (0.42, 0.14), (40, 2))
        dots = [c.ellipse(at, (0.014, 0.012)) for at in places]
        canvas.glaze(dots, c.scaled(person.skin, 0.68), 0.55)


def _ears(points: np.ndarray, person: Person) -> list[np.ndarray]:
    reach = 0.28 * person.ears
    left = c.ellipse(points[0] + (-0.02, 0.2), (0.13, reach), 0.15)
    right = c.ellipse(points[16] + (0.02, 0.2), (0.13, reach), -0.15)
    return [left, right]
