"""What a batch is: a dictionary of arrays, with a mask beside every target.

| key | dtype | shape | |
|---|---|---|---|
| `image` | uint8 | [B, S, S, 3] | RGB, S the side of the stored faces |
| `index` | int32 | [B] | row in the split; 0 where padded |
| `valid` | bool | [B] | False: padding |
| `expression` | int32 | [B] | class, 0 where masked |
| `valence_arousal` | float32 | [B, 2] | in [-1, 1], 0 where masked |
| `action_units` | float32 | [B, 18] | intensities in [0, 1], 0 where masked |
| `action_unit_sides` | float32 | [B, 2, 18] | of the picture's left and right, 0 where masked |
| `landmarks` | float32 | [B, 68, 2] | (x, y), pixels of `image`, 0 where masked |

and `<target>_mask`, bool: [B], for action units of their own shape. A mask is True where there is
an annotation on a face that is no padding. On the host a batch is global, [B, ...]; `split` gives
each device its row of [D, b, ...]; inside a step a batch is [b, ...].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from affect_jax.core.labels import NUM_CLASSES

Batch = dict[str, np.ndarray]

TARGETS: dict[str, tuple[type[np.generic], tuple[int, ...], tuple[int, ...]]] = {
    "expression": (np.int32, (), ()),
    "valence_arousal": (np.float32, (2,), ()),
    "action_units": (np.float32, (18,), (18,)),
    "action_unit_sides": (np.float32, (2, 18), (2, 18)),
    "landmarks": (np.float32, (68, 2), ()),
}
"""Target -> dtype, shape and its mask's shape, each of one face."""


def make_targets(columns: Mapping[str, np.ndarray], num_classes: int = NUM_CLASSES) -> Batch:
    """Every target and mask of a split, from its label columns.

    **Arguments:**

    - `columns`: `expression` int [N], ids of `labels.EXPRESSIONS`; and, where the data set has
      them, `valence`, `arousal` [N], `action_units` [N, 18], `action_unit_sides` [N, 2, 18] and
      `landmarks` [N, 68, 2], NaN where there is none.
    - `num_classes`: ids from here on are no class: none, uncertain and non-face; of 7 classes
      contempt too.

    **Returns:**

    `{target: [N, ...], target_mask: [N, ...]}` for every entry of `TARGETS`. Where all faces have a
    target it may be the column itself: a million faces' are most of a gigabyte.
    """
    expression = np.asarray(columns["expression"])
    num_faces = len(expression)

    def column(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in columns:
            return np.full((num_faces, *shape), np.nan, np.float32)
        return np.asarray(columns[name], np.float32).reshape(num_faces, *shape)

    axes = np.stack([column("valence", ()), column("arousal", ())], axis=-1)
    units, sides = column("action_units", (18,)), column("action_unit_sides", (2, 18))
    points = column("landmarks", (68, 2))
    masks = {
        "expression": (expression >= 0) & (expression < num_classes),
        "valence_arousal": np.isfinite(axes).all(axis=-1),
        "action_units": np.isfinite(units),
        "action_unit_sides": np.isfinite(sides),
        "landmarks": np.isfinite(points).all(axis=(-1, -2)),
    }
    values = {
        "expression": expression,
        "valence_arousal": axes,
        "action_units": units,
        "action_unit_sides": sides,
        "landmarks": points,
    }
    result = {}
    for name, (dtype, _, _) in TARGETS.items():
        result[name] = _masked(values[name], masks[name]).astype(dtype, copy=False)
        result[f"{name}_mask"] = masks[name]
    return result


def has_target(targets: Mapping[str, np.ndarray], heads: Iterable[str]) -> np.ndarray:
    """bool [N]: faces that have a target for at least one of the heads: those worth training on."""
    masks = [targets[f"{head}_mask"] for head in heads]
    return np.any([mask.reshape(len(mask), -1).any(axis=1) for mask in masks], axis=0)


def take_rows(targets: Mapping[str, np.ndarray], rows: np.ndarray) -> Batch:
    """The batch of some rows, without its images.

    **Arguments:**

    - `targets`: of the whole split.
    - `rows`: int [B]; -1 is padding.

    **Returns:** `index`, `valid` and every target with its mask, each [B, ...].
    """
    index = np.maximum(rows, 0)
    batch = {"index": index.astype(np.int32), "valid": rows >= 0}
    return _mask_padding({**batch, **{name: values[index] for name, values in targets.items()}})


def pad_batch(batch: Mapping[str, np.ndarray], size: int) -> Batch:
    """The batch with faces of zeros at its end, up to `size`: not valid, every target masked."""
    missing = size - len(batch["valid"])
    if missing < 0:
        raise ValueError(f"a batch of {len(batch['valid'])} cannot be padded to {size}")
    return {
        name: np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
        for name, values in batch.items()
    }


def split_for_devices(batch: Mapping[str, np.ndarray], devices: int) -> Batch:
    """[B, ...] -> [D, b, ...]: face i goes to device i // b."""
    size = len(batch["valid"])
    if size % devices:
        raise ValueError(f"a batch of {size} cannot be split over {devices} devices")
    return {
        name: values.reshape(devices, size // devices, *values.shape[1:])
        for name, values in batch.items()
    }


def check_batch(batch: Mapping[str, np.ndarray]) -> None:
    """Checks every key, dtype and shape of a global batch, and that masks and zeros agree.

    clu drops a mask of the wrong length with a line in the log, and a mean without its mask looks
    like a mean: so a batch is checked where it enters, masks first.

    **Raises:** `ValueError` that names the key.
    """
    if "valid" not in batch:
        raise ValueError("batch: 'valid' is missing")
    size = len(batch["valid"])
    wanted: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {"valid": (np.bool_, (size,))}
    for name, (_, _, shape) in TARGETS.items():
        wanted[f"{name}_mask"] = (np.bool_, (size, *shape))
    wanted["index"] = (np.int32, (size,))
    for name, (dtype, shape, _) in TARGETS.items():
        wanted[name] = (dtype, (size, *shape))
    for name, (dtype, shape) in wanted.items():
        if name not in batch:
            raise ValueError(f"batch: {name!r} is missing")
        if batch[name].dtype != dtype or batch[name].shape != shape:
            found = f"{batch[name].dtype} {list(batch[name].shape)}"
            raise ValueError(f"batch: {name!r} is {found}, not {np.dtype(dtype)} {list(shape)}")
    _check_image(batch, size)
    for name in TARGETS:
        mask = batch[f"{name}_mask"]
        if mask[~batch["valid"]].any():
            raise ValueError(f"batch: '{name}_mask' is True on padding")
        if batch[name][~mask].any() or not np.isfinite(batch[name]).all():
            raise ValueError(f"batch: {name!r} is not 0 where its mask is False, or not finite")


def _check_image(batch: Mapping[str, np.ndarray], size: int) -> None:
    if "image" not in batch:
        raise ValueError("batch: 'image' is missing")
    image = batch["image"]
    side = image.shape[1] if image.ndim == 4 else 0
    if image.dtype != np.uint8 or image.shape != (size, side, side, 3):
        found = f"{image.dtype} {list(image.shape)}"
        raise ValueError(f"batch: 'image' is {found}, not uint8 [{size}, S, S, 3]")


def _mask_padding(batch: Batch) -> Batch:
    """Padding has no targets: they are zeros, and their masks False."""
    valid = batch["valid"]
    if valid.all():
        return batch
    for name in TARGETS:
        if name in batch:
            batch[f"{name}_mask"] = _masked(batch[f"{name}_mask"], valid)
            batch[name] = _masked(batch[name], valid)
    return batch


def _masked(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Zeros where the mask, [N] or of the values' shape, is False."""
    if mask.all():
        return values
    if not mask.any():
        return np.zeros_like(values)  # which the system gives no memory before they are written
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return np.where(mask, values, np.zeros((), values.dtype))
