"""Tests of action unit estimation: invariances, a second solver of SciPy, rendered faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from sklearn.metrics import roc_auc_score

from affect_jax.core import labels
from affect_jax.facs import estimation, estimation_error, expression_auc, rig
from affect_jax.facs.action_units import ACTION_UNITS, UNITS
from affect_jax.facs.estimation import align_eyes, estimate
from affect_jax.facs.render import random_face

FACES = estimation_error.sample_faces(400)


def noisy_landmarks(noise: float, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    points = FACES.landmarks[:count]
    return points + noise * FACES.scale[:count, None, None] * rng.standard_normal(points.shape)


@given(st.floats(-3, 3), st.floats(0.2, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_pose_is_removed(rotation, scale, x, y):
    points = noisy_landmarks(0.02, 3)
    pose = np.full(3, scale), np.full(3, rotation), np.array([[x, y]] * 3)
    moved = rig.place_in_image(points, *pose)
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


@pytest.mark.parametrize(("angle", "degrees"), [("yaw", 20), ("pitch", 10)])
def test_head_rotation_does_not_change_units(angle, degrees):
    """Without the pose parameters, the rotation would be estimated as action units."""
    faces = estimation_error.sample_faces(100)
    num_faces = len(faces.intensities)
    estimates = estimate(
        rig.project_landmarks(
            faces.intensities,
            np.zeros((num_faces, rig.NUM_IDENTITY)),
            faces.scale,
            np.zeros(num_faces),
            np.full((num_faces, 2), 128.0),
            **{angle: np.deg2rad(degrees)},
        )
    )
    assert np.abs(estimates.intensities - faces.intensities).mean() < 0.05


def test_unilateral_units_are_estimated_on_their_side():
    """Each unit with sides in turn, on the left in even faces and on the right in odd ones."""
    units_with_sides = [index for index, unit in enumerate(ACTION_UNITS) if unit.has_sides]
    sides = np.zeros((2 * len(units_with_sides), 2, len(UNITS)))
    for face, unit in enumerate(np.repeat(units_with_sides, 2)):
        sides[face, face % 2, unit] = 0.7
    num_faces = len(sides)
    estimates = estimate(
        rig.project_landmarks(
            sides,
            np.zeros((num_faces, rig.NUM_IDENTITY)),
            np.full(num_faces, 60.0),
            np.full(num_faces, 0.1),
            np.full((num_faces, 2), 128.0),
        )
    )
    np.testing.assert_allclose(estimates.sides, sides, atol=0.12)
    assert np.abs(estimates.sides - sides).mean() < 0.01
    has_sides = np.array([unit.has_sides for unit in ACTION_UNITS])
    left, right = estimates.sides[:, 0], estimates.sides[:, 1]
    np.testing.assert_array_equal(left[:, ~has_sides], right[:, ~has_sides])


def test_intensities_are_recovered():
    """Faces are rotated by up to 20 degrees, identities vary by a tenth; error grows with noise."""
    results = [
        estimation_error.measure_error(FACES, noise) for noise in (0.0, 0.005, 0.01, 0.02, 0.05)
    ]
    errors = [result.errors.mean() for result in results]
    assert errors[0] < 0.03 and results[0].errors.max() < 0.08
    assert errors[1] < 0.09 and errors[2] < 0.11
    assert errors == sorted(errors)
    residuals = [result.residual for result in results]
    assert residuals == sorted(residuals) and residuals[0] < 0.002 < 0.05 < residuals[-1]
    assert results[0].correlations.min() > 0.9 and results[2].correlations.mean() > 0.7


@settings(max_examples=25)
@given(
    active=st.dictionaries(st.sampled_from(UNITS), st.floats(0.2, 1), max_size=4),
    degrees=st.floats(-20, 20),
    scale=st.floats(20, 200),
)
def test_estimation_inverts_the_rig(active, degrees, scale):
    """Forward, then inverse, for a few units and any in-plane rotation."""
    intensities = np.array([[active.get(unit, 0.0) for unit in UNITS]])
    pose = np.array([scale]), np.deg2rad([degrees]), np.array([[128.0, 120.0]])
    estimates = estimate(rig.project_landmarks(intensities, np.zeros((1, rig.NUM_IDENTITY)), *pose))
    assert (
        np.abs(estimates.intensities - intensities).mean() < 0.05 and estimates.residual[0] < 0.02
    )


def test_all_units_at_once_are_recovered(monkeypatch):
    monkeypatch.setattr(estimation_error, "ACTIVE_PROBABILITY", 1.0)
    error = estimation_error.measure_error(estimation_error.sample_faces(300), 0.0)
    assert error.errors.mean() < 0.1


def test_neutral_face_has_no_units():
    points = rig.place_in_image(
        rig.NEUTRAL[None], np.array([60.0]), np.array([0.2]), np.zeros((1, 2))
    )
    estimates = estimate(points)
    assert estimates.intensities.max() < 1e-6 and estimates.residual[0] < 1e-6


def test_solution_equals_that_of_the_full_problem():
    """The reference is SciPy's bounded `lsq_linear` on all unknowns, without elimination."""
    points = noisy_landmarks(0.03, 12)
    model, std = estimation._build_least_squares(1.0), estimation._noise_std()
    matrix = np.concatenate([model.units_matrix, model.nuisance_matrix], axis=1)
    num_unknowns = matrix.shape[1]
    num_intensities = len(estimation.UNKNOWN_SIDES)
    prior = np.eye(num_unknowns)
    prior[:num_intensities, :num_intensities] = estimation._build_prior()
    matrix = np.concatenate([matrix, prior])
    lower = np.where(np.arange(num_unknowns) < num_intensities, 0.0, -np.inf)
    offsets = (align_eyes(points) - estimation.ALIGNED_NEUTRAL).reshape(len(points), -1) / std
    estimated = estimate(points).sides
    for offset, sides in zip(offsets, estimated, strict=True):
        target = np.concatenate([offset, np.zeros(num_unknowns)])
        bounds = (lower, np.full(num_unknowns, np.inf))
        solution = lsq_linear(matrix, target, bounds, method="bvls", tol=1e-13)
        expected = np.clip(estimation._INTENSITY_STD * solution.x[:num_intensities], 0, 1)
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


def test_units_of_rendered_faces_are_recovered():
    """Heads are rotated and sides differ; the label is the intensity of the stronger side."""
    faces = [random_face.sample_face(0, index, skew="balanced", size=64) for index in range(64)]
    estimates = estimate(np.stack([face.landmarks for face in faces]))
    truth = np.stack([face.action_units for face in faces])
    errors = np.abs(estimates.intensities - truth)
    assert errors.mean() < 0.05
    contempt = np.array([face.expression for face in faces]) == labels.EXPRESSIONS.index("contempt")
    assert errors[contempt][:, [UNITS.index(12), UNITS.index(14)]].mean() < 0.15
    active = (truth >= 0.5).any(axis=0) & (truth < 0.5).any(axis=0)
    areas = [
        roc_auc_score(truth[:, unit] >= 0.5, estimates.intensities[:, unit])
        for unit in np.flatnonzero(active)
    ]
    assert active.sum() > 12 and np.mean(areas) > 0.95


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=20),
    st.lists(st.integers(0, 4), min_size=1, max_size=20),
)
def test_roc_auc_equals_scikit_learn(positive, negative):
    scores = np.array([*positive, *negative], float)
    truth = np.arange(len(scores)) < len(positive)
    expected = roc_auc_score(truth, scores)
    actual = expression_auc.roc_auc(np.array(positive, float), np.array(negative, float))
    assert actual == pytest.approx(expected)


def test_aucs_exclude_faces_without_estimates():
    intensities = np.zeros((5, len(UNITS)))
    smile = UNITS.index(12)
    intensities[:, smile] = [0.9, 0.1, 0.4, np.nan, 0.0]
    names = np.array(["happiness", "happiness", "neutral", "neutral", ""])
    aucs = expression_auc.compute_aucs(intensities, names)
    assert aucs["happiness", (12,)] == (0.5, 2, 1)
    area, num_positive, num_negative = aucs["surprise", (25, 26)]
    assert np.isnan(area) and (num_positive, num_negative) == (0, 1)
    points = np.tile(rig.NEUTRAL, (5, 1, 1))
    points[0, 54, 0] += 0.2  # a wide mouth
    points[3] = np.nan
    table = expression_auc.format_table(intensities, points, names, {"training": np.full(5, True)})
    smiles = [line.split(maxsplit=2) for line in table.splitlines() if "happiness" in line]
    assert smiles == [
        ["happiness", "AU12", "0.500 (2 : 1)"],
        ["happiness", "distance", "0.750 (2 : 1)"],
    ]
    assert "- (0 : 1)" in table


def test_landmark_distances_grow_with_their_expression():
    """The rig generates faces at rest and with each unit; size and position do not matter."""
    intensities = np.zeros((5, 18))
    for face, unit in enumerate((12, 26, 10, 4), 1):
        intensities[face, UNITS.index(unit)] = 1
    pose = np.full(5, 50.0), np.full(5, 0.2), np.full((5, 2), 100.0)
    points = rig.project_landmarks(intensities, np.zeros((5, rig.NUM_IDENTITY)), *pose)
    distances = expression_auc.landmark_distances(points)
    assert list(distances) == list(expression_auc.CONTRASTS)
    for face, (name, values) in enumerate(distances.items(), 1):
        assert values[face] > values[0] + 0.05, name
    for name, values in expression_auc.landmark_distances(3 * points + 7).items():
        np.testing.assert_allclose(values, distances[name], atol=1e-9)
