"""Loads the network of a trained run, to use it or to initialise another run with its weights."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax import config_checks, models
from affect_jax.config import Config, from_dict
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.models import weight_mapping
from affect_jax.models.network import Network, create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of one checkpoint.

    **Arguments:**

    - `folder`: the folder of the run.
    - `config`: the config of the run.
    - `network`: the network, see `predict_step`.
    - `variables`: `{"params": ..., "batch_stats": ...}` of NumPy arrays, as used in evaluation: the
      moving average of the parameters if the run has one.
    - `classes`: class names of the expression head; empty without one.
    - `step`: step of the checkpoint.
    - `machine`: the machine of the training, see `parallel.describe_machine`; empty if the
      checkpoint does not record it.
    """

    folder: pathlib.Path
    config: Config
    network: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    step: int
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)


def load_network(
    folder: str | os.PathLike[str], checkpoint: str = "best", config: Config = None
) -> TrainedNetwork:
    """Loads one checkpoint of a run. The run's data, losses and optimizer are not needed.

    **Arguments:**

    - `folder`: the folder of the run.
    - `checkpoint`: `best`, `last` or a step, see `Checkpoints.restore`.
    - `config`: a checked config that replaces the saved one; it must describe the same network.
      None: the saved one.

    **Raises:** `UserError` if there is no run or no such checkpoint, or if it is damaged.
    """
    workdir = Workdir(folder)
    if config is None:
        config = from_dict(workdir.load_config())
        registries = {"trunk": models.TRUNKS, "head": models.HEADS}
        config_checks.check(config, registries=registries, name=str(workdir.config_path))
    network = create_network(config)
    # The names of `weight_mapping.flatten_by_name`, with the parameters of evaluation.
    prefix = "ema." if config.ema_decay else "params.model."
    checkpoints = Checkpoints.from_config(config, workdir)
    arrays, info = checkpoints.read_arrays(checkpoint, (prefix, "batch_stats."))
    arrays = {
        f"params.{name.removeprefix(prefix)}" if name.startswith(prefix) else name: array
        for name, array in arrays.items()
    }
    return TrainedNetwork(
        folder=workdir.path,
        config=config,
        network=network,
        variables=_arrays_to_tree(arrays, network, checkpoints.directory / str(info["step"])),
        classes=class_names(config),
        step=info["step"],
        machine=info["machine"] if "machine" in info else {},
    )


def _arrays_to_tree(
    arrays: dict[str, np.ndarray], network: Network, path: pathlib.Path
) -> dict[str, Any]:
    """Arranges a checkpoint's arrays in the structure of the network's variables."""
    images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
    shapes = dict(jax.eval_shape(network.model.init, jax.random.key(0), images))
    variables = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    expected = weight_mapping.flatten_by_name(**variables)
    for name in sorted(set(expected) | set(arrays)):
        saved_shape = arrays[name].shape if name in arrays else None
        model_shape = expected[name].shape if name in expected else None
        if saved_shape != model_shape:
            raise UserError(
                f"{path}: does not fit the config: {name} has shape {saved_shape} in the "
                f"checkpoint and {model_shape} in the config's network"
            )
    return jax.tree.unflatten(jax.tree.structure(variables), [arrays[name] for name in expected])


def class_names(config: Config) -> tuple[str, ...]:
    """Returns the class names of the expression head, from the config's dataset."""
    if "expression" not in config.heads:
        return ()
    options = config.data.options
    names = options.classes if "classes" in options else labels.EXPRESSIONS
    return tuple(names)[: config.data.num_classes]
