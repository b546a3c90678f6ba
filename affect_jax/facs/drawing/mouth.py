"""Lips, teeth and tongue."""

from __future__ import annotations

import numpy as np

from affect_jax.facs.drawing import canvas as c
from affect_jax.facs.identity import Person, Units

CLOSED = 0.035  # a gap between the lips below this, in face units, is a line


def shade_mouth(shadows: c.Shadows) -> None:
    """The hollow under the lower lip, and the mouth's corners."""
    points = shadows.canvas.points
    shadows.area(c.ellipse(points[57] + (0.0, 0.05), (0.19, 0.04)), 0.26)
    for corner in (points[48], points[54]):
        shadows.area(c.ellipse(corner, (0.05, 0.04)), 0.25)


def draw_mouth(canvas: c.Canvas, units: list[Units], person: Person) -> None:
    outer, inner = canvas.points[48:60], canvas.points[60:68]
    upper_edge = c.curve(outer[0:7])  # left corner, Cupid's bow, right corner
    lower_edge = c.curve(outer[[6, 7, 8, 9, 10, 11, 0]])
    upper_seam = c.curve(np.concatenate([outer[:1], inner[0:5], outer[6:7]]))
    lower_seam = c.curve(np.concatenate([outer[6:7], inner[[4, 5, 6, 7, 0]], outer[:1]]))
    gap = float(np.max(inner[5:8, 1] - inner[3:0:-1, 1]))

    canvas.fill(np.concatenate([lower_edge, lower_seam[::-1]]), person.lips)
    canvas.fill(np.concatenate([upper_edge, upper_seam[::-1]]), c.scaled(person.lips, 0.84))
    shine = c.mix(person.lips, (255, 235, 230), 0.5)
    middle = 0.55 * outer[9] + 0.45 * inner[6]
    thick = max(0.012, 0.3 * float(outer[9, 1] - inner[6, 1]))
    canvas.glaze([c.ellipse(middle, (0.14, thick))], shine, 0.25 + 0.4 * person.gloss, soft=0.02)
    dark = c.mix(c.scaled(person.lips, 0.3), (30, 10, 12), 0.5)
    if gap > CLOSED:
        _draw_inside(canvas, np.concatenate([upper_seam, lower_seam]), inner, gap, units)
        canvas.line(upper_seam, dark, 0.012)
    else:
        seam = (upper_seam + lower_seam[::-1]) / 2
        canvas.fill(c.ribbon(seam, 0.012 + 0.018 * np.sin(np.linspace(0.2, 2.94, 24))), dark)


def _draw_inside(
    canvas: c.Canvas, outline: np.ndarray, inner: np.ndarray, gap: float, units: list[Units]
) -> None:
    """The open mouth: dark, upper teeth, lower teeth in a wide grin or stretch, tongue."""
    window = canvas.window(outline)
    if window is None:
        return
    part = canvas.within(window)
    part.image[...] = (48, 15, 18)
    jaw = max(own.jaw for own in units)
    bare = max(max(own.smile, own.stretch, own.upper_lip) for own in units)
    low = inner[5:8].mean(axis=0)
    if gap > 0.16:
        part.glaze(
            [c.ellipse(low + (0.0, 0.02), (0.24, 0.33 * gap))], (170, 78, 82), 0.9, soft=0.02
        )
    show = min(0.05 + 0.09 * bare, (0.4 + 0.45 * bare) * gap)
    top = c.curve(inner[0:5], samples=16)
    part.fill(np.concatenate([top, top[::-1] + (0.0, show)]), (236, 231, 220))
    x, y = inner[2]
    gaps = [
        np.array([(x + at, y - 0.05), (x + at, y + show)])
        for at in (-0.25, -0.15, -0.05, 0.05, 0.15, 0.25)
    ]
    part.glaze_lines(gaps, (170, 158, 148), 0.01, 0.3)
    if bare > 0.4 and jaw < 0.5:
        base = c.curve(inner[[4, 5, 6, 7, 0]], samples=16)
        part.fill(np.concatenate([base, base[::-1] - (0.0, 0.25 * gap)]), (218, 210, 200))
    part.glaze_lines([top + (0.0, 0.01)], (50, 16, 18), 0.05, 0.45, soft=0.02)
    c.blend(canvas.image[window], part.image, part.mask(outline))
