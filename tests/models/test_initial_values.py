"""Initial values of every family of trunks equal those of the network that it follows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from affect_jax.models import convnext, efficientnet, iresnet, resnet

torch = pytest.importorskip("torch")  # before modules that need it

from tests.models.test_efficientnet import SMALL, create_small  # noqa: E402
from tests.models.test_iresnet import TorchIResNet  # noqa: E402
from tests.models.test_vit import VIT, create_vit  # noqa: E402

parity = pytest.importorskip("tests.models.torch_parity")


def assert_equal_initial_values(create_network, spec: dict, crop: int) -> None:
    """Compares each array with that of the PyTorch network: constants exactly, others by samples.

    The ratio of two standard deviations of n values has a relative standard error of 1 / sqrt(n)
    if they are normal, less if they are uniform. So a deviation by five errors is none by chance.
    The Kolmogorov-Smirnov test also compares the means and the kind of distribution.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_network()
    trunk, expected, _ = parity.load(network, spec, crop)
    init = jax.jit(lambda key: trunk.init(key, jnp.zeros((1, crop, crop, 3))))
    actual = {"batch_stats": {}, **init(jax.random.key(0))}
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    )
    for (path, ours), theirs in leaves:
        name, ours, theirs = jax.tree_util.keystr(path), np.ravel(ours), np.ravel(theirs)
        if np.ptp(theirs) == 0:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
            continue
        ratio = np.std(ours) / np.std(theirs)
        assert abs(ratio - 1) < 5 / len(ours) ** 0.5, (name, ratio)
        assert stats.ks_2samp(ours[:20_000], theirs[:20_000]).pvalue > 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_resnet_starts_as_in_torchvision(name, torchvision, monkeypatch):
    """timm differs: the last normalisation of its blocks starts with the scale 0."""
    blocks = [1, 1, 1, 1]
    monkeypatch.setattr(resnet.ResNet34, "BLOCKS", blocks)
    library = torchvision.models.resnet

    def create_network():
        block = {"resnet34": library.BasicBlock, "resnet50": library.Bottleneck}[name]
        network = library.ResNet(block, blocks)
        network.fc = torch.nn.Identity()
        return network

    assert_equal_initial_values(create_network, {"name": name}, 64)


def test_iresnet_starts_as_in_insightface(monkeypatch):
    blocks = (1, 2)
    monkeypatch.setattr(iresnet.IResNet50, "BLOCKS", blocks)
    spec = {"name": "iresnet50", "width": 64}
    assert_equal_initial_values(lambda: TorchIResNet(blocks, 64, crop=12), spec, 12)


def test_vit_starts_as_in_timm(timm):
    spec = {"name": "vit_small", **VIT, "width": 192}
    assert_equal_initial_values(lambda: create_vit(timm, 64, embed_dim=192), spec, 64)


@pytest.mark.slow
def test_convnext_starts_as_in_timm(timm, monkeypatch):
    blocks, widths = (1, 1, 1, 1), (48, 96, 192, 384)
    monkeypatch.setattr(convnext.ConvNeXtTiny, "BLOCKS", blocks)

    def create_network():
        return timm.create_model("convnext_tiny", depths=blocks, dims=widths, num_classes=0)

    assert_equal_initial_values(create_network, {"name": "convnext_tiny", "width": 48}, 64)


@pytest.mark.slow
def test_efficientnet_starts_as_in_timm(timm, monkeypatch):
    monkeypatch.setattr(efficientnet.EfficientNetB0, "BLOCKS", SMALL)

    def create_network():
        network = create_small(timm, "same")
        timm.models._efficientnet_builder.efficientnet_init_weights(network)
        return network

    assert_equal_initial_values(create_network, {"name": "efficientnet_b0"}, 64)


def test_alexnet_of_one_tower_starts_as_in_torchvision(torchvision):
    def create_network():
        network = torchvision.models.alexnet()
        network.classifier[1] = torch.nn.Linear(9216, 256)
        network.classifier[4] = torch.nn.Linear(256, 256)
        del network.classifier[6]
        return network

    assert_equal_initial_values(create_network, {"name": "alexnet_one_tower", "width": 256}, 224)
