"""Preprocessing: crops, mirroring, normalisation, and landmarks that follow the pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax.data import preprocessing

SIDE, CROP = 12, 8

crop_and_mirror = jax.jit(preprocessing.crop_and_mirror, static_argnames=("crop_size", "mirror"))


def faces(count: int = 6, side: int = SIDE, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def normalized(images: np.ndarray) -> np.ndarray:
    """torchvision's ToTensor and Normalize, in float64."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return (images / 255 - mean) / std


def involution() -> np.ndarray:
    """A permutation of points that is its own inverse, like the swap of a face's sides."""
    swap = np.arange(68)
    swap[:60] = swap[:60].reshape(30, 2)[:, ::-1].reshape(-1)
    return swap


@pytest.mark.parametrize(("side", "crop"), [(12, 8), (12, 7), (13, 8), (12, 12), (256, 224)])
def test_evaluation_crops_the_centre(side, crop):
    images = faces(2, side)
    start = (side - crop) // 2
    expected = normalized(images[:, start : start + crop, start : start + crop])
    inputs = preprocessing.preprocess_for_evaluation(images, crop_size=crop)
    assert inputs.dtype == jnp.float32
    np.testing.assert_allclose(inputs, expected, atol=2e-6)


@pytest.mark.parametrize("mirror", [True, False])
def test_training_crops_match_the_returned_offsets_and_mirroring(mirror):
    images = faces(40)
    augmented = crop_and_mirror(images, keys(40), crop_size=CROP, mirror=mirror)
    assert augmented.images.shape == (40, CROP, CROP, 3)
    assert set(np.asarray(augmented.mirrored).tolist()) == ({True, False} if mirror else {False})
    for image, cropped, (row, column), mirrored in zip(images, *augmented, strict=True):
        expected = image[row : row + CROP, column : column + CROP]
        expected = expected[:, ::-1] if mirrored else expected
        np.testing.assert_array_equal(cropped, expected)


def test_crops_and_mirroring_are_uniform():
    count = 20_000
    images = np.zeros((count, 6, 6, 3), np.uint8)
    augmented = crop_and_mirror(images, keys(count), crop_size=4)
    outcomes = np.asarray(augmented.offsets) @ [3, 1] + 9 * np.asarray(augmented.mirrored)
    shares = np.bincount(outcomes, minlength=18) / count
    assert len(shares) == 18
    np.testing.assert_allclose(shares, 1 / 18, atol=5 * np.sqrt(1 / 18 / count))


@pytest.mark.parametrize("selected", [[3], [5, 0, 2], [1, 4, 5, 0, 3, 2]])
def test_augmentation_does_not_depend_on_the_batch(selected):
    images, all_keys = faces(), keys(6)
    full_batch = crop_and_mirror(images, all_keys, crop_size=CROP)
    small_batch = crop_and_mirror(images[selected], all_keys[np.array(selected)], crop_size=CROP)
    for a, b in zip(small_batch, full_batch, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b)[selected])


def test_augmentation_does_not_depend_on_the_number_of_devices():
    devices = jax.devices()
    images, all_keys = faces(8), keys(8)
    sharding = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))
    single_device = crop_and_mirror(images, all_keys, crop_size=CROP)
    multi_device = crop_and_mirror(*jax.device_put((images, all_keys), sharding), crop_size=CROP)
    for a, b in zip(single_device, multi_device, strict=True):
        np.testing.assert_array_equal(a, b)


def test_different_keys_give_different_crops():
    images = np.repeat(faces(1), 30, axis=0)
    first = crop_and_mirror(images, keys(30, 0), crop_size=CROP)
    second = crop_and_mirror(images, keys(30, 1), crop_size=CROP)
    assert (first.offsets != second.offsets).any(axis=1).mean() > 0.7
    assert 0.2 < (first.mirrored != second.mirrored).mean() < 0.8


def test_half_precision_is_single_precision_rounded_once():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    exact = preprocessing.preprocess_for_evaluation(images, crop_size=16)
    half = preprocessing.preprocess_for_evaluation(images, crop_size=16, dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, exact.astype(jnp.bfloat16))


def test_only_bytes_enter_the_step():
    lowered = crop_and_mirror.lower(faces(), keys(6), crop_size=CROP)
    (images, key_input), _ = lowered.in_avals
    assert images.dtype == jnp.uint8
    assert jnp.issubdtype(key_input.dtype, jax.dtypes.prng_key)


@given(st.integers(0, 1000))
def test_points_move_with_their_pixels(seed):
    """A bright pixel under a point is under the transformed point, if the crop contains it."""
    random = np.random.default_rng(seed)
    images = np.zeros((8, SIDE, SIDE, 3), np.uint8)
    bright_pixels = random.integers(0, SIDE, (8, 2))
    images[np.arange(8), bright_pixels[:, 1], bright_pixels[:, 0]] = 255
    points = np.zeros((8, 68, 2), np.float32)
    swap = involution()
    points[:, 5] = bright_pixels
    augmented = crop_and_mirror(images, keys(8, seed), crop_size=CROP)
    moved = np.asarray(preprocessing.transform_points(jnp.asarray(points), augmented, CROP, swap))
    for image, mirrored, moved_points in zip(
        augmented.images, augmented.mirrored, moved, strict=True
    ):
        x, y = moved_points[swap[5] if mirrored else 5].astype(int)
        bright = np.argwhere(np.asarray(image)[..., 0] > 0)
        inside = 0 <= x < CROP and 0 <= y < CROP
        assert bright.tolist() == ([[y, x]] if inside else [])


@given(st.integers(0, 1000))
def test_mirrored_twice_is_itself(seed):
    """The crop is the whole image; the same keys mirror the same faces in both rounds."""
    random, identity = np.random.default_rng(seed), faces()
    points = jnp.asarray(random.uniform(0, SIDE, (len(identity), 68, 2)), jnp.float32)
    sides = jnp.asarray(random.uniform(0, 1, (len(identity), 2, 18)), jnp.float32)
    state = (jnp.asarray(identity), points, sides)
    for _ in range(2):
        augmented = crop_and_mirror(state[0], keys(len(identity), seed), crop_size=SIDE)
        moved = preprocessing.transform_points(state[1], augmented, SIDE, involution())
        state = augmented.images, moved, preprocessing.swap_sides(state[2], augmented)
    np.testing.assert_array_equal(state[0], identity)
    np.testing.assert_allclose(state[1], points, atol=1e-5)
    np.testing.assert_array_equal(state[2], sides)
