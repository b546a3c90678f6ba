"""Networks: trunks, heads and imported weights. Only this package imports flax.linen.

To add a trunk, add a file to this folder with a linen module and `@TRUNKS.register("name")`.
"""

from __future__ import annotations

from affect_jax.core.registry import import_submodules
from affect_jax.models.base import TRUNKS
from affect_jax.models.network import HEADS, Model, create_network, model_from_spec

__all__ = ["HEADS", "TRUNKS", "Model", "create_network", "model_from_spec"]

import_submodules(__name__)
