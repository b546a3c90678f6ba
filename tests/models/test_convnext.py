"""ConvNeXt equals timm's and torchvision's with the same weights."""

from __future__ import annotations

import pytest

from affect_jax.models import convnext

torch = pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")


@pytest.mark.slow
def test_small_convnext_equals_timm(timm, monkeypatch):
    blocks = (1, 1, 2, 1)
    monkeypatch.setattr(convnext.ConvNeXtTiny, "BLOCKS", blocks)
    network = timm.create_model("convnext_tiny", depths=blocks, num_classes=0)
    parity.assert_equal(network, {"name": "convnext_tiny"}, crop=71)


@pytest.mark.slow
def test_whole_convnext_equals_torchvision(torchvision):
    network = torchvision.models.convnext_tiny(stochastic_depth_prob=0.0)
    network.classifier[2] = torch.nn.Identity()
    parity.assert_equal(network, {"name": "convnext_tiny"}, crop=64, gradient_tolerance=0.01)
