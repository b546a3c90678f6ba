"""The parameters of a rendered face: all that varies between faces beside the action units."""

from __future__ import annotations

import dataclasses

import numpy as np

from affect_jax.facs import rig

HAIR_STYLES = ("bald", "short", "fringe", "long")
GLASSES = ("none", "round", "square")
OCCLUSIONS = ("none", "mask", "object")
_WOMENS_HAIR = ("long", "long", "long", "fringe", "fringe", "short")
_MENS_HAIR = ("short", "short", "short", "short", "fringe", "bald")


@dataclasses.dataclass(frozen=True, eq=False)
class FaceParameters:
    """Appearance, pose, light and camera of a face; the defaults are a plain frontal portrait.

    To vary one parameter at a time, use `dataclasses.replace`. Pixels refer to an image of
    256 x 256; faces are plausible in the ranges given.
    """

    # Coefficients [K] of the face's proportions (`rig.IDENTITY_NAMES`), -2 to 2.
    identity: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(rig.NUM_IDENTITY))
    skin_tone: float = 0.3  # 0 (light) to 1 (dark)
    age: float = 0.2  # 0 (smooth skin) to 1 (lined skin, bags under the eyes, grey hair)
    makeup: float = 0.3  # 0 (none) to 1 (red lips, dark lashes, thin brows)
    hair: str = "short"  # one of `HAIR_STYLES`
    hair_colour: float = 0.3  # 0 (black) to 1 (blond); with light skin, fair people have blue eyes
    glasses: str = "none"  # one of `GLASSES`
    occlusion: str = "none"  # one of `OCCLUSIONS`: what is in front of a part of the face
    light: tuple[float, float] = (0.0, -0.35)  # direction towards it: right and down, -1 to 1
    brightness: float = 0.95  # of the whole image, 0.4 to 1.1
    yaw: float = 0.0  # rotation of the head, -0.3 to 0.3 radians; positive is to the image's right
    roll: float = 0.0  # rotation in the image plane, -0.4 to 0.4 radians, clockwise
    blur: float = 0.0  # standard deviation, 0 (sharp) to 4 pixels
    size: float = 62.0  # distance between the eye centres, 40 to 75 pixels
    centre: tuple[float, float] = (127.5, 107.0)  # of the line between the eyes, pixels
    surroundings: int = 0  # seed of the background, the colours and the occluded side


def random_parameters(rng: np.random.Generator) -> FaceParameters:
    """Samples a person and a picture: most are upright, sharp, lit from above and not occluded."""
    is_woman = rng.random() < 0.5
    styles = _WOMENS_HAIR if is_woman else _MENS_HAIR
    skin_tone = rng.random()
    is_occluded, has_glasses = rng.random() < 0.1, rng.random() < 0.2

    def clipped_normal(mean: float, std: float, limit: float) -> float:
        return mean + min(max(std * rng.standard_normal(), -limit), limit)

    return FaceParameters(
        identity=rng.standard_normal(rig.NUM_IDENTITY).clip(-2.0, 2.0),
        skin_tone=skin_tone,
        age=rng.random() * rng.uniform(0.2, 1.0),  # young people are more frequent
        makeup=rng.uniform(0.4, 1.0) if is_woman else 0.1,
        hair=styles[rng.integers(len(styles))],
        hair_colour=rng.random() * (1.0 - 0.8 * skin_tone),
        glasses=GLASSES[rng.integers(1, len(GLASSES))] if has_glasses else "none",
        occlusion=OCCLUSIONS[rng.integers(1, len(OCCLUSIONS))] if is_occluded else "none",
        light=(clipped_normal(0.0, 0.5, 1.0), clipped_normal(-0.35, 0.3, 0.6)),
        brightness=clipped_normal(0.92, 0.1, 0.18),
        yaw=clipped_normal(0.0, 0.08, 0.2),
        roll=clipped_normal(0.0, 0.08, 0.25),
        blur=0.0 if rng.random() < 0.7 else rng.uniform(0.5, 1.6),
        size=rng.uniform(57.0, 67.0),
        centre=(clipped_normal(127.5, 8.0, 21.0), clipped_normal(107.0, 7.0, 15.0)),
        surroundings=int(rng.integers(2**31)),
    )
