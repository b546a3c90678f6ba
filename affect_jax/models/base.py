"""The registry of trunks, the networks that turn images into features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from affect_jax.core.registry import Registry, require_option

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

    - `name`: the PyTorch network, for messages.
    - `to_torch_layer`: name of a layer of the trunk, such as `stage1_block1.layer1.conv`, -> its
      name in PyTorch. `weight_mapping` maps the names of leaves (`kernel`, `mean`, ...).
    - `head`: name in PyTorch of the classification layer.
    - `compatible_options`: the options with which the shapes are equal, for messages.
    - `reorder_axes`: (name in PyTorch, array) -> array with reordered inputs, for layers whose
      flattened inputs have another order. The axes of the array stay in PyTorch's order.
    """

    name: str
    to_torch_layer: Callable[[str], str]
    head: str
    compatible_options: str
    reorder_axes: Callable[[str, Any], Any] = lambda name, array: array


TORCH_MAPPINGS: dict[str, TorchMapping] = {}
"""Trunk name -> its mapping. The file of a trunk adds the entry."""


def require_width(value: Any) -> None:
    """Raises `UserError` unless the option `width` is an integer of 1 or more."""
    is_valid = isinstance(value, int) and value >= 1
    require_option("trunk.width", value, lambda _: is_valid, "a whole number, 1 or more")
