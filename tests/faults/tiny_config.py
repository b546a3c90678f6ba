"""Config of a training run of a few seconds, into which the tests inject faults.

Its state has batch statistics, momentum, a moving average of the parameters, a learned loss weight,
dropout, random crops and a warm-up. Each of them reveals a step that is lost or repeated.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.config import defaults
from affect_jax.models import TRUNKS
from affect_jax.models.layers import dropout

STEPS = 40
SAVE_EVERY = 5


@TRUNKS.register("tiny")
class Tiny(nn.Module):
    """One convolution with batch normalisation and dropout. It compiles in a second."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        x = nn.Conv(8, (5, 5), strides=2)(images)
        x = nn.BatchNorm(use_running_average=not train, axis_name="batch" if train else None)(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        return dropout(x, keys if train else None, rate=0.3, layer=0)


def get_config(trunk: str = "tiny"):
    """**Arguments:** `trunk`: `tiny` or `resnet18`."""
    config = defaults()
    config.data.name = "csv_faces"
    config.data.options = {
        "valence_column": "valence",
        "arousal_column": "arousal",
        "num_workers": 1,
    }
    config.data.image_size, config.data.crop_size = 32, 28
    config.trunk = {"name": "resnet18", "width": 8} if trunk == "resnet18" else {"name": "tiny"}
    config.heads = ("expression", "valence_arousal")
    config.losses = (
        {"name": "weighted_cross_entropy", "head": "expression"},
        {"name": "ccc", "head": "valence_arousal", "weight": "learned"},
    )
    config.batch_size = 8
    config.data.cache = "none"  # faces are read from disk, by workers if a test sets num_workers
    config.duration = {"steps": STEPS, "epochs": 0.0}
    config.learning_rate = 0.05
    config.schedule = {"name": "cosine", "warmup": {"steps": 4}}
    config.ema_decay = 0.9
    config.evaluate_every = {"steps": STEPS, "epochs": 0.0}
    config.evaluation.batch_size = 16
    config.evaluation.draws = 2
    config.checkpoint.every = {"steps": SAVE_EVERY, "epochs": 0.0}
    config.log_every = 1
    config.images_every = {"steps": 1000, "epochs": 0.0}
    return config
