"""The format of a batch: a dictionary of arrays with a mask for every target.

| key | dtype | shape | |
|---|---|---|---|
| `image` | uint8 | [B, S, S, 3] | RGB, S the side of the stored faces |
| `index` | int32 | [B] | row in the split; 0 where padded |
| `valid` | bool | [B] | False: padding |
| `expression` | int32 | [B] | class, 0 where masked |
| `valence_arousal` | float32 | [B, 2] | in [-1, 1], 0 where masked |
| `action_units` | float32 | [B, 18] | intensities in [0, 1], 0 where masked |
| `action_unit_sides` | float32 | [B, 2, 18] | of the image's left and right side, 0 where masked |
| `landmarks` | float32 | [B, 68, 2] | (x, y), pixels of `image`, 0 where masked |

and `<target>_mask`, bool: [B], or the target's own shape for action units. A mask is True for an
annotated target of a face that is not padding. With soft labels, and inside a step that mixes
faces, there is also `expression_distribution`, float32 [B, C], with the mask of `expression`: the
losses use it, and `expression` stays the label. On the host a batch is
[B, ...], in a run of several processes the slice of this process. `split_for_devices` reshapes it
to [D, b, ...], one row per device. Inside a step it is [b, ...].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from affect_jax.core.labels import AXES, NUM_CLASSES

Batch = dict[str, np.ndarray]

TARGETS: dict[str, tuple[type[np.generic], tuple[int, ...], tuple[int, ...]]] = {
    "expression": (np.int32, (), ()),
    "valence_arousal": (np.float32, (2,), ()),
    "action_units": (np.float32, (18,), (18,)),
    "action_unit_sides": (np.float32, (2, 18), (2, 18)),
    "landmarks": (np.float32, (68, 2), ()),
}
"""Target -> dtype, shape and shape of its mask, for one face."""


def make_targets(columns: Mapping[str, np.ndarray], num_classes: int = NUM_CLASSES) -> Batch:
    """Creates every target and mask of a split from its label columns.

    **Arguments:**

    - `columns`: `expression` int [N], ids of `labels.EXPRESSIONS`; and, if the dataset has them,
      `valence`, `arousal` [N], `action_units` [N, 18], `action_unit_sides` [N, 2, 18] and
      `landmarks` [N, 68, 2], NaN where not annotated; and for soft labels
      `expression_distribution` [N, C], C classes of the dataset. Other columns are ignored.
    - `num_classes`: ids from this number on are masked: none, uncertain and non-face; with 7
      classes contempt too.

    **Returns:**

    `{target: [N, ...], target_mask: [N, ...]}` for every entry of `TARGETS`, and with soft labels
    `expression_distribution`, see `restrict_distribution`; a label without one is its class. If all
    faces have a target, it may share memory with its column: a copy for a million faces is nearly a
    gigabyte.
    """
    expression = np.asarray(columns["expression"])
    mask = (expression >= 0) & (expression < num_classes)
    targets: Batch = {"expression": _apply_mask(expression, mask).astype(np.int32)}
    targets["expression_mask"] = mask
    missing = np.full(len(expression), np.nan, np.float32)
    axes = [columns.get(axis, missing) for axis in AXES]
    columns = {**columns, "valence_arousal": np.stack(axes, axis=-1)}
    for name, (dtype, shape, mask_shape) in list(TARGETS.items())[1:]:
        values = columns.get(name, np.broadcast_to(np.nan, (len(expression), *shape)))
        values = np.asarray(values, dtype)
        finite = np.isfinite(values).all(axis=tuple(range(1 + len(mask_shape), values.ndim)))
        targets[f"{name}_mask"] = mask = np.asarray(finite)
        targets[name] = _apply_mask(values, mask)
    if "expression_distribution" in columns:
        soft = restrict_distribution(
            np.asarray(columns["expression_distribution"], np.float32), num_classes
        )
        one_hot = np.eye(num_classes, dtype=np.float32)[targets["expression"]]
        soft = np.where(np.isnan(soft), one_hot, soft)
        targets["expression_distribution"] = _apply_mask(soft, targets["expression_mask"])
    return targets


def restrict_distribution(weights: np.ndarray, num_classes: int) -> np.ndarray:
    """Distribution over the first classes, [N, num_classes], of weights [N, C].

    It is NaN if the weights are NaN or all on other classes, such as contempt with 7 classes.
    """
    weights = weights[:, :num_classes]
    totals = weights.sum(axis=1, keepdims=True)
    return weights / np.where(totals > 0, totals, np.nan)


def has_target(targets: Mapping[str, np.ndarray], heads: Iterable[str]) -> np.ndarray:
    """Returns bool [N]: True for faces that have a target for at least one of the heads."""
    masks = [targets[f"{head}_mask"] for head in heads]
    return np.any([mask.reshape(len(mask), -1).any(axis=1) for mask in masks], axis=0)


def take_rows(targets: Mapping[str, np.ndarray], rows: np.ndarray) -> Batch:
    """Selects the rows of a batch, without its images.

    **Arguments:**

    - `targets`: targets of the whole split, see `make_targets`.
    - `rows`: int [B]; -1 is padding.

    **Returns:** `index`, `valid` and every target with its mask, each [B, ...].
    """
    index, valid = np.maximum(rows, 0), rows >= 0
    batch = {"index": index.astype(np.int32), "valid": valid}
    return batch | {name: _apply_mask(values[index], valid) for name, values in targets.items()}


def split_for_devices(batch: Mapping[str, np.ndarray], devices: int) -> Batch:
    """Reshapes [B, ...] to [D, b, ...]: face i goes to device i // b."""
    return {
        name: values.reshape(devices, len(values) // devices, *values.shape[1:])
        for name, values in batch.items()
    }


def _apply_mask(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sets values to zero where the mask, [N] or of the values' shape, is False."""
    if mask.all():
        return values
    if not mask.any():
        return np.zeros_like(values)  # uses no memory until it is written
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return np.where(mask, values, np.zeros((), values.dtype))
