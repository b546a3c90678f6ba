"""Hair: a mass behind the head, and what lies on the forehead and beside the face.

Places on a head are (u, v): u from -1 at the face's left edge to 1 at its right one, v from 0 at
the skull's top over 1 at the brows to about 2.7 at the chin.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.identity import Person
from affect_jax.facs.render.relief import Relief

COVERED = ("headscarf", "beanie")
FALLING = {"long": 4.2, "bob": 2.55}  # how low hair falls
STREAKS = (-40, 32, -62, 10, 54, -22)  # tones of neighbouring strands against the hair's own
Place = tuple[float, float]

_STEP = np.linspace(0, 1, 5)
_BEND = np.stack([(1 - _STEP) ** 2, 2 * _STEP * (1 - _STEP), _STEP**2], axis=1)


class Head(NamedTuple):
    """Where (u, v) lies in face coordinates."""

    middle: float
    half: float
    top: float
    brow: float

    def at(self, u: float, v: float) -> Place:
        return (self.middle + u * self.half, self.top + v * (self.brow - self.top))

    def line(self, places: list[Place], samples: int) -> np.ndarray:
        """A smooth line [samples, 2] through places, in face coordinates."""
        scale = (self.half, self.brow - self.top)
        return painting.curve(np.array(places) * scale + (self.middle, self.top), samples=samples)


def measure(canvas: painting.Canvas, person: Person) -> Head:
    rest = canvas.rest
    left, right = float(rest[0, 0]), float(rest[16, 0])
    brow = sum(rest[17:27, 1].tolist()) / 10
    return Head((left + right) / 2, (right - left) / 2, -person.skull, brow)


def _both(places: list[Place]) -> list[Place]:
    """Places of the left half, mirrored to the right one; the last lies in the middle."""
    return places + [(-u, v) for u, v in places[-2::-1]]


def hairline(head: Head, person: Person) -> np.ndarray:
    """The hair's edge [48, 2] on the forehead, from the left ear over it to the right one."""
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
        edge = _both(
            [(-1.0, 1.35), (-0.97, 0.95), (-0.88, 0.62), (-0.62, 0.27), (-0.3, 0.22), (0, 0.26)]
        )
    else:
        edge = _both(
            [(-1.0, 1.5), (-0.95, 1.1), (-0.93, 0.8), (-0.80, 0.46), (-0.42, 0.38), (0, 0.36)]
        )
    return head.line(edge, 48)


def _crown(head: Head, person: Person) -> np.ndarray:
    """The hair's outer edge [48, 2], from the left ear over the top to the right one."""
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
    edge = _both(left)
    edge[5] = (lean, -0.03 - rise)
    wave = 0.012 * np.sin(np.arange(11) * (2.0 + person.hair_seed % 3) + person.hair_seed)
    return head.line([(u, v + w) for (u, v), w in zip(edge, wave.tolist(), strict=True)], 48)


def draw_back(canvas: painting.Canvas, head: Head, person: Person, light: float) -> None:
    """What lies behind the head: falling hair, a bun, curls."""
    style = person.hair_style
    if style in FALLING:
        low = FALLING[style]
        wide = 1.12 + 0.9 * person.hair_volume
        tip = 0.9 if style == "bob" else 1.1
        half = [(-tip, low - 0.1), (-wide - 0.1, 0.8 * low), (-wide - 0.06, 1.6), (-wide, 0.7)]
        edge = head.line(_both([(-0.35, low + 0.1), *half, (0.0, 0.2)]), 64)
        _tress(canvas, [edge], _falling(), person, light, level=80, shine=8.0)
    elif style == "bun":
        bun = painting.ellipse(head.at(0.0, -0.16), (0.40, 0.34))
        strands = _strands(bun[:12], bun[:11:-1], 0.35, 12)
        _tress(canvas, [bun], strands, person, light, level=108)
    elif style == "curly":
        rim = _cloud(head, person)
        _tress(canvas, [rim], _curls(), person, light, level=100, shine=16.0, bumps=rim[::3])


def draw_front(
    canvas: painting.Canvas, head: Head, edge: np.ndarray, person: Person, light: float
) -> None:
    """The hair on the head and beside the face, down to its edge (`hairline`)."""
    style = person.hair_style
    if style == "bald" or style in COVERED:
        return
    if style == "curly":
        rim = _cloud(head, person)
        bumps = (0.3 * rim + 0.7 * edge)[2:-2:3]
        area = np.concatenate([rim, edge[::-1]])
        _tress(canvas, [area], _curls(), person, light, shine=26.0, bumps=bumps)
        return
    crown = _crown(head, person)
    area = np.concatenate([crown, edge[::-1]])
    if style in ("parted", *FALLING):
        strands = _parted(head, crown, edge, person.part_side)
    else:
        strands = _strands(crown, edge, 0.14 * person.part_side, 32)
    _tress(canvas, [area], strands, person, light)
    if style in FALLING:
        for lock in _locks(head, person):
            _tress(canvas, [lock], _falling(), person, light, level=116, shine=14.0)


def shade_forehead(relief: Relief, edge: np.ndarray, person: Person) -> None:
    """The shadow of the hair on the skin."""
    if person.hair_style != "bald" and person.hair_style not in COVERED:
        relief.hollow(np.concatenate([edge - (0.0, 0.3), edge[::-1] + (0.0, 0.06)]), 0.3)


@functools.cache
def _places(number: int, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Where strands begin on a line of `knots`, and how far each overshoots its end."""
    places = (np.linspace(0, 1, number) * (knots - 1)).astype(int)
    return places, 1.0 + 0.05 * np.sin(7.0 * np.arange(number))[:, None]


def _strands(start: np.ndarray, end: np.ndarray, bend: float, number: int) -> np.ndarray:
    """Bent lines [number, 5, 2] between two lines of as many points; ends overshoot."""
    places, far = _places(number, len(start))
    knots = np.empty((number, 3, 2))
    knots[:, 0] = start[places]
    reach = end[places] - knots[:, 0]
    knots[:, 2] = knots[:, 0] + far * reach
    knots[:, 1] = knots[:, 0] + 0.5 * reach
    knots[:, 1, 0] += bend * reach[:, 1]
    knots[:, 1, 1] -= bend * reach[:, 0]
    return _BEND @ knots


def _parted(head: Head, crown: np.ndarray, edge: np.ndarray, side: float) -> np.ndarray:
    """Strands [33, 5, 2] that fall from a parting to both sides, going up a little before."""
    part = head.line([(0.30 * side, -0.06), (0.34 * side, 0.24)], 48)
    share = np.linspace(0.2, 0.8, 3)[:, None, None]
    strands = [_strands(part, end, 0.0, 11) for end in share * crown + (1 - share) * edge]
    strands = np.concatenate(strands)
    strands[:, 1:4, 1] -= 0.3 * np.abs(strands[:, 1:4, 0] - part[0, 0]) * (0.9, 1.0, 0.6)
    return strands


def _locks(head: Head, person: Person) -> list[np.ndarray]:
    """Outlines of hair that falls beside the face."""
    low = FALLING[person.hair_style]
    wide, wave = 1.10 + 0.9 * person.hair_volume, 0.05 * float(np.sin(person.hair_seed))
    outer = [(-0.9, 0.2), (-wide, 0.7), (-wide - 0.07, 1.6)]
    inner = [(-0.86, 0.3), (-0.93, 0.9), (-0.99, 1.5)]
    if person.hair_style == "bob":
        outer += [(-wide - 0.02 + wave, 0.75 * low), (-wide + 0.22, low + 0.06)]
        inner += [(-0.96, 2.1), (-0.84, low)]
    else:
        outer += [(-wide - 0.02 + wave, 0.75 * low), (-wide + 0.1, low)]
        inner += [(-0.97 + wave, 0.75 * low), (-0.95, low + 0.06)]
    left = np.concatenate([head.line(outer, 14), head.line(inner, 14)[::-1]])
    return [left, left * (-1.0, 1.0) + (2 * head.middle, 0.0)]


def _cloud(head: Head, person: Person) -> np.ndarray:
    """The outer edge [48, 2] of curly hair."""
    wide, rise = person.hair_volume, 0.8 * person.hair_volume
    half = [(-1.0 - wide, 1.35), (-1.06 - wide, 0.7), (-0.8, 0.05 - rise), (0.0, -0.2 - rise)]
    return head.line(_both(half), 48)


@functools.cache
def _curls() -> np.ndarray:
    """Small curls, tones uint8 [512, 512] around 64."""
    rng = np.random.default_rng(3)
    turn = np.linspace(0, 1.6 * np.pi, 9)
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.linspace(1, 0.4, 9)[:, None]
    tones = np.full((512, 512), 52, np.uint8)
    for value in (30, 84, 44, 96, 60, 78):
        at, spin = rng.uniform(0, 512, (700, 1, 2)), rng.uniform(0, 2 * np.pi, 700)
        turned = np.stack([np.cos(spin), np.sin(spin), -np.sin(spin), np.cos(spin)], 1)
        arcs = at + rng.uniform(3.0, 5.0, (700, 1, 1)) * arc @ turned.reshape(-1, 2, 2)
        fine = np.rint(arcs * (1 << painting.SHIFT)).astype(np.int32)
        cv2.polylines(tones, list(fine), False, (value,), 2, cv2.LINE_AA, painting.SHIFT)
    return cv2.blur(tones, (2, 2))


@functools.cache
def _falling() -> np.ndarray:
    """Long wavy hairs, tones uint8 [512, 512] around 64."""
    rng = np.random.default_rng(4)
    single = cv2.GaussianBlur(rng.standard_normal((1, 1024)), (0, 0), 1.1)
    broad = cv2.GaussianBlur(rng.standard_normal((1, 1024)), (0, 0), 4.0)
    across = 13.0 * single / single.std() + 9.0 * broad / broad.std()
    down, column = np.mgrid[0:512, 0:512]
    wave = 5.0 * np.sin(down / 37.0 + column / 61.0) + 3.0 * np.sin(down / 19.0)
    places = (column + 256 + wave).round().astype(int)
    return np.clip(64 + across[0][places], 0, 255).astype(np.uint8)


def _tress(
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
    """Fills outlines with hair that shines where it bends to the viewer.

    **Arguments:**

    - `hairs`: strands [m, 5, 2], or a texture [512, 512] to cut from.
    - `level`: tone, 128 is the hair's own colour.
    - `bumps`: centres [n, 2] of round locks, which belong to the hair too.
    """
    reach = 4 if bumps is None else int(0.2 * canvas.unit)
    window = canvas.window(outlines[0], reach)
    if window is None:
        return
    part = canvas.within(window)
    height, width = part.image.shape[:2]
    mask = part.mask(*outlines)
    if bumps is not None:
        radius = round(0.17 * canvas.unit * (1 << painting.SHIFT))
        for at in part.fixed(bumps).tolist():
            cv2.circle(mask, at, radius, (255,), -1, cv2.LINE_AA, painting.SHIFT)
    sheen = _sheen(round(height / part.unit, 1), level, shine, round(light, 1))
    tone = cv2.resize(sheen, (width, height))
    if hairs.ndim == 2:
        row, column = person.hair_seed % (512 - height), person.hair_seed % (512 - width)
        streaks = hairs[row : row + height, column : column + width]
    else:
        streaks = np.full_like(tone, 64)
        fixed = part.fixed(hairs)
        for start, value in enumerate(STREAKS):  # neighbours differ, and one call draws a tone
            lines = list(fixed[start :: len(STREAKS)])
            cv2.polylines(streaks, lines, False, (64 + value,), 1, cv2.LINE_8, painting.SHIFT)
        streaks = cv2.blur(streaks, (3, 3))
    tone = cv2.addWeighted(tone, 1.0, streaks, 1.0, -64.0)
    colours = painting.ramp(
        (0, painting.scaled(person.hair, 0.25)),
        (128, person.hair),
        (255, painting.mix(painting.scaled(person.hair, 1.7), (255, 236, 210), 0.3)),
    )
    painting.blend(canvas.image[window], cv2.applyColorMap(tone, colours), cv2.blur(mask, (3, 3)))


_ACROSS = np.linspace(-1, 1, 24, dtype=np.float32)
_DOWN = np.linspace(0, 1, 24, dtype=np.float32)[:, None]


@functools.lru_cache(4096)
def _sheen(tall: float, level: int, shine: float, light: float) -> np.ndarray:
    """Tones uint8 [24, 24] of hair `tall` face units high: a bright band, bent as a head is."""
    across = (_ACROSS - np.float32(0.35 * light)) ** 2
    down = _DOWN * np.float32(tall / 1.5) - np.float32(0.12) * across
    tone = np.float32(shine) * np.exp(np.float32(-60.0) * (down - np.float32(0.26)) ** 2)
    tone += np.float32(level + 6) - np.float32(26.0) * (down + across)
    return np.clip(tone, 0, 255, out=tone).astype(np.uint8)
