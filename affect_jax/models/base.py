"""The registry of trunks: what turns images into features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry

TRUNKS = Registry("trunk")
"""Name -> linen module; its fields are its options, `dtype` is supplied.

A trunk is called as `trunk(images [b, c, c, 3], train=bool, keys=[b] or None) -> features [b, F]`.
`keys` are typed keys, one an example, for dropout; batch normalisation averages over the axis
"batch" when `train` is set.
"""


@dataclasses.dataclass(frozen=True)
class Peer:
    """The same network in PyTorch, whose weights a trunk can start from.

    **Arguments:**

    - `name`: whose network it is.
    - `layer`: a layer's name here, as `stage1_block1.layer1.conv`, -> its name in PyTorch. The
      leaves (`kernel`, `running_mean`, ...) need no telling.
    - `head`: PyTorch's name of the last, classifying layer.
    - `mark`: a weight that no other peer has.
    - `fits`: under which options the shapes are equal.
    - `arrange`: (PyTorch's name, array) -> an array in PyTorch's order of axes, for layers whose
      inputs are in another order there.
    """

    name: str
    layer: Callable[[str], str]
    head: str
    mark: str
    fits: str
    arrange: Callable[[str, Any], Any] = lambda name, array: array


PEERS: dict[str, Peer] = {}
"""Trunk -> its peer; a trunk's file enters its own."""


def require(option: str, value: Any, holds: Callable[[Any], bool], wanted: str) -> None:
    """Raises `UserError` unless `holds(value)`; for a trunk's `__post_init__`.

    A value that cannot be compared at all, such as a string for a number, does not hold either.
    """
    try:
        good = not isinstance(value, bool) and holds(value)
    except TypeError:
        good = False
    if not good:
        raise UserError(f"trunk.{option} = {value!r}: must be {wanted}")


def require_width(value: Any) -> None:
    """Raises `UserError` unless the option `width` is a whole number from 1 on."""
    require("width", value, lambda v: isinstance(v, int) and v >= 1, "a whole number, 1 or more")
