"""Fixtures: tiny networks, which compile fast, in place of those that benchmarks measure."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import jax.numpy as jnp
import pytest
from flax import linen as nn

from affect_jax import models
from benchmarks import harness, torch_peer


class TinyTrunk(nn.Module):
    """A trunk with a convolution and batch normalisation."""

    width: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, keys=None):
        values = nn.Conv(4, (5, 5), strides=4, dtype=self.dtype)(images)
        norm = nn.BatchNorm(use_running_average=not train, axis_name="batch" if train else None)
        return jnp.mean(nn.relu(norm(values)), axis=(1, 2))


def create_tiny_torch_network(name: str, **_: Any) -> Any:
    layers = torch_peer.torch().nn
    return layers.Sequential(
        layers.Conv2d(3, 4, 5, 4), layers.BatchNorm2d(4), layers.AdaptiveAvgPool2d(1),
        layers.Flatten(), layers.Linear(4, 8),
    )  # fmt: skip


@pytest.fixture
def tiny_networks(monkeypatch) -> None:
    """Replaces AlexNet and ResNet18 by tiny networks, in JAX and PyTorch."""
    for name in ("alexnet", "resnet18"):
        monkeypatch.setitem(models.TRUNKS._entries, name, TinyTrunk)
    monkeypatch.setattr(torch_peer, "create_network", create_tiny_torch_network)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A folder with a copy of benchmarks/README.md, whose tables tests replace."""
    shutil.copy(harness.FOLDER / "README.md", tmp_path)
    return tmp_path
