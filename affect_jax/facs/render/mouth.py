"""Lips, teeth and tongue."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.identity import Units
from affect_jax.facs.render.relief import Relief

CLOSED = 0.035  # a gap between the lips below this, in face units, is a line
TOOTH: painting.Colour = (240, 235, 226)
GAP: painting.Colour = (218, 208, 199)
DEEP: painting.Colour = (46, 14, 18)  # the open mouth's inside


_EDGES = np.array(  # from the picture's left to its right
    [
        [48, 49, 50, 51, 52, 53, 54],
        [48, 60, 61, 62, 63, 64, 54],
        [48, 60, 67, 66, 65, 64, 54],
        [48, 59, 58, 57, 56, 55, 54],
    ]
)


class Lips(NamedTuple):
    """Edges [24, 2] of the lips, from the picture's left to its right."""

    top: np.ndarray
    upper: np.ndarray  # the upper lip's edge where the lips meet
    lower: np.ndarray
    bottom: np.ndarray

    def outlines(self) -> list[np.ndarray]:
        """Of the upper and of the lower lip."""
        return [
            np.concatenate([self.top, self.upper[::-1]]),
            np.concatenate([self.lower, self.bottom[::-1]]),
        ]


def lips(canvas: painting.Canvas) -> Lips:
    return Lips(*painting.curves(canvas.points[_EDGES], samples=24))


def sculpt_mouth(relief: Relief, edges: Lips, units: list[Units]) -> None:
    """Full lips that meet in a groove, and the corners' hollows."""
    tight = max(units[0].press, 0.6 * units[0].tight)
    full = 0.055 * (1 - 0.5 * tight)
    for first, second, rise in (
        (edges.top, edges.upper, full),
        (edges.lower, edges.bottom, 1.2 * full),
    ):
        thick = float(second[11, 1] - first[11, 1])
        path = ((first + second) / 2)[3:21]
        relief.ridge(path, max(0.04, 0.42 * thick), rise)
    relief.ridge(edges.bottom[5:19:2] + (0.0, 0.06), 0.045, -0.02)
    relief.creases(np.stack([edges.upper, edges.lower])[:, 2:-2], (0.35, 0.35))
    for corner, side in ((edges.top[0], -1.0), (edges.top[-1], 1.0)):
        relief.spot((corner[0] + side * 0.015, corner[1]), (0.045, 0.03), 0.0, 0.12)


def draw_mouth(
    canvas: painting.Canvas, edges: Lips, units: list[Units], lip: painting.Colour
) -> None:
    """What is between the lips."""
    inner = canvas.points[60:68]
    gap = float(np.max(inner[5:8, 1] - inner[3:0:-1, 1]))
    dark = painting.mix(painting.scaled(lip, 0.3), (40, 10, 12), 0.5)
    if gap > CLOSED:
        _draw_inside(canvas, inner, gap, units)
    else:
        seam = (edges.upper + edges.lower) / 2
        canvas.glaze([painting.bands(seam, 0.014 + 0.020 * _BULGE)], dark, 0.9, soft=0.012)


_SQUARES = np.linspace(-1, 1, 17) ** 2
_BULGE = np.sin(np.linspace(0.25, np.pi - 0.25, 24))


def _draw_inside(
    canvas: painting.Canvas, inner: np.ndarray, gap: float, units: list[Units]
) -> None:
    """The open mouth: dark, upper teeth, lower teeth in a wide grin or stretch, tongue."""
    upper = painting.curve(inner[0:5], samples=16)
    outline = np.concatenate([upper, painting.curve(inner[[4, 5, 6, 7, 0]], samples=16)])
    window = canvas.window(outline)
    if window is None:
        return
    part = canvas.within(window)
    painting.flood(part.image, DEEP)
    jaw = max(own.jaw for own in units)
    bare = max(max(own.smile, own.stretch, own.upper_lip) for own in units)
    if gap > 0.16:
        x, y = inner[5:8].mean(axis=0).tolist()
        part.fill(painting.ellipse((x, y + 0.02), (0.24, 0.36 * gap)), (166, 78, 82))
    show = min(0.06 + 0.10 * bare, (0.45 + 0.4 * bare) * gap)
    _draw_teeth(part, inner[0:5], show, -1.0)
    if bare > 0.4 and jaw < 0.5:
        _draw_teeth(part, inner[[0, 7, 6, 5, 4]], 0.22 * gap, 1.0)
    # Darker towards the corners and under the lip.
    shade = np.full(part.image.shape[:2], 255, np.uint8)
    reach = round(0.085 * part.unit * (1 << painting.SHIFT))
    for corner in (inner[0], inner[4]):
        cv2.circle(
            shade, part.fine(*corner.tolist()), reach, (70,), -1, cv2.LINE_AA, painting.SHIFT
        )
    lip = part.fixed(upper)
    cv2.polylines(
        shade, [lip], False, (120,), round(0.045 * part.unit), cv2.LINE_AA, painting.SHIFT
    )
    shade = cv2.blur(shade, (5, 5))
    painting.blend(canvas.image[window], painting.shaded(part.image, shade), part.mask(outline))


def _draw_teeth(part: painting.Canvas, gum: np.ndarray, show: float, down: float) -> None:
    """A row of teeth along a lip's edge [5, 2]; `down` is -1 for the upper row."""
    edge = painting.curve(gum, samples=17)
    free = edge - (0.0, down * show)
    free[:, 1] += 0.25 * down * show * _SQUARES
    part.fill(np.concatenate([edge, free[::-1]]), TOOTH)
    gaps = part.fixed(np.stack([edge + (0.0, 0.03 * down), free], axis=1)[3:14:2])
    cv2.polylines(part.image, list(gaps), False, GAP, 1, cv2.LINE_AA, painting.SHIFT)
