"""Reads a run back: its network for prediction, and its weights for another run."""

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
from affect_jax.models import imported_weights
from affect_jax.models.network import Network, create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of one checkpoint.

    **Arguments:**

    - `folder`: the run's.
    - `config`: the run's.
    - `network`: what `predict_step` needs.
    - `variables`: `{"params": ..., "batch_stats": ...}` of NumPy arrays: what evaluation uses, the
      moving average if the run keeps one.
    - `classes`: of the expression head; empty without one.
    - `step`: of the checkpoint.
    - `machine`: that trained it, see `parallel.machine`; empty if the checkpoint does not name it.
    """

    folder: pathlib.Path
    config: Config
    network: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    step: int
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)


def load_network(
    folder: str | os.PathLike[str], checkpoint: str = "best", config: Config | None = None
) -> TrainedNetwork:
    """Reads one checkpoint of a run. The run's data, losses and optimizer are not needed.

    **Arguments:**

    - `folder`: the run's.
    - `checkpoint`: `best` (the last if none has a score), `last` or a step.
    - `config`: checked, used instead of the one that the run saved; its network must be the run's.

    **Raises:** `UserError` if there is no run or no such checkpoint, or if it is damaged.
    """
    workdir = Workdir(folder)
    if config is None:
        config = from_dict(workdir.load_config())
        registries = {"trunk": models.TRUNKS, "head": models.HEADS}
        config_checks.check(config, registries=registries, name=str(workdir.config_path))
    network = create_network(config)
    arrays, info = saved_variables(workdir, config, checkpoint)
    path = workdir.path / "checkpoints" / str(info["step"])
    return TrainedNetwork(
        folder=workdir.path,
        config=config,
        network=network,
        variables=_into_tree(arrays, network, path),
        classes=class_names(config),
        step=info["step"],
        machine=info["machine"] if "machine" in info else {},
    )


def saved_variables(
    workdir: Workdir, config: Config, checkpoint: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The variables that evaluation uses, read from a checkpoint.

    **Returns:** arrays by the names of `imported_weights.named`, and the checkpoint's `info`.

    **Raises:** as `load_network`.
    """
    prefix = "ema." if config.ema_decay else "params.model."
    with Checkpoints.of(config, workdir) as checkpoints:
        arrays, info = checkpoints.arrays(checkpoint, (prefix, "batch_stats."))
    renamed = {
        f"params.{name.removeprefix(prefix)}" if name.startswith(prefix) else name: array
        for name, array in arrays.items()
    }
    return renamed, info


def _into_tree(
    arrays: dict[str, np.ndarray], network: Network, path: pathlib.Path
) -> dict[str, Any]:
    """A checkpoint's arrays in the structure of the network's variables."""
    images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
    shapes = dict(jax.eval_shape(network.model.init, jax.random.key(0), images))
    tree = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    expected = imported_weights.named(tree["params"], tree["batch_stats"])
    for name in sorted(set(expected) | set(arrays)):
        saved_shape = arrays[name].shape if name in arrays else None
        model_shape = expected[name].shape if name in expected else None
        if saved_shape != model_shape:
            raise UserError(
                f"{path}: does not fit the config: {name} has shape {saved_shape} in the "
                f"checkpoint and {model_shape} in the config's network"
            )
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in expected])


def class_names(config: Config) -> tuple[str, ...]:
    """The classes of the expression head, as the data set of a config names them."""
    if "expression" not in config.heads:
        return ()
    options = config.data.options
    names = options.classes if "classes" in options else labels.EXPRESSIONS
    return tuple(names)[: config.data.num_classes]
