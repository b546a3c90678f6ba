"""ConvNeXt with the same parameters as timm's and torchvision's, so that weights can be loaded."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from affect_jax.core.registry import POSITIVE
from affect_jax.models import kernels
from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, StagedTrunk, TorchMapping, Trunk
from affect_jax.models.layers import dense, layer_norm, stochastic_depth

KERNEL_INIT = nn.initializers.normal(0.02)


def conv(
    x: jax.Array, features: int, size: int, dtype: Any, name: str, *, depthwise: bool = False
) -> jax.Array:
    """A depthwise convolution, or one of patches of `size` pixels without overlap, with a bias."""
    return nn.Conv(
        features,
        (size, size),
        strides=1 if depthwise else size,
        padding=size // 2 if depthwise else 0,
        feature_group_count=features if depthwise else 1,
        conv_general_dilated=kernels.convolution,
        kernel_init=KERNEL_INIT,
        dtype=dtype,
        name=name,
    )(x)


class Block(nn.Module):
    """A depthwise 7 x 7 convolution and two linear layers (Liu et al. 2022, figure 4).

    **Arguments:**

    - `index`: position in the network, from 0.
    - `stochastic_depth`: rate at which the branch of an example is dropped.
    - `layer_scale`: see `ConvNeXtTiny`.
    """

    index: int
    stochastic_depth: float
    layer_scale: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[b, h, w, C] -> [b, h, w, C]."""
        width = x.shape[-1]
        y = conv(x, width, 7, self.dtype, "depthwise", depthwise=True)
        y = dense(layer_norm(y, self.dtype, "norm"), 4 * width, self.dtype, "fc1")
        y = dense(nn.gelu(y, approximate=False), width, self.dtype, "fc2")
        scale = self.param("layer_scale", nn.initializers.constant(self.layer_scale), (width,))
        y = y * scale.astype(y.dtype)
        return x + stochastic_depth(y, keys, rate=self.stochastic_depth, layer=self.index)


@TRUNKS.register("convnext_tiny")
class ConvNeXtTiny(StagedTrunk):
    """ConvNeXt-T (Liu et al. 2022, arXiv:2201.03545, section 2) as in timm and torchvision.

    It has 28,589,128 parameters with a head of 1000 classes. Features: [b, 8 * width].

    **Arguments:**

    - `width`: channels of the first stage; the later stages have 2, 4 and 8 times as many.
    - `stochastic_depth`: rate of the last block; it grows linearly from 0 in the first. The paper
      trains with 0.1.
    - `layer_scale`: initial value of the learned factors of each branch, one for each channel.
    - `remat`: compute each block again in the backward pass instead of keeping its activations:
      less memory, longer steps, the same values.
    """

    width: int = 96
    stochastic_depth: float = 0.0
    layer_scale: float = 1e-6
    remat: bool = False
    dtype: Any = jnp.float32

    BLOCKS: ClassVar = (3, 3, 9, 3)
    STEM: ClassVar = ("stem_conv", "stem_norm")
    REQUIREMENTS: ClassVar = {**Trunk.REQUIREMENTS, "layer_scale": POSITIVE}
    SIGNED_FEATURE_MAP: ClassVar = True

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, 8 * width]."""
        keys = keys if train else None
        create_block = nn.remat(Block) if self.remat and train else Block
        x = conv(images, self.width, 4, self.dtype, "stem_conv")
        x = layer_norm(x, self.dtype, "stem_norm")
        for index, (stage, i, name) in enumerate(self.blocks()):
            if stage and i == 0:
                x = layer_norm(x, self.dtype, f"stage{stage + 1}_norm")
                x = conv(x, self.width * 2**stage, 2, self.dtype, f"stage{stage + 1}_conv")
            rate = self.stochastic_depth * index / (sum(self.BLOCKS) - 1)
            x = create_block(index, rate, self.layer_scale, self.dtype, name=name)(x, keys)
        return layer_norm(jnp.mean(x, axis=(1, 2)), self.dtype, "norm")

    @nn.nowrap
    def layers(self) -> list[tuple[str, ...]]:
        """The stem, then each block; the first of a stage with the convolution before it."""
        layers = super().layers()
        for stage in (2, 3, 4):
            first = layers.index((f"stage{stage}_block1",))
            layers[first] += (f"stage{stage}_norm", f"stage{stage}_conv")
        return layers


_TORCH_LAYERS = {"depthwise": "conv_dw", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_TORCHVISION_LAYERS = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}


def _to_torch_name(name: str) -> str:
    """`stage2_block1.fc1.bias` -> `stages.1.blocks.0.mlp.fc1.bias`, a name of timm."""
    part, _, rest = name.replace("layer_scale", "gamma").partition(".")
    layer, _, leaf = rest.rpartition(".")
    layer = f"{_TORCH_LAYERS.get(layer, layer)}." if layer else ""
    if part == "norm":
        return f"head.norm.{leaf}"
    if part.startswith("stem"):
        return f"stem.{'01'[part == 'stem_norm']}.{leaf}"
    stage, kind, block = re.findall(r"stage(\d)_([a-z]+)(\d*)", part)[0]
    prefix = f"stages.{int(stage) - 1}"
    if kind == "block":
        return f"{prefix}.blocks.{int(block) - 1}.{layer}{leaf}"
    return f"{prefix}.downsample.{'01'[kind == 'conv']}.{leaf}"


def _from_torchvision_name(name: str) -> str:
    """`features.3.0.block.3.bias` -> `stages.1.blocks.0.mlp.fc1.bias`."""
    name = name.replace("classifier.0.", "head.norm.").replace("classifier.2.", "head.fc.")
    if not (match := re.fullmatch(r"features\.(\d)\.(\d)\.(.+)", name)):
        return name
    part, index, rest = int(match[1]), match[2], match[3]
    if part == 0:
        return f"stem.{index}.{rest}"
    if part % 2 == 0:
        return f"stages.{part // 2}.downsample.{index}.{rest}"
    layer = re.sub(r"block\.(\d)", lambda m: _TORCHVISION_LAYERS[m[1]], rest)
    return f"stages.{part // 2}.blocks.{index}.{layer.replace('layer_scale', 'gamma')}"


TORCH_MAPPINGS["convnext_tiny"] = TorchMapping(
    requirement="timm's and torchvision's convnext_tiny fit trunk.width = 96",
    to_torch_name=_to_torch_name,
    head="head.fc",
    rename=_from_torchvision_name,
)
