"""Tests of the labels of rendered faces: reproducible, exact, distributed as documented."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core import labels
from affect_jax.facs.action_units import ACTIVE_THRESHOLD, HAS_SIDES, PROTOTYPES, UNITS
from affect_jax.facs.estimation import estimate
from affect_jax.facs.render import random_face
from affect_jax.facs.render.parameters import FaceParameters

EXPRESSION = {name: i for i, name in enumerate(labels.EXPRESSIONS)}
UNIT_INDEX = {unit: i for i, unit in enumerate(UNITS)}


def digest(seed: int, indices: range) -> str:
    """SHA-256 of images and labels."""
    hasher = hashlib.sha256()
    for index in indices:
        face = random_face.sample_face(seed, index)
        for value in (face.image, face.action_units, face.landmarks, face.box):
            hasher.update(value.tobytes())
        hasher.update(repr((face.expression, face.valence, face.arousal)).encode())
    return hasher.hexdigest()


def test_another_process_renders_the_same_faces():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_random_face;"
        "print(test_random_face.digest(5, range(3)))"
    )
    folder = __file__.rsplit("/", 1)[0]
    result = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == digest(5, range(3))


def test_sample_is_a_function_of_seed_split_and_index():
    face = random_face.sample_face(1, 7)
    random_face.sample_face(1, 4)  # previous faces have no influence
    np.testing.assert_array_equal(random_face.sample_face(1, 7).image, face.image)
    different_faces = [
        random_face.sample_face(2, 7),
        random_face.sample_face(1, 8),
        random_face.sample_face(1, 7, split="validation"),
    ]
    assert all(not np.array_equal(face.image, other.image) for other in different_faces)


@pytest.fixture(scope="module")
def faces():
    """64 faces, eight per expression."""
    return [random_face.sample_face(3, index, skew="balanced") for index in range(64)]


def test_labels_are_in_range(faces):
    for face in faces:
        assert face.image.shape == (256, 256, 3) and face.image.dtype == np.uint8
        assert 0 <= face.expression < 8
        assert -1 <= face.valence <= 1 and -1 <= face.arousal <= 1
        assert face.action_units.shape == (18,) and face.action_units.dtype == np.float32
        assert (face.action_units >= 0).all() and (face.action_units <= 1).all()
        assert face.landmarks.shape == (68, 2)
        left, top, width, height = face.box
        assert width > 60 and height > 60
        np.testing.assert_allclose(face.landmarks.min(axis=0), [left, top], atol=1e-3)


def test_landmarks_are_inside_the_image(faces):
    points = np.stack([face.landmarks for face in faces])
    inside = ((points >= 0) & (points <= 255)).all(axis=2)
    assert inside.mean() > 0.99


def test_skews_set_the_class_frequencies():
    balanced = [
        random_face.sample_expression(np.random.default_rng(0), i, "balanced") for i in range(80)
    ]
    assert np.bincount(balanced).tolist() == [10] * 8
    rng = np.random.default_rng(0)
    samples = [random_face.sample_expression(rng, i, "affectnet") for i in range(20_000)]
    frequencies = np.array(labels.TRAINING_COUNTS) / sum(labels.TRAINING_COUNTS)
    np.testing.assert_allclose(np.bincount(samples) / 20_000, frequencies, atol=0.012)


def test_emotions_match_the_circumplex():
    rng = np.random.default_rng(0)
    means = {}
    for name in labels.EXPRESSIONS[:8]:
        samples = [random_face.sample_intensities(rng, EXPRESSION[name]) for _ in range(200)]
        means[name] = np.mean(
            [random_face.compute_affect(intensities) for intensities in samples], axis=0
        )
    valence = {name: mean[0] for name, mean in means.items()}
    arousal = {name: mean[1] for name, mean in means.items()}
    assert np.abs(means["neutral"]).max() < 0.15
    assert valence["happiness"] > 0.5 and 0.05 < arousal["happiness"] < 0.6
    assert valence["sadness"] < -0.4 and arousal["sadness"] < -0.2
    assert -0.2 < valence["surprise"] < 0.45 and arousal["surprise"] > 0.6
    assert valence["fear"] < -0.3 and arousal["fear"] > 0.6
    assert valence["anger"] < -0.4 and arousal["anger"] > 0.4
    assert valence["disgust"] < -0.5 and 0.0 < arousal["disgust"] < 0.5
    assert valence["contempt"] < -0.3 and abs(arousal["contempt"]) < 0.25


def test_contempt_is_on_one_side():
    smile = UNIT_INDEX[12]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, right = random_face.sample_intensities(rng, EXPRESSION["contempt"])[:, smile]
        assert max(left, right) > 4 * min(left, right)


def test_splits_and_seeds_share_no_person():
    faces = [
        random_face.sample_face(0, 0),
        random_face.sample_face(0, 0, split="validation"),
        random_face.sample_face(1, 0),
    ]
    points = [face.landmarks for face in faces]
    assert not any(np.allclose(points[a], points[b], atol=1) for a, b in ((0, 1), (0, 2), (1, 2)))


@given(st.integers(0, 2**31), st.integers(0, 7))
def test_intensities_are_in_range(seed, expression):
    intensities = random_face.sample_intensities(np.random.default_rng(seed), expression)
    assert intensities.shape == (2, 18) and (intensities >= 0).all() and (intensities <= 1).all()


@pytest.mark.parametrize("emotion", PROTOTYPES)
def test_prototype_units_dominate(emotion):
    """Mean intensities of the units of the prototype exceed those of all other units."""
    rng = np.random.default_rng(0)
    samples = [random_face.sample_intensities(rng, EXPRESSION[emotion]) for _ in range(200)]
    mean = np.mean(samples, axis=(0, 1))
    prototype = [unit for unit in PROTOTYPES[emotion] if unit in UNIT_INDEX]
    others = [unit for unit in UNITS if unit not in (*prototype, 25)]  # 25 is a companion of many
    assert min(mean[UNIT_INDEX[unit]] for unit in prototype) > 0.3
    assert max(mean[UNIT_INDEX[unit]] for unit in others) < 0.55
    assert np.mean([mean[UNIT_INDEX[unit]] for unit in others]) < 0.15


def test_neutral_face_is_at_rest():
    """The exception is AU43, because people blink."""
    rng = np.random.default_rng(0)
    samples = np.stack([random_face.sample_intensities(rng, 0) for _ in range(300)])
    others = np.delete(samples, UNIT_INDEX[43], axis=-1)
    assert others.mean() < 0.06 and others.max() < 0.45
    assert 0.01 < np.mean(samples[:, 0, UNIT_INDEX[43]] > ACTIVE_THRESHOLD) < 0.08


def test_units_without_sides_are_symmetric():
    rng = np.random.default_rng(1)
    samples = np.stack([random_face.sample_intensities(rng, index % 8) for index in range(200)])
    np.testing.assert_array_equal(samples[:, 0, ~HAS_SIDES], samples[:, 1, ~HAS_SIDES])
    assert (samples[:, 0, HAS_SIDES] != samples[:, 1, HAS_SIDES]).mean() > 0.5


def test_every_unit_is_active_in_some_faces():
    """At least 2% of faces if expressions are equally frequent: F1 and AUC need both classes."""
    rng = np.random.default_rng(2)
    samples = np.stack(
        [random_face.sample_intensities(rng, index % 8).max(axis=0) for index in range(800)]
    )
    assert np.mean(samples > ACTIVE_THRESHOLD, axis=0).min() > 0.02


def test_valence_and_arousal_follow_the_documented_map():
    """`tanh(w . u + b * one_sided)` of the intensities of the weaker side, with explicit sums."""
    sides = np.random.default_rng(0).uniform(0, 1, (2, 18))
    for axis in (0, 1):
        linear = sum(
            random_face.AFFECT_WEIGHTS[unit][axis]
            * min(sides[0, UNIT_INDEX[unit]], sides[1, UNIT_INDEX[unit]])
            for unit in UNITS
        )
        asymmetry = np.mean(
            [abs(sides[0, UNIT_INDEX[unit]] - sides[1, UNIT_INDEX[unit]]) for unit in (12, 14)]
        )
        linear += random_face.AFFECT_WEIGHTS["one_sided"][axis] * asymmetry
        np.testing.assert_allclose(
            random_face.compute_affect(sides)[axis], np.tanh(linear), rtol=1e-12
        )


def test_affect_noise_has_the_documented_standard_deviation():
    deviations = []
    for seed in range(60):
        face = random_face.render_expression(np.random.default_rng(seed), 0, FaceParameters(), 32)
        rng = np.random.default_rng(seed)
        expected = random_face.compute_affect(random_face.sample_intensities(rng, 0))
        deviations.append(np.array([face.valence, face.arousal]) - expected)
    deviations = np.stack(deviations)
    assert abs(deviations.mean()) < 0.03
    np.testing.assert_allclose(deviations.std(), random_face.AFFECT_NOISE_STD, rtol=0.2)


def test_estimates_have_the_documented_error():
    """The mean absolute error is below 0.03 on rotated heads of different proportions.

    The side of contempt is correct for at least 95% of the faces.
    """
    faces = [random_face.sample_face(8, index, skew="balanced", size=64) for index in range(96)]
    estimates = estimate(np.stack([face.landmarks for face in faces]))
    error = np.abs(estimates.intensities - np.stack([face.action_units for face in faces]))
    assert error.mean() < 0.03 and error.mean(axis=0).max() < 0.1
    assert np.median(estimates.residual) < 0.01
    contempt = [face for face in range(96) if faces[face].expression == EXPRESSION["contempt"]]
    dimple = UNITS.index(14)
    assert error[contempt, dimple].mean() < 0.1
    stronger_side = np.stack([faces[face].sides[:, dimple] for face in contempt]).argmax(axis=1)
    assert np.mean(estimates.sides[contempt, :, dimple].argmax(axis=1) == stronger_side) >= 0.95
