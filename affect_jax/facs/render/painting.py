"""Draws on images in face coordinates.

Face coordinates: the origin is midway between the eyes, x points along the line of the eyes to the
right of the image, y points down the face, and the unit is the distance between the eye centres
(about 63 mm in an adult). A part of a face that is defined in these coordinates fits every pose.

Colours are float [3], red, green, blue, 0 to 255.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from affect_jax.facs.render.parameters import FaceParameters

FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates: 1/16 pixel
Shapes = np.ndarray | Sequence[np.ndarray]  # outlines or lines [m, n, 2]
Colour = np.ndarray | Sequence[float]

_TURN = np.linspace(0, 2 * np.pi, 18, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def curve(knots: np.ndarray | Sequence, *, closed: bool = False, samples: int = 24) -> np.ndarray:
    """Returns smooth curves [..., samples, 2] through knots [..., n, 2]."""
    knots = np.asarray(knots, float)
    return _spline_matrix(knots.shape[-2], closed, samples) @ knots


@functools.cache
def _spline_matrix(knots: int, closed: bool, samples: int) -> np.ndarray:
    """Matrix [samples, knots] that maps knots to points on the cubic spline through them."""
    values = np.eye(knots)
    if closed:
        values = np.vstack([values, values[:1]])
    spline = CubicSpline(
        np.arange(len(values)), values, bc_type="periodic" if closed else "natural"
    )
    return spline(np.linspace(0, len(values) - 1, samples, endpoint=not closed))


def band(lines: np.ndarray, heights: np.ndarray | float) -> np.ndarray:
    """Returns outlines [..., 2n, 2] of bands of heights [n] around horizontal lines [..., n, 2]."""
    half = np.zeros(lines.shape[-2:])
    half[:, 1] = 0.5 * np.asarray(heights)
    return np.concatenate([lines - half, (lines + half)[..., ::-1, :]], axis=-2)


def ellipses(
    centres: np.ndarray | Sequence, radii: np.ndarray | Sequence, angle: float = 0.0
) -> np.ndarray:
    """Returns outlines [m, 18, 2] of ellipses, rotated by `angle` radians: one, [2], or [m, 2]."""
    offsets = np.reshape(radii, (-1, 1, 2)) * _CIRCLE
    if angle:
        cos, sin = math.cos(angle), math.sin(angle)
        offsets = offsets @ np.array([(cos, sin), (-sin, cos)])
    return np.reshape(centres, (-1, 1, 2)) + offsets


def mix(first: Colour, second: Colour, share: float) -> np.ndarray:
    """Mixes two colours; `share` is the fraction of `second`."""
    return (1.0 - share) * np.asarray(first) + share * np.asarray(second)


def colour_map(knots: Sequence[tuple[float, Colour, Colour]], colour: Colour) -> np.ndarray:
    """Colour map uint8 [256, 1, 3] from tones to the colours of a surface.

    Each knot is a tone, a factor of the colour and light added to it, interpolated in between.
    """
    tones, factors, lights = zip(*knots, strict=True)
    colours = np.array(factors) * np.asarray(colour) + np.array(lights)
    channels = [np.interp(np.arange(256), tones, channel) for channel in colours.T]
    return np.stack(channels, axis=1).clip(0, 255).astype(np.uint8)[:, None]


class Canvas:
    """An image with face coordinates; the methods draw on it in place.

    **Arguments:**

    - `image`: uint8 [h, w] or [h, w, 3].
    - `axes`: [2, 2], pixels per face unit along x (first row) and y of the face.
    - `origin`: position of the origin of face coordinates [2], pixels.
    """

    def __init__(self, image: np.ndarray, axes: np.ndarray, origin: np.ndarray):
        self.image, self.axes, self.origin = image, axes, origin
        self.unit = math.hypot(*axes[0].tolist())
        self._matrix = np.column_stack([axes.T, origin]) * (1 << FRACTION_BITS)  # to fixed-point

    def crop(self, shapes: Shapes, margin: float = 0.04) -> Canvas:
        """Returns a view of the part around shapes, with a margin in face units."""
        points = self._to_fixed_point(shapes).reshape(-1, 2)
        reach, size = math.ceil(margin * self.unit), self.image.shape[1::-1]
        x, y = np.clip((points.min(axis=0) >> FRACTION_BITS) - reach, 0, np.array(size) - 1)
        right, bottom = (points.max(axis=0) + 1 >> FRACTION_BITS) + reach + 1
        image = self.image[y : max(bottom, y + 1), x : max(right, x + 1)]
        return Canvas(image, self.axes, self.origin - (x, y))

    def layer(self, colour: Colour) -> Canvas:
        """Returns a canvas of the same shape and place in one colour."""
        image = np.empty_like(self.image)  # for three channels, NumPy takes ten times as long
        cv2.rectangle(image, (0, 0), image.shape[1::-1], tuple(colour), cv2.FILLED)
        return Canvas(image, self.axes, self.origin)

    def mask(self, shapes: Shapes, opacity: float = 1.0) -> np.ndarray:
        """Returns the coverage uint8 [h, w] of the union of outlines."""
        image = np.zeros(self.image.shape[:2], np.uint8)
        Canvas(image, self.axes, self.origin).draw(shapes, (255 * opacity,))
        return image

    def draw(self, shapes: Shapes, colours: Colour | Sequence[Colour], width: float = 0.0) -> None:
        """Fills outlines, or draws lines if `width`, in face units, is above 0.

        `colours` is one colour, or one for each shape [m, channels].
        """
        if not len(shapes):
            return
        values = np.asarray(colours, float)
        rows = values.tolist() if values.ndim == 2 else [values.tolist()] * len(shapes)
        thickness = max(1, round(width * self.unit))
        for shape, colour in zip(self._to_fixed_point(shapes), rows, strict=True):
            if width > 0:
                cv2.polylines(
                    self.image, [shape], False, colour, thickness, cv2.LINE_AA, FRACTION_BITS
                )
            else:
                cv2.fillPoly(self.image, [shape], colour, cv2.LINE_AA, FRACTION_BITS)

    def paint(self, shapes: Shapes, colour: Colour, opacity: float, soft: float) -> None:
        """Fills outlines with an opacity in [0, 1]; `soft` blurs the edges, in face units."""
        part = self.crop(shapes, 2.5 * soft + 0.04)
        mask = blur(part.mask(shapes, opacity), soft * self.unit)
        part.blend(part.layer(colour).image, mask)

    def blend(self, above: np.ndarray, mask: np.ndarray) -> None:
        """Blends `above` [h, w, 3] over the image; the mask, uint8 [h, w], is the opacity."""
        opacity = cv2.merge((mask, mask, mask))
        above = cv2.multiply(above, opacity, scale=1 / 255)
        below = cv2.multiply(self.image, cv2.bitwise_not(opacity), scale=1 / 255)
        cv2.add(below, above, dst=self.image)

    def _to_fixed_point(self, shapes: Shapes) -> np.ndarray:
        return cv2.transform(np.asarray(shapes), self._matrix).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face in an image."""

    canvas: Canvas
    points: np.ndarray  # landmarks [68, 2], face coordinates
    rest: np.ndarray  # the same without the action units
    sides: np.ndarray  # intensities [2, 18] of the image's left and right side
    parameters: FaceParameters
    skin: np.ndarray  # its colour
    hair: np.ndarray  # its colour


def blur(mask: np.ndarray, std: float) -> np.ndarray:
    """Blurs with two box filters, which approximate a Gaussian and are faster."""
    side = max(1, round(1.73 * std)) | 1
    return mask if side == 1 else cv2.blur(cv2.blur(mask, (side, side)), (side, side))
