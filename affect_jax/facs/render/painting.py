"""Drawing operations on an image, in face coordinates.

Face coordinates: the origin is midway between the eyes, x points along the line of the eyes to the
right of the image, y points down the face, and the unit is the distance between the eye centres
(about 63 mm in an adult). A part of a face that is defined in these coordinates fits every pose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

FIXED_POINT_BITS = 4  # fractional bits of OpenCV coordinates: 1/16 pixel
CANVAS_SIZE = 256  # side of the image in which faces are drawn, pixels

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255
Points = np.ndarray | Sequence[tuple[float, float]]
Window = tuple[slice, slice]  # rows, columns
Shapes = np.ndarray | Sequence[np.ndarray]  # [m, n, 2], or m of [n, 2]


@functools.cache
def _spline_matrix(knots: int, closed: bool, samples: int) -> np.ndarray:
    """Matrix [samples, knots] that maps knots to points on the cubic spline through them."""
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
    """Returns a smooth curve [samples, 2] through points [n, 2]."""
    points = np.asarray(points, float)
    return _spline_matrix(len(points), closed, samples) @ points


def curves(knots: np.ndarray, samples: int) -> np.ndarray:
    """Returns smooth curves [m, samples, 2] through knots [m, n, 2]."""
    return _spline_matrix(knots.shape[1], False, samples) @ knots


def band_outlines(lines: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Returns outlines [..., 2n, 2] of bands of heights [n] around horizontal lines [..., n, 2]."""
    half = np.zeros((len(heights), 2))
    half[:, 1] = 0.5 * heights
    return np.concatenate([lines - half, (lines + half)[..., ::-1, :]], axis=-2)


_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def ellipse(
    centre: Sequence[float] | np.ndarray, radii: Sequence[float], angle: float = 0.0
) -> np.ndarray:
    """Returns the outline [24, 2] of an ellipse that is rotated by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    (width, height) = radii
    return _CIRCLE @ ((width * cos, width * sin), (-height * sin, height * cos)) + centre


@functools.cache
def _interpolation_weights(tones: tuple[float, ...]) -> np.ndarray:
    """Weights [256, knots] of each knot for every tone."""
    return np.stack([np.interp(np.arange(256), tones, row) for row in np.eye(len(tones))], axis=1)


def colour_map(*knots: tuple[float, Colour]) -> np.ndarray:
    """Colour map uint8 [256, 1, 3] that interpolates (tone, colour) knots linearly."""
    weights = _interpolation_weights(tuple(tone for tone, _ in knots))
    colours = weights @ np.array([colour for _, colour in knots])
    return np.minimum(colours, 255.0, out=colours).astype(np.uint8)[:, None]


def mix_colours(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes two colours; `share` is the fraction of `second`."""
    first_share = 1.0 - share
    return (
        first_share * first[0] + share * second[0],
        first_share * first[1] + share * second[1],
        first_share * first[2] + share * second[2],
    )


def scale_colour(colour: Colour, factor: float) -> Colour:
    """Returns the colour, darker (`factor` below 1) or lighter."""
    red, green, blue = colour
    return (min(255.0, factor * red), min(255.0, factor * green), min(255.0, factor * blue))


class Canvas:
    """An RGB image, uint8 [256, 256, 3], and the position of the face in it.

    **Arguments:**

    - `image`: the image; the methods draw on it in place.
    - `points`, `rest_points`: 68 points [68, 2] of the face, with and without action units, in face
      coordinates.
    - `unit`: pixels per face unit.
    - `rotation`: rotation of the face, radians.
    - `origin`: position of the origin of face coordinates [2], pixels.
    """

    def __init__(
        self,
        image: np.ndarray,
        points: np.ndarray,
        rest_points: np.ndarray,
        unit: float,
        rotation: float,
        origin: tuple[float, float],
    ):
        cos, sin = unit * math.cos(rotation), unit * math.sin(rotation)
        self.image = image
        self.points = points
        self.rest_points = rest_points
        self.unit = unit
        self.rotation = rotation
        self.origin = np.array(origin)
        self.axes = np.array([[cos, sin], [-sin, cos]])  # rows: face x, face y, pixels
        self._fixed_axes = self.axes * (1 << FIXED_POINT_BITS)
        self._fixed_origin = self.origin * (1 << FIXED_POINT_BITS)
        self._fixed_axes_list = self._fixed_axes.tolist()
        self._fixed_origin_list = self._fixed_origin.tolist()

    def crop(self, window: Window) -> Canvas:
        """Returns an uninitialized canvas for a window, with the same face coordinates."""
        part = Canvas.__new__(Canvas)
        part.__dict__.update(self.__dict__)  # faster than copy.copy
        part.image = np.empty_like(self.image[window])
        part.origin = self.origin - (window[1].start, window[0].start)
        part._fixed_origin = part.origin * (1 << FIXED_POINT_BITS)
        part._fixed_origin_list = part._fixed_origin.tolist()
        return part

    def to_pixels(self, points: Points) -> np.ndarray:
        """Converts face coordinates [n, 2] to pixels [n, 2]."""
        return np.asarray(points, float) @ self.axes + self.origin

    def to_fixed_point(self, points: Points) -> np.ndarray:
        """Converts face coordinates [..., 2] to OpenCV's fixed-point pixels, int32 [..., 2]."""
        return np.rint(points @ self._fixed_axes + self._fixed_origin).astype(np.int32)

    def shapes_to_fixed_point(self, shapes: Shapes) -> list[np.ndarray]:
        """Converts several shapes as `to_fixed_point` does; an array [m, n, 2] in one step."""
        if isinstance(shapes, np.ndarray):
            return list(self.to_fixed_point(shapes))
        return [self.to_fixed_point(shape) for shape in shapes]

    def warp_to_image(
        self, values: np.ndarray, box: tuple[float, float, float, float]
    ) -> np.ndarray:
        """Warps a map uint8 [h, w, ...] over a box of face coordinates to the pixels of the image.

        **Arguments:**

        - `box`: left, top, right, bottom. Outside the box, the edge of the map is repeated.
        """
        left, top, right, bottom = box
        height, width = values.shape[:2]
        steps = np.array([[(right - left) / (width - 1)], [(bottom - top) / (height - 1)]])
        matrix = np.column_stack([(steps * self.axes).T, self.to_pixels([(left, top)])[0]])
        return cv2.warpAffine(
            values, matrix, self.image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
        )

    def coverage_mask(self, *outlines: Points) -> np.ndarray:
        """Returns the coverage uint8 [h, w] of the union of outlines."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for outline in outlines:
            cv2.fillPoly(
                mask, [self.to_fixed_point(outline)], (255,), cv2.LINE_AA, FIXED_POINT_BITS
            )
        return mask

    def bounding_window(self, outline: Points, margin: int = 2) -> Window | None:
        """Returns rows and columns around an outline, or None if it is outside the image."""
        return _bounding_window(self.to_fixed_point(outline), margin, self.image.shape)

    def place_to_fixed_point(self, x: float, y: float) -> tuple[int, int]:
        """Converts one point to OpenCV's fixed-point pixels."""
        (a, b), (e, f) = self._fixed_axes_list
        return (
            round(x * a + y * e + self._fixed_origin_list[0]),
            round(x * b + y * f + self._fixed_origin_list[1]),
        )

    def fill_circle(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fills a circle."""
        fixed_radius = round(radius * self.unit * (1 << FIXED_POINT_BITS))
        cv2.circle(
            self.image,
            self.place_to_fixed_point(x, y),
            fixed_radius,
            colour,
            -1,
            cv2.LINE_AA,
            FIXED_POINT_BITS,
        )

    def fill_polygon(self, outline: Points, colour: Colour) -> None:
        """Fills an outline [n, 2]."""
        cv2.fillPoly(
            self.image, [self.to_fixed_point(outline)], colour, cv2.LINE_AA, FIXED_POINT_BITS
        )

    def draw_line(self, path: Points, colour: Colour, width: float) -> None:
        """Draws a path [n, 2] of `width` face units."""
        thick = max(1, round(width * self.unit))
        cv2.polylines(
            self.image,
            [self.to_fixed_point(path)],
            False,
            colour,
            thick,
            cv2.LINE_AA,
            FIXED_POINT_BITS,
        )

    def blend_polygons(
        self, outlines: Shapes, colour: Colour, opacity: float, soft: float = 0.0
    ) -> None:
        """Fills outlines with an opacity in [0, 1]; `soft` blurs their edge, in face units."""
        self._blend_shapes(self.shapes_to_fixed_point(outlines), colour, opacity, soft, 0)

    def blend_lines(
        self, paths: Shapes, colour: Colour, width: float, opacity: float, soft: float = 0.0
    ) -> None:
        """Draws paths with an opacity in [0, 1]; `width` and `soft` are in face units."""
        thick = max(1, round(width * self.unit))
        self._blend_shapes(self.shapes_to_fixed_point(paths), colour, opacity, soft, thick)

    def _blend_shapes(
        self, shapes: list[np.ndarray], colour: Colour, opacity: float, soft: float, thick: int
    ) -> None:
        """Blends filled shapes (`thick` 0) or lines within their bounding window."""
        margin = int(2.5 * soft * self.unit) + 2 + thick
        all_points = shapes[0] if len(shapes) == 1 else np.concatenate(shapes)
        window = _bounding_window(all_points, margin, self.image.shape)
        if window is None or opacity <= 0.01:
            return
        region = self.image[window]
        mask = np.zeros(region.shape[:2], np.uint8)
        corner = np.array(
            (window[1].start << FIXED_POINT_BITS, window[0].start << FIXED_POINT_BITS), np.int32
        )
        value = (int(255 * min(opacity, 1.0)),)
        shapes = [shape - corner for shape in shapes]
        if thick:
            cv2.polylines(mask, shapes, False, value, thick, cv2.LINE_AA, FIXED_POINT_BITS)
        else:
            for shape in shapes:  # separately: in one call, overlaps would be holes
                cv2.fillPoly(mask, [shape], value, cv2.LINE_AA, FIXED_POINT_BITS)
        if soft > 0:
            mask = blur_mask(mask, soft * self.unit)
        above = np.empty_like(region)
        fill_image(above, colour)
        blend_over(region, above, mask)


def _bounding_window(fixed: np.ndarray, margin: int, shape: tuple[int, ...]) -> Window | None:
    left, top, width, height = cv2.boundingRect(fixed)
    x, y = (left >> FIXED_POINT_BITS) - margin, (top >> FIXED_POINT_BITS) - margin
    right, bottom = (
        x + (width >> FIXED_POINT_BITS) + 2 * margin + 2,
        y + (height >> FIXED_POINT_BITS) + 2 * margin + 2,
    )
    x, y, right, bottom = max(x, 0), max(y, 0), min(right, shape[1]), min(bottom, shape[0])
    return (slice(y, bottom), slice(x, right)) if right > x and bottom > y else None


def blur_mask(mask: np.ndarray, std: float) -> np.ndarray:
    """Blurs the mask with two box filters, which approximate a Gaussian and are faster."""
    side = max(1, round(1.73 * std)) | 1
    if side <= 1:
        return mask
    return cv2.blur(cv2.blur(mask, (side, side)), (side, side))


def fill_image(image: np.ndarray, colour: Colour) -> None:
    """Fills an image [h, w, 3]. NumPy takes ten times as long for three channels."""
    red, green, blue = colour
    end = image.shape[1::-1]
    cv2.rectangle(image, (0, 0), end, (int(red), int(green), int(blue)), cv2.FILLED)


def apply_light(image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Multiplies an image [h, w, 3] by light, uint8 [h, w], 255 = full."""
    return cv2.multiply(image, cv2.merge((light, light, light)), scale=1 / 255)


def blend_over(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> None:
    """Blends `above` over `below` [h, w, 3] in place; the mask, uint8 [h, w], is the opacity."""
    opacity = cv2.merge((mask, mask, mask))
    above = cv2.multiply(above, opacity, scale=1 / 255)
    cv2.add(cv2.multiply(below, cv2.bitwise_not(opacity), scale=1 / 255), above, dst=below)
