"""ResNets with the same parameters as torchvision's, so that its weights can be loaded."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, StagedTrunk, TorchMapping
from affect_jax.models.conv_norm import ConvNorm
from affect_jax.models.layers import max_pool


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2015, figure 2)."""

    features: int
    stride: int
    dtype: Any

    @nn.nowrap
    def convolutions(self) -> list[tuple[int, int, int]]:
        """Features, kernel size and stride of each convolution."""
        return [(self.features, 3, self.stride), (self.features, 3, 1)]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = x
        for i, convolution in enumerate(self.convolutions(), start=1):
            y = nn.relu(y) if i > 1 else y
            y = ConvNorm(*convolution, self.dtype, name=f"layer{i}")(y, train)
        if x.shape != y.shape:
            x = ConvNorm(y.shape[-1], 1, self.stride, self.dtype, name="shortcut")(x, train)
        return nn.relu(x + y)


class BottleneckBlock(BasicBlock):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut (He et al. 2015, figure 5).

    The 3 x 3 convolution has the stride, as in torchvision ("ResNet v1.5"); in the paper it is the
    first one. The output has 4 * features channels.
    """

    @nn.nowrap
    def convolutions(self) -> list[tuple[int, int, int]]:
        features = self.features
        return [(features, 1, 1), (features, 3, self.stride), (4 * features, 1, 1)]


@TRUNKS.register("resnet18")
class ResNet18(StagedTrunk):
    """ResNet18 (He et al. 2015, table 1) as in torchvision.

    It has 11,689,512 parameters with a head of 1000 classes. Features: [b, 8 * width].

    **Arguments:**

    - `width`: channels of the first stage; the later stages have 2, 4 and 8 times as many.
    """

    width: int = 64
    dtype: Any = jnp.float32

    BLOCKS: ClassVar = (2, 2, 2, 2)
    BLOCK: ClassVar = BasicBlock

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, F]."""
        x = ConvNorm(self.width, 7, 2, self.dtype, name="stem")(images, train)
        x = max_pool(nn.relu(x), 3, 2, padding=1)
        for stage, i, name in self.blocks():
            stride = 2 if stage and i == 0 else 1
            x = self.BLOCK(self.width * 2**stage, stride, self.dtype, name=name)(x, train)
        return jnp.mean(x, axis=(1, 2))


@TRUNKS.register("resnet34")
class ResNet34(ResNet18):
    """ResNet34 as in torchvision: 21,797,672 parameters with 1000 classes.

    **Arguments and features:** as for `ResNet18`.
    """

    BLOCKS: ClassVar = (3, 4, 6, 3)


@TRUNKS.register("resnet50")
class ResNet50(ResNet34):
    """ResNet50 as in torchvision: 25,557,032 parameters with 1000 classes.

    Features: [b, 32 * width].

    **Arguments:** as for `ResNet18`.
    """

    BLOCK: ClassVar = BottleneckBlock


def _to_torch_name(name: str) -> str:
    """`stage2_block1.shortcut.norm.bias` -> `layer2.0.downsample.1.bias`."""
    path, kind, leaf = name.rsplit(".", 2)
    if path == "stem":
        return f"{'conv1' if kind == 'conv' else 'bn1'}.{leaf}"
    stage, block, layer = re.findall(r"\d+|shortcut", path)
    if layer == "shortcut":
        layer_name = f"downsample.{0 if kind == 'conv' else 1}"
    else:
        layer_name = f"{'conv' if kind == 'conv' else 'bn'}{layer}"
    return f"layer{stage}.{int(block) - 1}.{layer_name}.{leaf}"


TORCH_MAPPINGS.update(
    {
        f"resnet{depth}": TorchMapping(
            requirement=f"torchvision's and timm's ResNet{depth} fit trunk.width = 64",
            to_torch_name=_to_torch_name,
            head="fc",
        )
        for depth in (18, 34, 50)
    }
)
