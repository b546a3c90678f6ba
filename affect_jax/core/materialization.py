"""Materialization: prevents XLA from computing a value more than once."""

from __future__ import annotations

import jax


def materialize_on_cpu(values: jax.Array) -> jax.Array:
    """Divides by 1 (CPU only), as XLA does not recompute a division for every consumer.

    Finite values are unchanged. Infinity becomes NaN; the training step skips updates with either.
    `lax.optimization_barrier` does not help: XLA removes it on a CPU before it fuses operations.
    """
    return values / (1 + 0 * values) if jax.default_backend() == "cpu" else values
