"""Augmentations of each face alone. Every random number is uniform in its range.

dm-pix also has the colour operations and the blur: a few lines each, too few for a dependency.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.random import uniform

from affect_jax.core.rng import fold_in_name
from affect_jax.data.augment import AUGMENTATIONS, FaceAugmentation
from affect_jax.data.preprocessing import IMAGENET_MEAN

_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])  # in the plane of I and Q
_LUMA = _YIQ[0].astype(np.float32)
_TURNED_CHROMA = (np.linalg.inv(_YIQ) @ _QUARTER_TURN @ _YIQ).astype(np.float32)  # of (r, g, b)


@AUGMENTATIONS.register("affine")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Affine(FaceAugmentation):
    """Shear, rotation and scaling about the centre, then a shift, in one resampling.

    Pixels from outside the image are black.

    **Arguments:**

    - `degrees`: largest angle of rotation to either side, in [0, 180].
    - `scale`: range of the factor, in [0.1, 10].
    - `translate`: largest shift in either direction of each axis, as a fraction of the side.
    - `shear`: largest angle of the horizontal shear, in [0, 60] degrees.
    - `bilinear`: False takes the nearest pixel, which is faster.
    """

    degrees: float = 0.0
    scale: Sequence[float] = (1.0, 1.0)
    translate: float = 0.0
    shear: float = 0.0
    bilinear: bool = True
    limits = {"degrees": (0, 180), "scale": (0.1, 10), "translate": (0, 1), "shear": (0, 60)}

    def transform(self, image: jax.Array, points: jax.Array, key: jax.Array) -> tuple:
        size, centre = image.shape[0], (image.shape[0] - 1) / 2
        angle, slope, *shift = uniform(key, (4,), minval=-1)
        angle, slope = jnp.deg2rad(angle * self.degrees), jnp.tan(jnp.deg2rad(slope * self.shear))
        x_shift, y_shift = (centre + value * self.translate * size for value in shift)
        scale = _uniform(fold_in_name(key, "scale"), self.scale)
        cos, sin = jnp.cos(angle), jnp.sin(angle)

        x, y = points[:, 0] - centre, points[:, 1] - centre
        x = x + slope * y
        x, y = scale * (cos * x - sin * y) + x_shift, scale * (sin * x + cos * y) + y_shift
        points = jnp.stack([x, y], axis=-1)

        # Each pixel of the result is read at the place to which the inverse maps it.
        row, column = jnp.indices((size, size), dtype=jnp.float32)
        x, y = (column - x_shift) / scale, (row - y_shift) / scale
        x, y = cos * x + sin * y, cos * y - sin * x
        resample = jax.vmap(jax.scipy.ndimage.map_coordinates, (-1, None, None), out_axes=-1)
        return resample(image, [y + centre, x - slope * y + centre], int(self.bilinear)), points


@AUGMENTATIONS.register("colour_jitter")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourJitter(FaceAugmentation):
    """Random brightness, contrast, saturation and hue, in this order.

    **Arguments:**

    - `brightness`, `contrast`, `saturation`: the factor is in [1 - value, 1 + value].
    - `hue`: largest turn of the colours to either side, in [0, 0.5]; 1 would be the full circle.
      They turn in the plane of I and Q of YIQ, which preserves luma.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    limits = {"brightness": (0, 1), "contrast": (0, 1), "saturation": (0, 1), "hue": (0, 0.5)}

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        brightness, contrast, saturation, hue = uniform(key, (4,), minval=-1)
        image = image * (1 + self.brightness * brightness)
        mean = jnp.mean(_grey(image))
        image = mean + (1 + self.contrast * contrast) * (image - mean)
        grey = _grey(image)
        chroma = image - grey
        if self.hue:
            angle = 2 * math.pi * self.hue * hue
            turned = jnp.einsum("hwc,dc->hwd", image, _TURNED_CHROMA, precision="highest")
            chroma = jnp.cos(angle) * chroma + jnp.sin(angle) * turned
        return grey + (1 + self.saturation * saturation) * chroma


@AUGMENTATIONS.register("grey")
class Grey(FaceAugmentation):
    """Replaces the colours by their luma."""

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.broadcast_to(_grey(image), image.shape)


@AUGMENTATIONS.register("gaussian_blur")
@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianBlur(FaceAugmentation):
    """Gaussian blur.

    **Arguments:** `sigma`: range of the standard deviation, in [0.1, 100] pixels.
    """

    sigma: Sequence[float] = (0.1, 2.0)
    limits = {"sigma": (0.1, 100)}

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        row, column = jnp.indices(image.shape[:2], dtype=jnp.float32)
        return _filter(image, jnp.exp(-(((row - column) / _uniform(key, self.sigma)) ** 2) / 2))


@AUGMENTATIONS.register("gaussian_noise")
@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianNoise(FaceAugmentation):
    """Gaussian noise, drawn for each channel of each pixel.

    **Arguments:** `std`: range of the standard deviation, in [0, 1], where white is 1.
    """

    std: Sequence[float] = (0.0, 0.1)
    limits = {"std": (0, 1)}

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(fold_in_name(key, "noise"), image.shape)
        return image + _uniform(key, self.std) * noise


@AUGMENTATIONS.register("low_resolution")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LowResolution(FaceAugmentation):
    """Averages over the pixels of a smaller image, which is then enlarged with bilinear weights.

    **Arguments:** `scale`: range of the smaller side as a fraction of the crop's, in [0.01, 1].
    """

    scale: Sequence[float] = (0.25, 0.75)
    limits = {"scale": (0.01, 1)}

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        size = image.shape[0]
        side = jnp.maximum(jnp.round(_uniform(key, self.scale) * size), 1)
        ratio = size / side
        row, column = jnp.indices(image.shape[:2], dtype=jnp.float32)
        # The overlap of pixel `row` of the smaller image with pixel `column`.
        ends = jnp.minimum((row + 1) * ratio, column + 1)
        down = jnp.maximum(ends - jnp.maximum(row * ratio, column), 0) / ratio
        position = jnp.clip((row + 0.5) / ratio - 0.5, 0, side - 1)  # in the smaller image
        up = jnp.maximum(1 - jnp.abs(position - column), 0)
        return _filter(image, jnp.matmul(up, down, precision="highest"))


@AUGMENTATIONS.register("random_erasing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomErasing(FaceAugmentation):
    """Fills a rectangle with ImageNet's mean colour, which normalisation maps to about 0
    (Zhong et al. 2020).

    **Arguments:**

    - `area`: range of the rectangle's fraction of the image.
    - `ratio`: range of height over width, whose logarithm is uniform, in [0.01, 100].
    """

    area: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    limits = {"area": (0, 1), "ratio": (0.01, 100)}

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        ratio = jnp.exp(_uniform(fold_in_name(key, "ratio"), np.log(self.ratio).tolist()))
        area = _uniform(fold_in_name(key, "area"), self.area)
        is_inside = random_box(key, area, ratio, image.shape[0])
        return jnp.where(is_inside, jnp.asarray(IMAGENET_MEAN, image.dtype), image)


@AUGMENTATIONS.register("rand_augment")
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandAugment(FaceAugmentation):
    """Applies `count` random operations of equal strength (after Cubuk et al. 2020).

    In contrast to the paper, the operations are the augmentations above, none is drawn twice and
    their order is fixed: under `vmap` every operation is computed for every face, here once.

    **Arguments:**

    - `count`: number of operations of a face, 1 to 10.
    - `magnitude`: strength in [0, 1].
    """

    count: int = 2
    magnitude: float = 0.5
    limits = {"count": (1, 10), "magnitude": (0, 1)}

    def operations(self) -> dict[str, FaceAugmentation]:
        """The ten operations by name."""
        m = self.magnitude
        scale = (1 - 0.3 * m, 1 + 0.3 * m)
        return {
            "affine": Affine(degrees=30 * m, scale=scale, translate=0.1 * m, shear=20 * m),
            "brightness": ColourJitter(brightness=0.9 * m),
            "contrast": ColourJitter(contrast=0.9 * m),
            "saturation": ColourJitter(saturation=0.9 * m),
            "hue": ColourJitter(hue=0.2 * m),
            "grey": Grey(),
            "blur": GaussianBlur(sigma=(0.1, 0.1 + 2 * m)),
            "noise": GaussianNoise(std=(0, 0.2 * m)),
            "low_resolution": LowResolution(scale=(1 - 0.8 * m, 1)),
            "erasing": RandomErasing(area=(0.02, 0.02 + 0.3 * m)),
        }

    def transform(self, image: jax.Array, points: jax.Array, key: jax.Array) -> tuple:
        operations = self.operations()
        order = jax.random.permutation(fold_in_name(key, "order"), len(operations))
        for rank, (name, operation) in zip(order, operations.items(), strict=True):
            changed, moved = operation.transform(image, points, fold_in_name(key, name))
            image = jnp.where(rank < self.count, jnp.clip(changed, 0, 1), image)
            points = jnp.where(rank < self.count, moved, points)
        return image, points


def random_box(key: jax.Array, area: jax.Array, ratio: jax.Array, size: int) -> jax.Array:
    """Draws a rectangle with a fraction `area` of an image and height over width `ratio`.

    It lies inside the image; a side that is longer than the image is shortened.

    **Returns:** bool [size, size, 1].
    """
    sides = jnp.round(jnp.sqrt(area * jnp.stack([ratio, 1 / ratio])) * size)
    sides = jnp.clip(sides, 0, size)
    starts = jnp.floor(uniform(key, (2,)) * (size - sides + 1))
    places = jnp.arange(size)[:, None]
    is_inside = (places >= starts) & (places < starts + sides)
    return (is_inside[:, :1] & is_inside[:, 1])[..., None]


def _uniform(key: jax.Array, limits: Sequence[float]) -> jax.Array:
    return uniform(key, minval=limits[0], maxval=limits[1])


def _grey(image: jax.Array) -> jax.Array:
    """[c, c, 3] -> luma [c, c, 1]."""
    return jnp.sum(image * _LUMA, axis=-1, keepdims=True)


def _filter(image: jax.Array, weights: jax.Array) -> jax.Array:
    """Applies weights [c, c], each row scaled to sum 1, to the rows and columns of an image."""
    weights = weights / jnp.sum(weights, axis=1, keepdims=True)
    image = jnp.einsum("ij,jkc->ikc", weights, image, precision="highest")
    return jnp.einsum("ij,kjc->kic", weights, image, precision="highest")
