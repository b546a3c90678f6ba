"""Folders of trained runs, made without training: a config, and a checkpoint of random weights."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.config import defaults, to_dict, variant
from affect_jax.models.network import create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import all_registries

ALL = ("expression", "valence_arousal", "action_units")
TERMS = {
    "expression": "cross_entropy",
    "valence_arousal": "squared_error",
    "action_units": "binary_cross_entropy",
}
SMALL = {
    "alexnet": {"name": "alexnet", "width": 16},
    "alexnet_one_tower": {"name": "alexnet_one_tower", "width": 16},
    "resnet18": {"name": "resnet18", "width": 8},
}


def settings(trunk: str = "resnet18", heads: tuple[str, ...] = ALL, **changes: Any) -> Any:
    """A config of a small network; `changes`: of its keys, dots are double underscores."""
    config = variant(defaults(), "synthetic_faces")
    config.trunk = SMALL[trunk]
    config.heads = heads
    if "expression" not in heads:
        config.checkpoint.best = ""
    config.losses = tuple({"name": TERMS[head], "head": head} for head in heads)
    config.data.image_size, config.data.crop_size = (72, 64) if "alexnet" in trunk else (40, 32)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = config
        for part in path:
            place = place[part]
        place[last] = value
    return config


def write(
    folder: pathlib.Path,
    config: Any,
    steps: tuple[int, ...] = (200,),
    scores: tuple[float, ...] = (),
) -> pathlib.Path:
    """A run's folder with a checkpoint of its own weights at each step.

    **Arguments:**

    - `scores`: of each checkpoint, by which the best is chosen; none: it was not evaluated.
    """
    all_registries()
    workdir = Workdir(folder)
    workdir.create()
    workdir.save_config(to_dict(config))
    with Checkpoints.of(config, workdir) as checkpoints:
        for place, step in enumerate(steps):
            scored = {config.checkpoint.best: scores[place]} if scores else None
            checkpoints.save(step, weights(config, seed=step), {"epoch": 1.0}, scored)
            checkpoints.require(step)
    return folder


def weights(config: Any, seed: int) -> dict[str, Any]:
    """A checkpoint's arrays, random, with a signal that reaches the heads."""
    network = create_network(config)
    images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
    shapes = dict(jax.eval_shape(network.model.init, jax.random.key(0), images))
    random = np.random.default_rng(seed)

    def fill(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        if len(leaf.shape) > 1:  # He's deviation: what enters comes out
            deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return random.normal(0, deviation, leaf.shape).astype(np.float32)
        low, high = (0.5, 1.5) if path[-1].key in ("var", "scale") else (-0.2, 0.2)
        return random.uniform(low, high, leaf.shape).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(fill, shapes["params"])
    stats = shapes["batch_stats"] if "batch_stats" in shapes else {}
    state = {
        "params": {"model": params},
        "batch_stats": jax.tree_util.tree_map_with_path(fill, stats),
    }
    if config.ema_decay:
        state["ema"] = jax.tree.map(lambda leaf: leaf * np.float32(0.9), params)
    return state
