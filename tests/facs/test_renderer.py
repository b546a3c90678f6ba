"""Tests of rendered faces: reproducible, correctly labelled, and drawn at their landmarks."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.facs import rig
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.render import __main__ as command
from affect_jax.facs.render import random_face
from affect_jax.facs.render.person_and_scene import sample_person, sample_scene

EXPRESSION = {name: i for i, name in enumerate(labels.EXPRESSIONS)}


@pytest.fixture(scope="module")
def faces():
    """64 faces, eight per expression."""
    return [random_face.sample_face(3, index, skew="balanced") for index in range(64)]


def plain_face(seed: int, **changes):
    """A person and a scene without occlusion, blur, glasses or beard."""
    rng = np.random.default_rng(seed)
    person = dataclasses.replace(
        sample_person(rng, rig.NUM_IDENTITY), glasses="none", beard="none", hair_style="short"
    )
    scene = dataclasses.replace(
        sample_scene(rng), occlusion="none", blur=1, noise=0.0, grey=False, yaw=0.0, rotation=0.0,
        light=(0.0, -0.3, 1.0), exposure=1.0,
    )  # fmt: skip
    return dataclasses.replace(person, **changes), scene


def units(**intensities: float) -> np.ndarray:
    """`units(AU12=1)` -> intensities [18]."""
    values = np.zeros(len(UNITS))
    for name, value in intensities.items():
        values[UNITS.index(int(name[2:]))] = value
    return values


def mean_brightness(image: np.ndarray, points: np.ndarray) -> float:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (255,))
    return float(image[mask > 0].mean())


def test_sample_is_a_function_of_seed_split_and_index():
    first, again = random_face.sample_face(1, 7), random_face.sample_face(1, 7)
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    different_faces = [
        random_face.sample_face(2, 7),
        random_face.sample_face(1, 8),
        random_face.sample_face(1, 7, split="validation"),
    ]
    assert all(not np.array_equal(first.image, face.image) for face in different_faces)


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
    smile = UNITS.index(12)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, right = random_face.sample_intensities(rng, EXPRESSION["contempt"])[:, smile]
        assert max(left, right) > 4 * min(left, right)


def test_size_affects_the_resolution_only():
    large, small = random_face.sample_face(0, 3), random_face.sample_face(0, 3, size=128)
    assert small.image.shape == (128, 128, 3)
    np.testing.assert_array_equal(large.action_units, small.action_units)
    np.testing.assert_allclose((small.landmarks + 0.5) * 2 - 0.5, large.landmarks, atol=1e-3)
    shrunk = cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(small.image, shrunk)


@pytest.mark.parametrize("seed", range(4))
def test_open_mouth_is_dark(seed):
    person, scene = plain_face(seed, skin=(232.0, 190.0, 152.0), lips=(190.0, 110.0, 100.0))
    closed_image, closed_points = command.render_face(units(), person, scene)
    opened_image, opened_points = command.render_face(units(AU25=0.8, AU26=1.0), person, scene)
    assert np.ptp(opened_points[60:68, 1]) > np.ptp(closed_points[60:68, 1]) + 8
    assert mean_brightness(opened_image, opened_points[60:68]) < 0.75 * mean_brightness(
        closed_image, opened_points[60:68]
    )


@pytest.mark.parametrize("seed", range(4))
def test_closed_eyes_show_no_white(seed):
    person, scene = plain_face(seed, skin=(196.0, 145.0, 104.0))
    opened, points = command.render_face(units(AU5=0.5), person, scene)
    closed, _ = command.render_face(units(AU43=1.0), person, scene)
    for eye in (points[36:42], points[42:48]):
        low, high = np.floor(eye.min(axis=0)).astype(int), np.ceil(eye.max(axis=0)).astype(int)
        window = (slice(low[1], high[1] + 1), slice(low[0], high[0] + 1))
        # The white of the eye has much more blue than the skin.
        assert opened[window][..., 2].max() > closed[window][..., 2].max() + 30


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_changes_the_image(unit):
    person, scene = plain_face(5)
    rest, _ = command.render_face(units(), person, scene)
    moved, points = command.render_face(units(**{f"AU{unit}": 1.0}), person, scene)
    change = np.abs(moved.astype(int) - rest).max(axis=2)
    assert (change > 20).sum() > 40
    low, high = points.min(axis=0) - 40, points.max(axis=0) + 15
    rows, columns = np.nonzero(change > 60)
    assert (columns > low[0]).all() and (columns < high[0]).all()
    assert (rows > low[1]).all() and (rows < high[1]).all()


def test_brows_are_drawn_at_their_landmarks():
    person, scene = plain_face(2, skin=(243.0, 208.0, 178.0), brow=(40.0, 30.0, 26.0))
    image, points = command.render_face(units(), person, scene)
    for index in (18, 19, 20, 23, 24, 25):
        x, y = np.round(points[index]).astype(int)
        patch = image[y - 1 : y + 5, x - 2 : x + 3].mean()
        skin = image[y + 8 : y + 11, x - 2 : x + 3].mean()
        assert patch < 0.8 * skin


def test_contact_sheet_and_command(tmp_path, capsys):
    sheet = command.draw_contact_sheet(seed=1, persons=2, size=48, expressions=(0, 1, 3))
    assert sheet.dtype == np.uint8 and sheet.shape == (3 * 48, 9 + 2 * 48, 3)
    out = str(tmp_path / "sheet.png")
    assert command.main(["--out", out, "--persons", "1", "--size", "32"]) == 0
    written = cv2.imread(str(tmp_path / "sheet.png"))
    assert written is not None and written.shape == (8 * 32, 6 + 32, 3)
    assert "38 x 256 pixels" in capsys.readouterr().out


def test_sheet_too_large_for_jpeg_is_an_error(tmp_path):
    with pytest.raises(UserError, match="66000 x 2 pixels are too many"):
        command.write_image(np.zeros((2, 66_000, 3), np.uint8), tmp_path / "sheet.jpg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=sheet.xyz"], "name a .png"),
        (["--out=a.png", "--seed=-1"], "must be 0 or more"),
        (["--out=a.png", "--persons=0"], "must be 0 or more"),
        (["--out=/dev/null/sheet.png", "--persons=1", "--size=16"], "cannot be written"),
        ([], "--out; --help lists the flags"),
    ],
)
def test_command_reports_errors_in_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and len(stderr.splitlines()) == 1
