"""The skin's relief, and how light falls on it.

A relief is a height over face coordinates: the head's ball, hills and hollows (Gaussians, so that
all of them together are one product of matrices) and creases (lines, blurred). Light falls on its
slopes; what lies deeper than its surroundings gets less of it. A face's shading thus follows from
where its landmarks are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.identity import Scene

PER_UNIT = 33.0  # points of the grid a face unit
COLUMNS, ROWS = 95, 135
BOX = (-1.42, -1.86, -1.42 + (COLUMNS - 1) / PER_UNIT, -1.86 + (ROWS - 1) / PER_UNIT)
"""Left, top, right and bottom in face coordinates."""
STRIPS = 5  # of the grid, each small enough for a product of matrices on one thread
X = np.linspace(BOX[0], BOX[2], COLUMNS, dtype=np.float32)
Y = np.linspace(BOX[1], BOX[3], ROWS, dtype=np.float32)
SHIFT = 4  # OpenCV's fixed point: 1/16 of the grid's step
CREASE = 0.075  # depth of the deepest crease, face units
LEVEL = 128.0  # tone of skin that faces the viewer

WRAP = 0.3
DIM = 0.35  # share of a crease's depth that is dark from everywhere
DEEPER = 320.0  # tones darker or lighter for each face unit below or above what is around
_MIRROR = (np.arange(256) / 1020 + 0.75)[:, None]  # cosines between normal and mirror's normal
_SHINE = 44.0 * _MIRROR**32 + 15.0 * _MIRROR**8  # moist skin on oily skin

_FINE = PER_UNIT * (1 << SHIFT)

Hill = tuple[float, float, float, float, float]  # centre x and y, width and height, rise


class Relief:
    """Heights that are collected part by part, then lit."""

    def __init__(self, jaw: np.ndarray, top: float):
        """A ball that narrows with the jaw [17, 2], up to y = `top`; all in face units."""
        middle = 0.3 * (jaw[0, 0] + jaw[16, 0])  # a head turns less than its edges move
        half = np.interp(Y, jaw[:8, 1], (jaw[16:8:-1, 0] - jaw[:8, 0]) / 2)
        half = 1.05 * np.cbrt(half**3 + (0.62 * half[0]) ** 3)
        down = np.where(Y < 0.3, (Y - 0.3) / (top - 0.65), ((Y - 0.3) / (jaw[8, 1] - 0.2)) ** 2)
        ball = np.multiply.outer((half**-2).astype(np.float32), (X - np.float32(middle)) ** 2)
        ball += (down**2).astype(np.float32)[:, None]  # 1 where the head ends
        far = ball * np.float32(-0.45)
        far -= np.float32(0.55)
        ball *= far
        ball += np.float32(1.0)
        np.maximum(ball, np.float32(0.02), out=ball)
        self._ball = np.sqrt(ball, out=ball)
        self._hills: list[Hill] = []
        self._creases = np.zeros((ROWS, COLUMNS), np.uint8)
        self._hollows = np.zeros((ROWS, COLUMNS), np.uint8)

    def hills(self, *hills: Hill) -> None:
        """Adds hills; a hollow's rise is negative. Widths and heights are standard deviations."""
        self._hills += hills

    def ridge(self, path: np.ndarray, width: float, rise: float) -> None:
        """A hill along a path [n, 2] whose points lie nearer than about twice its width."""
        places = path.tolist()
        step = math.dist(places[0], places[-1]) / (len(places) - 1)
        each = rise * step / (2.5 * width)  # so many Gaussians are `rise` high where they overlap
        self._hills += [(x, y, width, width, each) for x, y in places]

    def creases(self, paths: np.ndarray, depths: Sequence[float], width: float = 0.02) -> None:
        """Lines [m, n, 2] that light falls into; depth 1 is the deepest."""
        thick = max(1, round(width * PER_UNIT))
        for path, depth in zip(fixed(paths), depths, strict=True):
            value = (min(255, int(255 * depth)),)
            cv2.polylines(self._creases, [path], False, value, thick, cv2.LINE_8, SHIFT)

    def spot(
        self, at: tuple[float, float], radii: tuple[float, float], degrees: float, depth: float
    ) -> None:
        """An ellipse that light hardly reaches, turned by `degrees`."""
        (x, y), (wide, tall) = at, radii
        place = (round((x - BOX[0]) * _FINE), round((y - BOX[1]) * _FINE))
        axes = (round(wide * _FINE), round(tall * _FINE))
        value = (min(255, int(255 * depth)),)
        cv2.ellipse(self._hollows, place, axes, degrees, 0, 360, value, -1, cv2.LINE_AA, SHIFT)

    def hollow(self, outline: painting.Points, depth: float) -> None:
        """An area [n, 2] that light hardly reaches; depth 1 is black. Its edge is soft."""
        value = (min(255, int(255 * depth)),)
        cv2.fillPoly(self._hollows, [fixed(outline)], value, cv2.LINE_AA, SHIFT)

    def lit(self, scene: Scene, gloss: float) -> np.ndarray:
        """Tones uint8 [ROWS, COLUMNS]: 0 black, `LEVEL` facing the viewer, 255 a mirrored light."""
        creases = cv2.blur(cv2.blur(self._creases, (3, 3)), (3, 3))
        height = self._whole(creases)
        slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=PER_UNIT / 8)
        slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=PER_UNIT / 8)
        facing = slope_x * slope_x
        facing += slope_y * slope_y
        facing += np.float32(1.0)
        np.divide(np.float32(1.0), np.sqrt(facing, out=facing), out=facing)
        x, y, z = towards(scene)
        direct = cv2.addWeighted(slope_x, -x, slope_y, -y, z)
        direct *= facing  # the cosine between the skin's normal and the light
        # Light creeps round skin, which is not opaque: it reaches where the cosine is below 0.
        front = z * (1 - WRAP) + WRAP
        share = LEVEL * (1 - scene.ambient) / front
        around = LEVEL * scene.ambient
        tone = cv2.addWeighted(
            direct,
            share * (1 - WRAP),
            facing,
            0.35 * around,
            share * WRAP + 0.65 * around - 5 * gloss,
        )
        wide = painting.softened(cv2.resize(height, None, fx=0.5, fy=0.5), 0.05 * PER_UNIT)
        wide = cv2.resize(wide, (COLUMNS, ROWS))
        deeper = cv2.addWeighted(height, DEEPER, wide, -DEEPER, 0.0)
        tone = cv2.add(tone, deeper, dtype=cv2.CV_8U)
        length = math.sqrt(x * x + y * y + (z + 1) ** 2)
        mirror = cv2.addWeighted(slope_x, -x / length, slope_y, -y / length, (z + 1) / length)
        mirror *= facing
        mirror = cv2.addWeighted(mirror, 1020.0, mirror, 0.0, -765.0, dtype=cv2.CV_8U)
        tone = cv2.add(tone, cv2.LUT(mirror, (gloss * _SHINE).astype(np.uint8)))
        dark = cv2.addWeighted(cv2.blur(self._hollows, (3, 3)), 1.0, creases, DIM, 0.0)
        return cv2.multiply(tone, cv2.bitwise_not(dark), scale=1 / 255)

    def _whole(self, creases: np.ndarray) -> np.ndarray:
        """Heights [ROWS, COLUMNS]."""
        hill = np.array(self._hills, np.float32)
        across = (X - hill[:, :1]) / hill[:, 2:3]
        down = (Y - hill[:, 1:2]) / hill[:, 3:4]
        across, down = np.exp(np.float32(-0.5) * across**2), np.exp(np.float32(-0.5) * down**2)
        # NumPy's library starts threads for larger products, which then wait for the next one and
        # take the core from the process that draws beside this one.
        strips = (down * hill[:, 4:]).T.reshape(STRIPS, ROWS // STRIPS, -1)
        height = (strips @ across).reshape(ROWS, COLUMNS)
        height += self._ball
        return cv2.addWeighted(height, 1.0, creases.astype(np.float32), -CREASE / 255.0, 0.0)


def towards(scene: Scene) -> tuple[float, float, float]:
    """Direction to the light in face coordinates: right, down, to the viewer; length 1."""
    right, down, front = scene.light
    length = math.sqrt(right * right + down * down + front * front)
    cos, sin = math.cos(scene.rotation), math.sin(scene.rotation)
    return (
        (right * cos + down * sin) / length,
        (down * cos - right * sin) / length,
        front / length,
    )


def fixed(points: painting.Points) -> np.ndarray:
    """Face coordinates [..., 2] in the grid's fixed-point places, for OpenCV."""
    points = np.asarray(points, float) - (BOX[0], BOX[1])
    return np.rint(points * _FINE).astype(np.int32)
