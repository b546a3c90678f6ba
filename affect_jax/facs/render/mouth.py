"""Draws lips, teeth and tongue."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import SideIntensities
from affect_jax.facs.render.relief import Relief

MAX_CLOSED_GAP = 0.035  # face units; a smaller gap between the lips is drawn as a line
TOOTH_COLOUR: painting.Colour = (240, 235, 226)
TOOTH_GAP_COLOUR: painting.Colour = (218, 208, 199)
MOUTH_COLOUR: painting.Colour = (46, 14, 18)  # inside of the open mouth


_EDGES = np.array(  # from left to right
    [
        [48, 49, 50, 51, 52, 53, 54],
        [48, 60, 61, 62, 63, 64, 54],
        [48, 60, 67, 66, 65, 64, 54],
        [48, 59, 58, 57, 56, 55, 54],
    ]
)


class Lips(NamedTuple):
    """Edges [24, 2] of the lips, from left to right."""

    top: np.ndarray
    upper_seam: np.ndarray  # edge of the upper lip where the lips meet
    lower_seam: np.ndarray
    bottom: np.ndarray

    def outlines(self) -> list[np.ndarray]:
        """Returns the outlines of the upper and the lower lip."""
        return [
            np.concatenate([self.top, self.upper_seam[::-1]]),
            np.concatenate([self.lower_seam, self.bottom[::-1]]),
        ]


def trace_lips(canvas: painting.Canvas) -> Lips:
    return Lips(*painting.curves(canvas.points[_EDGES], samples=24))


def sculpt_mouth(relief: Relief, edges: Lips, units: list[SideIntensities]) -> None:
    """Adds the lips, the groove between them, and the corners of the mouth to the relief."""
    tightness = max(units[0].press, 0.6 * units[0].tight)
    lip_height = 0.055 * (1 - 0.5 * tightness)
    for outer, inner, rise in (
        (edges.top, edges.upper_seam, lip_height),
        (edges.lower_seam, edges.bottom, 1.2 * lip_height),
    ):
        thick = float(inner[11, 1] - outer[11, 1])
        path = ((outer + inner) / 2)[3:21]
        relief.add_ridge(path, max(0.04, 0.42 * thick), rise)
    relief.add_ridge(edges.bottom[5:19:2] + (0.0, 0.06), 0.045, -0.02)
    relief.add_creases(np.stack([edges.upper_seam, edges.lower_seam])[:, 2:-2], (0.35, 0.35))
    for corner, side in ((edges.top[0], -1.0), (edges.top[-1], 1.0)):
        relief.add_shadow_ellipse((corner[0] + side * 0.015, corner[1]), (0.045, 0.03), 0.0, 0.12)


def draw_mouth(
    canvas: painting.Canvas,
    edges: Lips,
    units: list[SideIntensities],
    lip: painting.Colour,
) -> None:
    """Draws the area between the lips."""
    inner = canvas.points[60:68]
    gap = float(np.max(inner[5:8, 1] - inner[3:0:-1, 1]))
    dark = painting.mix_colours(painting.scale_colour(lip, 0.3), (40, 10, 12), 0.5)
    if gap > MAX_CLOSED_GAP:
        _draw_inside(canvas, inner, gap, units)
    else:
        seam = (edges.upper_seam + edges.lower_seam) / 2
        canvas.blend_polygons(
            [painting.band_outlines(seam, 0.014 + 0.020 * _BULGE)], dark, 0.9, soft=0.012
        )


_SQUARES = np.linspace(-1, 1, 17) ** 2
_BULGE = np.sin(np.linspace(0.25, np.pi - 0.25, 24))


def _draw_inside(
    canvas: painting.Canvas, inner: np.ndarray, gap: float, units: list[SideIntensities]
) -> None:
    """Draws the open mouth: dark inside, tongue, upper teeth, and lower teeth in a wide grin."""
    upper = painting.curve(inner[0:5], samples=16)
    outline = np.concatenate([upper, painting.curve(inner[[4, 5, 6, 7, 0]], samples=16)])
    window = canvas.bounding_window(outline)
    if window is None:
        return
    part = canvas.crop(window)
    painting.fill_image(part.image, MOUTH_COLOUR)
    jaw = max(side.jaw for side in units)
    exposure = max(max(side.smile, side.stretch, side.upper_lip) for side in units)
    if gap > 0.16:
        x, y = inner[5:8].mean(axis=0).tolist()
        part.fill_polygon(painting.ellipse((x, y + 0.02), (0.24, 0.36 * gap)), (166, 78, 82))
    height = min(0.06 + 0.10 * exposure, (0.45 + 0.4 * exposure) * gap)
    _draw_teeth(part, inner[0:5], height, -1.0)
    if exposure > 0.4 and jaw < 0.5:
        _draw_teeth(part, inner[[0, 7, 6, 5, 4]], 0.22 * gap, 1.0)
    # Darker towards the corners and under the lip.
    shade = np.full(part.image.shape[:2], 255, np.uint8)
    radius = round(0.085 * part.unit * (1 << painting.FIXED_POINT_BITS))
    for corner in (inner[0], inner[4]):
        cv2.circle(
            shade,
            part.place_to_fixed_point(*corner.tolist()),
            radius,
            (70,),
            -1,
            cv2.LINE_AA,
            painting.FIXED_POINT_BITS,
        )
    lip = part.to_fixed_point(upper)
    cv2.polylines(
        shade,
        [lip],
        False,
        (120,),
        round(0.045 * part.unit),
        cv2.LINE_AA,
        painting.FIXED_POINT_BITS,
    )
    shade = cv2.blur(shade, (5, 5))
    painting.blend_over(
        canvas.image[window],
        painting.apply_light(part.image, shade),
        part.coverage_mask(outline),
    )


def _draw_teeth(part: painting.Canvas, gum: np.ndarray, height: float, down: float) -> None:
    """Draws a row of teeth along the edge [5, 2] of a lip; `down` is -1 for the upper row."""
    edge = painting.curve(gum, samples=17)
    free = edge - (0.0, down * height)
    free[:, 1] += 0.25 * down * height * _SQUARES
    part.fill_polygon(np.concatenate([edge, free[::-1]]), TOOTH_COLOUR)
    gaps = part.to_fixed_point(np.stack([edge + (0.0, 0.03 * down), free], axis=1)[3:14:2])
    cv2.polylines(
        part.image,
        list(gaps),
        False,
        TOOTH_GAP_COLOUR,
        1,
        cv2.LINE_AA,
        painting.FIXED_POINT_BITS,
    )
