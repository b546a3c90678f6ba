"""Augmentation inside the compiled step, after crop and mirroring and before normalisation.

`config.data.augment` lists entries of `AUGMENTATIONS`, which are applied in its order. The random
choices for a face come from a key of its own for each entry. They depend neither on the device of
the face nor on other entries. To add an entry, register a subclass of `Augmentation` in a file of
this folder.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp

from affect_jax.core.errors import UserError
from affect_jax.core.materialization import materialize_on_cpu
from affect_jax.core.registry import Registry
from affect_jax.core.rng import fold_in_name

AUGMENTATIONS = Registry("augmentation")

Targets: TypeAlias = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(abc.ABC):
    """An augmentation of the faces on a device.

    **Arguments:** `probability`: probability that a face is changed, in [0, 1].
    """

    probability: float = 0.5

    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}  # of numbers and ranges, both included
    uses_pairs: ClassVar[bool] = False  # True if the number of faces on a device must be even

    def __post_init__(self) -> None:
        for option, (low, high) in {"probability": (0, 1), **self.limits}.items():
            value = getattr(self, option)
            if isinstance(value, (int, float)):
                is_valid, requirement = low <= value <= high, "in"
            else:
                is_valid = len(value) == 2 and low <= value[0] <= value[1] <= high
                requirement = "two ascending numbers in"
            if not is_valid:
                raise UserError(f"{option} = {value!r}: must be {requirement} [{low}, {high}]")

    @abc.abstractmethod
    def __call__(
        self, images: jax.Array, targets: Targets, keys: jax.Array
    ) -> tuple[jax.Array, Targets]:
        """Changes images and targets.

        **Arguments:**

        - `images`: float32 [b, c, c, 3] in [0, 1]; results outside are clipped by the caller.
        - `targets`: targets and masks, with landmarks in pixels of `images`.
        - `keys`: typed keys [b], one per face.
        """


class FaceAugmentation(Augmentation):
    """An augmentation of each face alone. A subclass overrides one of the first two methods."""

    def change(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Changes an image, float32 [c, c, 3] in [0, 1], whose landmarks stay in place."""
        raise NotImplementedError

    def transform(self, image: jax.Array, points: jax.Array, key: jax.Array) -> tuple:
        """Changes an image and its landmarks, [68, 2] (x, y)."""
        return self.change(image, key), points

    def __call__(
        self, images: jax.Array, targets: Targets, keys: jax.Array
    ) -> tuple[jax.Array, Targets]:
        def augment(image: jax.Array, points: jax.Array, key: jax.Array) -> tuple:
            is_applied = jax.random.bernoulli(fold_in_name(key, "apply"), self.probability)
            changed = self.transform(image, points, key)
            return tuple(map(lambda a, b: jnp.where(is_applied, a, b), changed, (image, points)))

        images, points = jax.vmap(augment)(images, targets["landmarks"], keys)
        return images, {**targets, "landmarks": points}


def create_augmentations(
    specs: Iterable[Mapping[str, Any]], num_classes: int
) -> dict[str, Augmentation]:
    """Creates the augmentations of `config.data.augment` under unique names.

    An entry of probability 0 is left out, so that the step is the same as without it.
    """
    counts: collections.Counter[str] = collections.Counter()
    augmentations = {}
    for spec in specs:
        augmentation = AUGMENTATIONS.create(spec, num_classes=num_classes)
        if augmentation.probability > 0:
            augmentations[f"{spec['name']}[{counts[spec['name']]}]"] = augmentation
        counts[spec["name"]] += 1
    return augmentations


def apply_augmentations(
    augmentations: Mapping[str, Augmentation], images: jax.Array, targets: Targets, keys: jax.Array
) -> tuple[jax.Array, Targets]:
    """Applies augmentations in order: uint8 [b, c, c, 3] -> the same, rounded once, at the end.

    **Arguments:** `targets`, `keys`: see `Augmentation`.
    """
    if not augmentations:
        return images, targets
    values = images.astype(jnp.float32) / 255
    for name, augmentation in augmentations.items():
        entry_keys = jax.vmap(lambda key, name=name: fold_in_name(key, name))(keys)
        values, targets = augmentation(values, targets, entry_keys)
        # Otherwise XLA computes an entry again for each use in the next one.
        values = materialize_on_cpu(jnp.clip(values, 0, 1))
    return jnp.round(values * 255).astype(jnp.uint8), targets
