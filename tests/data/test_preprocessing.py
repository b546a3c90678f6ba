from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax.data import preprocessing

SIDE, CROP = 12, 8


def faces(count: int = 6, side: int = SIDE, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def normalized(images: np.ndarray) -> np.ndarray:
    """torchvision's ToTensor and Normalize, in float64."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return (images / 255 - mean) / deviation


def involution() -> np.ndarray:
    """A swap of points that undoes itself, as that of a face's two sides does."""
    swap = np.arange(68)
    swap[:60] = swap[:60].reshape(30, 2)[:, ::-1].reshape(-1)
    return swap


@pytest.mark.parametrize(("side", "crop"), [(12, 8), (12, 7), (13, 8), (12, 12), (256, 224)])
def test_evaluation_takes_the_centre(side, crop):
    images = faces(2, side)
    start = (side - crop) // 2
    expected = normalized(images[:, start : start + crop, start : start + crop])
    found = preprocessing.evaluate(images, crop_size=crop)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("mirror", [True, False])
def test_training_cuts_and_mirrors_as_it_says(mirror):
    images = faces(40)
    found = jax.jit(preprocessing.train, static_argnames=("crop_size", "mirror"))(
        images, keys(40), crop_size=CROP, mirror=mirror
    )
    assert found.images.shape == (40, CROP, CROP, 3)
    assert set(np.asarray(found.mirrored).tolist()) == ({True, False} if mirror else {False})
    for image, cut, (row, column), mirrored in zip(images, *found, strict=True):
        expected = image[row : row + CROP, column : column + CROP]
        expected = expected[:, ::-1] if mirrored else expected
        np.testing.assert_allclose(cut, normalized(expected), atol=2e-6)


def test_crops_and_mirroring_are_uniform():
    count = 20_000
    images = np.zeros((count, 6, 6, 3), np.uint8)
    found = preprocessing.train(images, keys(count), crop_size=4)
    cells = np.asarray(found.offsets) @ [3, 1] + 9 * np.asarray(found.mirrored)
    shares = np.bincount(cells, minlength=18) / count
    assert len(shares) == 18
    np.testing.assert_allclose(shares, 1 / 18, atol=5 * np.sqrt(1 / 18 / count))


@settings(max_examples=12)  # each size compiles anew
@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_face_is_cut_alike_in_any_batch(order, size):
    images, all_keys = faces(), keys(6)
    whole = preprocessing.train(images, all_keys, crop_size=CROP)
    chosen = np.array(order[:size])
    part = preprocessing.train(images[chosen], all_keys[chosen], crop_size=CROP)
    for a, b in zip(part, whole, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b)[chosen])


def test_a_face_is_cut_alike_on_any_number_of_devices():
    devices = jax.devices()
    images, all_keys = faces(8), keys(8)
    train = jax.jit(preprocessing.train, static_argnames=("crop_size",))
    sharding = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))
    one = train(images, all_keys, crop_size=CROP)
    many = train(*jax.device_put((images, all_keys), sharding), crop_size=CROP)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_keys_cut_otherwise():
    images = np.repeat(faces(1), 30, axis=0)
    first = preprocessing.train(images, keys(30, 0), crop_size=CROP)
    second = preprocessing.train(images, keys(30, 1), crop_size=CROP)
    assert (first.offsets != second.offsets).any(axis=1).mean() > 0.7
    assert 0.2 < (first.mirrored != second.mirrored).mean() < 0.8


def test_half_precision_is_single_precision_rounded_once():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    exact = preprocessing.evaluate(images, crop_size=16)
    half = preprocessing.evaluate(images, crop_size=16, dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, exact.astype(jnp.bfloat16))


def test_only_bytes_enter_the_step():
    program = jax.jit(preprocessing.train, static_argnames=("crop_size",)).lower(
        faces(), keys(6), crop_size=CROP
    )
    (images, found_keys), _ = program.in_avals
    assert images.dtype == jnp.uint8
    assert jnp.issubdtype(found_keys.dtype, jax.dtypes.prng_key)


@given(st.integers(0, 2**31), st.integers(2, 300))
def test_mirroring_points_twice_changes_nothing(seed, width):
    points = np.random.default_rng(seed).uniform(-20, width + 20, (2, 68, 2)).astype(np.float32)
    swap = involution()
    twice = preprocessing.mirror_points(
        preprocessing.mirror_points(jnp.asarray(points), width, swap), width, swap
    )
    np.testing.assert_allclose(twice, points, atol=1e-4)


def test_mirroring_points_swaps_sides():
    points = np.random.default_rng(0).uniform(0, 20, (68, 2)).astype(np.float32)
    swap = involution()
    found = np.asarray(preprocessing.mirror_points(jnp.asarray(points), 20, swap))
    for place, other in enumerate(swap):
        np.testing.assert_allclose(found[place], [19 - points[other, 0], points[other, 1]])


@given(st.integers(0, 1000))
def test_points_move_with_their_pixels(seed):
    """A bright pixel under a point is under the moved point, where the crop still holds it."""
    random = np.random.default_rng(seed)
    images = np.zeros((8, SIDE, SIDE, 3), np.uint8)
    where = random.integers(0, SIDE, (8, 2))
    images[np.arange(8), where[:, 1], where[:, 0]] = 255
    points = np.zeros((8, 68, 2), np.float32)
    swap = involution()
    points[:, 5] = where
    found = preprocessing.train(images, keys(8, seed), crop_size=CROP)
    moved = np.asarray(preprocessing.move_points(jnp.asarray(points), found, CROP, swap))
    for image, mirrored, moved_points in zip(found.images, found.mirrored, moved, strict=True):
        x, y = moved_points[swap[5] if mirrored else 5].astype(int)
        bright = np.argwhere(np.asarray(image)[..., 0] > 0)
        inside = 0 <= x < CROP and 0 <= y < CROP
        assert bright.tolist() == ([[y, x]] if inside else [])
