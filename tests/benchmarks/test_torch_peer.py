"""The PyTorch networks have the same layers as ours."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax import models
from affect_jax.core.batch import make_targets
from affect_jax.train.experiment import create_experiment, load_registries
from benchmarks import gpu, step, torch_peer

torch = pytest.importorskip("torch")


def count_our_parameters(name: str, **options: int) -> int:
    model = models.model_from_spec({"name": name} | options, ("expression",))
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


def test_narrow_resnet18():
    narrow = torch_peer.create_network("resnet18", width=32)
    assert sum(map(torch.numel, narrow.parameters())) == count_our_parameters("resnet18", width=32)
    published, rebuilt = torch_peer.create_network("resnet18"), torch_peer.create_resnet18(8, 64)
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (published, rebuilt)]
    assert shapes[0] == shapes[1]
    deviations = [n.layer4[0].conv2.weight.std().item() for n in (published, rebuilt)]
    assert deviations[0] == pytest.approx(deviations[1], rel=0.01)


@pytest.mark.parametrize(
    ("name", "forward", "first"),
    # Multiply-adds of the network (He et al. 2015: 1.8 billion; AlexNet by hand: groups halve the
    # channels) and of its first layer, which has no gradient of its input.
    [
        ("resnet18", 1.81e9, 112 * 112 * 64 * 7 * 7 * 3),
        ("alexnet", 720_343_584, 55 * 55 * 96 * 11 * 11 * 3),
    ],
)
def test_flops_of_training(name, forward, first):
    load_registries()
    args = step.parse_args(None, ["--width", "4096"] if name == "alexnet" else [])
    config = step.create_config((name, "float32", 1, "train"), args)
    targets = make_targets({"expression": np.arange(8)})
    experiment = create_experiment(config, targets, steps_per_epoch=1)
    expected = 2 * (3 * forward - first)  # XLA does not count products with padding
    assert 0.9 < gpu.count_training_flops(experiment) / expected < 1


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
