"""From a checked config and the data in hand to what a run computes: model, loss, optimizer."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

from affect_jax import config_checks, data, losses, models
from affect_jax.config import Config, to_dict, to_steps
from affect_jax.core import registry
from affect_jax.core.batch import has_target
from affect_jax.data import sampling
from affect_jax.data.targets import class_counts
from affect_jax.metrics import protocol
from affect_jax.models.network import Network, create_model
from affect_jax.train import optimizers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Network):
    """What stays the same during a run: functions and constants, closed over by the steps."""

    loss: losses.Loss
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule  # step -> learning rate
    seed: int
    mirror: bool  # mirror training images at random
    ema_decay: float = 0.0


def all_registries() -> dict[str, registry.Registry]:
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


def training_rows(config: Config, targets: dict[str, np.ndarray]) -> sampling.TrainingRows:
    """Which faces each step of the run sees."""
    return sampling.TrainingRows(
        sampling.SAMPLERS.create(to_dict(config.sampling)),
        np.where(targets["expression_mask"], targets["expression"], -1),
        seed=config.seed,
        batch_size=config.batch_size,
        eligible=has_target(targets, config.heads),
    )


def check_config(config: Config, *, num_devices: int = 1, name: str = "config") -> None:
    """Checks everything that a config names; see `config_checks.check`."""
    config_checks.check(
        config,
        registries=all_registries(),
        score_problem=protocol.name_problem,
        num_devices=num_devices,
        name=name,
    )


def create_experiment(
    config: Config, targets: dict[str, np.ndarray], steps_per_epoch: int
) -> Experiment:
    """**Arguments:**

    - `config`: checked.
    - `targets`: the training split's targets and masks, see `affect_jax.core.batch`: class weights and
      frequencies of action units are counted from them.
    - `steps_per_epoch`: optimizer steps.
    """
    plain = to_dict(config)
    frozen_trunk = optimizers.freezes(plain["optimizer"], "trunk")
    model = create_model(config, frozen_trunk=frozen_trunk)
    total_steps = to_steps(config.duration, steps_per_epoch)
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
    return Experiment(
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
