"""Who is drawn and where: persons (proportions, skin, hair) and scenes (pose, light, background).

Both are drawn from a random generator alone, so a face is a pure function of its key.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255

SKINS: tuple[Colour, ...] = (
    (238, 206, 184), (236, 198, 168), (228, 184, 146), (219, 170, 128),
    (196, 145, 104), (166, 115, 78), (131, 86, 58), (98, 63, 44),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24), (46, 34, 28), (74, 50, 34), (104, 70, 42),
    (150, 108, 62), (206, 168, 106), (150, 74, 40), (176, 174, 172),
)  # fmt: skip
IRISES: tuple[Colour, ...] = (
    (70, 44, 26), (92, 60, 34), (120, 88, 46), (94, 112, 70), (84, 122, 150), (110, 130, 142),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (52, 66, 92), (120, 48, 52), (60, 92, 78), (196, 186, 170), (44, 44, 48), (146, 112, 150),
    (214, 150, 90), (92, 140, 170),
)  # fmt: skip
HAIR_STYLES = (
    "bald", "short", "parted", "fringe", "long", "bob", "bun", "curly", "receding", "headscarf",
    "beanie",
)  # fmt: skip
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square")
OCCLUSIONS = ("none", "hand", "mask", "scarf", "lock", "object")


class Units(NamedTuple):
    """Intensities in [0, 1] of one side's 18 action units, in the order of `UNITS`."""

    inner_up: float  # 1
    outer_up: float  # 2
    frown: float  # 4
    wide: float  # 5
    cheek: float  # 6
    lids: float  # 7
    nose: float  # 9
    upper_lip: float  # 10
    smile: float  # 12
    dimple: float  # 14
    corners_down: float  # 15
    chin: float  # 17
    stretch: float  # 20
    tight: float  # 23
    press: float  # 24
    part: float  # 25
    jaw: float  # 26
    closed: float  # 43


@dataclasses.dataclass(frozen=True)
class Person:
    """One person. Lengths are in face units (1 = the distance between the eyes' centres)."""

    skull: float  # height of the skull's top above the eyes
    skin: Colour
    age: float  # 0: smooth, 1: lined
    gaunt: float  # hollowness of the cheeks
    gloss: float  # shine of the skin
    blush: float
    freckles: bool
    hair: Colour
    hair_style: str
    hair_volume: float
    hair_seed: int
    part_side: float  # -1 or 1
    brow: Colour
    brow_width: float
    iris: Colour
    lips: Colour
    lashes: float
    nostrils: float
    ears: float
    beard: str
    glasses: str
    clothes: Colour
    shape: np.ndarray  # the rig's identity coefficients [K]


@dataclasses.dataclass(frozen=True)
class Scene:
    """How a person is seen. Pixels are those of the 256 x 256 picture."""

    rotation: float  # in-plane, radians
    scale: float  # distance between the eyes' centres, pixels
    centre: tuple[float, float]  # midway between the eyes, pixels
    yaw: float  # radians
    gaze: tuple[float, float]  # of the irises, face units
    light: tuple[float, float, float]  # towards the light: right, down, to the viewer
    ambient: float  # share of light without direction
    tint: Colour  # colour of the light, 255 = full
    exposure: float
    background: tuple[float, ...]  # 8 numbers in [0, 1] that say which room, and its light
    occlusion: str
    occlusion_seed: int
    blur: int  # side of the square that pixels are averaged over; 1: sharp
    noise: float  # standard deviation, grey levels
    grey: bool


class _Chance:
    """Random numbers, drawn in blocks: many single draws from NumPy take longer."""

    def __init__(self, rng: np.random.Generator, uniform: int, normal: int):
        self._uniform = iter(rng.random(uniform).tolist())
        self._normal = iter(rng.standard_normal(normal).tolist())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._uniform)

    def around(self, mean: float, deviation: float, low: float, high: float) -> float:
        """Normal, cut to [low, high]."""
        return min(max(mean + deviation * next(self._normal), low), high)

    def chance(self, share: float) -> bool:
        return next(self._uniform) < share

    def unit(self, number: int) -> tuple[float, ...]:
        """So many numbers from 0 to 1."""
        return tuple(itertools.islice(self._uniform, number))

    def seed(self) -> int:
        return int(2**31 * next(self._uniform))

    def pick(self, choices: Sequence[Any], weights: Sequence[float]) -> Any:
        left = next(self._uniform) * sum(weights)
        for choice, weight in zip(choices, weights, strict=True):
            left -= weight
            if left < 0:
                return choice
        return choices[-1]

    def near(self, colour: Colour, spread: float) -> Colour:
        """The colour a little lighter or darker, and a little off in hue."""
        level = 1 + 0.08 * next(self._normal)
        red, green, blue = (level * value + spread * next(self._normal) for value in colour)
        return (min(max(red, 0.0), 255.0), min(max(green, 0.0), 255.0), min(max(blue, 0.0), 255.0))


def draw_person(rng: np.random.Generator, shape_size: int) -> Person:
    """A random person.

    **Arguments:**

    - `shape_size`: K, the number of the rig's identity coefficients.
    """
    draw = _Chance(rng, 32, 16)
    feminine = draw.chance(0.5)
    age = draw.between(0, 1) * draw.between(0.2, 1)  # more young than old
    tone = int(draw.between(0, len(SKINS)))
    skin = draw.near(SKINS[tone], 3.0)
    dark_hair = (4, 4, 3, 2, 0.4, 0.1, 0.2, 2.5 * age)
    fair_hair = (1, 2, 3, 3, 3, 2.5, 1.2, 2.5 * age)
    hair = draw.near(draw.pick(HAIRS, dark_hair if tone > 2 else fair_hair), 4.0)
    darker = 0.55 if tone > 2 else 0.75  # brows are darker than hair, and than the skin
    brow = (
        min(darker * hair[0], 0.6 * skin[0]),
        min(darker * hair[1], 0.6 * skin[1]),
        min(darker * hair[2], 0.6 * skin[2]),
    )
    styles = (0.2, 1.5, 1.5, 2, 4, 3, 2, 1.5, 0.0, 1.0, 0.4) if feminine else (
        1.2, 4, 3, 1, 0.4, 0.2, 0.2, 1.5, 1.5, 0.0, 0.6)  # fmt: skip
    beards = (1, 0, 0, 0, 0) if feminine else (5, 2, 0.8, 0.8, 1.4)
    painted = draw.chance(0.5) and feminine
    red, green, blue = (186, 62, 68) if painted else (176, 96, 86)
    return Person(
        skull=draw.between(1.5, 1.78),
        skin=skin,
        age=age,
        gaunt=draw.between(0, 1),
        gloss=draw.between(0.1, 0.6),
        blush=draw.between(0.1, 0.7) * (1.2 if feminine else 0.7),
        freckles=draw.chance(0.12) and tone < 4,
        hair=hair,
        hair_style=draw.pick(HAIR_STYLES, styles),
        hair_volume=draw.between(0.07, 0.2),
        hair_seed=draw.seed(),
        part_side=draw.pick((-1.0, 1.0), (1, 1)),
        brow=draw.near(brow, 2.0),
        brow_width=draw.between(0.06, 0.10) if feminine else draw.between(0.09, 0.15),
        iris=draw.pick(IRISES, (4, 3, 1, 0.3, 0.2, 0.2) if tone > 2 else (2, 2, 2, 2, 3, 2)),
        lips=(
            0.45 * skin[0] + 0.55 * red,
            0.45 * skin[1] + 0.55 * green,
            0.45 * skin[2] + 0.55 * blue,
        ),
        lashes=draw.between(0.6, 1.0) if feminine else draw.between(0.1, 0.5),
        nostrils=draw.between(0.8, 1.2),
        ears=draw.between(0.8, 1.2),
        beard=draw.pick(BEARDS, beards),
        glasses=draw.pick(GLASSES, (5, 0.6, 0.6)),
        clothes=draw.near(draw.pick(CLOTHES, (1,) * len(CLOTHES)), 8.0),
        shape=rng.standard_normal(shape_size).clip(-2.0, 2.0),
    )


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene: most faces upright, lit from above, sharp and free; some not."""
    draw = _Chance(rng, 16, 12)
    warmth = draw.around(0.0, 0.35, -1.0, 1.0)
    return Scene(
        rotation=draw.around(0.0, 0.06, -0.2, 0.2),
        scale=draw.between(59.0, 65.0),
        centre=(draw.around(127.5, 7.0, 106, 149), draw.around(107.0, 6.0, 90, 120)),
        yaw=draw.around(0.0, 0.05, -0.15, 0.15),
        gaze=(draw.around(0.0, 0.035, -0.08, 0.08), draw.around(0.0, 0.012, -0.03, 0.03)),
        light=(draw.around(0.0, 0.5, -1.0, 1.0), draw.around(-0.35, 0.3, -0.9, 0.3), 1.0),
        ambient=draw.between(0.3, 0.55),
        tint=(255.0, 247 - 4 * warmth, 241 + 12 * warmth),
        exposure=draw.around(0.93, 0.08, 0.7, 1.03),
        background=draw.unit(8),
        occlusion=draw.pick(OCCLUSIONS, (88, 3, 2, 2, 3, 2)),
        occlusion_seed=draw.seed(),
        blur=draw.pick((1, 3, 5), (7, 2, 1)),
        noise=draw.between(0.0, 5.0),
        grey=draw.chance(0.12),
    )
