"""Estimates action units from 68 landmarks: the inverse of `affect_jax.facs.rig`.

Aligning the eyes removes the position, size and in-plane rotation of a face. The difference between
its points and the neutral face is then a sum of displacements, up to noise:

    points = neutral + sum_u intensity_u unit_u + sum_k coefficient_k identity_k + pose + noise

Intensities are non-negative, with one per side if FACS scores sides. All unknowns have normal
priors. Identity and pose therefore only add to the covariance of the noise, and the most probable
intensities solve a non-negative least squares problem of 30 unknowns. SciPy's `nnls` takes about 50
microseconds. An upper bound (`lsq_linear`) takes many times as long, so intensities above 1 are
clipped instead.

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
from affect_jax.facs.action_units import HAS_SIDES, UNITS

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


def estimate(landmarks: np.ndarray) -> Estimate:
    """Estimates the intensities of the action units of n faces.

    **Arguments:** `landmarks`: float [n, 68, 2], x and y in pixels with the same scale; NaN for a
    face without landmarks.

    **Returns:** an `Estimate`, NaN for a face without landmarks.
    """
    sides = np.full((len(landmarks), 2, len(UNITS)), np.nan)
    residual = np.full(len(landmarks), np.nan)
    for start in range(0, len(landmarks), CHUNK_SIZE):
        aligned = align_eyes(landmarks[start : start + CHUNK_SIZE])
        offsets = (aligned - ALIGNED_NEUTRAL).reshape(len(aligned), -1)
        rows = np.flatnonzero(np.isfinite(offsets).all(axis=1))
        for level in NOISE_LEVELS:
            intensities, remainder = _fit(offsets[rows], level)
            misfit = np.sqrt(np.mean((remainder / (level * _NOISE_STD)) ** 2, axis=1))
            fits = (misfit <= 1) | (level == NOISE_LEVELS[0])
            faces = start + rows[fits]
            sides[faces] = np.tensordot(intensities[fits], UNKNOWN_SIDES, 1)
            residual[faces] = np.sqrt(np.sum(remainder[fits] ** 2, axis=1) / rig.NUM_POINTS)
            rows = rows[misfit <= 0.5]  # the others cannot fit at half the noise or less
    return Estimate(sides.max(axis=1), sides, residual)


@np.errstate(invalid="ignore")  # infinite points become NaN
def align_eyes(landmarks: np.ndarray) -> np.ndarray:
    """Removes position, size and in-plane rotation: float [n, 68, 2], face units.

    The midpoint of each eye's corners moves to (-1/2, 0) or (1/2, 0). If both eyes of a face are at
    the same point, its points are NaN.
    """
    points = np.ascontiguousarray(landmarks, np.float64).view(complex)  # x + iy, [n, 68, 1]
    # No unit moves the corners of the eyes much.
    left, right = (points[:, eye].mean(axis=1, keepdims=True) for eye in ([36, 39], [42, 45]))
    across = np.where(left == right, np.nan, right - left)
    return ((points - (left + right) / 2) / across).view(float)


ALIGNED_NEUTRAL = align_eyes(rig.NEUTRAL[None])[0]
"""float [68, 2]: the neutral face with aligned eyes."""

_LEFT, _RIGHT = np.eye(2 * len(UNITS)).reshape(2, len(UNITS), 2, len(UNITS))
UNKNOWN_SIDES = np.concatenate([_LEFT[HAS_SIDES], _RIGHT[HAS_SIDES], (_LEFT + _RIGHT)[~HAS_SIDES]])
"""float [K, 2, 18]: 1 if the unknown is the intensity of this unit on this side."""

_UNKNOWN_SHAPES = np.tensordot(UNKNOWN_SIDES, rig.SIDE_DISPLACEMENTS, 2).reshape(
    -1, _NOISE_STD.size
)
"""float [K, 136]: displacements of all points by the unknowns at intensity 1."""

_PRIOR = np.concatenate([
    UNKNOWN_SIDES.mean(axis=1) / _INTENSITY_STD,
    (UNKNOWN_SIDES[:, 0] - UNKNOWN_SIDES[:, 1]) / _ASYMMETRY_STD,
], axis=1).T  # fmt: skip
"""float [36, K]: rows that pull the mean and the difference of the sides of each unit towards 0."""

_X, _Y = ALIGNED_NEUTRAL.T
_POSES = np.stack([  # one standard deviation times the derivative of the neutral face
    (1.0 + 0 * _X, 0 * _Y),  # x
    (0 * _X, 0.02 + 0 * _Y),  # y
    (-_Y, _X),  # turn
    (0.1 * _X, 0.1 * _Y),  # scale
    (0.3 * rig.DEPTH, 0 * _Y),  # yaw
    (0 * _X, 0.02 * rig.DEPTH),  # pitch
])  # fmt: skip
_IDENTITIES = np.array([_IDENTITY_STD[name] for name in rig.IDENTITY_NAMES])[:, None, None] * (
    rig.IDENTITY_DISPLACEMENTS
)
_NUISANCE_SHAPES = np.concatenate([_IDENTITIES, _POSES.swapaxes(1, 2)]).reshape(-1, _NOISE_STD.size)
"""float [m, 136]: displacements of all points by one standard deviation of identity and pose."""


@functools.cache
def _build_problem(level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the least squares problem; points are divided by the noise."""
    std = level * _NOISE_STD
    shapes, nuisance = _UNKNOWN_SHAPES / std, _NUISANCE_SHAPES / std
    # Inverse covariance of noise, identity and pose, I - B B^T; inverting I + N^T N is less exact.
    basis = np.linalg.qr(np.concatenate([nuisance.T, np.eye(len(nuisance))]))[0][: len(std)]
    precision = np.eye(len(std)) - basis @ basis.T
    factor = np.linalg.cholesky(shapes @ precision @ shapes.T + _PRIOR.T @ _PRIOR)
    return shapes, precision, factor.T, np.linalg.solve(factor, shapes @ precision).T


def _fit(offsets: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Fits offsets [n, 136]: the most probable intensities [n, K] and the remainder [n, 136]."""
    shapes, precision, matrix, reduce = _build_problem(level)
    std = level * _NOISE_STD
    solutions = [nnls(matrix, target)[0] for target in offsets / std @ reduce]
    intensities = np.minimum(np.reshape(solutions, (-1, len(shapes))), 1)
    return intensities, (offsets / std - intensities @ shapes) @ precision * std
