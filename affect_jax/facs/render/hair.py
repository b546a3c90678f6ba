"""Draws hair behind the head, on the forehead and beside the face.

Head coordinates are (u, v): u is -1 at the left edge of the face and 1 at the right edge; v is 0 at
the top of the skull, 1 at the brows and about 2.7 at the chin.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import Person
from affect_jax.facs.render.relief import Relief

COVERED_STYLES = ("headscarf", "beanie")
HAIR_ENDS = {"long": 4.2, "bob": 2.55}  # v at which loose hair ends
STRAND_TONES = (-40, 32, -62, 10, 54, -22)  # tones of neighbouring strands relative to the hair
HeadPosition = tuple[float, float]

_STEP = np.linspace(0, 1, 5)
_BEZIER = np.stack([(1 - _STEP) ** 2, 2 * _STEP * (1 - _STEP), _STEP**2], axis=1)


class HeadFrame(NamedTuple):
    """Transformation from head coordinates (u, v) to face coordinates."""

    middle: float
    half: float
    top: float
    brow: float

    def to_face(self, u: float, v: float) -> HeadPosition:
        return (self.middle + u * self.half, self.top + v * (self.brow - self.top))

    def smooth_line(self, positions: list[HeadPosition], samples: int) -> np.ndarray:
        """Returns a smooth line [samples, 2] through positions, in face coordinates."""
        scale = (self.half, self.brow - self.top)
        return painting.curve(
            np.array(positions) * scale + (self.middle, self.top), samples=samples
        )


def measure_head(canvas: painting.Canvas, person: Person) -> HeadFrame:
    rest = canvas.rest_points
    left, right = float(rest[0, 0]), float(rest[16, 0])
    brow = sum(rest[17:27, 1].tolist()) / 10
    return HeadFrame((left + right) / 2, (right - left) / 2, -person.skull, brow)


def _mirror_left_half(positions: list[HeadPosition]) -> list[HeadPosition]:
    """Mirrors positions of the left half to the right half; the last is in the middle."""
    return positions + [(-u, v) for u, v in positions[-2::-1]]


def trace_hairline(head: HeadFrame, person: Person) -> np.ndarray:
    """Returns the edge [48, 2] of the hair on the forehead, from the left ear to the right ear."""
    side, style, low = person.part_side, person.hair_style, 1.42
    if style == "fringe" or (style == "bob" and person.hair_seed % 2):
        rng = np.random.default_rng(person.hair_seed)
        ends = (0.80 + 0.07 * rng.random(9) + 0.06 * (np.arange(9) % 2)).tolist()
        middle = list(zip(np.linspace(-0.84, 0.84, 9).tolist(), ends, strict=True))
        edge = [(-1.0, low), (-0.97, 1.0), *middle, (0.97, 1.0), (1.0, low)]
    elif style in ("parted", "long", "bob"):
        edge = [(-1.0, low), (-0.96, 1.05), (-0.86, 0.66), (-0.5, 0.40), (0.0, 0.29),
                (0.34, 0.25), (0.62, 0.34), (0.86, 0.60), (0.96, 1.05), (1.0, low)]  # fmt: skip
        edge = edge if side > 0 else [(-u, v) for u, v in edge[::-1]]
    elif style == "receding":
        edge = _mirror_left_half(
            [(-1.0, 1.35), (-0.97, 0.95), (-0.88, 0.62), (-0.62, 0.27), (-0.3, 0.22), (0, 0.26)]
        )
    else:
        edge = _mirror_left_half(
            [(-1.0, 1.5), (-0.95, 1.1), (-0.93, 0.8), (-0.80, 0.46), (-0.42, 0.38), (0, 0.36)]
        )
    return head.smooth_line(edge, 48)


def _outer_edge(head: HeadFrame, person: Person) -> np.ndarray:
    """Outer edge [48, 2] of the hair, from the left ear over the top to the right ear."""
    style, thick = person.hair_style, person.hair_volume
    lean = 0.06 * person.part_side
    if style in ("short", "receding"):
        rise, wide, low = (1.2 * thick, 0.5 * thick, 1.4) if style == "short" else (0.05, 0.06, 1.3)
    else:
        rise, wide, low = (
            (0.4 * thick, 0.3 * thick, 1.42) if style == "bun" else (thick, thick, 1.42)
        )
    rise /= head.brow - head.top
    wide += 1.03
    left = [
        (-wide + 0.04, low), (-wide - 0.015, 1.0), (-wide, 0.62), (-0.87 * wide, 0.32 - 0.6 * rise),
        (-0.54 * wide, 0.06 - 0.85 * rise), (lean, -0.03 - rise),
    ]  # fmt: skip
    edge = _mirror_left_half(left)
    edge[5] = (lean, -0.03 - rise)
    wave = 0.012 * np.sin(np.arange(11) * (2.0 + person.hair_seed % 3) + person.hair_seed)
    return head.smooth_line([(u, v + w) for (u, v), w in zip(edge, wave.tolist(), strict=True)], 48)


def draw_back(canvas: painting.Canvas, head: HeadFrame, person: Person, light: float) -> None:
    """Draws the hair behind the head: loose hair, a bun, curls."""
    style = person.hair_style
    if style in HAIR_ENDS:
        low = HAIR_ENDS[style]
        wide = 1.12 + 0.9 * person.hair_volume
        tip = 0.9 if style == "bob" else 1.1
        half = [(-tip, low - 0.1), (-wide - 0.1, 0.8 * low), (-wide - 0.06, 1.6), (-wide, 0.7)]
        edge = head.smooth_line(_mirror_left_half([(-0.35, low + 0.1), *half, (0.0, 0.2)]), 64)
        _draw_hair(canvas, [edge], _wavy_texture(), person, light, level=80, shine=8.0)
    elif style == "bun":
        bun = painting.ellipse(head.to_face(0.0, -0.16), (0.40, 0.34))
        strands = _strands(bun[:12], bun[:11:-1], 0.35, 12)
        _draw_hair(canvas, [bun], strands, person, light, level=108)
    elif style == "curly":
        rim = _curly_outline(head, person)
        _draw_hair(
            canvas, [rim], _curly_texture(), person, light, level=100, shine=16.0, bumps=rim[::3]
        )


def draw_front(
    canvas: painting.Canvas,
    head: HeadFrame,
    edge: np.ndarray,
    person: Person,
    light: float,
) -> None:
    """Draws the hair on the head down to `edge` (see `trace_hairline`), and beside the face."""
    style = person.hair_style
    if style == "bald" or style in COVERED_STYLES:
        return
    if style == "curly":
        rim = _curly_outline(head, person)
        bumps = (0.3 * rim + 0.7 * edge)[2:-2:3]
        area = np.concatenate([rim, edge[::-1]])
        _draw_hair(canvas, [area], _curly_texture(), person, light, shine=26.0, bumps=bumps)
        return
    crown = _outer_edge(head, person)
    area = np.concatenate([crown, edge[::-1]])
    if style in ("parted", *HAIR_ENDS):
        strands = _parted_strands(head, crown, edge, person.part_side)
    else:
        strands = _strands(crown, edge, 0.14 * person.part_side, 32)
    _draw_hair(canvas, [area], strands, person, light)
    if style in HAIR_ENDS:
        for lock in _side_locks(head, person):
            _draw_hair(canvas, [lock], _wavy_texture(), person, light, level=116, shine=14.0)


def shade_forehead(relief: Relief, edge: np.ndarray, person: Person) -> None:
    """Adds the shadow of the hair on the skin."""
    if person.hair_style != "bald" and person.hair_style not in COVERED_STYLES:
        relief.add_shadow(np.concatenate([edge - (0.0, 0.3), edge[::-1] + (0.0, 0.06)]), 0.3)


@functools.cache
def _strand_starts(number: int, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices at which strands start on a line of `knots` points, and relative strand lengths."""
    starts = (np.linspace(0, 1, number) * (knots - 1)).astype(int)
    return starts, 1.0 + 0.05 * np.sin(7.0 * np.arange(number))[:, None]


def _strands(start: np.ndarray, end: np.ndarray, bend: float, number: int) -> np.ndarray:
    """Returns bent lines [number, 5, 2] from one line to another with the same number of points.

    The ends overshoot the second line slightly.
    """
    starts, lengths = _strand_starts(number, len(start))
    knots = np.empty((number, 3, 2))
    knots[:, 0] = start[starts]
    reach = end[starts] - knots[:, 0]
    knots[:, 2] = knots[:, 0] + lengths * reach
    knots[:, 1] = knots[:, 0] + 0.5 * reach
    knots[:, 1, 0] += bend * reach[:, 1]
    knots[:, 1, 1] -= bend * reach[:, 0]
    return _BEZIER @ knots


def _parted_strands(
    head: HeadFrame, crown: np.ndarray, edge: np.ndarray, side: float
) -> np.ndarray:
    """Strands [33, 5, 2] that rise slightly from a parting and fall to both sides."""
    part = head.smooth_line([(0.30 * side, -0.06), (0.34 * side, 0.24)], 48)
    share = np.linspace(0.2, 0.8, 3)[:, None, None]
    strands = [_strands(part, end, 0.0, 11) for end in share * crown + (1 - share) * edge]
    strands = np.concatenate(strands)
    strands[:, 1:4, 1] -= 0.3 * np.abs(strands[:, 1:4, 0] - part[0, 0]) * (0.9, 1.0, 0.6)
    return strands


def _side_locks(head: HeadFrame, person: Person) -> list[np.ndarray]:
    """Outlines of the loose hair beside the face."""
    low = HAIR_ENDS[person.hair_style]
    wide, wave = 1.10 + 0.9 * person.hair_volume, 0.05 * float(np.sin(person.hair_seed))
    outer = [(-0.9, 0.2), (-wide, 0.7), (-wide - 0.07, 1.6)]
    inner = [(-0.86, 0.3), (-0.93, 0.9), (-0.99, 1.5)]
    if person.hair_style == "bob":
        outer += [(-wide - 0.02 + wave, 0.75 * low), (-wide + 0.22, low + 0.06)]
        inner += [(-0.96, 2.1), (-0.84, low)]
    else:
        outer += [(-wide - 0.02 + wave, 0.75 * low), (-wide + 0.1, low)]
        inner += [(-0.97 + wave, 0.75 * low), (-0.95, low + 0.06)]
    left = np.concatenate([head.smooth_line(outer, 14), head.smooth_line(inner, 14)[::-1]])
    return [left, left * (-1.0, 1.0) + (2 * head.middle, 0.0)]


def _curly_outline(head: HeadFrame, person: Person) -> np.ndarray:
    """Outer edge [48, 2] of curly hair."""
    wide, rise = person.hair_volume, 0.8 * person.hair_volume
    half = [(-1.0 - wide, 1.35), (-1.06 - wide, 0.7), (-0.8, 0.05 - rise), (0.0, -0.2 - rise)]
    return head.smooth_line(_mirror_left_half(half), 48)


@functools.cache
def _curly_texture() -> np.ndarray:
    """Texture of small curls: tones uint8 [512, 512] around 64."""
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 1.6 * np.pi, 9)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.linspace(1, 0.4, 9)[:, None]
    tones = np.full((512, 512), 52, np.uint8)
    for value in (30, 84, 44, 96, 60, 78):
        centres, angles = rng.uniform(0, 512, (700, 1, 2)), rng.uniform(0, 2 * np.pi, 700)
        rotations = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], 1)
        arcs = centres + rng.uniform(3.0, 5.0, (700, 1, 1)) * arc @ rotations.reshape(-1, 2, 2)
        fixed = np.rint(arcs * (1 << painting.FIXED_POINT_BITS)).astype(np.int32)
        cv2.polylines(
            tones, list(fixed), False, (value,), 2, cv2.LINE_AA, painting.FIXED_POINT_BITS
        )
    return cv2.blur(tones, (2, 2))


@functools.cache
def _wavy_texture() -> np.ndarray:
    """Texture of long wavy hair: tones uint8 [512, 512] around 64."""
    rng = np.random.default_rng(4)
    fine_noise = cv2.GaussianBlur(rng.standard_normal((1, 1024)), (0, 0), 1.1)
    coarse_noise = cv2.GaussianBlur(rng.standard_normal((1, 1024)), (0, 0), 4.0)
    tones = 13.0 * fine_noise / fine_noise.std() + 9.0 * coarse_noise / coarse_noise.std()
    down, column = np.mgrid[0:512, 0:512]
    wave = 5.0 * np.sin(down / 37.0 + column / 61.0) + 3.0 * np.sin(down / 19.0)
    columns = (column + 256 + wave).round().astype(int)
    return np.clip(64 + tones[0][columns], 0, 255).astype(np.uint8)


def _draw_hair(
    canvas: painting.Canvas,
    outlines: list[np.ndarray],
    hairs: np.ndarray,
    person: Person,
    light: float,
    *,
    level: int = 128,
    shine: float = 46.0,
    bumps: np.ndarray | None = None,
) -> None:
    """Fills outlines with shaded hair.

    **Arguments:**

    - `hairs`: strands [m, 5, 2], or a texture [512, 512] to crop.
    - `light`: horizontal direction of the light, -1 to 1.
    - `level`: mean tone; 128 is the hair colour.
    - `shine`: tone of the highlight above `level`.
    - `bumps`: centres [n, 2] of round locks that extend the outlines.
    """
    reach = 4 if bumps is None else int(0.2 * canvas.unit)
    window = canvas.bounding_window(outlines[0], reach)
    if window is None:
        return
    part = canvas.crop(window)
    height, width = part.image.shape[:2]
    mask = part.coverage_mask(*outlines)
    if bumps is not None:
        radius = round(0.17 * canvas.unit * (1 << painting.FIXED_POINT_BITS))
        for centre in part.to_fixed_point(bumps).tolist():
            cv2.circle(mask, centre, radius, (255,), -1, cv2.LINE_AA, painting.FIXED_POINT_BITS)
    sheen = _hair_shading(round(height / part.unit, 1), level, shine, round(light, 1))
    tone = cv2.resize(sheen, (width, height))
    if hairs.ndim == 2:
        top, left = person.hair_seed % (512 - height), person.hair_seed % (512 - width)
        streaks = hairs[top : top + height, left : left + width]
    else:
        streaks = np.full_like(tone, 64)
        fixed = part.to_fixed_point(hairs)
        for start, value in enumerate(STRAND_TONES):  # neighbours differ; one call per tone
            lines = list(fixed[start :: len(STRAND_TONES)])
            cv2.polylines(
                streaks,
                lines,
                False,
                (64 + value,),
                1,
                cv2.LINE_8,
                painting.FIXED_POINT_BITS,
            )
        streaks = cv2.blur(streaks, (3, 3))
    tone = cv2.addWeighted(tone, 1.0, streaks, 1.0, -64.0)
    colours = painting.colour_map(
        (0, painting.scale_colour(person.hair, 0.25)),
        (128, person.hair),
        (
            255,
            painting.mix_colours(painting.scale_colour(person.hair, 1.7), (255, 236, 210), 0.3),
        ),
    )
    painting.blend_over(
        canvas.image[window], cv2.applyColorMap(tone, colours), cv2.blur(mask, (3, 3))
    )


_ACROSS = np.linspace(-1, 1, 24, dtype=np.float32)
_DOWN = np.linspace(0, 1, 24, dtype=np.float32)[:, None]


@functools.lru_cache(4096)
def _hair_shading(tall: float, level: int, shine: float, light: float) -> np.ndarray:
    """Tones uint8 [24, 24] of hair that is `tall` face units high, with a bent bright band."""
    across = (_ACROSS - np.float32(0.35 * light)) ** 2
    down = _DOWN * np.float32(tall / 1.5) - np.float32(0.12) * across
    tone = np.float32(shine) * np.exp(np.float32(-60.0) * (down - np.float32(0.26)) ** 2)
    tone += np.float32(level + 6) - np.float32(26.0) * (down + across)
    return np.clip(tone, 0, 255, out=tone).astype(np.uint8)
