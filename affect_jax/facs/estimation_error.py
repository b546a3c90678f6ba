"""Error of the action unit estimates on faces that the rig generates, by landmark noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tabulate

from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import estimate

NOISE_STDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
"""Standard deviations of each coordinate, in face units: 0.01 is 0.6 pixels of a 256 x 256 face."""

NUM_FACES = 2_000
MAX_ROTATION = np.deg2rad(20)
ACTIVE_PROBABILITY = 0.3  # of each unit in a face


class RandomFaces(NamedTuple):
    """Random faces: intensities [n, 18], landmarks [n, 68, 2] and pixels per face unit [n]."""

    intensities: np.ndarray
    landmarks: np.ndarray
    scale: np.ndarray


class EstimationError(NamedTuple):
    """Error of the estimated intensities.

    - `errors`: [18], mean absolute error of each unit.
    - `correlations`: [18], of true and estimated intensities.
    - `residual`: median residual, in face units.
    """

    errors: np.ndarray
    correlations: np.ndarray
    residual: float


def sample_faces(num_faces: int, seed: int = 0) -> RandomFaces:
    """Samples faces of different persons.

    Each unit is active with probability 0.3 and has a uniform intensity. Identity coefficients are
    standard normal, clipped at two standard deviations; one standard deviation is about a tenth of
    a proportion (`rig.IDENTITY_DISPLACEMENTS`). Heads are rotated by up to 20 degrees in the image
    plane.
    """
    rng = np.random.default_rng(seed)
    shape = (num_faces, len(UNITS))
    intensities = rng.uniform(0, 1, shape) * (rng.random(shape) < ACTIVE_PROBABILITY)
    scale = rng.uniform(40, 80, num_faces)
    landmarks = rig.project_landmarks(
        intensities,
        np.clip(rng.standard_normal((num_faces, rig.NUM_IDENTITY)), -2, 2),
        scale,
        rng.uniform(-MAX_ROTATION, MAX_ROTATION, num_faces),
        rng.uniform(100, 150, (num_faces, 2)),
    )
    return RandomFaces(intensities, landmarks, scale)


def measure_error(faces: RandomFaces, noise: float, seed: int = 1) -> EstimationError:
    """Adds noise to the landmarks, estimates the intensities and compares them with the true ones.

    **Arguments:**

    - `noise`: standard deviation of each coordinate, in face units.
    """
    rng = np.random.default_rng(seed)
    perturbation = noise * faces.scale[:, None, None] * rng.standard_normal(faces.landmarks.shape)
    estimates = estimate(faces.landmarks + perturbation)
    errors = np.abs(estimates.intensities - faces.intensities).mean(axis=0)
    pairs = zip(faces.intensities.T, estimates.intensities.T, strict=True)
    correlations = np.array([np.corrcoef(truth, estimated)[0, 1] for truth, estimated in pairs])
    return EstimationError(errors, correlations, float(np.median(estimates.residual)))


def format_table() -> str:
    """Formats the errors by noise as text: means over the units, and the three worst units."""
    faces = sample_faces(NUM_FACES)
    rows = []
    for noise in NOISE_STDS:
        error = measure_error(faces, noise)
        worst = np.argsort(-error.errors)[:3]
        rows.append(
            [
                f"{noise:g}",
                f"{error.errors.mean():.3f}",
                f"{error.correlations.mean():.2f}",
                f"{error.residual:.4f}",
                ", ".join(f"AU{UNITS[unit]} {error.errors[unit]:.2f}" for unit in worst),
            ]
        )
    headers = ["noise", "mean absolute error", "correlation", "residual", "worst units"]
    return tabulate.tabulate(rows, headers, disable_numparse=True)
