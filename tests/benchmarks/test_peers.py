"""The peers are the same networks; what is written out of them is torchvision's."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax import models
from benchmarks import limits, peers

torch = pytest.importorskip("torch")


def ours(name: str) -> int:
    model = models.model_from_spec({"name": name}, ("expression",))
    images = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_tower", "resnet18"])
def test_the_peer_has_as_many_parameters(name):
    with torch.device("meta"):
        network = peers.network(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == ours(name)


@pytest.mark.parametrize("name", ["alexnet_one_tower", "resnet18"])
def test_what_is_written_out_is_torchvisions(name):
    """The same shapes in the same order, and as many operations on the way."""
    pytest.importorskip("torchvision")
    written = {"alexnet_one_tower": peers.one_tower_alexnet, "resnet18": peers.resnet18}[name]
    with torch.device("meta"):
        mine, theirs = written(8), peers.network(name)
    assert type(mine) is not type(theirs)
    shapes = [[tuple(p.shape) for p in network.parameters()] for network in (mine, theirs)]
    assert shapes[0] == shapes[1]
    kinds = [
        sorted(
            type(layer).__name__
            for layer in network.modules()
            if not list(layer.children()) and "Identity" not in type(layer).__name__
        )
        for network in (mine, theirs)
    ]
    extra = {"alexnet_one_tower": ["AdaptiveAvgPool2d"], "resnet18": []}[name]  # nothing at 6 x 6
    flatten = ["Flatten"]  # a function there
    assert sorted(kinds[0] + extra) == sorted(kinds[1] + flatten)


def test_operations_are_those_that_are_known():
    """ResNet18: 1.81 billion multiplications with additions at 224 (He et al. 2015: 1.8)."""
    forward = limits.operations("resnet18", crop_size=224, training=False)
    assert forward == pytest.approx(2 * 1.81e9, rel=0.01)
    # Backwards each layer needs two products, but the first only one.
    training = limits.operations("resnet18", crop_size=224, training=True)
    first = 2 * 112 * 112 * 64 * 7 * 7 * 3
    assert training == pytest.approx(3 * forward - first, rel=1e-6)


def test_operations_of_a_convolution_in_groups():
    """AlexNet's multiplications, by hand: places x filters x kernel x channels of a group."""
    first = 55 * 55 * 96 * 11 * 11 * 3
    others = 27 * 27 * 256 * 5 * 5 * 48 + 13 * 13 * 384 * 3 * 3 * 256
    others += 13 * 13 * (384 + 256) * 3 * 3 * 192 + 9216 * 4096 + 4096 * 4096 + 4096 * 8
    forward = limits.operations("alexnet", crop_size=224, training=False)
    assert forward == 2 * (first + others) == 1_440_687_168
    training = limits.operations("alexnet", crop_size=224, training=True)
    assert training == 3 * forward - 2 * first == 4_111_231_104


def test_compiled_sides_have_graphs_of_their_own_batch(monkeypatch, tiny):
    """Whatever was compiled before, and however often."""
    graphs = []

    def record(module, inputs):
        symbols = [place for value in inputs for place in getattr(value, "shape", (value,))]
        graphs.append(any(isinstance(place, torch.SymInt) for place in symbols))
        return module

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=record))
    for case in range(9):
        side = peers.Side("alexnet", dtype="float32", crop_size=32, compiled=True)
        side.predict(torch.zeros(2 + case % 3, 3, 32, 32))
    assert graphs == [False] * 9


def test_images_are_normalised_as_in_the_package():
    from affect_jax.data import preprocessing

    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    expected = preprocessing.normalize(jnp.asarray(images))
    found = peers.normalized(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.cpu().permute(0, 2, 3, 1), expected, atol=1e-5)
    np.testing.assert_allclose(peers.float_images(images), expected, atol=1e-5)
