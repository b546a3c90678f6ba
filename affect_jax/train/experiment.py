"""Creates the model, loss and optimizer of a run from a checked config and its training targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax

from affect_jax import config_checks, data, losses, models
from affect_jax.config import PROCESS_KEYS, Config, flatten, to_dict, to_steps
from affect_jax.core import parallel, registry
from affect_jax.core.batch import has_target
from affect_jax.core.version import __version__
from affect_jax.data import augment, label_edits, sampling
from affect_jax.data.dataset import count_classes, most_probable_classes
from affect_jax.data.mixture import MixedSplit
from affect_jax.data.record_reader import Split
from affect_jax.metrics import protocol
from affect_jax.models.network import Network, create_network
from affect_jax.train import log_writers, optimizers, schedules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Network):
    """The functions and constants of a run, which its steps close over."""

    loss: losses.Loss
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule  # step -> learning rate
    seed: int
    mirror: bool  # mirror training images at random
    ema_decay: float = 0.0
    augmentations: Mapping[str, augment.Augmentation] = dataclasses.field(default_factory=dict)


def load_registries() -> dict[str, registry.Registry]:
    """Imports all component modules and returns the registries by kind of component."""
    registry.import_submodules("affect_jax.data")
    registry.import_submodules("affect_jax.models")
    return {
        "dataset": data.DATASETS,
        "label_noise": label_edits.LABEL_NOISE,
        "sampling": sampling.SAMPLERS,
        "augmentation": augment.AUGMENTATIONS,
        "trunk": models.TRUNKS,
        "head": models.HEADS,
        "loss": losses.LOSSES,
        "schedule": schedules.SCHEDULES,
        "optimizer": optimizers.OPTIMIZERS,
        "logger": log_writers.LOGGERS,
    }


def create_training_rows(
    config: Config, targets: dict[str, np.ndarray], split: Split
) -> sampling.TrainingRows:
    """Creates the order of the training rows, which determines the faces of each step."""
    sampler = sampling.SAMPLERS.create(to_dict(config.sampling))
    eligible = has_target(targets, config.heads)
    if isinstance(split, MixedSplit) and any(split.shares.values()):
        sampler = sampling.ShareSampling(sampler, split.part_names()[eligible], split.shares)
    return sampling.TrainingRows(
        sampler,
        most_probable_classes(targets),
        seed=config.seed,
        batch_size=config.batch_size,
        eligible=eligible,
    )


def check_config(config: Config, *, num_devices: int = 1, name: str = "config") -> None:
    """Checks a config and the components that it names, see `config_checks.check`."""
    config_checks.check(
        config,
        registries=load_registries(),
        validate_score_name=protocol.validate_score_name,
        num_devices=num_devices,
        name=name,
    )


def describe_settings(config: Config) -> dict[str, Any]:
    """Returns everything but the data that must be equal in all processes of a run."""
    settings = {key: value for key, value in flatten(config).items() if key not in PROCESS_KEYS}
    numerics = parallel.describe_numerics()
    del numerics["threads"]  # it changes the last bits of this process only
    return {**settings, **numerics, "affect_jax": __version__}


def create_experiment(
    config: Config, targets: dict[str, np.ndarray], steps_per_epoch: int
) -> Experiment:
    """Creates the experiment that a checked config describes.

    **Arguments:** `targets`: those of the training split, see `affect_jax.core.batch`, from which
    class weights and frequencies of action units are computed.
    """
    optimizer_spec = to_dict(config.optimizer)
    frozen_trunk = optimizers.is_frozen(optimizer_spec, "trunk")
    network = create_network(config, frozen_trunk=frozen_trunk)
    schedule = schedules.SCHEDULES.create(
        to_dict(config.schedule),
        learning_rate=config.learning_rate,
        steps_per_epoch=steps_per_epoch,
        total_steps=to_steps(config.duration, steps_per_epoch),
    )
    optimizer = optimizers.OPTIMIZERS.create(
        optimizer_spec, schedule=schedule, trunk=network.model.trunk
    )
    loss = losses.create_loss(
        to_dict(config.losses),
        class_counts=count_classes(targets, config.data.num_classes),
        unit_frequencies=losses.unit_frequencies(
            np.where(targets["action_units_mask"], targets["action_units"], np.nan)
        ),
    )
    return Experiment(
        **vars(network),
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        seed=config.seed,
        mirror=config.data.mirror,
        ema_decay=config.ema_decay,
        augmentations=augment.create_augmentations(
            to_dict(config.data.augment), config.data.num_classes
        ),
    )
