"""Weights of `config.init_from`: the start of a run, or a run of their own (`--mode=import`).

A run that has a checkpoint resumes from it and ignores `init_from`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from affect_jax.config import Config, to_dict
from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.core.paths import is_local
from affect_jax.models import weight_files, weight_mapping
from affect_jax.models.network import create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.trained_network import class_names, is_export, load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Initial weights that fit the config's model."""

    params: Any  # leaves that were not loaded are `jax.ShapeDtypeStruct`
    batch_stats: Any
    report: weight_mapping.LoadReport

    def apply_to(self, state: TrainState) -> TrainState:
        """Returns a copy of a fresh state with these weights, also in its moving average if any."""

        def select(loaded: Any, fresh: Any) -> np.ndarray:
            return np.array(fresh if isinstance(loaded, jax.ShapeDtypeStruct) else loaded)

        params = jax.tree.map(select, self.params, state.params["model"])
        return state.replace(  # pyright: ignore[reportAttributeAccessIssue]
            params={**state.params, "model": params},
            batch_stats=jax.tree.map(select, self.batch_stats, state.batch_stats),
            ema=jax.tree.map(np.copy, params) if state.ema else state.ema,
        )


def read(config: Config, previous: Workdir | None = None) -> InitialWeights | None:
    """Reads the weights of `config.init_from`; None if it is empty. It needs no data.

    **Arguments:** `previous`: the stage whose last checkpoint is read in place of `init_from`.

    **Raises:** `UserError` if the weights cannot be read or belong to another network.
    """
    source = str(previous.path) if previous else config.init_from
    if not source:
        return None
    if is_export(source) or (is_local(source) and Workdir(source).config_path.is_file()):
        trained = load_network(source, "last" if previous else "best")
        arrays = weight_mapping.flatten_by_name(**trained.variables)
    else:
        arrays = weight_mapping.order_outputs(
            weight_files.read(source),
            config.init_outputs,
            classes=class_names(config),
            trunk=config.trunk.name,
            source=source,
        )
    return _fit(arrays, config, source)


def check_stages(configs: Sequence[Config]) -> None:
    """Checks that each stage can start from the weights of the one before.

    **Raises:** `UserError` for the first stage whose network differs or cannot take its crop.
    """
    for i, (before, config) in enumerate(itertools.pairwise(configs)):
        shapes = create_network(before).variable_shapes()
        zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
        _fit(weight_mapping.flatten_by_name(**zeros), config, f"stages[{i}]")


def _fit(arrays: Mapping[str, np.ndarray], config: Config, source: str) -> InitialWeights:
    shapes = create_network(config).variable_shapes()
    loaded = weight_mapping.load(arrays, **shapes, trunk=config.trunk.name, source=source)
    return InitialWeights(*loaded)


def import_weights(config: Config, workdir: Workdir) -> str:
    """Makes a run that can be evaluated, exported and used for predictions, without training.

    Its only checkpoint, of step 0, holds the weights of `config.init_from` and no optimizer state.

    **Returns:** a description of the weights.

    **Raises:** `UserError` if `init_from` lacks an array, or the workdir contains a run.
    """
    weights = read(config)
    if weights is None:
        raise UserError("--mode=import: needs the weights, as --config.init_from=FILE")
    if missing := weights.report.initialised:
        raise UserError(
            f"init_from = {config.init_from!r}: has no {', '.join(missing)} of this shape, and "
            "--mode=import needs all weights; set heads, data.num_classes and init_outputs to the "
            "outputs of the file"
        )
    workdir.create()
    with workdir.lock(), Checkpoints.from_config(config, workdir) as checkpoints:
        if checkpoints.all_steps():
            raise UserError(f"{workdir.path}: contains a run; use another --workdir")
        workdir.save_config(to_dict(config))
        state = {"params": {"model": weights.params}, "batch_stats": weights.batch_stats}
        if config.ema_decay:
            state["ema"] = weights.params
        info = {"config": to_dict(config), "machine": parallel.describe_machine()}
        checkpoints.save(0, state, info)
        checkpoints.ensure_saved(0)
    return weights.report.describe()
