"""The registry of trunks: what turns images into features."""

from __future__ import annotations

from affect_jax.registry import Registry

TRUNKS = Registry("trunk")
"""Name -> linen module; its fields are its options, `dtype` is supplied.

A trunk is called as `trunk(images [b, c, c, 3], train=bool, keys=[b] or None) -> features [b, F]`.
`keys` are typed keys, one an example, for dropout; batch normalisation averages over the axis
"batch" when `train` is set.
"""
