"""IResNet50, the network of InsightFace for face recognition, with the same parameters."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, StagedTrunk, TorchMapping
from affect_jax.models.conv_norm import ConvNorm, batch_norm
from affect_jax.models.layers import Embedding, dropout, to_signed_range

KERNEL_INIT = nn.initializers.normal(0.1)


class PReLU(nn.Module):
    """max(0, x) + a min(0, x) with one learned a for each channel, initially 0.25."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        slope = self.param("negative_slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x >= 0, x, x * slope.astype(x.dtype))


class ImprovedBlock(nn.Module):
    """Batch normalisation, two 3 x 3 convolutions and a shortcut (Duta et al. 2020, figure 1)."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv_norm(x: jax.Array, kernel: int, stride: int, name: str) -> jax.Array:
            layer = ConvNorm(self.features, kernel, stride, self.dtype, KERNEL_INIT, name=name)
            return layer(x, train)

        y = conv_norm(batch_norm(x, train, self.dtype, "norm"), 3, 1, "layer1")
        y = conv_norm(PReLU(name="prelu")(y), 3, self.stride, "layer2")
        if x.shape != y.shape:
            x = conv_norm(x, 1, self.stride, "shortcut")
        return x + y


@TRUNKS.register("iresnet50")
class IResNet50(StagedTrunk):
    """IResNet50 as in InsightFace (`recognition/arcface_torch/backbones/iresnet.py`).

    It has 43,590,848 parameters without a head for crops of 112 pixels. Features: [b, 8 * width],
    normalised over the batch. InsightFace keeps the scale of this normalisation at 1; here it is
    trained. Input images are converted to [-1, 1], as for InsightFace's weights.

    **Arguments:**

    - `width`: channels of the first stage; the later stages have 2, 4 and 8 times as many.
    - `dropout`: dropout rate before the last layer.
    """

    width: int = 64
    dropout: float = 0.0
    dtype: Any = jnp.float32

    BLOCKS: ClassVar = (3, 4, 14, 3)
    STEM: ClassVar = ("stem", "prelu")
    LAST: ClassVar = ("norm", "embedding", "features")
    SIGNED_FEATURE_MAP: ClassVar = True

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, 8 * width]."""
        stem = ConvNorm(self.width, 3, 1, self.dtype, KERNEL_INIT, name="stem")
        x = PReLU(name="prelu")(stem(to_signed_range(images), train))
        for stage, i, name in self.blocks():
            stride = 2 if i == 0 else 1
            x = ImprovedBlock(self.width * 2**stage, stride, self.dtype, name=name)(x, train)
        x = batch_norm(x, train, self.dtype, "norm")
        x = dropout(x, keys if train else None, rate=self.dropout, layer=0)
        x = Embedding(8 * self.width, self.dtype, name="embedding")(x)
        return batch_norm(x, train, self.dtype, "features")


_TORCH_LAYERS = {"stem.conv": "conv1", "stem.norm": "bn1", "norm": "bn2", "embedding": "fc"}
_TORCH_BLOCK_LAYERS = {
    "norm": "bn1",
    "layer1.conv": "conv1",
    "layer1.norm": "bn2",
    "layer2.conv": "conv2",
    "layer2.norm": "bn3",
    "shortcut.conv": "downsample.0",
    "shortcut.norm": "downsample.1",
}


def _to_torch_name(name: str) -> str:
    """`stage2_block1.layer1.norm.bias` -> `layer2.0.bn2.bias`."""
    layer, leaf = name.replace("negative_slope", "weight").rsplit(".", 1)
    match = re.fullmatch(r"stage(\d)_block(\d+)\.(.+)", layer)
    if not match:
        return f"{_TORCH_LAYERS.get(layer, layer)}.{leaf}"
    stage, block, layer = match.groups()
    return f"layer{stage}.{int(block) - 1}.{_TORCH_BLOCK_LAYERS.get(layer, layer)}.{leaf}"


def _fit_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reshapes the kernel of `embedding` from [C h w, features] to [h, w, C, features]."""
    if not name.endswith("embedding.kernel") or array.shape != (np.prod(shape[:-1]), shape[-1]):
        return array
    height, width, channels, features = shape
    return array.reshape(channels, height, width, features).transpose(1, 2, 0, 3)


TORCH_MAPPINGS["iresnet50"] = TorchMapping(
    requirement="InsightFace's iresnet50 fits trunk.width = 64 and data.crop_size = 97 to 112",
    to_torch_name=_to_torch_name,
    head="",
    fit_shape=_fit_shape,
)
