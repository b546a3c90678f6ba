"""ConvNeXt equals timm's and torchvision's with the same weights."""

from __future__ import annotations

import pytest

from affect_jax.models import convnext

torch = pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")


def create_torchvision(torchvision, blocks):
    """torchvision's network of stages with 96, 192, 384 and 768 channels, without its head."""
    setting = torchvision.models.convnext.CNBlockConfig
    widths = (96, 192, 384, 768, None)
    stages = [setting(widths[i], widths[i + 1], count) for i, count in enumerate(blocks)]
    network = torchvision.models.ConvNeXt(stages)
    network.classifier[2] = torch.nn.Identity()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_small_convnext_equals_torch(library, request, monkeypatch):
    blocks = (1, 1, 2, 1)
    monkeypatch.setattr(convnext.ConvNeXtTiny, "BLOCKS", blocks)
    module = request.getfixturevalue(library)
    if library == "timm":
        network = module.create_model("convnext_tiny", depths=blocks, num_classes=0)
    else:
        network = create_torchvision(module, blocks)
    parity.assert_equal(network, {"name": "convnext_tiny"}, crop=71)


@pytest.mark.slow
def test_whole_convnext_equals_torch(torchvision):
    network = create_torchvision(torchvision, (3, 3, 9, 3))
    parity.assert_equal(network, {"name": "convnext_tiny"}, crop=64, gradient_tolerance=0.01)
