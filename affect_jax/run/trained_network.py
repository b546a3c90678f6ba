"""Loads the network of a trained run, to use it or to initialise another run with its weights."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from affect_jax import config_checks, models
from affect_jax.config import Config, from_dict
from affect_jax.core import labels
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
    - `label_edits`: changes of the training labels, see `record_reader.LabelEdits.summary`.
    """

    folder: pathlib.Path
    config: Config
    network: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    step: int
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    label_edits: dict[str, Any] = dataclasses.field(default_factory=dict)


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
    shapes = network.variable_shapes()
    template = {"batch_stats": shapes.get("batch_stats", {})}
    if config.ema_decay:
        prefixes = ("batch_stats.", "ema.")
        template["ema"] = shapes["params"]
    else:
        prefixes = ("batch_stats.", "params.model.")
        template["params"] = {"model": shapes["params"]}
    state, info = Checkpoints.from_config(config, workdir).restore(template, checkpoint, prefixes)
    params = state["ema"] if config.ema_decay else state["params"]["model"]
    return TrainedNetwork(
        folder=workdir.path,
        config=config,
        network=network,
        variables={"params": params, "batch_stats": state["batch_stats"]},
        classes=class_names(config),
        step=info["step"],
        machine=info.get("machine", {}),
        label_edits=info.get("label_edits", {}),
    )


def class_names(config: Config) -> tuple[str, ...]:
    """Returns the class names of the expression head, from the config's dataset."""
    if "expression" not in config.heads:
        return ()
    names = labels.dataset_classes(config.data.name, config.data.options)
    return names[: config.data.num_classes]
