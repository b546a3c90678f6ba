"""From a checked config and the data in hand to what a run computes: model, loss, optimizer."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from affect_jax import batch as batches
from affect_jax import config as configs
from affect_jax import data, labels, losses, models, optimizers, registry
from affect_jax.config import Config
from affect_jax.data import features, records, sampling
from affect_jax.errors import UserError
from affect_jax.facs import estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What prediction needs of a run; no data are needed to have it, see `create_network`."""

    model: Any  # linen module: images -> {head: outputs}
    heads: tuple[str, ...]
    crop_size: int  # side of the network's input, pixels
    dtype: Any  # of the images that enter the network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Network):
    """What stays the same during a run: functions and constants, closed over by the steps."""

    loss: losses.Loss
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule  # step -> learning rate
    seed: int
    mirror: bool  # mirror training images at random
    ema_decay: float = 0.0


def registries() -> dict[str, registry.Registry]:
    """Everything a config can name, by kind; every module of the rooms is imported."""
    registry.load_all("affect_jax.data")
    registry.load_all("affect_jax.models")
    return {
        "dataset": data.DATASETS,
        "sampling": sampling.SAMPLERS,
        "trunk": models.TRUNKS,
        "head": models.HEADS,
        "loss": losses.LOSSES,
        "schedule": optimizers.SCHEDULES,
        "optimizer": optimizers.OPTIMIZERS,
    }


def create_program(config: Config, targets: dict[str, np.ndarray], steps_per_epoch: int) -> Program:
    """**Arguments:**

    - `config`: checked.
    - `targets`: the training split's targets and masks, see `affect_jax.batch`: class weights and
      frequencies of action units are counted from them.
    - `steps_per_epoch`: optimizer steps.
    """
    plain = configs.plain(config)
    model = create_model(config)
    total_steps = configs.in_steps(config.duration, steps_per_epoch)
    schedule = optimizers.create_schedule(
        plain["schedule"],
        learning_rate=config.learning_rate,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )
    loss = losses.create_loss(
        plain["losses"],
        class_counts=class_counts(targets, config.data.num_classes),
        unit_frequencies=losses.unit_frequencies(
            np.where(targets["action_units_mask"], targets["action_units"], np.nan)
        ),
    )
    return Program(
        model=model,
        loss=loss,
        optimizer=optimizers.create_optimizer(plain["optimizer"], schedule),
        schedule=schedule,
        heads=tuple(config.heads),
        seed=config.seed,
        crop_size=config.data.crop_size,
        mirror=config.data.mirror,
        dtype=jnp.dtype(config.dtype),
        ema_decay=config.ema_decay,
    )


def create_network(config: Config) -> Network:
    """The network of a checked config, for prediction alone."""
    return Network(
        model=create_model(config),
        heads=tuple(config.heads),
        crop_size=config.data.crop_size,
        dtype=jnp.dtype(config.dtype),
    )


def create_model(config: Config) -> Any:
    return models.create_model(
        configs.plain(config.trunk),
        tuple(config.heads),
        num_classes=config.data.num_classes,
        dtype=config.dtype,
        frozen_trunk=optimizers.freezes(configs.plain(config.optimizer), "trunk"),
    )


def load_targets(config: Config, split: features.Split) -> tuple[batches.Batch, str]:
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
            found = estimate.estimate(points[wanted])
            trusted = (found.residual <= estimate.TRUSTED_RESIDUAL)[:, None]
            columns["action_units"][wanted] = np.where(trusted, found.intensities, np.nan)
            columns["action_unit_sides"][wanted] = np.where(trusted[..., None], found.sides, np.nan)
        estimated = np.isfinite(columns["action_units"]).any(axis=1) & ~annotated.any(axis=1)
        told = (
            f"{split.name}: action units annotated of {annotated.any(axis=1).sum():,} faces, "
            f"estimated from landmarks of {estimated.sum():,}, unknown of the other "
            f"{(~annotated.any(axis=1) & ~estimated).sum():,}"
        )
    return batches.targets(columns, config.data.num_classes), told


def class_counts(targets: dict[str, np.ndarray], num_classes: int) -> np.ndarray:
    """Faces of each class, int64 [num_classes]."""
    given = targets["expression"][targets["expression_mask"]]
    return np.bincount(given, minlength=num_classes)


def prepare(config: Config) -> features.FacesBuilder:
    """The config's data set, prepared: the first time this writes its records.

    **Raises:** `UserError` where the data are not there or cannot be used.
    """
    return data.DATASETS.create(
        {"name": config.data.name, **configs.plain(config.data.options)},
        manual_dir=config.data.manual_dir,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
    )


def class_names(split: features.Split, num_classes: int) -> tuple[str, ...]:
    """The classes of the categorical model: the first `num_classes` of the data set's.

    **Raises:** `UserError` where the data set has fewer.
    """
    if num_classes > len(split.classes):
        raise UserError(
            f"data.num_classes = {num_classes}: the data set has {len(split.classes)} classes "
            f"({', '.join(split.classes)})"
        )
    return split.classes[:num_classes]
