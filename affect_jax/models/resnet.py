"""ResNet18 with the same parameters as torchvision's, so that its weights can be loaded."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.core.registry import require_option
from affect_jax.models import kernels
from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, TorchMapping
from affect_jax.models.layers import max_pool

AXIS = "batch"  # training averages the statistics of batch normalisation over this axis


class ConvNorm(nn.Module):
    """A convolution without bias, followed by batch normalisation.

    The constants are torchvision's: Kaiming normal initialisation by fan out, epsilon 1e-5,
    momentum 0.1 (0.9 in flax's convention). Statistics are float32 for every compute dtype. The
    running variance averages the population variances of the batches; PyTorch averages
    n / (n - 1) times them, n = batch x height x width.
    """

    features: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=self.kernel // 2,
            use_bias=False,
            conv_general_dilated=kernels.convolution,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            axis_name=AXIS if train else None,
            dtype=self.dtype,
            name="norm",
        )(x)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2015, figure 2)."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = ConvNorm(self.features, 3, self.stride, self.dtype, name="layer1")(x, train)
        y = ConvNorm(self.features, 3, 1, self.dtype, name="layer2")(nn.relu(y), train)
        if x.shape != y.shape:
            x = ConvNorm(self.features, 1, self.stride, self.dtype, name="shortcut")(x, train)
        return nn.relu(x + y)


@TRUNKS.register("resnet18")
class ResNet18(nn.Module):
    """ResNet18 (He et al. 2015, table 1) as in torchvision.

    It has 11,689,512 parameters with a head of 1000 classes. Features: [b, 8 * width].

    **Arguments:**

    - `width`: channels of the first stage; the later stages have 2, 4 and 8 times as many.
    """

    width: int = 64
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        require_option("trunk.width", self.width, lambda v: v >= 1, "1 or more")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, 8 * width]."""
        x = ConvNorm(self.width, 7, 2, self.dtype, name="stem")(images, train)
        x = max_pool(nn.relu(x), 3, 2, padding=1)
        for stage in range(4):
            for block in range(2):
                features = self.width * 2**stage
                stride = 2 if stage and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                x = BasicBlock(features, stride, self.dtype, name=name)(x, train)
        return jnp.mean(x, axis=(1, 2))


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


TORCH_MAPPINGS["resnet18"] = TorchMapping(
    requirement="torchvision's and timm's ResNet18 fit trunk.width = 64",
    to_torch_name=_to_torch_name,
    head="fc",
)
