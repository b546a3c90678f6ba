"""What happens to a face between storage and network, inside the compiled step.

Bytes go to the device; crop, mirror and normalisation run there. Random choices come from one key
a face, so they depend neither on the batch nor on the device a face is in.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's red, green and blue, on a scale of 0 to 1: torchvision's, for its weights too."""

DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


class Augmented(NamedTuple):
    """Faces as a network takes them, and how each was cut.

    - `images`: float [b, c, c, 3], about zero mean and unit variance.
    - `offsets`: int32 [b, 2], row and column of the crop's upper left pixel.
    - `mirrored`: bool [b].
    """

    images: jax.Array
    offsets: jax.Array
    mirrored: jax.Array


def train(
    images: jax.Array,
    keys: jax.Array,
    *,
    crop_size: int,
    mirror: bool = True,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Augmented:
    """Random crop, random mirroring, normalisation.

    **Arguments:**

    - `images`: uint8 [b, S, S, 3].
    - `keys`: typed keys [b], one a face.
    - `crop_size`: c, at most S; each of the (S - c + 1)^2 crops is equally likely.
    - `mirror`: mirror each face with probability 1/2.
    - `dtype`: of the result.
    """
    room = images.shape[1] - crop_size + 1
    offsets = jax.vmap(lambda key: jax.random.randint(_named(key, "crop"), (2,), 0, room))(keys)
    if mirror:
        mirrored = jax.vmap(lambda key: jax.random.bernoulli(_named(key, "mirror")))(keys)
    else:
        mirrored = jnp.zeros(len(images), bool)
    cut = crop(images, offsets, mirrored, crop_size)
    return Augmented(normalize(cut, dtype), offsets, mirrored)


def evaluate(
    images: jax.Array, *, crop_size: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Centre crop and normalisation: uint8 [b, S, S, 3] -> float [b, c, c, 3].

    An odd margin has its extra pixel at the lower right.
    """
    start = (images.shape[1] - crop_size) // 2
    cut = images
    for axis in (1, 2):  # a slice, not a gather, also where the batch has no length yet
        cut = jax.lax.slice_in_dim(cut, start, start + crop_size, axis=axis)
    return normalize(cut, dtype)


def crop(images: jax.Array, offsets: jax.Array, mirrored: jax.Array, crop_size: int) -> jax.Array:
    """uint8 [b, S, S, 3] -> uint8 [b, c, c, 3]: each face cut at its offset, perhaps mirrored."""

    def one(image: jax.Array, offset: jax.Array, flip: jax.Array) -> jax.Array:
        cut = jax.lax.dynamic_slice(
            image, (offset[0], offset[1], jnp.zeros((), offset.dtype)), (crop_size, crop_size, 3)
        )
        return jnp.where(flip, cut[:, ::-1], cut)

    return jax.vmap(one)(images, offsets, mirrored)


def normalize(images: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """uint8 [..., 3] -> (x / 255 - MEAN) / DEVIATION, rounded once to `dtype`.

    The arithmetic is float32 in registers: it is fused with the cast, so nothing is stored twice.
    """
    scale = jnp.asarray(1 / (255 * np.array(DEVIATION)), jnp.float32)
    shift = jnp.asarray(-np.array(MEAN) / np.array(DEVIATION), jnp.float32)
    return (images.astype(jnp.float32) * scale + shift).astype(dtype)


def mirror_points(points: jax.Array, width: int, swap: np.ndarray) -> jax.Array:
    """Landmarks of the mirrored image.

    **Arguments:**

    - `points`: float [..., 68, 2], (x, y) in pixels; the centre of pixel i is at i.
    - `width`: of the image, pixels.
    - `swap`: int [68], for each point the one on the other side of the face (`facs.rig.MIRROR`).
    """
    mirrored = points[..., swap, :]
    return jnp.stack([width - 1 - mirrored[..., 0], mirrored[..., 1]], axis=-1)


def move_points(
    points: jax.Array, augmented: Augmented, crop_size: int, swap: np.ndarray
) -> jax.Array:
    """Landmarks of the faces of `train`: [b, 68, 2] in stored pixels -> in the crop's pixels."""
    moved = points - augmented.offsets[:, None, ::-1].astype(points.dtype)
    mirrored = mirror_points(moved, crop_size, swap)
    return jnp.where(augmented.mirrored[:, None, None], mirrored, moved)


def swap_sides(sides: jax.Array, augmented: Augmented) -> jax.Array:
    """What belongs to the picture's left and right side [b, 2, ...], of the faces of `train`."""
    mirrored = augmented.mirrored.reshape(-1, *[1] * (sides.ndim - 1))
    return jnp.where(mirrored, sides[:, ::-1], sides)


def _named(key: jax.Array, name: str) -> jax.Array:
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
