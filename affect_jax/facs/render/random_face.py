"""Samples labelled rendered faces; each is a pure function of (seed, split, index).

An expression is sampled first, then action units from its EMFACS prototype (Friesen and Ekman,
EMFACS-7, 1983; see `facs.action_units`). The units are scaled by the strength of the expression and
varied by companion units, omitted units, unrelated units and noise. Contempt is on one side of the
face (AU12 + AU14).

Valence and arousal follow from the intensities:

    valence = tanh(w_v . u + b_v * one_sided) + noise,    arousal likewise,

clipped to [-1, 1]. `u` is the weaker side of each unit. `one_sided` is the mean absolute difference
between the sides of AU12 and AU14. The weights are in `AFFECT_WEIGHTS`; they place the emotions as
in Russell's circumplex (1980). The noise differs between faces and has standard deviation 0.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from affect_jax.core import labels
from affect_jax.facs.action_units import HAS_SIDES, UNITS
from affect_jax.facs.render.parameters import FaceParameters, random_parameters
from affect_jax.facs.render.renderer import render_face

SKEWS = ("affectnet", "balanced")
VERSION = "4"  # of the rendering: data prepared with a different version are rejected
AFFECT_NOISE_STD = 0.1  # standard deviation of valence and arousal around `compute_affect`

EXPRESSION_UNITS: tuple[dict[int, tuple[float, float]], ...] = (
    {43: (0.04, 0.8)},
    {6: (1, 0.7), 12: (1, 0.8),
     25: (0.65, 0.7), 26: (0.2, 0.35), 7: (0.2, 0.3), 2: (0.1, 0.3), 43: (0.08, 0.7)},
    {1: (1, 0.75), 4: (1, 0.55), 15: (1, 0.8), 17: (0.5, 0.5), 43: (0.2, 0.7), 7: (0.15, 0.3)},
    {1: (1, 0.85), 2: (1, 0.85), 5: (1, 0.75), 26: (1, 0.85), 25: (0.9, 0.8)},
    {1: (1, 0.75), 2: (1, 0.5), 4: (1, 0.6), 5: (1, 0.8), 7: (1, 0.45), 20: (1, 0.8), 26: (1, 0.4),
     25: (0.9, 0.7)},
    {9: (1, 0.95), 15: (1, 0.5), 10: (0.75, 0.65), 4: (0.35, 0.35), 17: (0.4, 0.5),
     25: (0.3, 0.4), 7: (0.4, 0.5), 43: (0.15, 0.7)},
    {4: (1, 0.95), 5: (1, 0.6), 7: (1, 0.65), 23: (1, 0.85),
     24: (0.6, 0.7), 17: (0.3, 0.4), 10: (0.1, 0.3)},
    {12: (1, 0.75), 14: (1, 0.9), 2: (0.15, 0.3), 7: (0.15, 0.25), 43: (0.1, 0.25)},
)  # fmt: skip
"""Per expression: units with their probability and mean intensity. Units of the prototype have
probability 1."""

# Weights for valence and arousal, per unit; the last row is `one_sided`.
AFFECT_WEIGHTS: dict[int | str, tuple[float, float]] = {
    1: (-0.10, 0.10), 2: (0.15, 0.25), 4: (-0.35, 0.00), 5: (-0.05, 0.65), 6: (0.35, 0.10),
    7: (-0.20, 0.15), 9: (-0.60, 0.40), 10: (-0.20, 0.10), 12: (0.80, 0.25), 14: (-0.20, 0.00),
    15: (-0.50, -0.55), 17: (-0.15, -0.15), 20: (-0.40, 0.30), 23: (-0.45, 0.35),
    24: (-0.20, 0.10), 25: (0.05, 0.05), 26: (0.05, 0.25), 43: (0.00, -0.50),
    "one_sided": (-0.85, 0.05),
}  # fmt: skip

_WEIGHTS = np.array([*AFFECT_WEIGHTS.values()])
_CONTEMPT_UNITS = [UNITS.index(12), UNITS.index(14)]


@dataclasses.dataclass(frozen=True)
class RenderedFace:
    """A rendered face and its exact labels."""

    image: np.ndarray  # uint8 [size, size, 3], RGB
    expression: int  # 0 to 7
    valence: float  # [-1, 1]
    arousal: float
    sides: np.ndarray  # float32 [2, 18], intensities of the image's left and right side
    landmarks: np.ndarray  # float32 [68, 2], pixels of `image`
    box: np.ndarray  # float32 [4], x, y, width, height around the landmarks, pixels

    @property
    def action_units(self) -> np.ndarray:
        """float32 [18]: intensity of the stronger side, as FACS scores an asymmetric action."""
        return self.sides.max(axis=0)


def sample_expression(rng: np.random.Generator, index: int, skew: str) -> int:
    """Samples an expression by AffectNet's training counts, or takes the eight in turn."""
    if skew == "balanced":
        return index % labels.NUM_CLASSES
    counts = np.array(labels.TRAINING_COUNTS)
    return int(rng.choice(len(counts), p=counts / counts.sum()))


def sample_intensities(rng: np.random.Generator, expression: int) -> np.ndarray:
    """Samples intensities [2, 18] of the image's left and right side, in [0, 1]."""
    values = 0.04 * np.abs(rng.standard_normal(len(UNITS)))
    if rng.random() < 0.3:  # an unrelated unit
        values[rng.integers(len(UNITS))] += rng.uniform(0.05, 0.2)
    values[UNITS.index(43)] *= 0.5
    strength = rng.uniform(0.85, 1.2)
    units = dict(EXPRESSION_UNITS[expression])
    prototype = [unit for unit, (probability, _) in units.items() if probability == 1]
    if len(prototype) > 3 and rng.random() < 0.15:  # an omitted unit
        del units[prototype[rng.integers(len(prototype))]]
    for unit, (probability, mean) in units.items():
        if probability == 1 or rng.random() < probability:
            values[UNITS.index(unit)] = mean * strength + 0.1 * rng.standard_normal()
    values = np.clip(values, 0.0, 1.0)
    sides = values * np.where(HAS_SIDES, 1 + 0.05 * rng.standard_normal((2, len(UNITS))), 1.0)
    if labels.EXPRESSIONS[expression] == "contempt":
        sides[rng.integers(2), _CONTEMPT_UNITS] *= 0.1
    return np.clip(sides, 0.0, 1.0)


def compute_affect(intensities: np.ndarray) -> np.ndarray:
    """Computes valence and arousal [2] in (-1, 1) of intensities [2, 18], without noise."""
    asymmetry = np.abs(np.subtract(*intensities[:, _CONTEMPT_UNITS])).mean()
    return np.tanh(intensities.min(axis=0) @ _WEIGHTS[:-1] + asymmetry * _WEIGHTS[-1])


def render_expression(
    rng: np.random.Generator,
    expression: int,
    parameters: FaceParameters,
    size: int = 256,
    intensity: float = 1.0,
) -> RenderedFace:
    """Renders a face with an expression of random strength, and computes the labels."""
    intensities = np.clip(intensity * sample_intensities(rng, expression), 0.0, 1.0)
    affect = compute_affect(intensities) + AFFECT_NOISE_STD * rng.standard_normal(2)
    valence, arousal = affect.clip(-1.0, 1.0).tolist()
    image, landmarks = render_face(intensities, parameters, size)
    top_left, bottom_right = landmarks.min(axis=0), landmarks.max(axis=0)
    return RenderedFace(
        image=image,
        expression=expression,
        valence=valence,
        arousal=arousal,
        sides=intensities.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        box=np.concatenate([top_left, bottom_right - top_left]).astype(np.float32),
    )


def sample_face(
    seed: int,
    index: int,
    *,
    split: str = "training",
    skew: str = "affectnet",
    size: int = 256,
    changes: Mapping[str, Any] = {},
) -> RenderedFace:
    """Samples and renders the face `index` of a split, independently of all other faces.

    **Arguments:**

    - `seed`, `index`: at least 0.
    - `split`: `training` or `validation`; they share no person.
    - `skew`: `affectnet` (training counts of the eight expressions) or `balanced`.
    - `size`: side of the image, pixels; it affects the resolution only.
    - `changes`: fields of `FaceParameters` that are set, not sampled, and `intensity`, a factor of
      the intensities of all units. All else is the same.
    """
    rng = np.random.default_rng([seed, labels.SPLITS.index(split), index])
    expression = sample_expression(rng, index, skew)
    fields = dict(changes)
    intensity = fields.pop("intensity", 1.0)
    parameters = dataclasses.replace(random_parameters(rng), **fields)
    return render_expression(rng, expression, parameters, size, intensity)
