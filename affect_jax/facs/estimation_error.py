"""How exactly the rig's inverse finds the intensities that made a face, as landmarks get noisy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tabulate

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import estimate

NOISES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
"""Standard deviations of each coordinate, in face units: 0.01 is 0.6 pixels of a 256 x 256 face."""

NUM_FACES = 2_000
TURN = np.deg2rad(20)
SHARE = 0.3  # of the units, active in a face


class Faces(NamedTuple):
    """Random faces: intensities [n, 18], landmarks [n, 68, 2] and pixels a face unit [n]."""

    intensities: np.ndarray
    landmarks: np.ndarray
    scale: np.ndarray


class Recovery(NamedTuple):
    """What is left of the intensities.

    - `errors`: [18], mean absolute error of each unit.
    - `correlations`: [18], of true and found intensities.
    - `residual`: the median, in face units.
    """

    errors: np.ndarray
    correlations: np.ndarray
    residual: float


def draw(num_faces: int, seed: int = 0) -> Faces:
    """Faces of different persons: each unit is active with probability 0.3, its intensity uniform.

    Identities are standard normal, cut at two deviations, which is a tenth of each proportion per
    deviation (`rig.IDENTITY`); heads are turned by up to 20 degrees in the plane of the picture.
    """
    rng = np.random.default_rng(seed)
    shape = (num_faces, len(UNITS))
    intensities = rng.uniform(0, 1, shape) * (rng.random(shape) < SHARE)
    scale = rng.uniform(40, 80, num_faces)
    landmarks = rig.landmarks(
        intensities,
        np.clip(rng.standard_normal((num_faces, rig.NUM_IDENTITY)), -2, 2),
        scale,
        rng.uniform(-TURN, TURN, num_faces),
        rng.uniform(100, 150, (num_faces, 2)),
    )
    return Faces(intensities, landmarks, scale)


def recovery(faces: Faces, noise: float, seed: int = 1) -> Recovery:
    """Adds noise to the landmarks, estimates, compares.

    **Arguments:**

    - `noise`: standard deviation of each coordinate, in face units.
    """
    rng = np.random.default_rng(seed)
    shift = noise * faces.scale[:, None, None] * rng.standard_normal(faces.landmarks.shape)
    found = estimate(faces.landmarks + shift)
    errors = np.abs(found.intensities - faces.intensities).mean(axis=0)
    pairs = zip(found.intensities.T, faces.intensities.T, strict=True)
    correlations = np.array([np.corrcoef(one, other)[0, 1] for one, other in pairs])
    return Recovery(errors, correlations, float(np.median(found.residual)))


def table() -> str:
    """Errors by noise, as text: means over the units, and the three worst units."""
    faces = draw(NUM_FACES)
    rows = []
    for noise in NOISES:
        found = recovery(faces, noise)
        worst = np.argsort(-found.errors)[:3]
        rows.append(
            [
                f"{noise:g}",
                f"{found.errors.mean():.3f}",
                f"{found.correlations.mean():.2f}",
                f"{found.residual:.4f}",
                ", ".join(f"AU{UNITS[unit]} {found.errors[unit]:.2f}" for unit in worst),
            ]
        )
    headers = ["noise", "mean absolute error", "correlation", "residual", "worst"]
    return tabulate.tabulate(rows, headers, disable_numparse=True)
