"""Random keys: a pure function of seed, purpose, step and example, so no key is ever saved."""

from __future__ import annotations

import zlib

import jax


def step_key(seed: int, name: str, step: jax.typing.ArrayLike) -> jax.Array:
    """The random key of a purpose at a step: a pure function, so no key is ever saved."""
    purpose = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(purpose, step)


def example_keys(seed: int, name: str, step: jax.typing.ArrayLike, index: jax.Array) -> jax.Array:
    """One key an example, from its row in the split: the same whichever device it is on.

    **Arguments:**

    - `index`: int32 [b].

    **Returns:** keys [b].
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key(seed, name, step), index)
