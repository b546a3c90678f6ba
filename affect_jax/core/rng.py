"""Random keys: a pure function of seed, purpose, step and example, so no key needs saving."""

from __future__ import annotations

import zlib

import jax


def step_key(seed: int, purpose: str, step: jax.typing.ArrayLike) -> jax.Array:
    """Derives the random key of a purpose (such as "dropout") at a step."""
    return jax.random.fold_in(fold_in_name(jax.random.key(seed), purpose), step)


def fold_in_name(key: jax.Array, name: str) -> jax.Array:
    """Derives the key of a name from another key."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def example_keys(
    seed: int, purpose: str, step: jax.typing.ArrayLike, index: jax.Array
) -> jax.Array:
    """Derives one key per example from its row in the split, independent of its device.

    **Arguments:** `index`: int32 [b], rows in the split.

    **Returns:** keys [b].
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key(seed, purpose, step), index)
