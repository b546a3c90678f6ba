"""Networks that compile in a moment, in the place of those that benchmarks measure."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import jax.numpy as jnp
import pytest
from flax import linen as nn

from affect_jax import models
from benchmarks import peers, recording


class Tiny(nn.Module):
    """A trunk with what the others have too: a convolution and batch normalisation."""

    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, keys=None):
        values = nn.Conv(4, (5, 5), strides=4, dtype=self.dtype)(images)
        norm = nn.BatchNorm(use_running_average=not train, axis_name="batch" if train else None)
        return jnp.mean(nn.relu(norm(values)), axis=(1, 2))


def tiny_in_torch(name: str, **_: Any) -> Any:
    peer = peers.torch().nn
    return peer.Sequential(
        peer.Conv2d(3, 4, 5, 4), peer.BatchNorm2d(4), peer.AdaptiveAvgPool2d(1), peer.Flatten(),
        peer.Linear(4, 8),
    )  # fmt: skip


@pytest.fixture
def tiny(monkeypatch) -> None:
    """AlexNet and ResNet18 are `Tiny`, on both sides."""
    for name in ("alexnet", "resnet18"):
        monkeypatch.setitem(models.TRUNKS._entries, name, Tiny)
    monkeypatch.setattr(peers, "network", tiny_in_torch)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A copy of the page of benchmarks, whose tables may be replaced."""
    shutil.copy(recording.FOLDER / "README.md", tmp_path)
    return tmp_path
