"""Who is drawn and where: persons (proportions, skin, hair) and scenes (pose, light, background).

Both are drawn from a random generator alone, so a face is a pure function of its key.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255

SKINS: tuple[Colour, ...] = (
    (250, 222, 200), (243, 208, 178), (232, 190, 152), (219, 170, 128),
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

    shape: np.ndarray  # the rig's identity coefficients [K]
    skull: float  # height of the skull's top above the eyes
    skin: Colour
    age: float  # 0: smooth, 1: lined
    gaunt: float  # hollowness of the cheeks
    gloss: float  # shine of the skin
    blush: float
    freckles: float
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
    background: int  # seed of its colours and blobs
    occlusion: str
    occlusion_seed: int
    blur: int  # side of the square that pixels are averaged over; 1: sharp
    noise: float  # standard deviation, grey levels
    grey: bool


def _pick(rng: np.random.Generator, choices: tuple, weights: tuple[float, ...]):
    left = rng.random() * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        left -= weight
        if left < 0:
            return choice
    return choices[-1]


def _near(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """The colour a little lighter or darker, and a little off in hue."""
    level = 1 + 0.08 * rng.standard_normal()
    hue = (spread * rng.standard_normal(3)).tolist()
    red, green, blue = (_within(level * c + h, 0, 255) for c, h in zip(colour, hue, strict=True))
    return (red, green, blue)


def _within(value: float, low: float, high: float) -> float:
    return min(max(float(value), low), high)


def draw_person(rng: np.random.Generator, shape_size: int) -> Person:
    """A random person.

    **Arguments:**

    - `shape_size`: K, the number of the rig's identity coefficients.
    """
    feminine = rng.random() < 0.5
    age = float(rng.beta(1.6, 3.0))
    tone = int(rng.integers(len(SKINS)))
    skin = _near(rng, SKINS[tone], 3.0)
    dark_hair = (4, 4, 3, 2, 0.5, 0.2, 0.3, 2.5 * age)
    fair_hair = (1, 2, 3, 3, 3, 2.5, 1.2, 2.5 * age)
    hair = _near(rng, _pick(rng, HAIRS, dark_hair if tone > 2 else fair_hair), 4.0)
    lightest = 0.55 if tone > 2 else 0.75  # brows are darker than hair, and than the skin
    brow = tuple(min(lightest * h, 0.6 * s) for h, s in zip(hair, skin, strict=True))
    styles = (0.2, 1.5, 1.5, 2, 4, 3, 2, 1.5, 0.0, 1.0, 0.4) if feminine else (
        1.2, 4, 3, 1, 0.4, 0.2, 0.2, 1.5, 1.5, 0.0, 0.6)  # fmt: skip
    beards = (1, 0, 0, 0, 0) if feminine else (5, 2, 0.8, 0.8, 1.4)
    lip_red = (186, 62, 68) if feminine and rng.random() < 0.5 else (176, 96, 86)
    lips = tuple(0.45 * s + 0.55 * r for s, r in zip(skin, lip_red, strict=True))
    return Person(
        shape=rng.standard_normal(shape_size).clip(-2.0, 2.0),
        skull=float(rng.uniform(1.5, 1.78)),
        skin=skin,
        age=age,
        gaunt=float(rng.uniform(0, 1)),
        gloss=float(rng.uniform(0.1, 0.6)),
        blush=float(rng.uniform(0.1, 0.7) * (1.2 if feminine else 0.7)),
        freckles=float(rng.random() < 0.12 and tone < 4),
        hair=hair,
        hair_style=_pick(rng, HAIR_STYLES, styles),
        hair_volume=float(rng.uniform(0.07, 0.2)),
        hair_seed=int(rng.integers(2**31)),
        part_side=1.0 if rng.random() < 0.5 else -1.0,
        brow=_near(rng, (brow[0], brow[1], brow[2]), 2.0),
        brow_width=float(rng.uniform(0.06, 0.10) if feminine else rng.uniform(0.09, 0.15)),
        iris=_pick(rng, IRISES, (4, 3, 1, 0.3, 0.2, 0.2) if tone > 2 else (2, 2, 2, 2, 3, 2)),
        lips=(lips[0], lips[1], lips[2]),
        lashes=float(rng.uniform(0.6, 1.0) if feminine else rng.uniform(0.1, 0.5)),
        nostrils=float(rng.uniform(0.8, 1.2)),
        ears=float(rng.uniform(0.8, 1.2)),
        beard=_pick(rng, BEARDS, beards),
        glasses=_pick(rng, GLASSES, (5, 0.6, 0.6)),
        clothes=_near(rng, CLOTHES[int(rng.integers(len(CLOTHES)))], 8.0),
    )


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene: most faces upright, lit from above, sharp and free; some not."""
    side, up = rng.normal(0.0, 0.5), rng.normal(-0.35, 0.3)
    grey = 0.35 * rng.standard_normal()
    return Scene(
        rotation=_within(rng.normal(0.0, 0.11), -0.33, 0.33),
        scale=float(rng.uniform(52.0, 64.0)),
        centre=(float(rng.normal(127.5, 5.0)), float(rng.normal(116.0, 5.0))),
        yaw=_within(rng.normal(0.0, 0.09), -0.22, 0.22),
        gaze=(float(0.035 * rng.standard_normal()), float(0.012 * rng.standard_normal())),
        light=(float(side), _within(up, -0.9, 0.3), 1.0),
        ambient=float(rng.uniform(0.3, 0.55)),
        tint=(255.0, _within(246 - 6 * grey, 225, 255), _within(238 + 20 * grey, 205, 255)),
        exposure=_within(rng.normal(1.0, 0.12), 0.65, 1.3),
        background=int(rng.integers(2**31)),
        occlusion=_pick(rng, OCCLUSIONS, (88, 3, 2, 2, 3, 2)),
        occlusion_seed=int(rng.integers(2**31)),
        blur=_pick(rng, (1, 3, 5), (7, 2, 1)),
        noise=float(rng.uniform(0.0, 5.0)),
        grey=bool(rng.random() < 0.12),
    )
