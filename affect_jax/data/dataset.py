"""The dataset of a config: its preparation, targets and class names."""

from __future__ import annotations

import numpy as np

from affect_jax.config import Config, to_dict
from affect_jax.core import labels
from affect_jax.core.batch import Batch, make_targets
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, label_edits, record_reader
from affect_jax.data.record_reader import Split, open_split
from affect_jax.data.tfds_builder import FacesBuilder
from affect_jax.facs import estimation


def prepare_dataset(config: Config) -> FacesBuilder:
    """Returns the builder of the configured dataset; the first call writes its records.

    **Raises:** `UserError` if the data are missing or cannot be used.
    """
    return DATASETS.create(
        {"name": config.data.name, **to_dict(config.data.options)},
        manual_dir=config.data.manual_dir,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
    )


def open_splits(config: Config, *names: str) -> list[Split]:
    """Opens splits of the configured dataset, with the changes of labels that the config lists.

    **Raises:** `UserError` if the data or a list cannot be used, or for an unknown split.
    """
    lists, noise = label_edits.read_lists(config), label_edits.create_noise(config)
    builder = prepare_dataset(config)
    if any(lists):
        others = (open_split(builder, name) for name in record_reader.split_names(builder))
        known = {id for split in others for id in split.columns("id")["id"].tolist()}
        label_edits.check_lists(config, lists, known)
    splits = (open_split(builder, name) for name in names)
    return [label_edits.edit_labels(config, split, lists, noise) for split in splits]


def load_targets(config: Config, split: Split) -> tuple[Batch, str]:
    """Returns the targets and masks of a split, and the source of its action unit labels.

    **Returns:** the targets, see `batch.make_targets`, and a sentence for the log; the sentence is
    empty if no head predicts action units.
    """
    unused = record_reader.TEXT_COLUMNS | {"votes"}
    names = [name for name in record_reader.COLUMNS if name not in unused]
    columns = split.columns(*names)
    if not config.data.soft_labels:
        columns.pop("expression_distribution", None)
    elif (
        split.name == "training" and np.isnan(columns.get("expression_distribution", np.nan)).all()
    ):
        raise UserError(
            f"data.soft_labels: {config.data.name} has no distributions over the classes; use False"
        )
    label_source = ""
    if "action_units" in config.heads:
        if labels.NON_FACE in split.classes:  # it has landmarks but no muscles
            empty = columns["expression"] == split.classes.index(labels.NON_FACE)
            for name in ("landmarks", "action_units", "action_unit_sides"):
                columns[name][empty] = np.nan
        if config.data.action_units == "estimated":
            columns["action_units"][:] = columns["action_unit_sides"][:] = np.nan
        annotated = np.isfinite(columns["action_units"]).any(axis=1)
        if config.data.action_units != "annotated":
            rows = np.isfinite(columns["landmarks"]).all(axis=(1, 2)) & ~annotated
            points = record_reader.restore_aspect_ratio(columns["landmarks"], columns["aspect"])
            estimates = estimation.estimate(points[rows])
            trusted = estimates.residual <= estimation.MAX_TRUSTED_RESIDUAL
            rows = np.flatnonzero(rows)[trusted]
            columns["action_units"][rows] = estimates.intensities[trusted]
            columns["action_unit_sides"][rows] = estimates.sides[trusted]
        estimated = np.isfinite(columns["action_units"]).any(axis=1) & ~annotated
        label_source = (
            f"{split.name}: action units annotated for {annotated.sum():,} faces, estimated from"
            f" landmarks for {estimated.sum():,}, unknown for {(~annotated & ~estimated).sum():,}"
        )
    return make_targets(columns, config.data.num_classes), label_source


def count_classes(targets: dict[str, np.ndarray], num_classes: int) -> np.ndarray:
    """Number of faces of each class, [num_classes]; with soft labels the expected number."""
    if "expression_distribution" in targets:  # 0 for faces without a class
        return targets["expression_distribution"].sum(axis=0, dtype=np.float64)
    classes = targets["expression"][targets["expression_mask"]]
    return np.bincount(classes, minlength=num_classes)


def most_probable_classes(targets: dict[str, np.ndarray]) -> np.ndarray:
    """Class of each face for samplers, int [N]: the label or the most probable; -1 if unknown."""
    classes = targets["expression"]
    if "expression_distribution" in targets:
        classes = targets["expression_distribution"].argmax(axis=1)
    return np.where(targets["expression_mask"], classes, -1)


def select_class_names(split: Split, num_classes: int) -> tuple[str, ...]:
    """Names of the classes that are predicted: the first `num_classes` classes of the dataset.

    **Raises:** `UserError` if the dataset has fewer classes.
    """
    if num_classes > len(split.classes):
        raise UserError(
            f"data.num_classes = {num_classes}: the dataset has {len(split.classes)} classes "
            f"({', '.join(split.classes)})"
        )
    return split.classes[:num_classes]
