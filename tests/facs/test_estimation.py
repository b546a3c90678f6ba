"""Tests of action unit estimation: invariances, a second solver of SciPy, rendered faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from affect_jax.facs import estimation, rig
from affect_jax.facs.action_units import HAS_SIDES, UNITS
from affect_jax.facs.estimation import align_eyes, estimate
from tests.facs.sampled_faces import place_in_image, sample_faces

FACES = sample_faces(200)


def noisy_landmarks(noise: float, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    points = FACES.landmarks[:count]
    return points + noise * FACES.scale[:count, None, None] * rng.standard_normal(points.shape)


@given(st.floats(-3, 3), st.floats(0.2, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_pose_is_removed(rotation, scale, x, y):
    points = noisy_landmarks(0.02, 3)
    pose = np.full(3, scale), np.full(3, rotation), np.array([[x, y]] * 3)
    moved = place_in_image(points, *pose)
    np.testing.assert_allclose(align_eyes(moved), align_eyes(points), atol=1e-8)
    original, transformed = estimate(points), estimate(moved)
    np.testing.assert_allclose(original.intensities, transformed.intensities, atol=1e-6)
    np.testing.assert_allclose(original.residual, transformed.residual, atol=1e-6)


def test_aligned_eyes_are_at_their_fixed_positions():
    points = align_eyes(noisy_landmarks(0.03))
    for corners, x in ((points[:, [36, 39]], -0.5), (points[:, [42, 45]], 0.5)):
        np.testing.assert_allclose(corners.mean(axis=1), [[x, 0]] * len(points), atol=1e-12)


def test_mirrored_face_has_units_on_opposite_sides():
    points = noisy_landmarks(0.01)
    mirrored = points[:, rig.MIRROR] * (-1, 1) + (255, 0)
    original, flipped = estimate(points), estimate(mirrored)
    np.testing.assert_allclose(original.intensities, flipped.intensities, atol=1e-8)
    np.testing.assert_allclose(original.sides, flipped.sides[:, ::-1], atol=1e-8)
    np.testing.assert_array_equal(original.intensities, original.sides.max(axis=1))
    np.testing.assert_allclose(original.residual, flipped.residual, atol=1e-8)
    assert np.abs(original.sides[:, 0] - original.sides[:, 1]).max() > 0.01


@pytest.mark.parametrize(("degrees", "axes"), [(20, "y"), (-10, "x")])
def test_head_rotation_does_not_change_units(degrees, axes):
    """Without the pose parameters, the rotation would be estimated as action units."""
    intensities = FACES.intensities[:100]
    points = rig.deform_symmetric(intensities, np.zeros((100, rig.NUM_IDENTITY)))
    solid = np.concatenate([points, np.tile(rig.DEPTH[:, None], (100, 1, 1))], axis=2)
    estimates = estimate(solid @ Rotation.from_euler(axes, degrees, True).as_matrix().T[:, :2])
    assert np.abs(estimates.intensities - intensities).mean() < 0.05


def test_unilateral_units_are_estimated_on_their_side():
    """Each unit with sides in turn, on the left in even faces and on the right in odd ones."""
    units_with_sides = np.flatnonzero(HAS_SIDES)
    sides = np.zeros((2 * len(units_with_sides), 2, len(UNITS)))
    for face, unit in enumerate(np.repeat(units_with_sides, 2)):
        sides[face, face % 2, unit] = 0.7
    points, _ = rig.deform_sides(sides, np.zeros((len(sides), rig.NUM_IDENTITY)))
    estimates = estimate(points)
    np.testing.assert_allclose(estimates.sides, sides, atol=0.12)
    assert np.abs(estimates.sides - sides).mean() < 0.01
    left, right = estimates.sides[:, 0], estimates.sides[:, 1]
    np.testing.assert_array_equal(left[:, ~HAS_SIDES], right[:, ~HAS_SIDES])


def test_intensities_are_recovered():
    """Faces are rotated by up to 20 degrees, identities vary by a tenth; error grows with noise."""
    errors, residuals = [], []
    for noise in (0.0, 0.005, 0.01, 0.02, 0.05):
        estimates = estimate(noisy_landmarks(noise, 200))
        errors.append(np.abs(estimates.intensities - FACES.intensities).mean(axis=0))
        residuals.append(np.median(estimates.residual))
    means = [error.mean() for error in errors]
    assert means[0] < 0.03 and errors[0].max() < 0.08
    assert means[1] < 0.09 and means[2] < 0.12
    assert means == sorted(means)
    assert residuals == sorted(residuals) and residuals[0] < 0.002 < 0.05 < residuals[-1]


@settings(max_examples=25)
@given(
    active=st.dictionaries(st.sampled_from(UNITS), st.floats(0.2, 1), max_size=4),
    degrees=st.floats(-20, 20),
    scale=st.floats(20, 200),
)
def test_estimation_inverts_the_rig(active, degrees, scale):
    """Forward, then inverse, for a few units and any in-plane rotation."""
    intensities = np.array([[active.get(unit, 0.0) for unit in UNITS]])
    points = rig.deform_symmetric(intensities, np.zeros((1, rig.NUM_IDENTITY)))
    estimates = estimate(place_in_image(points, [scale], np.deg2rad([degrees]), [[128, 120]]))
    assert (
        np.abs(estimates.intensities - intensities).mean() < 0.05 and estimates.residual[0] < 0.02
    )


def test_all_units_at_once_are_recovered():
    faces = sample_faces(200, active=1.0)
    assert np.abs(estimate(faces.landmarks).intensities - faces.intensities).mean() < 0.1


def test_neutral_face_has_no_units():
    points = place_in_image(rig.NEUTRAL[None], np.array([60.0]), np.array([0.2]), np.zeros((1, 2)))
    estimates = estimate(points)
    assert estimates.intensities.max() < 1e-6 and estimates.residual[0] < 1e-6


def test_solution_equals_that_of_the_full_problem():
    """The reference is SciPy's bounded `lsq_linear` on all unknowns, without elimination."""
    points = noisy_landmarks(0.03, 12)
    std = estimation._NOISE_STD
    shapes = np.concatenate([estimation._UNKNOWN_SHAPES, estimation._NUISANCE_SHAPES])
    num_unknowns, num_intensities = len(shapes), len(estimation.UNKNOWN_SIDES)
    priors = block_diag(estimation._PRIOR, np.eye(num_unknowns - num_intensities))
    matrix = np.concatenate([(shapes / std).T, priors])
    lower = np.where(np.arange(num_unknowns) < num_intensities, 0.0, -np.inf)
    offsets = (align_eyes(points) - estimation.ALIGNED_NEUTRAL).reshape(len(points), -1) / std
    estimated = estimate(points).sides
    for offset, sides in zip(offsets, estimated, strict=True):
        target = np.concatenate([offset, np.zeros(len(priors))])
        bounds = (lower, np.full(num_unknowns, np.inf))
        solution = lsq_linear(matrix, target, bounds, method="bvls", tol=1e-13)
        expected = np.clip(solution.x[:num_intensities], 0, 1)
        np.testing.assert_allclose(
            sides, np.tensordot(expected, estimation.UNKNOWN_SIDES, 1), atol=1e-4
        )


def test_estimates_do_not_depend_on_other_faces(monkeypatch):
    points = np.concatenate([noisy_landmarks(0.0, 5), noisy_landmarks(0.03, 6)])
    points[4] = np.nan
    points[7, 3, 1] = np.inf
    points[8, [36, 39, 42, 45]] = 100.0  # eyes at one point
    batched = estimate(points)
    monkeypatch.setattr(estimation, "CHUNK_SIZE", 4)
    chunked = estimate(points)
    for row, face in enumerate(points):
        separate = estimate(face[None])
        for batched_value, separate_value, chunked_value in zip(
            batched, separate, chunked, strict=True
        ):
            np.testing.assert_allclose(batched_value[row], separate_value[0], atol=1e-9)
            np.testing.assert_allclose(batched_value[row], chunked_value[row], atol=1e-9)
    is_invalid = np.isin(np.arange(11), (4, 7, 8))
    assert (np.isnan(batched.residual) == is_invalid).all()
    assert (np.isnan(batched.intensities).all(axis=1) == is_invalid).all()
    assert (np.isnan(batched.intensities).any(axis=1) == is_invalid).all()


def test_zero_faces_give_zero_rows():
    estimates = estimate(np.zeros((0, 68, 2)))
    assert estimates.intensities.shape == (0, 18) and estimates.residual.shape == (0,)


def test_random_points_have_a_large_residual():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 255, (50, 68, 2))
    estimates = estimate(points)
    assert ((estimates.intensities >= 0) & (estimates.intensities <= 1)).all()
    assert np.median(estimates.residual) > 10 * np.median(estimate(noisy_landmarks(0.02)).residual)
