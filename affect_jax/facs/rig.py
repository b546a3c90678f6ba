"""Computes 68 landmarks from action units: a neutral face plus displacements per unit and person.

The model is linear, in face units: the origin is midway between the eyes, x points along their line
to the right of the image, y points down the face, and 1 is the distance between the eye centres
(about 63 mm in an adult). Points are numbered as in the iBUG scheme (Sagonas et al., 300 Faces
in-the-Wild, 2013): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer lips 48-59, inner lips
60-67, each from the left of the image.

The numbers are designed by hand. Directions of movement follow the FACS manual (Ekman, Friesen and
Hager, 2002). An intensity of 1 is the strongest that people can produce, which is about 10 mm for a
lip corner or a brow. The proportions of the neutral face and its depth are between the iBUG scheme
and the median of photographs of neutral faces. The rig models points only, no wrinkles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect_jax.facs.action_units import UNITS

NUM_POINTS = 68

MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
])  # fmt: skip
"""int [68]: index of each point in the mirrored image; this permutation is its own inverse."""

HalfFace = dict[int, tuple[float, float]]

_LEFT_NEUTRAL = {  # (outwards, up, depth) of the left half and the midline
    0: (1.114, -0.030, -0.58), 1: (1.100, -0.288, -0.61), 2: (1.065, -0.547, -0.62),
    3: (1.005, -0.796, -0.60), 4: (0.905, -1.034, -0.55), 5: (0.751, -1.273, -0.40),
    6: (0.537, -1.502, -0.26), 7: (0.284, -1.681, -0.10), 8: (0, -1.751, 0),
    17: (0.895, 0.234, -0.11), 18: (0.796, 0.326, -0.01), 19: (0.638, 0.367, 0.08),
    20: (0.452, 0.354, 0.15), 21: (0.247, 0.319, 0.19),
    27: (0, 0.050, 0.19), 28: (0, -0.179, 0.29), 29: (0, -0.398, 0.38),
    30: (0, -0.567, 0.42),
    31: (0.224, -0.686, 0.21), 32: (0.114, -0.731, 0.235), 33: (0, -0.756, 0.25),
    36: (0.714, -0.005, -0.06), 37: (0.598, 0.080, -0.005), 38: (0.426, 0.081, 0.01),
    39: (0.273, -0.025, 0.035), 40: (0.412, -0.065, 0.02), 41: (0.576, -0.066, 0),
    48: (0.398, -1.114, 0.03), 49: (0.244, -1.039, 0.17), 50: (0.095, -1.010, 0.225),
    51: (0, -1.025, 0.245),
    57: (0, -1.263, 0.17), 58: (0.114, -1.251, 0.15), 59: (0.249, -1.209, 0.12),
    60: (0.353, -1.112, 0.02), 61: (0.109, -1.104, 0.16), 62: (0, -1.110, 0.18),
    66: (0, -1.118, 0.16), 67: (0.109, -1.114, 0.155),
}  # fmt: skip

# Displacement (outwards, up) of the left half by each unit at intensity 1, in face units.
_LEFT_UNIT_DISPLACEMENTS: dict[int, HalfFace] = {
    1: {21: (0.005, 0.150), 20: (0, 0.110), 19: (0, 0.035), 27: (0, 0.015)},
    2: {17: (0.005, 0.110), 18: (0.005, 0.150), 19: (0, 0.130), 20: (0, 0.050), 21: (0, 0.010)},
    4: {21: (-0.050, -0.120), 20: (-0.045, -0.105), 19: (-0.030, -0.080), 18: (-0.015, -0.050),
        17: (-0.005, -0.025), 37: (0, -0.016), 38: (0, -0.028), 27: (0, -0.010)},
    5: {37: (0, 0.065), 38: (0, 0.065), 36: (0, 0.008), 39: (0, 0.004)},
    6: {41: (0, 0.042), 40: (0, 0.030), 36: (-0.012, 0.002), 37: (0, -0.022), 38: (0, -0.010),
        17: (0, -0.025), 18: (0, -0.020), 19: (0, -0.010), 31: (0.008, 0.006), 2: (0.012, 0.006),
        3: (0.010, 0.008)},
    7: {41: (0, 0.034), 40: (0, 0.048), 37: (0, -0.022), 38: (0, -0.028), 39: (-0.004, 0.004)},
    9: {31: (0.020, 0.085), 32: (0.010, 0.072), 33: (0, 0.060), 30: (0, 0.042), 29: (0, 0.022),
        21: (-0.025, -0.060), 20: (-0.015, -0.040), 19: (0, -0.015), 40: (0, 0.030), 41: (0, 0.020),
        38: (0, -0.016), 37: (0, -0.006), 49: (0, 0.050), 50: (0, 0.075), 51: (0, 0.070),
        61: (0, 0.042), 62: (0, 0.042), 48: (0, 0.010), 60: (0, 0.010)},
    10: {49: (0.010, 0.085), 50: (0.005, 0.110), 51: (0, 0.095), 61: (0.010, 0.085), 62: (0, 0.085),
        48: (-0.010, 0.015), 60: (-0.010, 0.015), 31: (0.018, 0.030), 32: (0.006, 0.015),
        33: (0, 0.006)},
    12: {48: (0.130, 0.160), 49: (0.070, 0.085), 50: (0.025, 0.050), 51: (0, 0.035), 57: (0, 0.030),
        58: (0.025, 0.035), 59: (0.070, 0.080), 60: (0.115, 0.145), 61: (0.030, 0.055),
        62: (0, 0.040), 66: (0, 0.040), 67: (0.030, 0.055), 31: (0.022, 0.012), 32: (0.008, 0.006),
        3: (0.015, 0.010), 4: (0.018, 0.012), 5: (0.010, 0.008)},
    14: {48: (0.075, 0.020), 60: (0.045, 0.012), 49: (0.015, -0.030), 59: (0.015, 0.040),
        50: (0, -0.010), 58: (0, 0.012)},
    15: {48: (0.020, -0.135), 60: (0.015, -0.115), 49: (0.010, -0.050), 59: (0.015, -0.060),
        58: (0.005, -0.015), 61: (0.005, -0.020), 67: (0.005, -0.020), 50: (0, -0.010)},
    17: {8: (0, 0.080), 7: (-0.005, 0.068), 6: (0, 0.030), 57: (0, 0.090), 58: (0, 0.085),
        59: (0, 0.035), 66: (0, 0.045), 67: (0, 0.040), 62: (0, 0.045), 61: (0, 0.040),
        51: (0, 0.030), 50: (0, 0.030), 49: (0, 0.010), 48: (0, -0.020), 60: (0, -0.015)},
    20: {48: (0.150, -0.025), 60: (0.135, -0.022), 49: (0.085, -0.020), 59: (0.090, -0.010),
        50: (0.035, -0.012), 58: (0.040, 0.012), 51: (0, -0.010), 57: (0, 0.012), 61: (0.040, 0),
        67: (0.040, 0), 5: (0.020, -0.005), 4: (0.015, 0), 6: (0.012, -0.005)},
    23: {48: (-0.075, 0), 60: (-0.070, 0), 49: (-0.052, -0.025), 50: (-0.020, -0.038),
        51: (0, -0.033), 57: (0, 0.048), 58: (-0.025, 0.048), 59: (-0.052, 0.034), 61: (-0.020, 0),
        67: (-0.020, 0)},
    24: {48: (-0.015, -0.004), 60: (-0.030, 0), 49: (-0.010, -0.045), 50: (-0.005, -0.060),
        51: (0, -0.055), 57: (0, 0.080), 58: (-0.005, 0.080), 59: (-0.010, 0.060), 7: (0, 0.015),
        8: (0, 0.020)},
    25: {49: (0, 0.012), 50: (0, 0.028), 51: (0, 0.026), 61: (0, 0.036), 62: (0, 0.036),
        57: (0, -0.105), 58: (0, -0.100), 59: (0, -0.058), 66: (0, -0.115), 67: (0, -0.105)},
    26: {2: (0, -0.010), 3: (-0.005, -0.040), 4: (-0.010, -0.100), 5: (-0.015, -0.190),
        6: (-0.010, -0.270), 7: (-0.005, -0.315), 8: (0, -0.330), 48: (-0.050, -0.090),
        49: (-0.030, -0.030), 50: (-0.010, -0.008), 51: (0, -0.004), 57: (0, -0.290),
        58: (-0.012, -0.280), 59: (-0.035, -0.215), 60: (-0.045, -0.090), 61: (-0.005, -0.008),
        62: (0, -0.004), 66: (0, -0.280), 67: (-0.010, -0.260), 31: (0, -0.006), 32: (0, -0.006),
        33: (0, -0.006)},
    43: {37: (0, -0.140), 38: (0, -0.145), 36: (0, -0.012), 39: (0, -0.006), 40: (0, 0.004),
        41: (0, 0.004)},
}  # fmt: skip


def _mirror_half(half: HalfFace) -> np.ndarray:
    """Converts (outwards, up) of the left half to (x, y) of both, [68, 2]; other points are 0."""
    points = np.zeros((NUM_POINTS, 2))
    for point, (outwards, up) in half.items():
        points[MIRROR[point]] = (outwards, -up)
        points[point] = (-outwards, -up)
    return points


def eye_centres(points: np.ndarray) -> np.ndarray:
    """Centres of the image's left and right eye, [..., 2, 2], of landmarks [..., 68, 2]."""
    eyes = slice(36, 42), slice(42, 48)
    return np.stack([points[..., eye, :].mean(axis=-2) for eye in eyes], axis=-2)


def normalize_eyes(points: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Moves and scales points so that the eye centres of `rest` are (-1/2, 0) and (1/2, 0)."""
    left, right = np.split(eye_centres(rest), 2, axis=-2)
    return (points - (left + right) / 2) / (right - left)[..., :1]


NEUTRAL = _mirror_half({point: (x, y) for point, (x, y, _) in _LEFT_NEUTRAL.items()})
NEUTRAL = normalize_eyes(NEUTRAL, NEUTRAL)
"""float [68, 2]: the mean neutral face, in face units."""

DEPTH = np.zeros(NUM_POINTS)
"""float [68]: distance of each point of the neutral face from the plane through the eye centres,
towards the viewer, in face units. If a head rotates by a small angle, a point moves by the angle
times its depth."""
for _point, (_, _, _depth) in _LEFT_NEUTRAL.items():
    DEPTH[[_point, MIRROR[_point]]] = _depth

UNIT_DISPLACEMENTS = np.stack([_mirror_half(_LEFT_UNIT_DISPLACEMENTS[unit]) for unit in UNITS])
"""float [18, 68, 2]: displacement of each point by each unit at intensity 1 on both sides."""


def _stretch(
    points: Sequence[int], x: float, y: float, centre: tuple[float, float] = (0.0, 0.0)
) -> HalfFace:
    """Stretches points (left half and midline) about a centre; 0.1 is 10% along an axis."""
    return {
        point: (-(NEUTRAL[point, 0] - centre[0]) * x, -(NEUTRAL[point, 1] - centre[1]) * y)
        for point in points
    }


_BROW, _EYE, _LOWER_JAW = range(17, 22), range(36, 42), range(3, 9)
_LIPS = (48, 49, 50, 51, 57, 58, 59, 60, 61, 62, 66, 67)
_SEAM = (0.0, float(NEUTRAL[62, 1]))

# Displacement (outwards, up) of the left half by one standard deviation of each face proportion.
_LEFT_IDENTITY_DISPLACEMENTS: dict[str, HalfFace] = {
    "face_width": _stretch(range(9), 0.06, 0),
    "face_length": _stretch((*_LOWER_JAW, 30, 31, 32, 33, *_LIPS), 0, 0.09, (0, 0.3)),
    "chin_length": _stretch(_LOWER_JAW, 0, 0.10, (0, 0.8)),
    "jaw_width": {3: (0.02, 0), 4: (0.045, 0.01), 5: (0.06, 0), 6: (0.055, -0.02),
        7: (0.03, -0.01)},
    "eye_spacing": dict.fromkeys((*_BROW, *_EYE), (0.03, 0.0)),
    "eye_size": _stretch(_EYE, 0.08, 0.12, (-0.5, 0.0)),
    "eye_slant": {36: (0, 0.025), 37: (0, 0.010), 39: (0, -0.012)},
    "brow_height": dict.fromkeys(_BROW, (0.0, 0.04)),
    "brow_spacing": dict.fromkeys(_BROW, (0.03, 0.0)),
    "brow_arch": {17: (0, -0.02), 18: (0, 0.015), 19: (0, 0.025), 21: (0, -0.015)},
    "nose_length": _stretch((27, 28, 29, 30, 31, 32, 33), 0, 0.08, (0, -0.05)),
    "nose_width": _stretch((31, 32), 0.12, 0),
    "mouth_width": _stretch(_LIPS, 0.08, 0, _SEAM),
    "lip_fullness": _stretch((49, 50, 51, 57, 58, 59), 0, 0.15, _SEAM),
    "mouth_height": dict.fromkeys(_LIPS, (0.0, 0.03)),
}  # fmt: skip

IDENTITY_NAMES = tuple(_LEFT_IDENTITY_DISPLACEMENTS)

IDENTITY_DISPLACEMENTS = np.stack(
    [_mirror_half(half) for half in _LEFT_IDENTITY_DISPLACEMENTS.values()]
)
"""float [K, 68, 2]: displacement of each point by one standard deviation of each face proportion.

A standard deviation is about a tenth of the proportion: 6% of the face width, 8% of the mouth
width, 15% of the lip fullness.
"""

NUM_IDENTITY = len(IDENTITY_DISPLACEMENTS)
"""K, the number of identity coefficients."""

_UPPER_EDGE, _LOWER_EDGE = [37, 38, 43, 44, 61, 62, 63], [41, 40, 47, 46, 67, 66, 65]
"""Points of the upper lids and the inner upper lip, and the points below them."""


def _right_side_weight(rest: np.ndarray) -> np.ndarray:
    """Weight [..., 68, 1] of the image's right side in displacements; the left has the rest.

    It increases from 0 to 1 between the inner halves of the eyes, so there is no seam.
    """
    return np.clip(2 * normalize_eyes(rest, rest)[..., :1] + 0.5, 0.0, 1.0)


_RIGHT = _right_side_weight(NEUTRAL)
SIDE_DISPLACEMENTS = np.stack([1 - _RIGHT, _RIGHT])[:, None] * UNIT_DISPLACEMENTS
"""float [2, 18, 68, 2]: displacement by each unit at intensity 1 on the image's left and right."""


def deform_symmetric(intensities: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Computes frontal faces [n, 68, 2] in face units, with equal intensities on both sides.

    Closing lids and pressed lips meet: if the sum of displacements moves an upper edge below the
    lower one, both are set to their midpoint.

    **Arguments:**

    - `intensities`: [n, 18] in [0, 1], in the order of `action_units.UNITS`.
    - `identity`: [n, K] coefficients of `IDENTITY_DISPLACEMENTS`, standard normal over people.
    """
    points = NEUTRAL + np.tensordot(intensities, UNIT_DISPLACEMENTS, 1)
    points += np.tensordot(identity, IDENTITY_DISPLACEMENTS, 1)
    upper, lower = points[:, _UPPER_EDGE, 1], points[:, _LOWER_EDGE, 1]
    middle = (upper + lower) / 2
    points[:, _UPPER_EDGE, 1] = np.minimum(upper, middle)
    points[:, _LOWER_EDGE, 1] = np.maximum(lower, middle)
    return points


def deform_sides(sides: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes frontal faces with separate intensities per side, and the same faces at rest.

    Both are [n, 68, 2] as from `deform_symmetric`. Each point follows its own side. Near the middle
    the sides are interpolated.

    **Arguments:** `sides`: [n, 2, 18], intensities of the left and right side of the image.
    """
    rest = deform_symmetric(np.zeros_like(sides[:, 0]), identity)
    left, right = (deform_symmetric(sides[:, side], identity) for side in (0, 1))
    return left + _right_side_weight(rest) * (right - left), rest


def turn_head(points: np.ndarray, yaw: float) -> np.ndarray:
    """Rotates frontal points [..., 68, 2] and projects them orthographically, see `DEPTH`.

    **Arguments:** `yaw`: radians; a positive one moves the nose to the right of the image.
    """
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * np.cos(yaw) + DEPTH * np.sin(yaw), y], axis=-1)
