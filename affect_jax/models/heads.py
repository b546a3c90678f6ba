"""Heads: linear layers from the features of a trunk to the outputs of one model of affect."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.core.registry import Registry
from affect_jax.facs.action_units import UNITS
from affect_jax.models.layers import uniform_bias, uniform_fan_in

HEADS = Registry("head")
"""Name -> function(num_classes) -> number of outputs."""


@HEADS.register("expression")
def expression(num_classes: int) -> int:
    """Logits of the categorical model, [b, num_classes]."""
    return num_classes


@HEADS.register("valence_arousal")
def valence_arousal(num_classes: int) -> int:
    """Valence and arousal, [b, 2]: linear, as in the paper; evaluation clips to [-1, 1]."""
    return 2


@HEADS.register("action_units")
def action_units(num_classes: int) -> int:
    """Logits of the action units of `facs.action_units.UNITS`, [b, 18]."""
    return len(UNITS)


class Head(nn.Module):
    """A linear layer with PyTorch's initialisation and the parameters `kernel` and `bias`.

    The factors have type `dtype`. Sums and outputs are float32, so logits keep float32 precision
    for every compute dtype.
    """

    size: int
    dtype: Any

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[b, F] -> float32 [b, size]."""
        bias = self.param("bias", uniform_bias(features.shape[-1]), (self.size,))
        kernel = self.param("kernel", uniform_fan_in(), (features.shape[-1], self.size))
        kernel = kernel.astype(self.dtype)
        return jnp.dot(features, kernel, preferred_element_type=jnp.float32) + bias
