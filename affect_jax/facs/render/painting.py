"""A picture with a face's own coordinates on it, and the strokes that draw on it.

Face coordinates: origin midway between the eyes, x along the line of the eyes to the picture's
right, y down the face, unit = the distance between the eyes' centres (about 63 mm in an adult). A
part of a face is written in these numbers once and follows every pose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

SHIFT = 4  # OpenCV's fixed point: 1/16 pixel
SIZE = 256  # side of the picture in which faces are drawn, pixels

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255
Points = np.ndarray | Sequence[tuple[float, float]]
Window = tuple[slice, slice]  # rows, columns
Shapes = np.ndarray | Sequence[np.ndarray]  # [m, n, 2], or m of [n, 2]


@functools.cache
def _spline(knots: int, closed: bool, samples: int) -> np.ndarray:
    """The matrix [samples, knots] that takes knots to points of a cubic spline through them."""
    identity = np.eye(knots)
    if closed:
        spline = CubicSpline(
            np.arange(knots + 1), np.vstack([identity, identity[:1]]), bc_type="periodic"
        )
        return spline(np.linspace(0, knots, samples, endpoint=False))
    return CubicSpline(np.arange(knots), identity, bc_type="natural")(
        np.linspace(0, knots - 1, samples)
    )


def curve(points: Points, *, closed: bool = False, samples: int = 24) -> np.ndarray:
    """Smooth curve [samples, 2] through points [n, 2]."""
    points = np.asarray(points, float)
    return _spline(len(points), closed, samples) @ points


def curves(knots: np.ndarray, samples: int) -> np.ndarray:
    """Smooth curves [m, samples, 2] through knots [m, n, 2]."""
    return _spline(knots.shape[1], False, samples) @ knots


def mirrored(points: Points) -> np.ndarray:
    """The same points on the face's other side, in the same order."""
    return np.asarray(points, float) * (-1.0, 1.0)


def bands(lines: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Outlines [..., 2n, 2] of bands around level lines [..., n, 2], of heights [n]."""
    half = np.zeros((len(heights), 2))
    half[:, 1] = 0.5 * heights
    return np.concatenate([lines - half, (lines + half)[..., ::-1, :]], axis=-2)


_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def ellipse(
    centre: Sequence[float] | np.ndarray, radii: Sequence[float], angle: float = 0.0
) -> np.ndarray:
    """Outline [24, 2] of an ellipse turned by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    (wide, tall) = radii
    return _CIRCLE @ ((wide * cos, wide * sin), (-tall * sin, tall * cos)) + centre


@functools.cache
def _between(tones: tuple[float, ...]) -> np.ndarray:
    """Shares [256, knots] of each knot in every tone."""
    return np.stack([np.interp(np.arange(256), tones, row) for row in np.eye(len(tones))], axis=1)


def ramp(*knots: tuple[float, Colour]) -> np.ndarray:
    """Colour map uint8 [256, 1, 3] through (tone, colour), straight between."""
    shares = _between(tuple(tone for tone, _ in knots))
    colours = shares @ np.array([colour for _, colour in knots])
    return np.minimum(colours, 255.0, out=colours).astype(np.uint8)[:, None]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` of it replaced by `second`."""
    left = 1.0 - share
    return (
        left * first[0] + share * second[0],
        left * first[1] + share * second[1],
        left * first[2] + share * second[2],
    )


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter."""
    red, green, blue = colour
    return (min(255.0, factor * red), min(255.0, factor * green), min(255.0, factor * blue))


class Canvas:
    """An RGB picture, uint8 [256, 256, 3], and where the face lies in it.

    **Arguments:**

    - `image`: the picture; strokes change it in place.
    - `points`, `rest`: the face's 68 points [68, 2] as it moves and at rest, face coordinates.
    - `unit`, `rotation`, `origin`: pixels a face unit; of the face, radians; where the origin of
      face coordinates lies [2], pixels.
    """

    def __init__(
        self,
        image: np.ndarray,
        points: np.ndarray,
        rest: np.ndarray,
        unit: float,
        rotation: float,
        origin: tuple[float, float],
    ):
        cos, sin = unit * math.cos(rotation), unit * math.sin(rotation)
        self.image = image
        self.points = points
        self.rest = rest
        self.unit = unit
        self.turn = rotation
        self.origin = np.array(origin)
        self.axes = np.array([[cos, sin], [-sin, cos]])  # rows: face x, face y, pixels
        self._fine_axes = self.axes * (1 << SHIFT)
        self._fine_origin = self.origin * (1 << SHIFT)
        self._turn = self._fine_axes.tolist()
        self._corner = self._fine_origin.tolist()

    def within(self, window: Window) -> Canvas:
        """A canvas as large as a part of the picture, same face coordinates, not yet painted."""
        part = Canvas.__new__(Canvas)
        part.__dict__.update(self.__dict__)  # quicker than copy.copy
        part.image = np.empty_like(self.image[window])
        part.origin = self.origin - (window[1].start, window[0].start)
        part._fine_origin = part.origin * (1 << SHIFT)
        part._corner = part._fine_origin.tolist()
        return part

    def pixels(self, points: Points) -> np.ndarray:
        """Face coordinates [n, 2] in pixels [n, 2]."""
        return np.asarray(points, float) @ self.axes + self.origin

    def fixed(self, points: Points) -> np.ndarray:
        """Face coordinates [..., 2] in OpenCV's fixed-point pixels, int32 [..., 2]."""
        return np.rint(points @ self._fine_axes + self._fine_origin).astype(np.int32)

    def fixed_all(self, shapes: Shapes) -> list[np.ndarray]:
        """`fixed` of several shapes; an array [m, n, 2] of them takes one step."""
        if isinstance(shapes, np.ndarray):
            return list(self.fixed(shapes))
        return [self.fixed(shape) for shape in shapes]

    def warp(self, values: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
        """A map uint8 [h, w, ...] over a box of face coordinates, in the picture's pixels.

        **Arguments:**

        - `box`: left, top, right, bottom; outside of it the map's edge goes on.
        """
        left, top, right, bottom = box
        height, width = values.shape[:2]
        steps = np.array([[(right - left) / (width - 1)], [(bottom - top) / (height - 1)]])
        matrix = np.column_stack([(steps * self.axes).T, self.pixels([(left, top)])[0]])
        return cv2.warpAffine(
            values, matrix, self.image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
        )

    def mask(self, *outlines: Points) -> np.ndarray:
        """Coverage uint8 [h, w] of the union of outlines."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.fixed(outline)], (255,), cv2.LINE_AA, SHIFT)
        return mask

    def window(self, outline: Points, margin: int = 2) -> Window | None:
        """Rows and columns around an outline; None where it lies outside the picture."""
        return _window(self.fixed(outline), margin, self.image.shape)

    def fine(self, x: float, y: float) -> tuple[int, int]:
        """One place in OpenCV's fixed-point pixels."""
        (a, b), (e, f) = self._turn
        return (round(x * a + y * e + self._corner[0]), round(x * b + y * f + self._corner[1]))

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fills a circle."""
        reach = round(radius * self.unit * (1 << SHIFT))
        cv2.circle(self.image, self.fine(x, y), reach, colour, -1, cv2.LINE_AA, SHIFT)

    def fill(self, outline: Points, colour: Colour) -> None:
        """Fills an outline [n, 2]."""
        cv2.fillPoly(self.image, [self.fixed(outline)], colour, cv2.LINE_AA, SHIFT)

    def line(self, path: Points, colour: Colour, width: float) -> None:
        """Draws a path [n, 2] as wide as `width`, in face units."""
        thick = max(1, round(width * self.unit))
        cv2.polylines(self.image, [self.fixed(path)], False, colour, thick, cv2.LINE_AA, SHIFT)

    def glaze(self, outlines: Shapes, colour: Colour, opacity: float, soft: float = 0.0) -> None:
        """Fills outlines half transparently; `soft` blurs their edge, in face units."""
        self._glaze(self.fixed_all(outlines), colour, opacity, soft, 0)

    def glaze_lines(
        self, paths: Shapes, colour: Colour, width: float, opacity: float, soft: float = 0.0
    ) -> None:
        """Draws paths half transparently."""
        thick = max(1, round(width * self.unit))
        self._glaze(self.fixed_all(paths), colour, opacity, soft, thick)

    def _glaze(
        self, shapes: list[np.ndarray], colour: Colour, opacity: float, soft: float, thick: int
    ) -> None:
        """Blends filled shapes (`thick` 0) or lines, working on their surroundings only."""
        margin = int(2.5 * soft * self.unit) + 2 + thick
        everything = shapes[0] if len(shapes) == 1 else np.concatenate(shapes)
        window = _window(everything, margin, self.image.shape)
        if window is None or opacity <= 0.01:
            return
        region = self.image[window]
        mask = np.zeros(region.shape[:2], np.uint8)
        corner = np.array((window[1].start << SHIFT, window[0].start << SHIFT), np.int32)
        value = (int(255 * min(opacity, 1.0)),)
        shapes = [shape - corner for shape in shapes]
        if thick:
            cv2.polylines(mask, shapes, False, value, thick, cv2.LINE_AA, SHIFT)
        else:
            for shape in shapes:  # one by one: together, what two cover would be a hole
                cv2.fillPoly(mask, [shape], value, cv2.LINE_AA, SHIFT)
        if soft > 0:
            mask = softened(mask, soft * self.unit)
        above = np.empty_like(region)
        flood(above, colour)
        blend(region, above, mask)


def _window(fixed: np.ndarray, margin: int, shape: tuple[int, ...]) -> Window | None:
    left, top, width, height = cv2.boundingRect(fixed)
    x, y = (left >> SHIFT) - margin, (top >> SHIFT) - margin
    right, bottom = x + (width >> SHIFT) + 2 * margin + 2, y + (height >> SHIFT) + 2 * margin + 2
    x, y, right, bottom = max(x, 0), max(y, 0), min(right, shape[1]), min(bottom, shape[0])
    return (slice(y, bottom), slice(x, right)) if right > x and bottom > y else None


def softened(mask: np.ndarray, deviation: float) -> np.ndarray:
    """The mask blurred: two passes of a box come close to a Gaussian, and are quicker."""
    side = max(1, round(1.73 * deviation)) | 1
    if side <= 1:
        return mask
    return cv2.blur(cv2.blur(mask, (side, side)), (side, side))


def flood(image: np.ndarray, colour: Colour) -> None:
    """Fills a picture [h, w, 3]; NumPy takes ten times as long over the three channels."""
    red, green, blue = colour
    end = image.shape[1::-1]
    cv2.rectangle(image, (0, 0), end, (int(red), int(green), int(blue)), cv2.FILLED)


def shaded(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The picture [h, w, 3] in a light uint8 [h, w], 255 = full."""
    return cv2.multiply(image, cv2.merge((light, light, light)), scale=1 / 255)


def blend(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> None:
    """Lays `above` over `below` [h, w, 3] in place where the mask uint8 [h, w] is 255."""
    share = cv2.merge((mask, mask, mask))
    above = cv2.multiply(above, share, scale=1 / 255)
    cv2.add(cv2.multiply(below, cv2.bitwise_not(share), scale=1 / 255), above, dst=below)
