"""EfficientNets equal timm's with the same weights, with either padding."""

from __future__ import annotations

import pytest

from affect_jax.models import efficientnet

pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")

TIMM_NAMES = {"same": "tf_efficientnet_{}", "symmetric": "efficientnet_{}"}
SMALL = (1, 2, 1, 1, 0, 0, 0)


def create_small(timm, padding: str):
    """timm's EfficientNet-B0 with the blocks `SMALL`; its last convolution has PyTorch's values."""
    network = timm.create_model(TIMM_NAMES[padding].format("b0"), num_classes=0)
    del network.blocks[4:]
    for stage in network.blocks[2:]:
        del stage[1:]
    network.conv_head = timm.layers.create_conv2d(80, 1280, 1)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("padding", TIMM_NAMES)
def test_small_efficientnet_equals_timm(padding, timm, monkeypatch):
    monkeypatch.setattr(efficientnet.EfficientNetB0, "BLOCKS", SMALL)
    network = create_small(timm, padding)
    spec = {"name": "efficientnet_b0", "padding": padding}
    parity.assert_equal(network, spec, crop=42)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "padding"), [("b0", "symmetric"), ("b2", "same")])
def test_whole_efficientnet_equals_timm(size, padding, timm):
    network = timm.create_model(TIMM_NAMES[padding].format(size), num_classes=0)
    spec = {"name": f"efficientnet_{size}", "padding": padding}
    # TensorFlow pads by 0 and 1 where a side is even, by 1 and 1 where it is odd: 90, 45, 23, ...
    parity.assert_equal(network, spec, 90, gradient_tolerance=0.05)
