"""One labelled rendered face, a pure function of (seed, split, index).

An expression is drawn, then action units from its EMFACS prototype (Friesen and Ekman, EMFACS-7,
1983; the prototypes are listed in `facs.action_units`): scaled by how strongly the person
expresses, with companion units that often go along, units left out, others added, and noise.
Contempt is on one side of the face (AU12 + AU14).

Valence and arousal follow from the intensities:

    valence = tanh(w_v . u + b_v * one_sided) + noise,    arousal alike,

clipped to [-1, 1]. `u` holds each unit's weaker side, `one_sided` is how much stronger AU12 and
AU14 are on one side than on the other; weights are in `WEIGHTS` and put the emotions where
Russell's circumplex (1980) has them; the noise is the person's, standard deviation 0.1.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools

import numpy as np

from affect_jax.core import labels
from affect_jax.facs import rig
from affect_jax.facs.action_units import TABLE, UNITS
from affect_jax.facs.render import face
from affect_jax.facs.render.identity import Person, Scene, draw_person, draw_scene

SKEWS = ("affectnet", "balanced")
VERSION = "3"  # of what is drawn: data prepared from another one are refused
_REACHED = tuple(itertools.accumulate(labels.TRAINING_COUNTS))
AFFECT_NOISE = 0.1  # standard deviation of a person's valence and arousal around the map

_SIDED = np.array([unit.sided for unit in TABLE])
_PLACE = {unit: place for place, unit in enumerate(UNITS)}

# Of each expression: units of the prototype with their mean intensity, and companions with the
# probability that they go along and their mean intensity.
CORE: tuple[dict[int, float], ...] = (
    {},
    {6: 0.7, 12: 0.8},
    {1: 0.75, 4: 0.55, 15: 0.8},
    {1: 0.85, 2: 0.85, 5: 0.75, 26: 0.85},
    {1: 0.75, 2: 0.5, 4: 0.6, 5: 0.8, 7: 0.45, 20: 0.8, 26: 0.4},
    {9: 0.95, 15: 0.5},
    {4: 0.95, 5: 0.6, 7: 0.65, 23: 0.85},
    {12: 0.75, 14: 0.9},
)
COMPANIONS: tuple[dict[int, tuple[float, float]], ...] = (
    {43: (0.04, 0.8)},
    {25: (0.65, 0.7), 26: (0.2, 0.35), 7: (0.2, 0.3), 2: (0.1, 0.3), 43: (0.08, 0.7)},
    {17: (0.5, 0.5), 43: (0.2, 0.7), 7: (0.15, 0.3)},
    {25: (0.9, 0.8)},
    {25: (0.9, 0.7)},
    {10: (0.75, 0.65), 4: (0.35, 0.35), 17: (0.4, 0.5), 25: (0.3, 0.4), 7: (0.4, 0.5),
     43: (0.15, 0.7)},
    {24: (0.6, 0.7), 17: (0.3, 0.4), 10: (0.1, 0.3)},
    {2: (0.15, 0.3), 7: (0.15, 0.25), 43: (0.1, 0.25)},
)  # fmt: skip

# Of valence and arousal, per unit; the last row is `one_sided`.
WEIGHTS: dict[int | str, tuple[float, float]] = {
    1: (-0.10, 0.10), 2: (0.15, 0.25), 4: (-0.35, 0.00), 5: (-0.05, 0.65), 6: (0.35, 0.10),
    7: (-0.20, 0.15), 9: (-0.60, 0.40), 10: (-0.20, 0.10), 12: (0.80, 0.25), 14: (-0.20, 0.00),
    15: (-0.50, -0.55), 17: (-0.15, -0.15), 20: (-0.40, 0.30), 23: (-0.45, 0.35),
    24: (-0.20, 0.10), 25: (0.05, 0.05), 26: (0.05, 0.25), 43: (0.00, -0.50),
    "one_sided": (-0.85, 0.05),
}  # fmt: skip


_UNIT_WEIGHTS = np.array([WEIGHTS[unit] for unit in UNITS])
_ONE_SIDED_WEIGHTS = np.array(WEIGHTS["one_sided"])
_SMILE = [UNITS.index(12), UNITS.index(14)]


@dataclasses.dataclass(frozen=True)
class Face:
    """A rendered face and its labels, which are exact."""

    image: np.ndarray  # uint8 [size, size, 3], RGB
    expression: int  # 0 to 7
    valence: float  # [-1, 1]
    arousal: float
    sides: np.ndarray  # float32 [2, 18], intensities of the picture's left and right side
    landmarks: np.ndarray  # float32 [68, 2], pixels of `image`
    box: np.ndarray  # float32 [4], x, y, width, height around the landmarks, pixels

    @property
    def action_units(self) -> np.ndarray:
        """float32 [18]: the stronger side's intensity, as FACS scores an uneven action."""
        return self.sides.max(axis=0)


def draw_expression(rng: np.random.Generator, index: int, skew: str) -> int:
    """An expression: by AffectNet's training counts, or each of the eight in turn."""
    if skew not in SKEWS:
        raise ValueError(f"skew = {skew!r}: one of {', '.join(SKEWS)}")
    if skew == "balanced":
        return index % labels.NUM_CLASSES
    return bisect.bisect(_REACHED, rng.random() * _REACHED[-1])


def draw_intensities(rng: np.random.Generator, expression: int) -> np.ndarray:
    """Intensities [2, 18] of the picture's left and right side, in [0, 1]."""
    values = 0.04 * np.abs(rng.standard_normal(len(UNITS)))
    if rng.random() < 0.3:  # something else is going on in the face
        values[rng.integers(len(UNITS))] += rng.uniform(0.05, 0.2)
    values[_PLACE[43]] *= 0.5
    strength = rng.uniform(0.85, 1.2)
    core = CORE[expression]
    left_out = (
        tuple(core)[rng.integers(len(core))] if len(core) > 3 and rng.random() < 0.15 else None
    )
    for unit, mean in core.items():
        if unit != left_out:
            values[_PLACE[unit]] = mean * strength + 0.1 * rng.standard_normal()
    for unit, (chance, mean) in COMPANIONS[expression].items():
        if rng.random() < chance:
            values[_PLACE[unit]] = mean * strength + 0.1 * rng.standard_normal()
    values = np.clip(values, 0.0, 1.0)
    sides = values * np.where(_SIDED, 1 + 0.05 * rng.standard_normal((2, len(UNITS))), 1.0)
    if labels.EXPRESSIONS[expression] == "contempt":
        weak = int(rng.integers(2))
        for unit in (12, 14):
            sides[weak, _PLACE[unit]] *= 0.1
    return np.clip(sides, 0.0, 1.0)


def affect(intensities: np.ndarray) -> np.ndarray:
    """Valence and arousal [2] in (-1, 1) of intensities [2, 18], without a person's noise."""
    uneven = 0.5 * np.abs(intensities[0, _SMILE] - intensities[1, _SMILE]).sum()
    linear = intensities.min(axis=0) @ _UNIT_WEIGHTS + uneven * _ONE_SIDED_WEIGHTS
    return np.tanh(linear)


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, labels.SPLITS.index(split), index])


def draw_face(
    rng: np.random.Generator, expression: int, person: Person, scene: Scene, size: int = 256
) -> Face:
    """A face with an expression of random strength, its labels and its picture."""
    intensities = draw_intensities(rng, expression)
    noisy = affect(intensities) + AFFECT_NOISE * rng.standard_normal(2)
    valence, arousal = (min(max(value, -1.0), 1.0) for value in noisy.tolist())
    image, landmarks = face.draw(intensities, person, scene, size)
    corner, end = landmarks.min(axis=0), landmarks.max(axis=0)
    return Face(
        image=image,
        expression=expression,
        valence=valence,
        arousal=arousal,
        sides=intensities.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        box=np.concatenate([corner, end - corner]).astype(np.float32),
    )


def sample(
    seed: int, index: int, *, split: str = "training", skew: str = "affectnet", size: int = 256
) -> Face:
    """Face number `index` of a split: the same whatever else is drawn, and however many.

    **Arguments:**

    - `seed`, `index`: at least 0.
    - `split`: `training` or `validation`; they share no person.
    - `skew`: `affectnet` (training counts of the eight expressions) or `balanced`.
    - `size`: side of the picture, pixels; it changes nothing but the resolution.
    """
    rng = _generator(seed, split, index)
    expression = draw_expression(rng, index, skew)
    person = draw_person(rng, rig.NUM_IDENTITY)
    scene = draw_scene(rng)
    return draw_face(rng, expression, person, scene, size)
