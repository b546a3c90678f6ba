"""The PyTorch networks have the same layers as ours."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax import models
from benchmarks import gpu, torch_peer

torch = pytest.importorskip("torch")


def count_our_parameters(name: str) -> int:
    model = models.model_from_spec({"name": name}, ("expression",))
    images = jnp.zeros((1, 224, 224, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", torch_peer.NETWORKS)
def test_torch_network_has_as_many_parameters(name):
    with torch.device("meta"):
        network = torch_peer.create_network(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == count_our_parameters(
        name
    )


def test_flops_of_resnet18():
    """ResNet18 needs 1.81 billion multiply-adds at 224 pixels (He et al. 2015: 1.8)."""
    forward = gpu.count_flops("resnet18", crop_size=224, training=False)
    assert forward == pytest.approx(2 * 1.81e9, rel=0.01)
    # The backward pass needs two products in each layer, one in the first.
    training = gpu.count_flops("resnet18", crop_size=224, training=True)
    first = 2 * 112 * 112 * 64 * 7 * 7 * 3
    assert training == pytest.approx(3 * forward - first, rel=1e-6)


def test_flops_of_grouped_convolutions():
    """Multiplications of AlexNet by hand: positions x filters x kernel x channels of a group."""
    first = 55 * 55 * 96 * 11 * 11 * 3
    others = 27 * 27 * 256 * 5 * 5 * 48 + 13 * 13 * 384 * 3 * 3 * 256
    others += 13 * 13 * (384 + 256) * 3 * 3 * 192 + 9216 * 4096 + 4096 * 4096 + 4096 * 8
    forward = gpu.count_flops("alexnet", crop_size=224, training=False)
    assert forward == 2 * (first + others) == 1_440_687_168
    training = gpu.count_flops("alexnet", crop_size=224, training=True)
    assert training == 3 * forward - 2 * first == 4_111_231_104


def test_compiled_trainers_have_static_batch_sizes(monkeypatch, tiny_networks):
    """Independent of earlier compilations."""
    has_symbols = []

    def record(module, inputs):
        sizes = [size for value in inputs for size in getattr(value, "shape", (value,))]
        has_symbols.append(any(isinstance(size, torch.SymInt) for size in sizes))
        return module

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=record))
    for case in range(9):
        trainer = torch_peer.Trainer("alexnet", dtype="float32", crop_size=32, compiled=True)
        trainer.predict(torch.zeros(2 + case % 3, 3, 32, 32))
    assert has_symbols == [False] * 9


def test_images_are_normalized_as_in_the_package():
    from affect_jax.data import preprocessing

    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    expected = preprocessing.normalize(jnp.asarray(images))
    tensor = torch_peer.normalize_images(images)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(tensor.cpu().permute(0, 2, 3, 1), expected, atol=1e-5)
