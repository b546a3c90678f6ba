"""The registry of trunks: what turns images into features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from affect_jax.errors import UserError
from affect_jax.registry import Registry

TRUNKS = Registry("trunk")
"""Name -> linen module; its fields are its options, `dtype` is supplied.

A trunk is called as `trunk(images [b, c, c, 3], train=bool, keys=[b] or None) -> features [b, F]`.
`keys` are typed keys, one an example, for dropout; batch normalisation averages over the axis
"batch" when `train` is set.
"""


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
