"""Faces of the rig with known action units, in pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS


class SampledFaces(NamedTuple):
    """Intensities [n, 18], landmarks [n, 68, 2] and pixels per face unit [n]."""

    intensities: np.ndarray
    landmarks: np.ndarray
    scale: np.ndarray


def sample_faces(num_faces: int, active: float = 0.3) -> SampledFaces:
    """Samples faces of different persons, rotated by up to 20 degrees in the image plane.

    **Arguments:** `active`: probability of each unit.
    """
    random = np.random.default_rng(0)
    shape = (num_faces, len(UNITS))
    intensities = random.uniform(0, 1, shape) * (random.random(shape) < active)
    scale = random.uniform(40, 80, num_faces)
    identity = np.clip(random.standard_normal((num_faces, rig.NUM_IDENTITY)), -2, 2)
    landmarks = place_in_image(
        rig.deform_symmetric(intensities, identity),
        scale,
        np.deg2rad(random.uniform(-20, 20, num_faces)),
        random.uniform(100, 150, (num_faces, 2)),
    )
    return SampledFaces(intensities, landmarks, scale)


def place_in_image(points: np.ndarray, scale, rotation, translation) -> np.ndarray:
    """Rotates (clockwise as displayed), scales and translates points [n, 68, 2] in face units."""
    cos, sin = np.cos(rotation), np.sin(rotation)
    matrix = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    return np.reshape(scale, (-1, 1, 1)) * points @ matrix + np.asarray(translation)[:, None]
