"""IResNet50 equals InsightFace's definition with the same weights."""

from __future__ import annotations

import pytest

from affect_jax.models import iresnet

torch = pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")


class TorchBlock(torch.nn.Module):
    """`IBasicBlock` of InsightFace's `backbones/iresnet.py`."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        nn = torch.nn
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + (self.downsample(x) if self.downsample else x)


class TorchIResNet(torch.nn.Module):
    """`IResNet` of InsightFace's `backbones/iresnet.py`."""

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 14, 3), width: int = 64, crop: int = 112):
        super().__init__()
        nn = torch.nn
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.stages, inputs = len(blocks), width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            layers = [TorchBlock(inputs, outputs, 2)]
            layers += [TorchBlock(outputs, outputs, 1) for _ in range(1, count)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            inputs = outputs
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * (crop // 2 ** len(blocks)) ** 2, 8 * width)
        self.features = nn.BatchNorm1d(8 * width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def test_iresnet_equals_its_definition(monkeypatch):
    blocks = (1, 2)
    monkeypatch.setattr(iresnet.IResNet50, "BLOCKS", blocks)
    network = TorchIResNet(blocks, width=8, crop=12)
    parity.assert_equal(network, {"name": "iresnet50", "width": 8}, 12, parity.to_signed)


@pytest.mark.slow
def test_iresnet50_equals_its_definition():
    # In 24 blocks the rounding of float32 grows in gradients, in PyTorch as much as here.
    network = TorchIResNet(crop=64)
    parity.assert_equal(network, {"name": "iresnet50"}, 64, parity.to_signed, 0.05)
