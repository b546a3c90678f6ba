"""A trained network without its data: what a run's folder alone knows of it."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax import checks, labels, program
from affect_jax import config as configs
from affect_jax.checkpoints import Checkpoints
from affect_jax.config import Config
from affect_jax.errors import UserError
from affect_jax.models import pretrained
from affect_jax.program import Network
from affect_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Trained:
    """**Arguments:**

    - `folder`: of the run.
    - `config`: as the run saved it.
    - `network`: what `steps.predict_step` needs.
    - `variables`: `{"params": ..., "batch_stats": ...}` of NumPy arrays: what evaluation uses, the
      moving average where the run keeps one.
    - `classes`: of the expression head; empty where there is none.
    - `step`: of the checkpoint.
    """

    folder: pathlib.Path
    config: Config
    network: Network
    variables: dict[str, Any]
    classes: tuple[str, ...]
    step: int


def load(folder: str | pathlib.Path, which: str = "best") -> Trained:
    """Reads one checkpoint of a run.

    **Arguments:**

    - `folder`: the run's.
    - `which`: `best` (the last, where none was scored), `last` or a step.

    **Raises:** `UserError` where there is no run, no such checkpoint, or it is damaged.
    """
    workdir = Workdir(folder)
    if not workdir.config_path.is_file():
        raise UserError(f"{folder}: no run here (no config.json)")
    config = configs.from_plain(workdir.load_config())
    registries = program.registries()
    checks.check(config, registries=registries, name=str(workdir.config_path))
    network = program.create_network(config)
    used = "ema." if config.ema_decay else "params.model."
    with Checkpoints.of(config, workdir) as checkpoints:
        steps = checkpoints.steps()
        step = checkpoints.best() if which == "best" else None
        if which in ("best", "last") and steps:
            which = str(steps[-1] if step is None else step)
        arrays = checkpoints.arrays(which, (used, "batch_stats."))
    found = {
        f"params.{n.removeprefix(used)}" if n.startswith(used) else n: a for n, a in arrays.items()
    }
    variables = _filled(found, network, workdir.path / "checkpoints" / which)
    return Trained(workdir.path, config, network, variables, class_names(config), int(which))


def _filled(arrays: dict[str, np.ndarray], network: Network, path: pathlib.Path) -> dict[str, Any]:
    """The network's variables with a checkpoint's arrays in them."""
    images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
    shapes = dict(jax.eval_shape(network.model.init, jax.random.key(0), images))
    tree = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    wanted = pretrained.named(tree["params"], tree["batch_stats"])
    for name in sorted(set(wanted) | set(arrays)):
        there = arrays[name].shape if name in arrays else None
        here = wanted[name].shape if name in wanted else None
        if there != here:
            raise UserError(f"{path}: not of its run's config: {name} is {there}, not {here}")
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in wanted])


def class_names(config: Config) -> tuple[str, ...]:
    """The classes of the expression head, as the data set of a config names them."""
    if "expression" not in config.heads:
        return ()
    options = config.data.options
    known = options.classes if "classes" in options else labels.EXPRESSIONS
    return tuple(known)[: config.data.num_classes]
