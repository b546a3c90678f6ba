"""Hair, beard, headwear and glasses."""

from __future__ import annotations

import cv2
import numpy as np

from affect_jax.facs.drawing import canvas as c
from affect_jax.facs.identity import Person

LONG = ("long", "bob")
COVERED = ("headscarf", "beanie")
STRANDS = (-30, 24, -52, 8, 46, -18)  # tones of neighbouring strands against the hair's own


_STEP = np.linspace(0, 1, 7)
_TURN = np.linspace(0, np.pi, 33)
_ROUND = np.sign(np.cos(_TURN)) * np.abs(np.cos(_TURN)) ** 0.8
_HIGH = np.sin(_TURN).clip(0) ** 0.85
_BEND = np.stack([(1 - _STEP) ** 2, 2 * _STEP * (1 - _STEP), _STEP**2], axis=1)


class Head:
    """Measures of the head that hair follows: middle x, half width, top y."""

    def __init__(self, canvas: c.Canvas, outline: np.ndarray):
        points = canvas.rest
        self.middle = float((points[0, 0] + points[16, 0]) / 2)
        self.half = float((points[16, 0] - points[0, 0]) / 2)
        self.top = float(outline[:, 1].min())
        self.brow = float(points[17:27, 1].min())

    def at(self, across: float, y: float) -> tuple[float, float]:
        return (self.middle + across * self.half, y)

    def dome(self, rise: float, low: float, wave: int = 0) -> np.ndarray:
        """The head's upper edge [33, 2], `rise` outside the skull, from right over top to left.

        `wave` makes it uneven: a seed of where.
        """
        uneven = 1.0 + 0.02 * np.sin(_TURN * (5 + wave % 4) + wave) if wave else 1.0
        across = _ROUND * (self.half * 1.03 + rise) * uneven
        tall = (low - self.top + rise) * uneven
        return np.stack([self.middle + across, low - tall * _HIGH], axis=1)


def _tress(
    canvas: c.Canvas,
    outlines: list[np.ndarray],
    strands: np.ndarray | list[np.ndarray],
    person: Person,
    light: float,
    level: int = 128,
) -> None:
    """Fills outlines with hair: strands in tones of its colour, lighter towards the light."""
    window = canvas.window(np.concatenate(outlines))
    if window is None:
        return
    part = canvas.within(window)
    height, width = part.image.shape[:2]
    slope = np.linspace(-20 * light, 20 * light, width).astype(np.int16)
    fall = np.linspace(level + 20, level - 24, height).astype(np.int16)
    tone = (fall[:, None] + slope).astype(np.uint8)
    fixed = part.fixed_all(strands)
    for start, value in enumerate(STRANDS):  # neighbours differ, and one call draws a tone
        lines = fixed[start :: len(STRANDS)]
        cv2.polylines(tone, lines, False, (level + value,), 2, cv2.LINE_AA, c.SHIFT)
    tone = cv2.blur(tone, (3, 3))
    colours = c.ramp(
        c.scaled(person.hair, 0.35),
        person.hair,
        c.mix(c.scaled(person.hair, 1.5), (255, 240, 220), 0.15),
    )
    c.blend(canvas.image[window], cv2.applyColorMap(tone, colours), part.mask(*outlines))


def _hairline(head: Head, person: Person) -> np.ndarray:
    """The edge of the hair on the forehead, from the left ear to the right one."""
    side, style = person.part_side, person.hair_style
    brow, top = head.brow, head.top
    line = brow - 0.52 * (brow - top)
    if style == "fringe" or (style == "bob" and person.hair_seed % 2):
        rng = np.random.default_rng(person.hair_seed)
        edge = brow - 0.10 + 0.06 * rng.random(9)
        steps = np.linspace(-0.86, 0.86, 9)
        middle = [head.at(x, y) for x, y in zip(steps, edge, strict=True)]
        knots = [
            head.at(-1.0, 0.1),
            head.at(-0.95, -0.2),
            *middle,
            head.at(0.95, -0.2),
            head.at(1.0, 0.1),
        ]
        return c.curve(knots, samples=48)
    if style in ("parted", "long", "bob"):
        peak = 0.35 * side
        knots = [
            head.at(-1.0, 0.15),
            head.at(-0.93, -0.35),
            head.at(-0.72, line + 0.12 + 0.1 * side),
            head.at(peak, line - 0.16),
            head.at(0.72, line + 0.12 - 0.1 * side),
            head.at(0.93, -0.35),
            head.at(1.0, 0.15),
        ]
        return c.curve(knots, samples=48)
    if style == "receding":
        line = top + 0.22
        knots = [
            head.at(-1.0, 0.1),
            head.at(-0.95, -0.4),
            head.at(-0.62, line + 0.05),
            head.at(0.0, line + 0.22),
            head.at(0.62, line + 0.05),
            head.at(0.95, -0.4),
            head.at(1.0, 0.1),
        ]
        return c.curve(knots, samples=48)
    knots = [
        head.at(-1.0, 0.1),
        head.at(-0.95, -0.35),
        head.at(-0.76, line - 0.02),
        head.at(-0.3, line - 0.10),
        head.at(0.3, line - 0.10),
        head.at(0.76, line - 0.02),
        head.at(0.95, -0.35),
        head.at(1.0, 0.1),
    ]
    return c.curve(knots, samples=48)


def _strands(start: np.ndarray, end: np.ndarray, bend: float, number: int) -> np.ndarray:
    """Bent lines [number, 7, 2] between two curves, at the same share of both."""
    shares = np.linspace(0, 1, number)
    first = start[(shares * (len(start) - 1)).astype(int)]
    last = end[(shares * (len(end) - 1)).astype(int)]
    middle = (first + last) / 2
    middle[:, 0] += bend * (first - last)[:, 1]
    return np.einsum("sk,knd->nsd", _BEND, np.stack([first, middle, last]))


def draw_back(canvas: c.Canvas, outline: np.ndarray, person: Person, light: float) -> None:
    """What lies behind the head: long hair, a bun, curls."""
    head = Head(canvas, outline)
    style, volume = person.hair_style, person.hair_volume
    dome = head.dome(volume + 0.06, 0.3, person.hair_seed)
    if style in LONG:
        low = 2.6 if style == "long" else 1.45
        wide = 1.12 if style == "long" else 1.2
        right = c.curve([dome[0], head.at(wide + 0.12, 0.9), head.at(wide, low)], samples=10)
        left = c.curve([head.at(-wide, low), head.at(-wide - 0.12, 0.9), dome[-1]], samples=10)
        shape = np.concatenate([dome, left[::-1], right[::-1]])
        ends = c.curve([right[-1], head.at(0, low + 0.1), left[0]], samples=40)
        _tress(canvas, [shape], _strands(dome, ends, 0.0, 26), person, light, level=88)
    elif style == "bun":
        bun = c.ellipse(head.at(0.0, head.top - 0.22), (0.42, 0.36))
        _tress(canvas, [bun], _strands(bun[:16], bun[:15:-1], 0.2, 8), person, light, level=104)
    elif style == "curly":
        rng = np.random.default_rng(person.hair_seed)
        ring = head.dome(0.6 * volume, 0.35)
        curls = [_circle(at, r) for at, r in zip(ring, rng.uniform(0.18, 0.34, 33), strict=True)]
        _tress(canvas, curls, _curls(rng, curls), person, light, level=96)


def _circle(at: np.ndarray, radius: float) -> np.ndarray:
    return c.ellipse(at, (radius, radius))


def _curls(rng: np.random.Generator, locks: list[np.ndarray]) -> np.ndarray:
    """Small arcs [m, 9, 2] within round locks of hair."""
    rings = np.stack(locks)
    middle = rings.mean(axis=1, keepdims=True)
    first = rng.integers(0, 16, size=(3, len(locks)))
    places = first[..., None] + np.arange(9)
    shrink = np.array([0.35, 0.62, 0.86])[:, None, None, None]
    arcs = middle + shrink * (rings[np.arange(len(locks))[:, None], places] - middle)
    return arcs.reshape(-1, 9, 2)


def draw_front(canvas: c.Canvas, outline: np.ndarray, person: Person, light: float) -> None:
    """The hair on the forehead and beside the face, or what covers it."""
    style = person.hair_style
    if style == "bald":
        return
    head = Head(canvas, outline)
    if style in COVERED:
        _draw_cover(canvas, head, outline, person)
        return
    rise = 0.5 * person.hair_volume if style in ("bun", "receding") else person.hair_volume
    dome, hairline = head.dome(rise, 0.12, person.hair_seed), _hairline(head, person)
    outlines = [np.concatenate([dome, hairline])]
    strands = _strands(dome[::-1], hairline, 0.12 * person.part_side, 28)
    if style in LONG:
        locks, extra = _locks(head, dome, person)
        outlines, strands = outlines + locks, [*strands, *extra]
    elif style == "curly":
        rng = np.random.default_rng(person.hair_seed + 1)
        edge = hairline[np.linspace(2, 45, 33).astype(int)]
        share = np.repeat([[0.25], [0.6], [0.92]], 11, axis=0)
        middles = (1 - share) * dome[::-1] + share * edge
        curls = [_circle(at, r) for at, r in zip(middles, rng.uniform(0.12, 0.2, 33), strict=True)]
        outlines, strands = outlines + curls, _curls(rng, curls)
    _tress(canvas, outlines, strands, person, light)


def shade_forehead(shadows: c.Shadows, outline: np.ndarray, person: Person) -> None:
    """The shadow of the hair on the skin."""
    if person.hair_style != "bald" and person.hair_style not in COVERED:
        hairline = _hairline(Head(shadows.canvas, outline), person)
        shadows.area(np.concatenate([hairline - (0.0, 0.2), hairline[::-1] + (0.0, 0.05)]), 0.28)


def _locks(
    head: Head, dome: np.ndarray, person: Person
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Hair that falls beside the face."""
    low = 2.4 if person.hair_style == "long" else 1.25
    outlines, strands = [], []
    for side, top in ((1.0, dome[0]), (-1.0, dome[-1])):
        outside = c.curve(
            [top + (0.0, -0.3), head.at(side * 1.22, 0.7), head.at(side * 1.14, low)], samples=12
        )
        inside = c.curve(
            [head.at(side * 0.92, -0.45), head.at(side * 0.97, 0.5), head.at(side * 0.9, low)],
            samples=12,
        )
        outlines.append(np.concatenate([outside, inside[::-1]]))
        strands += [share * outside + (1 - share) * inside for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    return outlines, strands


def _draw_cover(canvas: c.Canvas, head: Head, outline: np.ndarray, person: Person) -> None:
    """A headscarf or a beanie in the clothes' colour."""
    cloth = person.clothes
    if person.hair_style == "beanie":
        edge = head.brow - 0.30
        dome = head.dome(0.10, edge + 0.2)
        rim = c.curve([head.at(-1.08, edge + 0.1), head.at(0.0, edge), head.at(1.08, edge + 0.1)])
        canvas.fill(np.concatenate([dome, rim]), cloth)
        for share in np.linspace(0.08, 0.92, 12):
            top = dome[int((1 - share) * 32)]
            foot = rim[int(share * 23)]
            canvas.line([0.4 * top + 0.6 * foot, foot], c.scaled(cloth, 0.85), 0.02)
        cuff = np.concatenate([rim, rim[::-1] - (0.0, 0.26)])
        canvas.fill(cuff, c.scaled(cloth, 1.12))
        canvas.glaze_lines([rim + (0.0, 0.02)], c.scaled(person.skin, 0.4), 0.05, 0.4, soft=0.03)
        return
    dome = head.dome(0.16, 0.4)
    low = float(outline[:, 1].max())
    outside = np.concatenate(
        [
            dome,
            c.curve([head.at(-1.2, 0.6), head.at(-1.0, low), head.at(-1.5, 3.0)]),
            c.curve([head.at(1.5, 3.0), head.at(1.0, low), head.at(1.2, 0.6)]),
        ]
    )
    opening = (outline - (head.middle, 0.1)) * (0.93, 0.97) + (head.middle, 0.12)
    opening[:, 1] = np.maximum(
        opening[:, 1], head.brow - 0.5 + 0.25 * (opening[:, 0] - head.middle) ** 2
    )
    window = canvas.window(outside)
    if window is None:
        return
    part = canvas.within(window)
    part.fill(outside, cloth)
    for share in (0.04, 0.10, 0.17):
        fold = (opening - (head.middle, 0.1)) * (1 + share) + (head.middle, 0.1)
        part.glaze_lines([fold], c.scaled(cloth, 0.7 + share), 0.03, 0.5, soft=0.02)
    mask = cv2.subtract(part.mask(outside), part.mask(opening))
    c.blend(canvas.image[window], part.image, mask)
    canvas.glaze_lines([opening], c.scaled(person.skin, 0.4), 0.04, 0.4, soft=0.03)


def draw_beard(canvas: c.Canvas, outline: np.ndarray, person: Person) -> None:
    """Under the lips in the order of painting, so that the mouth stays visible."""
    if person.beard == "none":
        return
    points = canvas.points
    lip = c.curve(points[48:55] + (0.0, -0.015), samples=20)
    colour, opacity = c.scaled(person.hair, 0.8), 0.85
    shapes = []
    if person.beard in ("moustache", "goatee", "full"):
        top = c.curve(
            [
                points[48] + (-0.08, 0.04),
                points[50] + (0.0, -0.14),
                points[51] + (0.0, -0.11),
                points[52] + (0.0, -0.14),
                points[54] + (0.08, 0.04),
            ],
            samples=20,
        )
        shapes.append(np.concatenate([top, lip[::-1]]))
    if person.beard in ("full", "stubble"):
        jaw = points[2:15] * (1.0, 1.0)
        cheek = c.curve(
            [
                points[14],
                points[54] + (0.28, -0.12),
                points[54] + (0.1, 0.0),
                points[57] + (0.0, -0.02),
                points[48] + (-0.1, 0.0),
                points[48] + (-0.28, -0.12),
                points[2],
            ],
            samples=30,
        )
        shapes.append(np.concatenate([c.curve(jaw, samples=30) + (0.0, 0.02), cheek]))
    if person.beard == "goatee":
        chin = points[8]
        shapes.append(
            c.curve(
                [
                    points[48] + (-0.05, 0.05),
                    points[57] + (0.0, 0.06),
                    points[54] + (0.05, 0.05),
                    chin + (0.24, -0.12),
                    chin + (0.0, 0.05),
                    chin + (-0.24, -0.12),
                ],
                closed=True,
            )
        )
    if person.beard == "stubble":
        colour, opacity = c.mix(person.skin, person.hair, 0.75), 0.42
        top = c.curve(points[[31, 33, 35]] + (0.0, 0.06), samples=20)
        shapes.append(np.concatenate([top, lip[::-1]]))
    canvas.glaze(shapes, colour, opacity, soft=0.06 if person.beard == "stubble" else 0.035)


def draw_glasses(canvas: c.Canvas, person: Person) -> None:
    if person.glasses == "none":
        return
    points = canvas.points
    glints = []
    frame = (40, 34, 34) if person.hair_seed % 3 else (150, 110, 60)
    for eye, side, ear in ((slice(36, 42), -1.0, 0), (slice(42, 48), 1.0, 16)):
        middle = points[eye].mean(axis=0) * (1.0, 0.0) + (side * 0.03, 0.05)
        turn = np.linspace(0, 2 * np.pi, 33)
        power = 1.0 if person.glasses == "round" else 0.55
        rim = middle + np.stack(
            [
                0.37 * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power,
                (0.33 if power == 1.0 else 0.26)
                * np.sign(np.sin(turn))
                * np.abs(np.sin(turn)) ** power,
            ],
            axis=1,
        )
        canvas.line(rim, frame, 0.035)
        canvas.line([middle + (side * 0.37, -0.06), points[ear] + (0.0, 0.02)], frame, 0.035)
        glints.append(np.array([middle + (-0.2, -0.16), middle + (-0.05, -0.24)]))
    canvas.line(c.curve([(-0.13, 0.0), (0.0, -0.04), (0.13, 0.0)]), frame, 0.035)
    canvas.glaze_lines(glints, (255, 255, 255), 0.03, 0.3, soft=0.01)
