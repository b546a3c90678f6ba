"""Landmarks to action units: laws, SciPy's other solver, drawn faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from sklearn.metrics import roc_auc_score

from affect_jax.core import labels
from affect_jax.facs import estimation, estimation_error, expression_auc, rig
from affect_jax.facs.action_units import TABLE, UNITS
from affect_jax.facs.estimation import estimate, upright
from affect_jax.facs.render import sample

FACES = estimation_error.draw(400)


def noisy(noise: float, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    points = FACES.landmarks[:count]
    return points + noise * FACES.scale[:count, None, None] * rng.standard_normal(points.shape)


@given(st.floats(-3, 3), st.floats(0.2, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_pose_is_removed(rotation, scale, x, y):
    points = noisy(0.02, 3)
    place = np.full(3, scale), np.full(3, rotation), np.array([[x, y]] * 3)
    moved = rig.placed(points, *place)
    np.testing.assert_allclose(upright(moved), upright(points), atol=1e-8)
    found, other = estimate(points), estimate(moved)
    np.testing.assert_allclose(found.intensities, other.intensities, atol=1e-6)
    np.testing.assert_allclose(found.residual, other.residual, atol=1e-6)


def test_upright_eyes_are_in_their_place():
    points = upright(noisy(0.03))
    for corners, x in ((points[:, [36, 39]], -0.5), (points[:, [42, 45]], 0.5)):
        np.testing.assert_allclose(corners.mean(axis=1), [[x, 0]] * len(points), atol=1e-12)


def test_a_mirrored_face_has_the_same_units_on_the_other_sides():
    points = noisy(0.01)
    mirrored = points[:, rig.MIRROR] * (-1, 1) + (255, 0)
    found, other = estimate(points), estimate(mirrored)
    np.testing.assert_allclose(found.intensities, other.intensities, atol=1e-8)
    np.testing.assert_allclose(found.sides, other.sides[:, ::-1], atol=1e-8)
    np.testing.assert_array_equal(found.intensities, found.sides.max(axis=1))
    np.testing.assert_allclose(found.residual, other.residual, atol=1e-8)
    assert np.abs(found.sides[:, 0] - found.sides[:, 1]).max() > 0.01


@pytest.mark.parametrize(("angle", "degrees"), [("yaw", 20), ("pitch", 10)])
def test_a_head_may_be_turned(angle, degrees):
    """Far better than if the turn were not modelled, when it is taken for units."""
    few = estimation_error.draw(100)
    num = len(few.intensities)
    found = estimate(
        rig.landmarks(few.intensities, np.zeros((num, rig.NUM_IDENTITY)), few.scale, np.zeros(num),
                      np.full((num, 2), 128.0), **{angle: np.deg2rad(degrees)})
    )  # fmt: skip
    assert np.abs(found.intensities - few.intensities).mean() < 0.05


def test_units_of_one_side_are_found_there():
    """Each sided unit in turn, on the left of even faces and on the right of odd ones."""
    sided = [place for place, unit in enumerate(TABLE) if unit.sided]
    sides = np.zeros((2 * len(sided), 2, len(UNITS)))
    for face, unit in enumerate(np.repeat(sided, 2)):
        sides[face, face % 2, unit] = 0.7
    num = len(sides)
    found = estimate(
        rig.landmarks(sides, np.zeros((num, rig.NUM_IDENTITY)), np.full(num, 60.0),
                      np.full(num, 0.1), np.full((num, 2), 128.0))
    )  # fmt: skip
    np.testing.assert_allclose(found.sides, sides, atol=0.12)
    assert np.abs(found.sides - sides).mean() < 0.01
    one = np.array([unit.sided for unit in TABLE])
    np.testing.assert_array_equal(found.sides[:, 0, ~one], found.sides[:, 1, ~one])


def test_intensities_are_recovered():
    """Under turns of 20 degrees and identities that vary by a tenth; the error grows with noise."""
    found = [estimation_error.recovery(FACES, noise) for noise in (0.0, 0.005, 0.01, 0.02, 0.05)]
    errors = [one.errors.mean() for one in found]
    assert errors[0] < 0.03 and found[0].errors.max() < 0.08
    assert errors[1] < 0.09 and errors[2] < 0.11
    assert errors == sorted(errors)
    residuals = [one.residual for one in found]
    assert residuals == sorted(residuals) and residuals[0] < 0.002 < 0.05 < residuals[-1]
    assert found[0].correlations.min() > 0.9 and found[2].correlations.mean() > 0.7


@settings(max_examples=25)
@given(
    active=st.dictionaries(st.sampled_from(UNITS), st.floats(0.2, 1), max_size=4),
    degrees=st.floats(-20, 20),
    scale=st.floats(20, 200),
)
def test_what_moved_is_found(active, degrees, scale):
    """Forward, then inverse, of any few units under any turn in the plane."""
    moved = np.array([[active.get(unit, 0.0) for unit in UNITS]])
    place = np.array([scale]), np.deg2rad([degrees]), np.array([[128.0, 120.0]])
    found = estimate(rig.landmarks(moved, np.zeros((1, rig.NUM_IDENTITY)), *place))
    assert np.abs(found.intensities - moved).mean() < 0.05 and found.residual[0] < 0.02


def test_all_units_at_once_are_recovered_too(monkeypatch):
    monkeypatch.setattr(estimation_error, "SHARE", 1.0)
    found = estimation_error.recovery(estimation_error.draw(300), 0.0)
    assert found.errors.mean() < 0.1


def test_a_neutral_face_has_no_units():
    points = rig.placed(rig.NEUTRAL[None], np.array([60.0]), np.array([0.2]), np.zeros((1, 2)))
    found = estimate(points)
    assert found.intensities.max() < 1e-6 and found.residual[0] < 1e-6


def test_the_solution_is_that_of_the_whole_problem():
    """SciPy's `lsq_linear` on all unknowns at once, bounded, without anything eliminated."""
    points = noisy(0.03, 12)
    model, deviation = estimation._model(1.0), estimation._deviation()
    matrix = np.concatenate([model.units, model.free], axis=1)
    num = matrix.shape[1]
    count = len(estimation.SIDES)
    prior = np.eye(num)
    prior[:count, :count] = estimation._prior()
    matrix = np.concatenate([matrix, prior])
    lower = np.where(np.arange(num) < count, 0.0, -np.inf)
    offsets = (upright(points) - estimation.REST).reshape(len(points), -1) / deviation
    found = estimate(points).sides
    for offset, sides in zip(offsets, found, strict=True):
        target = np.concatenate([offset, np.zeros(num)])
        bounds = (lower, np.full(num, np.inf))
        solved = lsq_linear(matrix, target, bounds, method="bvls", tol=1e-13)
        expected = np.clip(estimation._INTENSITY * solved.x[:count], 0, 1)
        np.testing.assert_allclose(sides, np.tensordot(expected, estimation.SIDES, 1), atol=1e-4)


def test_a_face_does_not_depend_on_the_others(monkeypatch):
    points = np.concatenate([noisy(0.0, 5), noisy(0.03, 6)])
    points[4] = np.nan
    points[7, 3, 1] = np.inf
    points[8, [36, 39, 42, 45]] = 100.0  # eyes at one point
    whole = estimate(points)
    monkeypatch.setattr(estimation, "CHUNK", 4)
    chunked = estimate(points)
    for row, face in enumerate(points):
        alone = estimate(face[None])
        for found, single, again in zip(whole, alone, chunked, strict=True):
            np.testing.assert_allclose(found[row], single[0], atol=1e-9)
            np.testing.assert_allclose(found[row], again[row], atol=1e-9)
    unknown = np.isin(np.arange(11), (4, 7, 8))
    assert (np.isnan(whole.residual) == unknown).all()
    assert (np.isnan(whole.intensities).all(axis=1) == unknown).all()
    assert (np.isnan(whole.intensities).any(axis=1) == unknown).all()


def test_no_faces_give_no_rows():
    found = estimate(np.zeros((0, 68, 2)))
    assert found.intensities.shape == (0, 18) and found.residual.shape == (0,)


def test_what_is_no_face_has_a_large_residual():
    rng = np.random.default_rng(0)
    scattered = rng.uniform(0, 255, (50, 68, 2))
    found = estimate(scattered)
    assert ((found.intensities >= 0) & (found.intensities <= 1)).all()
    assert np.median(found.residual) > 10 * np.median(estimate(noisy(0.02)).residual)


def test_rendered_faces_give_back_their_units():
    """Heads are turned aside and sides differ; the label is the stronger side's intensity."""
    faces = [sample.sample(0, index, skew="balanced", size=64) for index in range(64)]
    found = estimate(np.stack([face.landmarks for face in faces]))
    truth = np.stack([face.action_units for face in faces])
    errors = np.abs(found.intensities - truth)
    assert errors.mean() < 0.05
    contempt = np.array([face.expression for face in faces]) == labels.EXPRESSIONS.index("contempt")
    assert errors[contempt][:, [UNITS.index(12), UNITS.index(14)]].mean() < 0.15
    active = (truth >= 0.5).any(axis=0) & (truth < 0.5).any(axis=0)
    areas = [
        roc_auc_score(truth[:, unit] >= 0.5, found.intensities[:, unit])
        for unit in np.flatnonzero(active)
    ]
    assert active.sum() > 12 and np.mean(areas) > 0.95


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=20),
    st.lists(st.integers(0, 4), min_size=1, max_size=20),
)
def test_area_is_scikit_learns(positive, negative):
    scores = np.array([*positive, *negative], float)
    truth = np.arange(len(scores)) < len(positive)
    expected = roc_auc_score(truth, scores)
    found = expression_auc.area(np.array(positive, float), np.array(negative, float))
    assert found == pytest.approx(expected)


def test_separation_leaves_unknown_faces_out():
    intensities = np.zeros((5, len(UNITS)))
    smile = UNITS.index(12)
    intensities[:, smile] = [0.9, 0.1, 0.4, np.nan, 0.0]
    names = np.array(["happiness", "happiness", "neutral", "neutral", ""])
    found = expression_auc.separation(intensities, names)
    assert found["happiness", (12,)] == (0.5, 2, 1)
    area, shown, calm = found["surprise", (25, 26)]
    assert np.isnan(area) and (shown, calm) == (0, 1)
    points = np.tile(rig.NEUTRAL, (5, 1, 1))
    points[0, 54, 0] += 0.2  # a wide mouth
    points[3] = np.nan
    table = expression_auc.table(intensities, points, names, {"training": np.full(5, True)})
    smiles = [line.split(maxsplit=2) for line in table.splitlines() if "happiness" in line]
    assert smiles == [
        ["happiness", "AU12", "0.500 (2 : 1)"],
        ["happiness", "distance", "0.750 (2 : 1)"],
    ]
    assert "- (0 : 1)" in table


def test_distances_grow_with_their_expression():
    """The rig's own faces, at rest and with each unit; size and place do not matter."""
    moved = np.zeros((5, 18))
    for face, unit in enumerate((12, 26, 10, 4), 1):
        moved[face, UNITS.index(unit)] = 1
    place = np.full(5, 50.0), np.full(5, 0.2), np.full((5, 2), 100.0)
    points = rig.landmarks(moved, np.zeros((5, rig.NUM_IDENTITY)), *place)
    found = expression_auc.distances(points)
    assert list(found) == list(expression_auc.CONTRASTS)
    for face, (name, values) in enumerate(found.items(), 1):
        assert values[face] > values[0] + 0.05, name
    for name, values in expression_auc.distances(3 * points + 7).items():
        np.testing.assert_allclose(values, found[name], atol=1e-9)
