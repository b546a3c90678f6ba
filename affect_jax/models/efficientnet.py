"""EfficientNets with the same parameters as timm's, so that its weights can be loaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, StagedTrunk, TorchMapping
from affect_jax.models.conv_norm import ConvNorm
from affect_jax.models.layers import dropout, stochastic_depth

PADDINGS = {"same": {"same_padding": True, "epsilon": 1e-3}, "symmetric": {}}
BY_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
BY_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """An inverted bottleneck with squeeze-and-excitation ("MBConv", Tan and Le 2019, section 4).

    A 1 x 1 convolution to `expansion` times the channels (none if it is 1), a depthwise one, a gate
    in [0, 1] for each channel (Hu et al. 2018, section 3), and a 1 x 1 convolution to `features`.
    There is a shortcut if the shape is unchanged.

    **Arguments:**

    - `index`: position in the network, from 0.
    - `stochastic_depth`: rate at which the branch of an example is dropped.
    - `conv_norm`: creates a `ConvNorm`.
    """

    index: int
    features: int
    expansion: int
    kernel: int
    stride: int
    stochastic_depth: float
    conv_norm: Callable[..., ConvNorm]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, keys: jax.Array | None) -> jax.Array:
        y, channels = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            y = nn.silu(self.conv_norm(channels, 1, 1, name="expand")(y, train))
        depthwise = {"kernel_init": BY_FAN_IN, "groups": channels, "name": "depthwise"}
        y = nn.silu(self.conv_norm(channels, self.kernel, self.stride, **depthwise)(y, train))
        dense = functools.partial(nn.Dense, kernel_init=BY_FAN_OUT, dtype=y.dtype)
        gate = dense(max(1, x.shape[-1] // 4), name="gate_reduce")(jnp.mean(y, axis=(1, 2)))
        gate = nn.sigmoid(dense(channels, name="gate_expand")(nn.silu(gate)))
        y = self.conv_norm(self.features, 1, 1, name="project")(y * gate[:, None, None], train)
        if x.shape != y.shape:
            return y
        return x + stochastic_depth(y, keys, rate=self.stochastic_depth, layer=self.index + 1)


@TRUNKS.register("efficientnet_b0")
class EfficientNetB0(StagedTrunk):
    """EfficientNet-B0 (Tan and Le 2019, table 1) as in timm, for crops of 224 pixels.

    It has 5,288,548 parameters with a head of 1000 classes. Features: [b, 40 * width].

    **Arguments:**

    - `width`: channels of the first convolution, 32 as published; those of the other layers change
      in proportion, to multiples of 8.
    - `padding`: `same` pads as TensorFlow does, with an epsilon of 1e-3 in batch normalisation, for
      weights of timm's `tf_efficientnet_*` and of HSEmotion; `symmetric` pads by kernel // 2, with
      1e-5, for timm's `efficientnet_*`.
    - `dropout`: dropout rate of the features; the paper trains B0 with 0.2 and B2 with 0.3.
    - `stochastic_depth`: rate after the last block; it grows linearly from 0 in the first. The
      paper trains with 0.2.
    """

    width: int = 32
    padding: str = "same"
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    dtype: Any = jnp.float32

    CHANNELS: ClassVar = (16, 24, 40, 80, 112, 192, 320, 1280)  # of the stages and the features
    BLOCKS: ClassVar = (1, 2, 2, 3, 3, 4, 1)
    LAST: ClassVar = ("features",)
    KERNELS: ClassVar = (3, 3, 5, 3, 5, 5, 3)
    STRIDES: ClassVar = (1, 2, 2, 2, 1, 2, 1)
    CHOICES: ClassVar = {"padding": PADDINGS}
    SIGNED_FEATURE_MAP: ClassVar = True

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, F]."""
        keys = keys if train else None
        conv_norm = functools.partial(ConvNorm, dtype=self.dtype, **PADDINGS[self.padding])
        *channels, last = (round_to_8(n * self.width / 32) for n in self.CHANNELS)
        x = nn.silu(conv_norm(self.width, 3, 2, name="stem")(images, train))
        for index, (stage, i, name) in enumerate(self.blocks()):
            x = Block(
                index=index,
                features=channels[stage],
                expansion=6 if stage else 1,
                kernel=self.KERNELS[stage],
                stride=self.STRIDES[stage] if i == 0 else 1,
                stochastic_depth=self.stochastic_depth * index / sum(self.BLOCKS),
                conv_norm=conv_norm,
                name=name,
            )(x, train, keys)
        x = jnp.mean(nn.silu(conv_norm(last, 1, 1, name="features")(x, train)), axis=(1, 2))
        return dropout(x, keys, rate=self.dropout, layer=0)


def round_to_8(channels: float) -> int:
    """Rounds to a multiple of 8 that is at least 0.9 of the number (Tan and Le's code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


@TRUNKS.register("efficientnet_b2")
class EfficientNetB2(EfficientNetB0):
    """EfficientNet-B2: 9,109,994 parameters with 1000 classes, for crops of 260 pixels.

    Features: [b, 44 * width].

    **Arguments:** as for `EfficientNetB0`.
    """

    CHANNELS: ClassVar = (16, 24, 48, 88, 120, 208, 352, 1408)
    BLOCKS: ClassVar = (2, 3, 3, 4, 4, 5, 2)


_TORCH_LAYERS = {
    "stem": ("conv_stem", "bn1"),
    "features": ("conv_head", "bn2"),
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    "project": ("conv_pwl", "bn3"),
}
_TORCH_LAYERS_OF_STAGE_1 = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}


def _to_torch_name(name: str) -> str:
    """`stage2_block1.expand.norm.bias` -> `blocks.1.0.bn1.bias`."""
    layer, leaf = name.rsplit(".", 1)
    prefix, layers = "", _TORCH_LAYERS
    if match := re.fullmatch(r"stage(\d)_block(\d)\.(.+)", layer):
        stage, block, layer = match.groups()
        prefix = f"blocks.{int(stage) - 1}.{int(block) - 1}."
        layers = _TORCH_LAYERS_OF_STAGE_1 if stage == "1" else _TORCH_LAYERS
    if layer.startswith("gate_"):
        return f"{prefix}se.conv_{layer[5:]}.{leaf}"
    layer, kind = layer.split(".")
    return f"{prefix}{layers[layer][kind == 'norm']}.{leaf}"


TORCH_MAPPINGS.update(
    {
        f"efficientnet_{size}": TorchMapping(
            requirement=f"timm's tf_efficientnet_{size} (trunk.padding = same) and efficientnet_"
            f"{size} (symmetric) fit trunk.width = 32",
            to_torch_name=_to_torch_name,
            head="classifier",
        )
        for size in ("b0", "b2")
    }
)
