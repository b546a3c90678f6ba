"""Test helper: checks the format of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from affect_jax.core.batch import TARGETS


def check_batch(batch: Mapping[str, np.ndarray]) -> None:
    """Checks every key, dtype and shape of a batch on the host, and that masked targets are 0."""
    size, side = len(batch["valid"]), batch["image"].shape[1:2]
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "valid": (np.bool_, (size,)),
        "index": (np.int32, (size,)),
        "image": (np.uint8, (size, *side, *side, 3)),
    }
    for name, (dtype, shape, mask_shape) in TARGETS.items():
        expected[name] = (dtype, (size, *shape))
        expected[f"{name}_mask"] = (np.bool_, (size, *mask_shape))
    for name, (dtype, shape) in expected.items():
        assert (batch[name].dtype, batch[name].shape) == (dtype, shape), name
    for name in TARGETS:
        mask = batch[f"{name}_mask"]
        assert not mask[~batch["valid"]].any(), name
        assert not batch[name][~mask].any() and np.isfinite(batch[name]).all(), name
