"""Samples persons (proportions, skin, hair) and scenes (pose, light, background).

Both depend on a random generator only, so a face is a pure function of its seed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255

SKIN_COLOURS: tuple[Colour, ...] = (
    (238, 206, 184), (236, 198, 168), (228, 184, 146), (219, 170, 128),
    (196, 145, 104), (166, 115, 78), (131, 86, 58), (98, 63, 44),
)  # fmt: skip
HAIR_COLOURS: tuple[Colour, ...] = (
    (28, 24, 24), (46, 34, 28), (74, 50, 34), (104, 70, 42),
    (150, 108, 62), (206, 168, 106), (150, 74, 40), (176, 174, 172),
)  # fmt: skip
IRIS_COLOURS: tuple[Colour, ...] = (
    (70, 44, 26), (92, 60, 34), (120, 88, 46), (94, 112, 70), (84, 122, 150), (110, 130, 142),
)  # fmt: skip
CLOTHES_COLOURS: tuple[Colour, ...] = (
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


class SideIntensities(NamedTuple):
    """Intensities in [0, 1] of the 18 action units of one side, in the order of `UNITS`."""

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
    """A person. Lengths are in face units (1 = the distance between the eye centres)."""

    skull: float  # height of the top of the skull above the eyes
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
    identity: np.ndarray  # identity coefficients of the rig [K]


@dataclasses.dataclass(frozen=True)
class Scene:
    """Pose, light, background and camera. Pixels refer to the 256 x 256 image."""

    rotation: float  # in-plane, radians
    scale: float  # distance between the eye centres, pixels
    centre: tuple[float, float]  # midway between the eyes, pixels
    yaw: float  # radians
    gaze: tuple[float, float]  # of the irises, face units
    light: tuple[float, float, float]  # towards the light: right, down, to the viewer
    ambient: float  # fraction of ambient light
    tint: Colour  # colour of the light, 255 = full
    exposure: float
    background: tuple[float, ...]  # 8 numbers in [0, 1]: parameters of `scenery.draw_background`
    occlusion: str
    occlusion_seed: int
    blur: int  # size of the box blur, pixels; 1: sharp
    noise: float  # standard deviation, grey levels
    grey: bool


class _RandomNumbers:
    """Random numbers from two blocks: many single draws from NumPy are slower."""

    def __init__(self, rng: np.random.Generator, uniform: int, normal: int):
        self._uniform = iter(rng.random(uniform).tolist())
        self._normal = iter(rng.standard_normal(normal).tolist())

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._uniform)

    def clipped_normal(self, mean: float, std: float, low: float, high: float) -> float:
        """Returns a normal number, clipped to [low, high]."""
        return min(max(mean + std * next(self._normal), low), high)

    def bernoulli(self, probability: float) -> bool:
        return next(self._uniform) < probability

    def uniforms(self, count: int) -> tuple[float, ...]:
        """Returns the next uniform numbers from [0, 1)."""
        return tuple(itertools.islice(self._uniform, count))

    def seed(self) -> int:
        return int(2**31 * next(self._uniform))

    def choice(self, options: Sequence[Any], weights: Sequence[float]) -> Any:
        remainder = next(self._uniform) * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            remainder -= weight
            if remainder < 0:
                return option
        return options[-1]

    def vary_colour(self, colour: Colour, spread: float) -> Colour:
        """Returns the colour with small random changes of brightness and hue."""
        level = 1 + 0.08 * next(self._normal)
        red, green, blue = (level * value + spread * next(self._normal) for value in colour)
        return (min(max(red, 0.0), 255.0), min(max(green, 0.0), 255.0), min(max(blue, 0.0), 255.0))


def sample_person(rng: np.random.Generator, num_identity: int) -> Person:
    """Samples a person.

    **Arguments:**

    - `num_identity`: K, the number of identity coefficients of the rig.
    """
    random = _RandomNumbers(rng, 32, 16)
    feminine = random.bernoulli(0.5)
    age = random.uniform(0, 1) * random.uniform(0.2, 1)  # young persons are more frequent
    tone = int(random.uniform(0, len(SKIN_COLOURS)))
    skin = random.vary_colour(SKIN_COLOURS[tone], 3.0)
    dark_hair = (4, 4, 3, 2, 0.4, 0.1, 0.2, 2.5 * age)
    fair_hair = (1, 2, 3, 3, 3, 2.5, 1.2, 2.5 * age)
    hair = random.vary_colour(
        random.choice(HAIR_COLOURS, dark_hair if tone > 2 else fair_hair), 4.0
    )
    brow_factor = 0.55 if tone > 2 else 0.75  # brows are darker than hair and skin
    red, green, blue = (min(brow_factor * h, 0.6 * s) for h, s in zip(hair, skin, strict=True))
    brow = (red, green, blue)
    styles = (0.2, 1.5, 1.5, 2, 4, 3, 2, 1.5, 0.0, 1.0, 0.4) if feminine else (
        1.2, 4, 3, 1, 0.4, 0.2, 0.2, 1.5, 1.5, 0.0, 0.6)  # fmt: skip
    beards = (1, 0, 0, 0, 0) if feminine else (5, 2, 0.8, 0.8, 1.4)
    has_lipstick = random.bernoulli(0.5) and feminine
    red, green, blue = (186, 62, 68) if has_lipstick else (176, 96, 86)
    return Person(
        skull=random.uniform(1.5, 1.78),
        skin=skin,
        age=age,
        gaunt=random.uniform(0, 1),
        gloss=random.uniform(0.1, 0.6),
        blush=random.uniform(0.1, 0.7) * (1.2 if feminine else 0.7),
        freckles=random.bernoulli(0.12) and tone < 4,
        hair=hair,
        hair_style=random.choice(HAIR_STYLES, styles),
        hair_volume=random.uniform(0.07, 0.2),
        hair_seed=random.seed(),
        part_side=random.choice((-1.0, 1.0), (1, 1)),
        brow=random.vary_colour(brow, 2.0),
        brow_width=random.uniform(0.06, 0.10) if feminine else random.uniform(0.09, 0.15),
        iris=random.choice(
            IRIS_COLOURS, (4, 3, 1, 0.3, 0.2, 0.2) if tone > 2 else (2, 2, 2, 2, 3, 2)
        ),
        lips=(
            0.45 * skin[0] + 0.55 * red,
            0.45 * skin[1] + 0.55 * green,
            0.45 * skin[2] + 0.55 * blue,
        ),
        lashes=random.uniform(0.6, 1.0) if feminine else random.uniform(0.1, 0.5),
        nostrils=random.uniform(0.8, 1.2),
        ears=random.uniform(0.8, 1.2),
        beard=random.choice(BEARDS, beards),
        glasses=random.choice(GLASSES, (5, 0.6, 0.6)),
        clothes=random.vary_colour(
            random.choice(CLOTHES_COLOURS, (1,) * len(CLOTHES_COLOURS)), 8.0
        ),
        identity=rng.standard_normal(num_identity).clip(-2.0, 2.0),
    )


def sample_scene(rng: np.random.Generator) -> Scene:
    """Samples a scene. Most faces are upright, lit from above, sharp and not occluded."""
    random = _RandomNumbers(rng, 16, 12)
    warmth = random.clipped_normal(0.0, 0.35, -1.0, 1.0)
    return Scene(
        rotation=random.clipped_normal(0.0, 0.06, -0.2, 0.2),
        scale=random.uniform(59.0, 65.0),
        centre=(
            random.clipped_normal(127.5, 7.0, 106, 149),
            random.clipped_normal(107.0, 6.0, 90, 120),
        ),
        yaw=random.clipped_normal(0.0, 0.05, -0.15, 0.15),
        gaze=(
            random.clipped_normal(0.0, 0.035, -0.08, 0.08),
            random.clipped_normal(0.0, 0.012, -0.03, 0.03),
        ),
        light=(
            random.clipped_normal(0.0, 0.5, -1.0, 1.0),
            random.clipped_normal(-0.35, 0.3, -0.9, 0.3),
            1.0,
        ),
        ambient=random.uniform(0.3, 0.55),
        tint=(255.0, 247 - 4 * warmth, 241 + 12 * warmth),
        exposure=random.clipped_normal(0.93, 0.08, 0.7, 1.03),
        background=random.uniforms(8),
        occlusion=random.choice(OCCLUSIONS, (88, 3, 2, 2, 3, 2)),
        occlusion_seed=random.seed(),
        blur=random.choice((1, 3, 5), (7, 2, 1)),
        noise=random.uniform(0.0, 5.0),
        grey=random.bernoulli(0.12),
    )
