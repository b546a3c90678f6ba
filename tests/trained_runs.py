"""Creates folders of trained runs without training: a config and checkpoints of random weights."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.config import defaults, to_dict, variant
from affect_jax.models import TRUNKS
from affect_jax.models.network import create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries

ALL_HEADS = ("expression", "valence_arousal", "action_units")
LOSS_NAMES = {
    "expression": "cross_entropy",
    "valence_arousal": "squared_error",
    "action_units": "binary_cross_entropy",
}


def small_trunk(name: str) -> dict[str, Any]:
    """Returns the spec of a small network: a trunk has some of these options."""
    width = 16 if "alexnet" in name else 8
    options = {"width": width, "depth": 2, "heads": 2, "stochastic_depth": 0.3}
    fields = {field.name for field in dataclasses.fields(TRUNKS[name])}  # pyright: ignore
    return {"name": name, **{key: value for key, value in options.items() if key in fields}}


OTHER_SIZES = ("resnet34", "vit_base", "efficientnet_b2")
"""Trunks that differ from a smaller one in numbers of blocks and channels only."""


def packaged_trunks() -> list[str]:
    """Names of the package's trunks, of each kind one size: other tests register more trunks."""
    packaged = [n for n in TRUNKS.names() if TRUNKS[n].__module__.startswith("affect_jax.")]
    return [name for name in packaged if name not in OTHER_SIZES]


def create_config(
    trunk: str = "resnet18", heads: tuple[str, ...] = ALL_HEADS, **changes: Any
) -> Any:
    """Returns a config of a small network; `changes` are keys with `__` in place of dots."""
    config = variant(defaults(), "synthetic_faces")
    config.trunk = small_trunk(trunk)
    config.heads = heads
    if "expression" not in heads:
        config.checkpoint.best = ""
    config.losses = tuple({"name": LOSS_NAMES[head], "head": head} for head in heads)
    config.data.image_size, config.data.crop_size = (72, 64) if "alexnet" in trunk else (40, 32)
    for key, value in changes.items():
        *path, last = key.split("__")
        target = config
        for part in path:
            target = target[part]
        target[last] = value
    return config


def write_run(
    folder: pathlib.Path,
    config: Any,
    steps: tuple[int, ...] = (200,),
    scores: tuple[float, ...] = (),
) -> pathlib.Path:
    """Writes a run's folder with a checkpoint of different weights at each step.

    **Arguments:**

    - `scores`: score of each checkpoint, which selects the best one; empty: not evaluated.
    """
    load_registries()
    workdir = Workdir(folder)
    workdir.create()
    workdir.save_config(to_dict(config))
    with Checkpoints.from_config(config, workdir) as checkpoints:
        for i, step in enumerate(steps):
            step_scores = {config.checkpoint.best: scores[i]} if scores else None
            checkpoints.save(step, create_weights(config, seed=step), {"epoch": 1.0}, step_scores)
            checkpoints.ensure_saved(step)
    return folder


def create_weights(config: Any, seed: int) -> dict[str, Any]:
    """Returns random arrays of a checkpoint, scaled so that the input reaches the heads."""
    network = create_network(config)
    images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
    shapes = dict(jax.eval_shape(network.model.init, jax.random.key(0), images))
    random = np.random.default_rng(seed)
    # Sums of many blocks would give outputs of thousands, whose rounding exceeds tolerances.
    scale = 0.5 if config.trunk["name"] in ("resnet34", "resnet50") else 1.0

    def fill(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        if len(leaf.shape) > 1:  # He initialisation keeps the variance of the activations
            std = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return random.normal(0, std, leaf.shape).astype(np.float32)
        low, high = (0.5, 1.5) if path[-1].key in ("var", "scale") else (-0.2, 0.2)
        values = random.uniform(low, high, leaf.shape).astype(np.float32)
        return values * np.float32(scale) if path[-1].key == "scale" else values

    params = jax.tree_util.tree_map_with_path(fill, shapes["params"])
    stats = shapes["batch_stats"] if "batch_stats" in shapes else {}
    state = {
        "params": {"model": params},
        "batch_stats": jax.tree_util.tree_map_with_path(fill, stats),
    }
    if config.ema_decay:
        state["ema"] = jax.tree.map(lambda leaf: leaf * np.float32(0.9), params)
    return state
