"""Height map of the skin, and its shading.

The relief is a height over face coordinates. It is the sum of an ellipsoid for the head, hills and
hollows (Gaussians, which are computed in one matrix product), and creases (blurred lines). Shading
depends on the slopes; areas below their surroundings are darker. The shading of a face therefore
follows from its landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import Scene

GRID_PER_UNIT = 33.0  # grid points per face unit
COLUMNS, ROWS = 95, 135
GRID_BOX = (-1.42, -1.86, -1.42 + (COLUMNS - 1) / GRID_PER_UNIT, -1.86 + (ROWS - 1) / GRID_PER_UNIT)
"""Left, top, right and bottom in face coordinates."""
NUM_STRIPS = 5  # of the grid; each is small enough for a matrix product on one thread
GRID_X = np.linspace(GRID_BOX[0], GRID_BOX[2], COLUMNS, dtype=np.float32)
GRID_Y = np.linspace(GRID_BOX[1], GRID_BOX[3], ROWS, dtype=np.float32)
FIXED_POINT_BITS = 4  # fractional bits of OpenCV coordinates: 1/16 grid step
MAX_CREASE_DEPTH = 0.075  # depth of the deepest crease, face units
FRONTAL_TONE = 128.0  # tone of skin that faces the viewer

LIGHT_WRAP = 0.3
CREASE_DARKNESS = 0.35  # fraction of a crease's depth that darkens it in any light
DEPTH_CONTRAST = 320.0  # tones per face unit of height relative to the surroundings
_SPECULAR_COSINES = (np.arange(256) / 1020 + 0.75)[
    :, None
]  # cosines between normal and half vector
_SPECULAR_TONES = (
    44.0 * _SPECULAR_COSINES**32 + 15.0 * _SPECULAR_COSINES**8
)  # a narrow highlight (moist skin) and a wide one (oily skin)

_FIXED_POINT_PER_UNIT = GRID_PER_UNIT * (1 << FIXED_POINT_BITS)

Hill = tuple[float, float, float, float, float]  # centre x and y, width and height, rise


class Relief:
    """Height map of the face: its parts are added, then `shade` computes tones."""

    def __init__(self, jaw: np.ndarray, top: float):
        """Starts with an ellipsoid that follows the jaw [17, 2], up to y = `top`, in face units."""
        middle = 0.3 * (jaw[0, 0] + jaw[16, 0])  # a head moves less than its edges
        half = np.interp(GRID_Y, jaw[:8, 1], (jaw[16:8:-1, 0] - jaw[:8, 0]) / 2)
        half = 1.05 * np.cbrt(half**3 + (0.62 * half[0]) ** 3)
        down = np.where(
            GRID_Y < 0.3, (GRID_Y - 0.3) / (top - 0.65), ((GRID_Y - 0.3) / (jaw[8, 1] - 0.2)) ** 2
        )
        ball = np.multiply.outer((half**-2).astype(np.float32), (GRID_X - np.float32(middle)) ** 2)
        ball += (down**2).astype(np.float32)[:, None]  # 1 where the head ends
        far = ball * np.float32(-0.45)
        far -= np.float32(0.55)
        ball *= far
        ball += np.float32(1.0)
        np.maximum(ball, np.float32(0.02), out=ball)
        self._ball = np.sqrt(ball, out=ball)
        self._hills: list[Hill] = []
        self._creases = np.zeros((ROWS, COLUMNS), np.uint8)
        self._shadows = np.zeros((ROWS, COLUMNS), np.uint8)

    def add_hills(self, *hills: Hill) -> None:
        """Adds Gaussian hills, or hollows if the rise is negative.

        Widths and heights are standard deviations.
        """
        self._hills += hills

    def add_ridge(self, path: np.ndarray, width: float, rise: float) -> None:
        """Adds a hill along a path [n, 2]. Points must be closer than about twice its width."""
        points = path.tolist()
        step = math.dist(points[0], points[-1]) / (len(points) - 1)
        height = rise * step / (2.5 * width)  # overlapping Gaussians sum to `rise`
        self._hills += [(x, y, width, width, height) for x, y in points]

    def add_creases(self, paths: np.ndarray, depths: Sequence[float], width: float = 0.02) -> None:
        """Adds creases along lines [m, n, 2]; depth 1 is the deepest."""
        thick = max(1, round(width * GRID_PER_UNIT))
        for path, depth in zip(to_grid(paths), depths, strict=True):
            value = (min(255, int(255 * depth)),)
            cv2.polylines(self._creases, [path], False, value, thick, cv2.LINE_8, FIXED_POINT_BITS)

    def add_shadow_ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], degrees: float, depth: float
    ) -> None:
        """Adds a dark ellipse that is rotated by `degrees`; depth 1 is black."""
        (x, y), (width, height) = centre, radii
        grid_centre = (
            round((x - GRID_BOX[0]) * _FIXED_POINT_PER_UNIT),
            round((y - GRID_BOX[1]) * _FIXED_POINT_PER_UNIT),
        )
        axes = (round(width * _FIXED_POINT_PER_UNIT), round(height * _FIXED_POINT_PER_UNIT))
        value = (min(255, int(255 * depth)),)
        cv2.ellipse(
            self._shadows,
            grid_centre,
            axes,
            degrees,
            0,
            360,
            value,
            -1,
            cv2.LINE_AA,
            FIXED_POINT_BITS,
        )

    def add_shadow(self, outline: painting.Points, depth: float) -> None:
        """Adds a dark area with outline [n, 2] and a soft edge; depth 1 is black."""
        value = (min(255, int(255 * depth)),)
        cv2.fillPoly(self._shadows, [to_grid(outline)], value, cv2.LINE_AA, FIXED_POINT_BITS)

    def shade(self, scene: Scene, gloss: float) -> np.ndarray:
        """Shades the relief.

        **Returns:** tones, uint8 [ROWS, COLUMNS]. Black is 0, skin that faces the viewer is
        `FRONTAL_TONE`, and a specular highlight is 255.
        """
        creases = cv2.blur(cv2.blur(self._creases, (3, 3)), (3, 3))
        height = self._height_map(creases)
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=GRID_PER_UNIT / 8)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=GRID_PER_UNIT / 8)
        facing = slope_x * slope_x
        facing += slope_y * slope_y
        facing += np.float32(1.0)
        np.divide(np.float32(1.0), np.sqrt(facing, out=facing), out=facing)
        x, y, z = light_direction(scene)
        direct = cv2.addWeighted(slope_x, -x, slope_y, -y, z)
        direct *= facing  # cosine between the normal of the skin and the light
        # Wrap lighting: skin is translucent, so light also reaches cosines below 0.
        front = z * (1 - LIGHT_WRAP) + LIGHT_WRAP
        direct_tone = FRONTAL_TONE * (1 - scene.ambient) / front
        ambient_tone = FRONTAL_TONE * scene.ambient
        tone = cv2.addWeighted(
            direct,
            direct_tone * (1 - LIGHT_WRAP),
            facing,
            0.35 * ambient_tone,
            direct_tone * LIGHT_WRAP + 0.65 * ambient_tone - 5 * gloss,
        )
        surroundings = painting.blur_mask(
            cv2.resize(height, None, fx=0.5, fy=0.5), 0.05 * GRID_PER_UNIT
        )
        surroundings = cv2.resize(surroundings, (COLUMNS, ROWS))
        relative_height = cv2.addWeighted(
            height, DEPTH_CONTRAST, surroundings, -DEPTH_CONTRAST, 0.0
        )
        tone = cv2.add(tone, relative_height, dtype=cv2.CV_8U)
        length = math.sqrt(x * x + y * y + (z + 1) ** 2)
        specular = cv2.addWeighted(slope_x, -x / length, slope_y, -y / length, (z + 1) / length)
        specular *= facing
        specular = cv2.addWeighted(specular, 1020.0, specular, 0.0, -765.0, dtype=cv2.CV_8U)
        tone = cv2.add(tone, cv2.LUT(specular, (gloss * _SPECULAR_TONES).astype(np.uint8)))
        darkness = cv2.addWeighted(
            cv2.blur(self._shadows, (3, 3)), 1.0, creases, CREASE_DARKNESS, 0.0
        )
        return cv2.multiply(tone, cv2.bitwise_not(darkness), scale=1 / 255)

    def _height_map(self, creases: np.ndarray) -> np.ndarray:
        """Computes the heights [ROWS, COLUMNS]."""
        hill = np.array(self._hills, np.float32)
        across = (GRID_X - hill[:, :1]) / hill[:, 2:3]
        down = (GRID_Y - hill[:, 1:2]) / hill[:, 3:4]
        across, down = np.exp(np.float32(-0.5) * across**2), np.exp(np.float32(-0.5) * down**2)
        # For larger products, the BLAS of NumPy starts threads that busy-wait for the next product
        # and take CPU time from the other rendering processes.
        strips = (down * hill[:, 4:]).T.reshape(NUM_STRIPS, ROWS // NUM_STRIPS, -1)
        height = (strips @ across).reshape(ROWS, COLUMNS)
        height += self._ball
        return cv2.addWeighted(
            height, 1.0, creases.astype(np.float32), -MAX_CREASE_DEPTH / 255.0, 0.0
        )


def light_direction(scene: Scene) -> tuple[float, float, float]:
    """Unit vector towards the light in face coordinates: right, down, to the viewer."""
    right, down, front = scene.light
    length = math.sqrt(right * right + down * down + front * front)
    cos, sin = math.cos(scene.rotation), math.sin(scene.rotation)
    return (
        (right * cos + down * sin) / length,
        (down * cos - right * sin) / length,
        front / length,
    )


def to_grid(points: painting.Points) -> np.ndarray:
    """Converts face coordinates [..., 2] to fixed-point grid coordinates for OpenCV."""
    points = np.asarray(points, float) - (GRID_BOX[0], GRID_BOX[1])
    return np.rint(points * _FIXED_POINT_PER_UNIT).astype(np.int32)
