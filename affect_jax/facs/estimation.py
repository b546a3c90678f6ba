"""Estimates action units from 68 landmarks: the inverse of `affect_jax.facs.rig`.

Aligning the eyes removes the position, size and in-plane rotation of a face. The difference between
its points and the neutral face is then a sum of displacements, up to noise:

    points = neutral + sum_u intensity_u unit_u + sum_k coefficient_k identity_k + pose + noise

Intensities are non-negative, with one per side if FACS scores sides. All unknowns have priors. The
maximum a posteriori estimate is a non-negative least squares problem. Only its right-hand side
differs between faces. Identity and pose are nuisance parameters of either sign, and a QR
decomposition eliminates them once. One matrix product for many faces then leaves problems of 30
rows and 30 unknowns. SciPy's `nnls` solves one in about 50 microseconds. An upper bound
(`lsq_linear`) takes many times as long, so intensities above 1 are clipped instead.

The noise of each face's landmarks is estimated by Morozov's discrepancy principle (1966): the
finest of five levels at which the remainder is not larger than the noise. The estimate therefore
fits the points of a rendered face closely and does not overfit those of a photograph.

Limits of 68 points: they show no wrinkles, so AU6 and AU7 are hardly distinguishable; they do not
separate a person's resting face from an expression, so low brows look like AU4. Different landmark
detectors lead to different offsets of the intensities.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from affect_jax.facs import rig
from affect_jax.facs.action_units import ACTION_UNITS, UNITS

MAX_TRUSTED_RESIDUAL = 0.3
"""Landmarks with a larger residual are not from a face: the largest of 5,255 photographs is 0.230;
random points have more than 1."""

CHUNK_SIZE = 8_192  # faces per step: an array of their points takes 9 MB

NOISE_LEVELS = (1.0, 0.5, 0.25, 0.1, 0.05)
"""Factors of `_NOISE_STD` that are tried for each face, from photographs to rendered faces."""

# Standard deviation (x, y) of the unexplained part of a photograph's points, in face units. The
# height of a brow is precise, its ends are not. Jaw and nose are imprecise in every detector.
# These values and the priors below were tuned to recover rendered intensities and to separate
# expressions in 4,625 photographs (`benchmarks.action_units`). Nothing else was fitted to labels.
_NOISE_STD = np.concatenate([
    np.tile((0.022, 0.022), 17),  # jaw
    np.tile((0.020, 0.004), 10),  # brows
    np.tile((0.020, 0.020), 2),  # bridge of the nose
    np.tile((0.025, 0.025), 7),  # nose
    np.tile((0.010, 0.010), 12),  # eyes
    np.tile((0.022, 0.022), 12),  # outer lips
    np.tile((0.010, 0.010), 8),  # inner lips
])  # fmt: skip

# Standard deviations of the priors, all with mean 0.
_INTENSITY_STD = 0.4  # of a unit: mean of its sides
_ASYMMETRY_STD = 0.12  # of a unit: left side minus right side
_IDENTITY_STD = {
    **dict.fromkeys(rig.IDENTITY_NAMES, 0.6),
    **dict.fromkeys(("eye_spacing", "eye_size", "eye_slant"), 1.5),
    **dict.fromkeys(("brow_height", "brow_spacing", "brow_arch"), 1.2),
    **dict.fromkeys(("face_length", "chin_length", "nose_length", "mouth_height"), 0.75),
}
_POSE_STD = {"x": 1.0, "y": 0.02, "turn": 1.0, "scale": 0.1, "yaw": 0.3, "pitch": 0.02}


class Estimate(NamedTuple):
    """Action units of n faces.

    - `intensities`: float [n, 18] in [0, 1], in the order of `action_units.UNITS`: the stronger
      side, as FACS scores an asymmetric action.
    - `sides`: float [n, 2, 18], left and right side of the image; equal for units without sides.
    - `residual`: float [n], root mean square distance between the points of a face and those of the
      fitted model, in face units (1 = the distance between the eyes). It is below 0.001 for
      rendered faces and about 0.03 for photographs. Do not trust intensities with a much larger
      residual.
    """

    intensities: np.ndarray
    sides: np.ndarray
    residual: np.ndarray


class _LeastSquares(NamedTuple):
    """The least squares problem of K intensities and m nuisance parameters (identity and pose).

    Unknowns are divided by the standard deviation of their prior, points by that of their noise.
    """

    units_matrix: np.ndarray  # [136, K]
    nuisance_matrix: np.ndarray  # [136, m]
    solve_nuisance: np.ndarray  # [m, 136]: maps the remainder of the points to identity and pose
    reduce_target: np.ndarray  # [136, K]: maps the points to the right-hand side of the reduction
    reduced_matrix: np.ndarray  # [K, K]: matrix of the reduced problem


def estimate(landmarks: np.ndarray) -> Estimate:
    """Estimates the intensities of the action units of n faces.

    **Arguments:** `landmarks`: float [n, 68, 2], x and y in pixels with the same scale; NaN for a
    face without landmarks.

    **Returns:** an `Estimate`, NaN for a face without landmarks.
    """
    landmarks = np.asarray(landmarks, np.float64)
    sides = np.full((len(landmarks), 2, len(UNITS)), np.nan)
    residual = np.full(len(landmarks), np.nan)
    for start in range(0, len(landmarks), CHUNK_SIZE):
        chunk = slice(start, start + CHUNK_SIZE)
        sides[chunk], residual[chunk] = _estimate_aligned(align_eyes(landmarks[chunk]))
    return Estimate(sides.max(axis=1), sides, residual)


def align_eyes(landmarks: np.ndarray) -> np.ndarray:
    """Removes position, size and in-plane rotation: float [n, 68, 2], face units.

    The midpoint of each eye's corners moves to (-1/2, 0) or (1/2, 0). If both eyes of a face are at
    the same point, its points are NaN.
    """
    # No unit moves the corners of the eyes much.
    left, right = (landmarks[:, corners].mean(axis=1) for corners in ([36, 39], [42, 45]))
    across = right - left
    squared = np.sum(across**2, axis=1)
    x, y = (across / np.where(squared > 0, squared, np.nan)[:, None]).T[..., None]
    points = landmarks - ((left + right) / 2)[:, None]
    aligned = (points[..., 0] * x + points[..., 1] * y, points[..., 1] * x - points[..., 0] * y)
    return np.stack(aligned, axis=-1)


ALIGNED_NEUTRAL = align_eyes(rig.NEUTRAL[None])[0]
"""float [68, 2]: the neutral face with aligned eyes."""


def _build_unknown_sides() -> np.ndarray:
    """Returns float [K, 2, 18]: 1 if the unknown is the intensity of this unit on this side."""
    unknowns = []
    for index, unit in enumerate(ACTION_UNITS):
        for sides in ((0,), (1,)) if unit.has_sides else ((0, 1),):
            unknowns.append(np.zeros((2, len(UNITS))))
            unknowns[-1][list(sides), index] = 1
    return np.stack(unknowns)


UNKNOWN_SIDES = _build_unknown_sides()


def _estimate_aligned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimates intensities [n, 2, 18] and residuals [n] of aligned points [n, 68, 2]."""
    offsets = (points - ALIGNED_NEUTRAL).reshape(len(points), -1)
    intensities = np.full((len(points), len(UNKNOWN_SIDES)), np.nan)
    residual = np.full(len(points), np.nan)
    rows = np.flatnonzero(np.isfinite(offsets).all(axis=1))
    for level in NOISE_LEVELS:
        fitted, remainder = _fit(offsets[rows], level)
        misfit = np.sqrt(np.mean((remainder / (level * _NOISE_STD)) ** 2, axis=1))
        fits = misfit <= 1 if level < NOISE_LEVELS[0] else np.full(len(rows), True)
        intensities[rows[fits]] = fitted[fits]
        residual[rows[fits]] = np.sqrt(np.sum(remainder[fits] ** 2, axis=1) / rig.NUM_POINTS)
        rows = rows[misfit <= 0.5]  # the others cannot fit at half the noise or less
    return np.tensordot(intensities, UNKNOWN_SIDES, 1), residual


def _fit(offsets: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Fits offsets [n, 136]: the most probable intensities [n, K] and the remainder [n, 136]."""
    model, std = _build_least_squares(level), level * _NOISE_STD
    scaled = offsets / std
    solutions = [nnls(model.reduced_matrix, target)[0] for target in scaled @ model.reduce_target]
    intensities = np.minimum(np.reshape(solutions, (-1, len(UNKNOWN_SIDES))), 1 / _INTENSITY_STD)
    remainder = scaled - intensities @ model.units_matrix.T
    remainder -= remainder @ model.solve_nuisance.T @ model.nuisance_matrix.T
    return intensities * _INTENSITY_STD, remainder * std


@functools.cache
def _build_least_squares(level: float) -> _LeastSquares:
    x, y = ALIGNED_NEUTRAL.T
    zero = np.zeros_like(x)
    poses = {  # derivatives of the neutral face
        "x": (zero + 1, zero),
        "y": (zero, zero + 1),
        "turn": (-y, x),
        "scale": (x, y),
        "yaw": (rig.DEPTH, zero),
        "pitch": (zero, rig.DEPTH),
    }
    nuisance = [
        _IDENTITY_STD[name] * shape
        for name, shape in zip(rig.IDENTITY_NAMES, rig.IDENTITY_DISPLACEMENTS, strict=True)
    ]
    nuisance += [std * np.stack(poses[name], axis=1) for name, std in _POSE_STD.items()]
    std = level * _NOISE_STD[:, None]
    units = np.tensordot(UNKNOWN_SIDES, rig.SIDE_DISPLACEMENTS, 2).reshape(len(UNKNOWN_SIDES), -1).T
    units = _INTENSITY_STD * units / std
    nuisance_matrix = np.stack(nuisance).reshape(len(nuisance), -1).T / std
    # A prior is a row with target 0 for its unknown.
    prior = _build_prior()
    num_units, num_nuisance = units.shape[1], nuisance_matrix.shape[1]
    units_rows = np.concatenate([units, prior, np.zeros((num_nuisance, num_units))])
    nuisance_rows = np.concatenate(
        [nuisance_matrix, np.zeros((num_units, num_nuisance)), np.eye(num_nuisance)]
    )
    basis, triangular = np.linalg.qr(nuisance_rows)
    reduced_basis, reduced_matrix = np.linalg.qr(units_rows - basis @ (basis.T @ units_rows))
    solve_nuisance = np.linalg.solve(triangular, basis.T)[:, : len(units)]
    return _LeastSquares(
        units, nuisance_matrix, solve_nuisance, reduced_basis[: len(units)], reduced_matrix
    )


def _build_prior() -> np.ndarray:
    """Rows [K, K] that pull the mean and the difference of the sides of each unit towards 0."""
    rows = []
    for index, unit in enumerate(ACTION_UNITS):
        left, right = UNKNOWN_SIDES[:, 0, index], UNKNOWN_SIDES[:, 1, index]
        rows.append((left + right) / 2)
        if unit.has_sides:
            rows.append((left - right) * _INTENSITY_STD / _ASYMMETRY_STD)
    return np.stack(rows)
