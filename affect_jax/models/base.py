"""The registry of trunks, the networks that turn images into features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from affect_jax.core.registry import Registry

TRUNKS = Registry("trunk")
"""Name -> linen module. The module's fields are its options; `dtype` is supplied by code.

A trunk is called as `trunk(images [b, c, c, 3], train=bool, keys=[b] or None) -> features [b, F]`.
`keys` are typed dropout keys, one per example. Batch normalisation averages over the axis "batch"
if `train` is set.
"""


@dataclasses.dataclass(frozen=True)
class TorchMapping:
    """Maps the weights of a PyTorch network to the parameters of a trunk.

    **Arguments:**

    - `requirement`: the PyTorch network, and the options with which its shapes fit, for messages.
    - `to_torch_name`: name of an array of the trunk, such as `stem.conv.weight`, -> its name in
      PyTorch. The last part is PyTorch's already, see `weight_mapping.TORCH_LEAVES`.
    - `head`: name in PyTorch of the classification layer.
    - `reorder_axes`: (name in PyTorch, array) -> array with another order of inputs or shape. Its
      axes stay in PyTorch's order.
    """

    requirement: str
    to_torch_name: Callable[[str], str]
    head: str
    reorder_axes: Callable[[str, Any], Any] = lambda name, array: array


TORCH_MAPPINGS: dict[str, TorchMapping] = {}
"""Trunk name -> its mapping. The file of a trunk adds the entry."""
