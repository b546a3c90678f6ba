"""From 68 landmarks to action units: the inverse of `affect_jax.facs.rig`.

A face's eyes are brought to their place, which removes its place, size and turn in the picture.
What then separates its points from the neutral face is, up to noise, a sum of displacements:

    points = REST + sum_u intensity_u MOVES_u + sum_k identity_k IDENTITY_k + head's pose + noise

with intensities that are not negative, one a side where FACS scores sides, and priors on
everything. The most probable sum is a non-negative least squares problem. Only its right-hand side
differs between faces, so identity and pose, which may have either sign, are eliminated once, by a
QR decomposition; for many faces one product of matrices leaves problems of 30 rows and 30 unknowns,
which SciPy's `nnls` (Lawson and Hanson's active sets) solves at about 50 microseconds a face. Kept
libraries have no solver that takes a batch of such problems and solves them exactly; with an upper
bound (`lsq_linear`) a face takes many times as long, so intensities above 1 are cut instead.

How noisy the landmarks are is found for each face by Morozov's discrepancy principle (1966): of
five levels the finest at which what is left is not larger than the noise. So the points of a drawn
face give its intensities closely, and those of a photograph are not overinterpreted.

What 68 points cannot tell: wrinkles, so AU6 from AU7 only weakly; a person's habitual face from an
expression, so that low brows look like AU4. Intensities of different detectors of landmarks have
different offsets.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from affect_jax.facs import rig
from affect_jax.facs.action_units import TABLE, UNITS

CORNERS = ([36, 39], [42, 45])
"""The corners of each eye: no unit moves them much."""

TRUSTED_RESIDUAL = 0.3
"""Landmarks with a larger residual are no face's: the worst of 5,255 photographs has 0.230, points
drawn at random have more than 1."""

CHUNK = 8_192  # faces worked on at once: 9 MB for an array of their points

LEVELS = (1.0, 0.5, 0.25, 0.1, 0.05)
"""How much of `_NOISE` a face's landmarks may have, from photographs to drawn faces."""

# Standard deviation of what the model leaves unexplained of a photograph's points, in face units:
# x, y. A brow's height is precise, where it ends is not; jaw and nose are soft in every detector.
# These and the priors below were searched for, to find drawn intensities again and to separate
# expressions (`separation`) in 4,625 photographs; nothing else was fitted to labels.
_NOISE = (
    (range(17), 0.022, 0.022),  # jaw
    (range(17, 27), 0.020, 0.004),  # brows
    ((27, 28), 0.020, 0.020),  # bridge of the nose
    (range(29, 36), 0.025, 0.025),  # nose
    (range(36, 48), 0.010, 0.010),  # eyes
    (range(48, 60), 0.022, 0.022),  # outer lips
    (range(60, 68), 0.010, 0.010),  # inner lips
)

# Standard deviations of the priors, all with mean 0.
_INTENSITY = 0.4  # of a unit, the mean of its sides
_UNEVEN = 0.12  # of its left side less its right one
_IDENTITY = {
    **dict.fromkeys(rig.IDENTITY_NAMES, 0.6),
    **dict.fromkeys(("eye_spacing", "eye_size", "eye_slant"), 1.5),
    **dict.fromkeys(("brow_height", "brow_spacing", "brow_arch"), 1.2),
    **dict.fromkeys(("face_length", "chin_length", "nose_length", "mouth_height"), 0.75),
}
_POSE = {"x": 1.0, "y": 0.02, "turn": 1.0, "scale": 0.1, "yaw": 0.3, "pitch": 0.02}


class Estimate(NamedTuple):
    """Action units of n faces.

    - `intensities`: float [n, 18] in [0, 1], in the order of `action_units.UNITS`: the stronger
      side's, as FACS scores an action that is uneven.
    - `sides`: float [n, 2, 18], the picture's left and right; equal for units without sides.
    - `residual`: float [n], the root of the mean square distance between a face's points and those
      that the intensities explain, in face units (1 = the distance between the eyes): below 0.001
      for drawn faces, about 0.03 for photographs; far above, intensities are not to be trusted.
    """

    intensities: np.ndarray
    sides: np.ndarray
    residual: np.ndarray


class _Model(NamedTuple):
    """The least squares problem of K unknown intensities and m unknowns of identity and pose.

    Unknowns are divided by their prior's deviation. Rows are points, then priors, each divided by
    its deviation.
    """

    units: np.ndarray  # [136, K]
    prior: np.ndarray  # [K, K], of the intensities; that of the others is the identity
    free: np.ndarray  # [136, m]
    solve_free: np.ndarray  # [m, 136]: the best identity and pose for what is left of the points
    project: np.ndarray  # [136, K]: points' right-hand side to the small problem's
    small: np.ndarray  # [K, K]: the small problem's matrix


def estimate(landmarks: np.ndarray) -> Estimate:
    """Intensities of the action units of n faces, NaN where landmarks are.

    **Arguments:**

    - `landmarks`: float [n, 68, 2], x and y in pixels with one scale for both; NaN for a face
      without landmarks.
    """
    landmarks = np.asarray(landmarks, np.float64)
    sides = np.full((len(landmarks), 2, len(UNITS)), np.nan)
    residual = np.full(len(landmarks), np.nan)
    for start in range(0, len(landmarks), CHUNK):
        part = slice(start, start + CHUNK)
        sides[part], residual[part] = _estimate(upright(landmarks[part]))
    return Estimate(sides.max(axis=1), sides, residual)


def upright(landmarks: np.ndarray) -> np.ndarray:
    """Points without their place, size and turn in the picture: float [n, 68, 2], face units.

    The middles of the eyes' corners come to (-1/2, 0) and (1/2, 0). A face whose eyes are at one
    point has none of these; its points are NaN.
    """
    left, right = (landmarks[:, corners].mean(axis=1) for corners in CORNERS)
    across = right - left
    squared = np.sum(across**2, axis=1)
    x, y = (across / np.where(squared > 0, squared, np.nan)[:, None]).T[..., None]
    points = landmarks - ((left + right) / 2)[:, None]
    turned = (points[..., 0] * x + points[..., 1] * y, points[..., 1] * x - points[..., 0] * y)
    return np.stack(turned, axis=-1)


REST = upright(rig.NEUTRAL[None])[0]
"""float [68, 2]: the neutral face, its eyes' corners in their place."""


def _sides() -> np.ndarray:
    """float [K, 2, 18]: 1 where an unknown intensity is that of a side's unit."""
    unknowns = []
    for unit, sided in enumerate(one.sided for one in TABLE):
        for wanted in ((0,), (1,)) if sided else ((0, 1),):
            unknowns.append(np.zeros((2, len(UNITS))))
            unknowns[-1][list(wanted), unit] = 1
    return np.stack(unknowns)


SIDES = _sides()


def _estimate(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intensities [n, 2, 18] and residuals [n] of upright points [n, 68, 2]."""
    offsets = (points - REST).reshape(len(points), -1)
    intensities = np.full((len(points), len(SIDES)), np.nan)
    residual = np.full(len(points), np.nan)
    rows = np.flatnonzero(np.isfinite(offsets).all(axis=1))
    for level in LEVELS:
        found, left = _fit(offsets[rows], level)
        misfit = np.sqrt(np.mean((left / (level * _deviation())) ** 2, axis=1))
        fits = misfit <= 1 if level < LEVELS[0] else np.full(len(rows), True)
        intensities[rows[fits]] = found[fits]
        residual[rows[fits]] = np.sqrt(np.sum(left[fits] ** 2, axis=1) / rig.NUM_POINTS)
        rows = rows[misfit <= 0.5]  # only these can fit where the noise is less than half as large
    return np.tensordot(intensities, SIDES, 1), residual


def _fit(offsets: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The most probable intensities [n, K] of points' offsets from `REST` [n, 136], and what is
    left of the offsets [n, 136]."""
    model, deviation = _model(level), level * _deviation()
    scaled = offsets / deviation
    solved = [nnls(model.small, target)[0] for target in scaled @ model.project]
    intensities = np.minimum(np.reshape(solved, (-1, len(SIDES))), 1 / _INTENSITY)
    left = scaled - intensities @ model.units.T
    left -= left @ model.solve_free.T @ model.free.T
    return intensities * _INTENSITY, left * deviation


@functools.cache
def _deviation() -> np.ndarray:
    """Of each coordinate: float [136]."""
    noise = np.zeros_like(REST)
    for points, x, y in _NOISE:
        noise[list(points)] = x, y
    return noise.ravel()


def _poses() -> dict[str, np.ndarray]:
    """What a little more of each part of the pose does to the neutral face: [68, 2] by name."""
    x, y = REST.T
    zero = np.zeros_like(x)
    moves = {
        "x": (zero + 1, zero),
        "y": (zero, zero + 1),
        "turn": (-y, x),
        "scale": (x, y),
        "yaw": (rig.DEPTH, zero),
        "pitch": (zero, rig.DEPTH),
    }
    return {name: np.stack(move, axis=1) for name, move in moves.items()}


@functools.cache
def _model(level: float) -> _Model:
    poses = _poses()
    free = [
        _IDENTITY[name] * shape
        for name, shape in zip(rig.IDENTITY_NAMES, rig.IDENTITY, strict=True)
    ]
    free += [_POSE[name] * poses[name] for name in _POSE]
    deviation = level * _deviation()[:, None]
    units = np.tensordot(SIDES, rig.SIDE_MOVES, 2).reshape(len(SIDES), -1).T
    units = _INTENSITY * units / deviation
    others = np.stack(free).reshape(len(free), -1).T / deviation
    # A prior is a row that wants its unknown to be 0.
    prior = _prior()
    num_units, num_others = units.shape[1], others.shape[1]
    units_rows = np.concatenate([units, prior, np.zeros((num_others, num_units))])
    others_rows = np.concatenate([others, np.zeros((num_units, num_others)), np.eye(num_others)])
    basis, triangle = np.linalg.qr(others_rows)
    rest_basis, small = np.linalg.qr(units_rows - basis @ (basis.T @ units_rows))
    solve_free = np.linalg.solve(triangle, basis.T)[:, : len(units)]
    return _Model(units, prior, others, solve_free, rest_basis[: len(units)], small)


def _prior() -> np.ndarray:
    """Rows [K, K] that want a unit's mean over its sides, and its sides' difference, to be 0."""
    rows = []
    for unit, one in enumerate(TABLE):
        left, right = SIDES[:, 0, unit], SIDES[:, 1, unit]
        rows.append((left + right) / 2)
        if one.sided:
            rows.append((left - right) * _INTENSITY / _UNEVEN)
    return np.stack(rows)
