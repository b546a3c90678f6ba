"""Mixup and cutmix: each face is mixed with a partner, and so are their targets."""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp

from affect_jax.core.batch import TARGETS
from affect_jax.core.rng import fold_in_name
from affect_jax.data.augment import AUGMENTATIONS, Augmentation, Targets
from affect_jax.data.augment_faces import random_box


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixing(Augmentation):
    """Mixes each face with its partner, and their targets with the same share.

    Faces 2i and 2i + 1 of the batch are partners. They are random, as the order of the rows is. A
    device with an even number of faces has whole pairs, so partners are the same on any number of
    devices, without communication. Classes become `expression_distribution`, whose most probable
    class is `expression`. A target that only one of the two has is masked, and so are landmarks.

    **Arguments:** `alpha`: a face's own share is from Beta(alpha, alpha); in [0.01, 100].
    """

    alpha: float = 1.0
    num_classes: int
    limits = {"alpha": (0.01, 100)}
    uses_pairs = True

    @abc.abstractmethod
    def draw(self, key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """The own share of a face, of each pixel, [size, size, 1] or [1, 1, 1], and in all, []."""

    def __call__(
        self, images: jax.Array, targets: Targets, keys: jax.Array
    ) -> tuple[jax.Array, Targets]:
        def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            is_mixed = jax.random.bernoulli(fold_in_name(key, "apply"), self.probability)
            pixels, share = self.draw(fold_in_name(key, "share"), images.shape[1])
            return is_mixed, jnp.where(is_mixed, pixels, 1), jnp.where(is_mixed, share, 1)

        is_mixed, pixels, share = jax.vmap(draw)(keys)
        one_hot = jax.nn.one_hot(targets["expression"], self.num_classes)
        values = {**targets, "expression": targets.get("expression_distribution", one_hot)}
        mixed = {}
        for name in TARGETS:
            mask = targets[f"{name}_mask"]
            both = mask & _partners(mask) & (name != "landmarks")
            mixed[f"{name}_mask"] = jnp.where(_expand(is_mixed, mask), both, mask)
            known = jnp.where(_expand(mask, values[name]), values[name], 0)  # it may be NaN
            mixed[name] = _mix(known, _expand(share, known))
        mixed["landmarks"] = targets["landmarks"]
        mixed["expression_distribution"] = mixed["expression"]
        mixed["expression"] = jnp.argmax(mixed["expression"], axis=-1).astype(jnp.int32)
        return _mix(images, pixels), {**targets, **mixed}


@AUGMENTATIONS.register("mixup")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    """The weighted mean of two faces (Zhang et al. 2018). **Arguments:** see `Mixing`."""

    alpha: float = 0.2

    def draw(self, key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        share = symmetric_beta(key, self.alpha)
        return jnp.full((1, 1, 1), share), share


@AUGMENTATIONS.register("cutmix")
class Cutmix(Mixing):
    """A square of the partner replaces the same place of the face (after Yun et al. 2019).

    In contrast to the paper, the square lies inside the image. **Arguments:** see `Mixing`.
    """

    def draw(self, key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        area = symmetric_beta(fold_in_name(key, "area"), self.alpha)
        pixels = 1.0 - random_box(key, area, jnp.ones(()), size)
        return pixels, jnp.mean(pixels)


def symmetric_beta(key: jax.Array, alpha: float) -> jax.Array:
    """Draws from Beta(alpha, alpha), without a loop.

    `sqrt(2 alpha) t` is from Student's t with 2 alpha degrees of freedom, drawn by the polar
    method (Bailey 1994); `(1 + t / sqrt(1 + t^2)) / 2` has the symmetric beta distribution.
    """
    radius, angle = jax.random.uniform(key, (2,), minval=1e-30)
    squared = jnp.expm1(jnp.minimum(-jnp.log(radius) / alpha, 80))  # beyond, float32 overflows
    t = jnp.sqrt(squared) * jnp.cos(2 * jnp.pi * angle)
    return jnp.clip((1 + t / jnp.sqrt(1 + t**2)) / 2, 0, 1)  # it may round to -1e-8


def _expand(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def _partners(values: jax.Array) -> jax.Array:
    """Swaps rows 2i and 2i + 1 of [b, ...]."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def _mix(values: jax.Array, share: jax.Array) -> jax.Array:
    return share * values + (1 - share) * _partners(values)
