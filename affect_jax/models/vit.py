"""Vision transformers with patches of 16 pixels, with the same parameters as timm's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from affect_jax.core.errors import UserError
from affect_jax.core.registry import AT_LEAST_1, require_option
from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, TorchMapping, Trunk
from affect_jax.models.layers import (
    Embedding,
    dense,
    dropout,
    layer_norm,
    stochastic_depth,
    to_signed_range,
)

PATCH = 16  # side of a patch, pixels


class PatchGrid(nn.Module):
    """Passes on the patches as a feature map [b, h, w, C], see `feature_maps`."""

    def __call__(self, grid: jax.Array) -> jax.Array:
        return grid


class Block(nn.Module):
    """Attention and two linear layers, each after normalisation and with a shortcut.

    Dosovitskiy et al. 2021 (arXiv:2010.11929), equations 2 and 3.
    """

    index: int  # position in the network, from 0
    heads: int
    dropout: float
    stochastic_depth: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Tokens [b, T, C] -> [b, T, C]."""
        width, first = x.shape[-1], 5 * self.index + 1  # number of the first dropout layer

        def linear(x: jax.Array, features: int, name: str) -> jax.Array:
            return dense(x, features, self.dtype, name)

        def drop(x: jax.Array, layer: int) -> jax.Array:
            return dropout(x, keys, rate=self.dropout, layer=first + layer)

        def add_branch(y: jax.Array, layer: int) -> jax.Array:
            return x + stochastic_depth(y, keys, rate=self.stochastic_depth, layer=first + layer)

        y = linear(layer_norm(x, self.dtype, "norm1"), 3 * width, "qkv")
        y = y.reshape(*y.shape[:2], 3, self.heads, width // self.heads)
        y = jax.nn.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2])
        x = add_branch(drop(linear(y.reshape(x.shape), width, "proj"), 0), 1)
        y = linear(layer_norm(x, self.dtype, "norm2"), 4 * width, "fc1")
        y = linear(drop(nn.gelu(y, approximate=False), 2), width, "fc2")
        return add_branch(drop(y, 3), 4)


@TRUNKS.register("vit_small")
class ViTSmall(Trunk):
    """ViT-S/16 as in timm, DINO and MAE (Touvron et al. 2021, table 1).

    It has 22,050,664 parameters with crops of 224 pixels and a head of 1000 classes. Features:
    [b, width]. The feature map is the grid of patches that enters the last block: the class token
    reads them there for the last time.

    **Arguments:**

    - `width`: channels of a token, a multiple of `heads`.
    - `depth`: number of blocks.
    - `heads`: number of attention heads.
    - `pooling`: `token` takes the class token, normalised, as features; `mean` takes the mean of
      the patches and normalises it (timm's `avg`, MAE's `global_pool`). That normalisation keeps
      its initial values if a file has none, as in MAE's fine-tuning.
    - `input_range`: `imagenet` passes images on as they are, for weights of DINO, DeiT and MAE;
      `signed` converts them to [-1, 1], for timm's `augreg` weights.
    - `dropout`: dropout rate of the embedded patches and of all linear layers but queries, keys and
      values (Dosovitskiy et al. 2021, appendix B.1).
    - `stochastic_depth`: rate of the last block; it grows linearly from 0 in the first.
    - `remat`: compute the blocks again in the backward pass in place of storing their activations
      (Chen et al. 2016): the same values with less memory, and one more forward pass.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    pooling: str = "token"
    input_range: str = "imagenet"
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    SIGNED_FEATURE_MAP: ClassVar = True
    REQUIREMENTS: ClassVar = {
        **Trunk.REQUIREMENTS,
        "depth": (lambda v: 1 <= v < 100, "1 to 99"),
        "heads": AT_LEAST_1,
    }
    CHOICES: ClassVar = {"pooling": ("token", "mean"), "input_range": ("imagenet", "signed")}

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple = f"a multiple of trunk.heads = {self.heads}"
        require_option("trunk.width", self.width, lambda v: v % self.heads == 0, multiple)

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, width]. **Raises:** `UserError` for a wrong c."""
        side, remainder = divmod(images.shape[1], PATCH)
        if remainder:
            raise UserError(
                f"data.crop_size = {images.shape[1]}: must be a multiple of {PATCH} for a ViT"
            )
        if self.input_range == "signed":
            images = to_signed_range(images)
        keys = keys if train else None
        create_block = nn.remat(Block) if self.remat and train else Block
        patches = images.reshape(-1, side, PATCH, side, PATCH, images.shape[-1]).swapaxes(2, 3)
        patches = patches.reshape(-1, side**2, PATCH, PATCH, images.shape[-1])
        x = Embedding(self.width, self.dtype, name="patch_embed")(patches)
        x = dropout(self._add_positions(x), keys, rate=self.dropout, layer=0)
        for i in range(self.depth):
            if i == self.depth - 1:
                grid = PatchGrid(name="patches")(x[:, 1:].reshape(-1, side, side, self.width))
                x = jnp.concatenate([x[:, :1], grid.reshape(-1, side**2, self.width)], axis=1)
            depth_rate = self.stochastic_depth * i / max(self.depth - 1, 1)
            name = f"block{i + 1:02}"  # two digits: rates apply to all names with a prefix
            block = create_block(i, self.heads, self.dropout, depth_rate, self.dtype, name=name)
            x = block(x, keys)
        if self.pooling == "token":
            return layer_norm(x[:, 0], self.dtype, "norm")
        return layer_norm(jnp.mean(x[:, 1:], axis=1), self.dtype, "fc_norm")

    @nn.nowrap
    def layers(self) -> list[tuple[str, ...]]:
        """The embedding, then each block, as in BEiT and MAE."""
        blocks = [(f"block{i + 1:02}",) for i in range(self.depth)]
        return [("patch_embed", "cls_token", "pos_embed"), *blocks]

    def _add_positions(self, x: jax.Array) -> jax.Array:
        """Adds the class token, as the first, and the positions: [b, N, C] -> [b, 1 + N, C]."""
        count = x.shape[1]
        shape = (1, 1 + count, self.width)
        positions = self.param("pos_embed", nn.initializers.normal(0.02), shape)
        token = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, self.width))
        offsets = positions + jnp.pad(token, ((0, 0), (0, count), (0, 0)))
        # Padding, as a broadcast to a symbolic batch size has no ONNX conversion.
        return jnp.pad(x, ((0, 0), (1, 0), (0, 0))) + offsets.astype(x.dtype)


@TRUNKS.register("vit_base")
class ViTBase(ViTSmall):
    """ViT-B/16: 86,567,656 parameters with crops of 224 pixels and a head of 1000 classes.

    **Arguments and features:** as for `ViTSmall`.
    """

    width: int = 768
    heads: int = 12


_TORCH_LAYERS = {"patch_embed": "patch_embed.proj", "qkv": "attn.qkv", "proj": "attn.proj"}
_TORCH_LAYERS |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def _to_torch_name(name: str) -> str:
    """`block02.qkv.bias` -> `blocks.1.attn.qkv.bias`."""
    *path, leaf = name.split(".")
    parts = [
        f"blocks.{int(part[5:]) - 1}" if part.startswith("block") else _TORCH_LAYERS.get(part, part)
        for part in path
    ]
    return ".".join([*parts, leaf])


def _fit_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolates the positions [1, 1 + N, C] to the grid of another crop, bicubically.

    The class token keeps its own. Equal to timm's `resample_abs_pos_embed`.
    """
    if not name.endswith("pos_embed") or array.ndim != 3 or not array.size:
        return array
    old, new = (math.isqrt(length - 1) for length in (array.shape[1], shape[1]))
    if (old**2, new**2) != (array.shape[1] - 1, shape[1] - 1) or not old:
        return array
    grid = jnp.asarray(array[:, 1:], jnp.float32).reshape(-1, old, old, array.shape[2])
    resized = jax.image.resize(grid, (len(grid), new, new, array.shape[2]), "cubic")
    return np.concatenate([array[:, :1], resized.reshape(len(grid), new**2, -1)], axis=1)


TORCH_MAPPINGS.update(
    {
        name: TorchMapping(
            requirement=f"timm's, DINO's and MAE's ViT-{size}/16 fit trunk.width = {width}",
            to_torch_name=_to_torch_name,
            head="head",
            fit_shape=_fit_shape,
            # `fc_norm` belongs to mean pooling; the others to the decoder of MAE's pretraining
            optional=("norm.", "fc_norm.", "mask_token", "decoder_"),
        )
        for name, size, width in (("vit_small", "S", 384), ("vit_base", "B", 768))
    }
)
