"""The targets of a split: labels, masks and estimated action units; class names and counts."""

from __future__ import annotations

import numpy as np

from affect_jax.config import Config, to_dict
from affect_jax.core import labels
from affect_jax.core.batch import Batch, make_targets
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, records
from affect_jax.data.builder import FacesBuilder
from affect_jax.data.records import Split
from affect_jax.facs import estimation


def load_targets(config: Config, split: Split) -> tuple[Batch, str]:
    """Every target and mask of a split, and where those of its action units come from.

    **Returns:** see `batch.targets`; and a sentence for the log, empty without a head for units.
    """
    columns, told = split.columns(*(name for name in records.COLUMNS if name != "id")), ""
    if "action_units" in config.heads:
        if labels.NON_FACE in split.classes:  # what moves there is no muscle
            empty = columns["expression"] == split.classes.index(labels.NON_FACE)
            for name in ("landmarks", "action_units", "action_unit_sides"):
                columns[name][empty] = np.nan
        annotated = np.isfinite(columns["action_units"])
        if config.data.action_units != "annotated":
            wanted = np.isfinite(columns["landmarks"]).all(axis=(1, 2))
            if config.data.action_units == "auto":
                wanted &= ~annotated.any(axis=1)
            else:
                annotated[:] = False
                columns["action_units"][:] = columns["action_unit_sides"][:] = np.nan
            points = records.unsquared(columns["landmarks"], columns["aspect"])
            found = estimation.estimate(points[wanted])
            trusted = (found.residual <= estimation.TRUSTED_RESIDUAL)[:, None]
            columns["action_units"][wanted] = np.where(trusted, found.intensities, np.nan)
            columns["action_unit_sides"][wanted] = np.where(trusted[..., None], found.sides, np.nan)
        estimated = np.isfinite(columns["action_units"]).any(axis=1) & ~annotated.any(axis=1)
        told = (
            f"{split.name}: action units annotated of {annotated.any(axis=1).sum():,} faces, "
            f"estimated from landmarks of {estimated.sum():,}, unknown of the other "
            f"{(~annotated.any(axis=1) & ~estimated).sum():,}"
        )
    return make_targets(columns, config.data.num_classes), told


def class_counts(targets: dict[str, np.ndarray], num_classes: int) -> np.ndarray:
    """Faces of each class, int64 [num_classes]."""
    given = targets["expression"][targets["expression_mask"]]
    return np.bincount(given, minlength=num_classes)


def prepare_dataset(config: Config) -> FacesBuilder:
    """The config's data set, prepared: the first time this writes its records.

    **Raises:** `UserError` where the data are not there or cannot be used.
    """
    return DATASETS.create(
        {"name": config.data.name, **to_dict(config.data.options)},
        manual_dir=config.data.manual_dir,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
    )


def class_names(split: Split, num_classes: int) -> tuple[str, ...]:
    """The classes of the categorical model: the first `num_classes` of the data set's.

    **Raises:** `UserError` where the data set has fewer.
    """
    if num_classes > len(split.classes):
        raise UserError(
            f"data.num_classes = {num_classes}: the data set has {len(split.classes)} classes "
            f"({', '.join(split.classes)})"
        )
    return split.classes[:num_classes]
