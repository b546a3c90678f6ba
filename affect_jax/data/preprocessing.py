"""Preprocessing on the device, inside the compiled step: crop, mirror and normalisation.

Images are transferred as bytes. The random choices for a face come from a key of its own, so they
depend neither on its batch nor on its device.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.core.rng import fold_in_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, in [0, 1]; the values of torchvision and its weights."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


class AugmentedImages(NamedTuple):
    """Cropped images, and the crop and mirroring of each.

    - `images`: uint8 [b, c, c, 3].
    - `offsets`: int32 [b, 2], row and column of the upper left pixel of the crop.
    - `mirrored`: bool [b].
    """

    images: jax.Array
    offsets: jax.Array
    mirrored: jax.Array


def crop_and_mirror(
    images: jax.Array, keys: jax.Array, *, crop_size: int, mirror: bool = True
) -> AugmentedImages:
    """Applies random crop and random mirroring.

    **Arguments:**

    - `images`: uint8 [b, S, S, 3].
    - `keys`: typed keys [b], one per face.
    - `crop_size`: c, at most S; each of the (S - c + 1)^2 crops is equally likely.
    - `mirror`: mirror each face with probability 1/2.
    """
    num_offsets = images.shape[1] - crop_size + 1

    def augment(image: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        row, column = offset = jax.random.randint(fold_in_name(key, "crop"), (2,), 0, num_offsets)
        mirrored = jnp.zeros((), bool)
        if mirror:
            mirrored = jax.random.bernoulli(fold_in_name(key, "mirror"))
        start = (row, column, jnp.zeros((), offset.dtype))
        cropped = jax.lax.dynamic_slice(image, start, (crop_size, crop_size, 3))
        return jnp.where(mirrored, cropped[:, ::-1], cropped), offset, mirrored

    return AugmentedImages(*jax.vmap(augment)(images, keys))


def preprocess_for_evaluation(
    images: jax.Array, *, crop_size: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Applies centre crop and normalisation: uint8 [b, S, S, 3] -> float [b, c, c, 3].

    If the margin is odd, the extra pixel is at the lower right.
    """
    start = (images.shape[1] - crop_size) // 2
    cropped = images
    for axis in (1, 2):  # stays a slice, not a gather, even if the batch size is symbolic
        cropped = jax.lax.slice_in_dim(cropped, start, start + crop_size, axis=axis)
    return normalize(cropped, dtype)


def normalize(images: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """uint8 [..., 3] -> (x / 255 - mean) / std of ImageNet, rounded once to `dtype`.

    The arithmetic is float32 in registers, fused with the cast, so no float32 copy is stored.
    """
    scale = jnp.asarray(1 / (255 * np.array(IMAGENET_STD)), jnp.float32)
    shift = jnp.asarray(-np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD), jnp.float32)
    return (images.astype(jnp.float32) * scale + shift).astype(dtype)


def transform_points(
    points: jax.Array, augmented: AugmentedImages, crop_size: int, swap: np.ndarray
) -> jax.Array:
    """Crops and mirrors landmarks like their images.

    **Arguments:**

    - `points`: float [b, 68, 2], (x, y) in pixels of the stored images; the centre of pixel i is
      at i.
    - `swap`: int [68], each point's counterpart on the other side of the face (`facs.rig.MIRROR`).

    **Returns:** float [b, 68, 2], in pixels of the crop.
    """
    cropped = points - augmented.offsets[:, None, ::-1].astype(points.dtype)
    swapped = cropped[:, swap]
    mirrored = jnp.stack([crop_size - 1 - swapped[..., 0], swapped[..., 1]], axis=-1)
    return jnp.where(augmented.mirrored[:, None, None], mirrored, cropped)


def swap_sides(sides: jax.Array, augmented: AugmentedImages) -> jax.Array:
    """Swaps values of the left and right side of the image, [b, 2, ...], for mirrored faces."""
    mirrored = augmented.mirrored.reshape(-1, *[1] * (sides.ndim - 1))
    return jnp.where(mirrored, sides[:, ::-1], sides)
