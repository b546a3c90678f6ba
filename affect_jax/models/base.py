"""The registry of trunks, the networks that turn images into features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from affect_jax.core.errors import UserError
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

    - `name`: the PyTorch network, for messages.
    - `to_torch_layer`: name of a layer of the trunk, such as `stage1_block1.layer1.conv`, -> its
      name in PyTorch. `weight_mapping` maps the names of leaves (`kernel`, `mean`, ...).
    - `head`: name in PyTorch of the classification layer.
    - `signature_key`: name of a weight that no other PyTorch network in `TORCH_MAPPINGS` has.
    - `compatible_options`: the options with which the shapes are equal, for messages.
    - `reorder_axes`: (name in PyTorch, array) -> array with reordered inputs, for layers whose
      flattened inputs have another order. The axes of the array stay in PyTorch's order.
    """

    name: str
    to_torch_layer: Callable[[str], str]
    head: str
    signature_key: str
    compatible_options: str
    reorder_axes: Callable[[str, Any], Any] = lambda name, array: array


TORCH_MAPPINGS: dict[str, TorchMapping] = {}
"""Trunk name -> its mapping. The file of a trunk adds the entry."""


def require(option: str, value: Any, is_valid: Callable[[Any], bool], requirement: str) -> None:
    """Raises `UserError` unless `is_valid(value)`; for a trunk's `__post_init__`.

    A value that cannot be compared, such as a string in place of a number, is invalid as well.
    """
    try:
        valid = not isinstance(value, bool) and is_valid(value)
    except TypeError:
        valid = False
    if not valid:
        raise UserError(f"trunk.{option} = {value!r}: must be {requirement}")


def require_width(value: Any) -> None:
    """Raises `UserError` unless the option `width` is an integer of 1 or more."""
    require("width", value, lambda v: isinstance(v, int) and v >= 1, "a whole number, 1 or more")
