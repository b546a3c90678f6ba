"""Loads the network of a trained run, to use it or to initialise another run with its weights."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from affect_jax import config_checks, models
from affect_jax.config import Config, from_dict
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.paths import READY_FOLDER, READY_MODEL
from affect_jax.facs.action_units import UNITS
from affect_jax.models import weight_files, weight_mapping
from affect_jax.models.network import Network, create_network
from affect_jax.run.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of one checkpoint.

    **Arguments:**

    - `folder`: the folder of the run, or of its export.
    - `config`: the config of the run.
    - `network`: the network, see `predict_step`.
    - `variables`: `{"params": ..., "batch_stats": ...}` of NumPy arrays, as used in evaluation: the
      moving average of the parameters if the run has one.
    - `classes`: class names of the expression head; empty without one.
    - `step`: step of the checkpoint.
    - `machine`: the machine of the training, see `parallel.describe_machine`; empty if the
      checkpoint does not record it.
    - `label_edits`: changes of the training labels, see `record_reader.LabelEdits.summary`.
    - `temperature`: divides the logits of the expression head, see `metrics.calibration`.
    - `margin`, `align`: of the faces of an export; a margin of None: those of the config's dataset.
    """

    folder: pathlib.Path
    config: Config
    network: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    step: int
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    label_edits: dict[str, Any] = dataclasses.field(default_factory=dict)
    temperature: float = 1.0
    margin: float | None = None
    align: str = "box"

    @property
    def output_names(self) -> dict[str, tuple[str, ...]]:
        """Head -> the names of its values, in order."""
        units = tuple(f"AU{unit}" for unit in UNITS)
        names = {"expression": self.classes, "valence_arousal": labels.AXES, "action_units": units}
        return {head: values for head, values in names.items() if head in self.network.heads}


def load_network(
    folder: str | os.PathLike[str], checkpoint: str = "best", config: Config = None
) -> TrainedNetwork:
    """Loads one checkpoint of a run. The run's data, losses and optimizer are not needed.

    **Arguments:**

    - `folder`: the folder of the run, or of its export as safetensors; `ready`: the model in the
      package.
    - `checkpoint`: `best`, `last` or a step, see `Checkpoints.restore`.
    - `config`: a checked config that replaces the saved one; it must describe the same network.
      None: the saved one.

    **Raises:** `UserError` if there is no run or no such checkpoint, or if it is damaged.
    """
    if is_export(folder):
        return _load_export(export_folder(folder), checkpoint)
    from affect_jax.run.checkpoints import Checkpoints  # Orbax is heavy; an export needs none

    workdir = Workdir(folder)
    if config is None:
        config = from_dict(workdir.load_config())
        _check_config(config, workdir.config_path)
    network = create_network(config)
    shapes = network.variable_shapes()
    stats, params = shapes.get("batch_stats", {}), shapes["params"]
    if config.ema_decay:
        template, prefixes = {"batch_stats": stats, "ema": params}, ("batch_stats.", "ema.")
    else:
        template = {"batch_stats": stats, "params": {"model": params}}
        prefixes = ("batch_stats.", "params.model.")
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


def export_folder(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of an export's folder; `READY_MODEL` is the name of that in the package."""
    return READY_FOLDER if os.fspath(folder) == READY_MODEL else pathlib.Path(folder)


def is_export(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder contains an export as safetensors."""
    path = export_folder(folder)
    return (path / "card.json").is_file() and (path / "model.safetensors").is_file()


def read_card(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the `card.json` of an export. **Raises:** `UserError` if it is damaged."""
    path = folder / "card.json"
    try:
        card = {"calibration": {}, **json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError):
        card = {}
    if not {"config", "checkpoint_step", "evaluations", "margin", "not_shown"} <= card.keys():
        raise UserError(f"{path}: damaged, or of another version; export the network again")
    return card


def _load_export(folder: pathlib.Path, checkpoint: str) -> TrainedNetwork:
    card = read_card(folder)
    if checkpoint not in ("best", "last", str(card["checkpoint_step"])):
        step = card["checkpoint_step"]
        raise UserError(f"{folder}: checkpoint {checkpoint!r}: an export, which holds step {step}")
    config = from_dict(card["config"])
    _check_config(config, folder / "card.json")
    network = create_network(config)
    shapes = network.variable_shapes()
    source = str(folder / "model.safetensors")
    params, batch_stats, report = weight_mapping.load(
        weight_files.read(source),
        shapes["params"],
        shapes.get("batch_stats", {}),
        trunk=config.trunk.name,
        source=source,
    )
    if report.initialised:
        raise UserError(f"{source}: without {', '.join(report.initialised)}; export it again")
    return TrainedNetwork(
        folder=folder,
        config=config,
        network=network,
        variables={"params": params, "batch_stats": batch_stats},
        classes=class_names(config),
        step=card["checkpoint_step"],
        temperature=card["calibration"].get("temperature", 1.0),
        margin=card["margin"],
        align=card.get("align", "box"),
    )


def _check_config(config: Config, path: pathlib.Path) -> None:
    registries = {"trunk": models.TRUNKS, "head": models.HEADS}
    config_checks.check(config, registries=registries, name=str(path))


def class_names(config: Config) -> tuple[str, ...]:
    """Returns the class names of the expression head, from the config's dataset."""
    if "expression" not in config.heads:
        return ()
    names = labels.dataset_classes(config.data.name, config.data.options)
    return names[: config.data.num_classes]
