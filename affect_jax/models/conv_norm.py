"""Convolutions followed by batch normalisation, with PyTorch's constants."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import lax

from affect_jax.models import kernels
from affect_jax.models.layers import Initializer

AXIS = "batch"  # training averages the statistics of batch normalisation over this axis


def batch_norm(
    x: jax.Array, train: bool, dtype: Any, name: str, epsilon: float = 1e-5
) -> jax.Array:
    """Batch normalisation with PyTorch's constants; creates the layer `name` of a module.

    Momentum is 0.1 (0.9 in flax's convention). Statistics are float32 for every compute dtype. The
    running variance averages the population variances of the batches; PyTorch averages n / (n - 1)
    times them, n = batch x height x width.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=epsilon,
        axis_name=AXIS if train else None,
        dtype=dtype,
        name=name,
    )(x)


class ConvNorm(nn.Module):
    """A convolution without bias, followed by batch normalisation.

    The initial values are torchvision's by default: Kaiming normal by fan out.

    **Arguments:**

    - `groups`: number of groups of channels; as many as there are channels: depthwise.
    - `same_padding`: TensorFlow's "SAME" padding, whose larger half is at the bottom and the right,
      instead of kernel // 2 on every side.
    - `epsilon`: of the normalisation.
    """

    features: int
    kernel: int
    stride: int
    dtype: Any
    kernel_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    groups: int = 1
    same_padding: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        size, strides = (self.kernel, self.kernel), (self.stride, self.stride)
        padding: Any = self.kernel // 2
        if self.same_padding:
            padding = lax.padtype_to_pads(x.shape[1:3], size, strides, "SAME")
        x = nn.Conv(
            self.features,
            size,
            strides=strides,
            padding=padding,
            feature_group_count=self.groups,
            use_bias=False,
            conv_general_dilated=kernels.convolution,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        return batch_norm(x, train, self.dtype, "norm", self.epsilon)
