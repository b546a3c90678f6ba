"""Networks: trunks, heads, weights of others. The only package that imports flax.linen.

To add a trunk: a new file in this folder with a linen module and `@TRUNKS.register("name")`.
"""

from __future__ import annotations

from affect_jax.core.registry import load_all
from affect_jax.models.base import TRUNKS
from affect_jax.models.heads import HEADS
from affect_jax.models.network import Model, create_model, create_network, model_from_spec

__all__ = ["HEADS", "TRUNKS", "Model", "create_model", "create_network", "model_from_spec"]

load_all(__name__)
