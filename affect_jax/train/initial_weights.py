"""Where a fresh run's weights come from when `config.init_from` names something.

A run that has a checkpoint of its own goes on from that and never comes here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.config import Config, from_dict
from affect_jax.core.paths import is_local
from affect_jax.models import imported_weights, weight_files
from affect_jax.models.network import create_model
from affect_jax.run.load import saved_variables
from affect_jax.run.workdir import Workdir
from affect_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Weights that fit the config's model.

    **Arguments:**

    - `params`, `batch_stats`: the model's trees; leaves that were not loaded are shapes only.
    - `report`: what was taken from where.
    """

    params: Any
    batch_stats: Any
    report: imported_weights.Report

    def into(self, state: TrainState) -> TrainState:
        """A fresh state with these weights in it, and in its moving average if it keeps one."""

        def filled(loaded: Any, fresh: Any) -> Any:
            return jax.tree.map(
                lambda a, b: np.array(b if isinstance(a, jax.ShapeDtypeStruct) else a),
                loaded,
                fresh,
            )

        params = filled(self.params, state.params["model"])
        return state.replace(  # pyright: ignore[reportAttributeAccessIssue]
            params={**state.params, "model": params},
            batch_stats=filled(self.batch_stats, state.batch_stats),
            ema=jax.tree.map(np.copy, params) if state.ema else state.ema,
        )


def read(config: Config) -> WarmStart | None:
    """The weights that a config names; None where it names none.

    Needs no data: what is wrong with the file is known before hours of preparation.

    **Raises:** `UserError` where they cannot be read or are of another network.
    """
    source = config.init_from
    if not source:
        return None
    model = create_model(config)
    images = jnp.zeros((1, config.data.crop_size, config.data.crop_size, 3))
    shapes = dict(jax.eval_shape(model.init, jax.random.key(0), images))
    is_run = is_local(source) and Workdir(source).config_path.is_file()
    if is_run:
        workdir = Workdir(source)
        arrays, _ = saved_variables(workdir, from_dict(workdir.load_config()), "best")
    else:
        arrays = weight_files.read(source)
    loaded = imported_weights.load(
        arrays,
        shapes["params"],
        shapes.get("batch_stats", {}),
        trunk=config.trunk.name,
        source=source,
    )
    return WarmStart(*loaded)
