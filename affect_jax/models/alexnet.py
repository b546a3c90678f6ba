"""AlexNet as published in 2012, and the one-tower variant that torchvision ships."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from affect_jax.core.errors import UserError
from affect_jax.models import kernels
from affect_jax.models.base import TORCH_MAPPINGS, TRUNKS, TorchMapping, Trunk
from affect_jax.models.layers import (
    dropout,
    local_response_normalisation,
    max_pool,
    uniform_bias,
    uniform_fan_in,
)

INITIALISATIONS = ("published", "torch", "he")


class Convolution(nn.Module):
    """A convolution with bias; `bias` is its initial value with `initialisation="published"`."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 1
    groups: int = 1
    bias: float = 0.0
    initialisation: str = "published"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        fan_in = self.kernel**2 * values.shape[-1] // self.groups
        kernel_init, bias_init = create_initializers(self.initialisation, fan_in, self.bias)
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=self.padding,
            feature_group_count=self.groups,
            conv_general_dilated=kernels.convolution,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=self.dtype,
            name="conv",
        )(values)


def create_initializers(initialisation: str, fan_in: int, bias_value: float) -> tuple[Any, Any]:
    """Returns (kernel, bias) initialisers, see `AlexNet`; `bias_value` is for `published`."""
    if initialisation == "published":
        return nn.initializers.normal(0.01), nn.initializers.constant(bias_value)
    if initialisation == "he":
        return nn.initializers.he_normal(), nn.initializers.zeros
    return uniform_fan_in(), uniform_bias(fan_in)


class Classifier(nn.Module):
    """The two fully connected layers (4096 units as published), each with ReLU and dropout."""

    width: int
    dropout: float
    dropout_first: bool
    initialisation: str
    dtype: Any

    @nn.compact
    def __call__(self, features: jax.Array, keys: jax.Array | None) -> jax.Array:
        for layer in (6, 7):
            if self.dropout_first:
                features = dropout(features, keys, rate=self.dropout, layer=layer)
            kernel_init, bias_init = create_initializers(
                self.initialisation, features.shape[-1], 1.0
            )
            features = nn.Dense(
                self.width,
                kernel_init=kernel_init,
                bias_init=bias_init,
                dtype=self.dtype,
                name=f"fc{layer}",
            )(features)
            features = nn.relu(features)
            if not self.dropout_first:
                features = dropout(features, keys, rate=self.dropout, layer=layer)
        return features


@TRUNKS.register("alexnet")
class AlexNet(Trunk):
    """AlexNet as published: two towers (2 groups) and local response normalisation.

    Krizhevsky, Sutskever and Hinton 2012, section 3.5: 96-256-384-384-256 kernels, overlapping
    pooling (size 3, stride 2), two layers of 4096. It has 60,965,224 parameters with a head of 1000
    classes.

    **Arguments:**

    - `initialisation`: `published` is normal with standard deviation 0.01 and biases 0 and 1
      (section 5). `torch` is uniform in +-1/sqrt(fan_in) and starts to learn sooner. `he` is normal
      with variance 2/fan_in, truncated at two standard deviations, with biases 0 (He et al. 2015,
      equation 10); it preserves the signal through all eight layers and starts to learn at once.
    - `dropout`: dropout rate of the two fully connected layers.
    - `width`: number of units of each fully connected layer.
    """

    initialisation: str = "published"
    dropout: float = 0.5
    width: int = 4096
    dtype: Any = jnp.float32

    CONVOLUTIONS: ClassVar = (
        functools.partial(Convolution, 96, 11, stride=4, padding=2),
        functools.partial(Convolution, 256, 5, padding=2, groups=2, bias=1.0),
        functools.partial(Convolution, 384, 3),
        functools.partial(Convolution, 384, 3, groups=2, bias=1.0),
        functools.partial(Convolution, 256, 3, groups=2, bias=1.0),
    )
    NORMALISE: ClassVar = True  # response normalisation before the first two poolings
    DROPOUT_FIRST: ClassVar = False  # dropout on the inputs of the fully connected layers
    CHOICES: ClassVar = {"initialisation": INITIALISATIONS}

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """[b, c, c, 3] -> features [b, width]. **Raises:** `UserError` if c is too small."""
        x, common = images, {"initialisation": self.initialisation, "dtype": self.dtype}
        for layer, create_convolution in enumerate(self.CONVOLUTIONS, start=1):
            x = nn.relu(create_convolution(**common, name=f"conv{layer}")(x))
            if layer in (1, 2) and self.NORMALISE:
                x = local_response_normalisation(x)
            if layer in (1, 2, 5):
                x = max_pool(x, 3, 2)
        if 0 in x.shape:
            raise UserError(
                f"data.crop_size = {images.shape[1]}: too small for AlexNet; must be 63 or more"
            )
        x = x.reshape(x.shape[0], -1)  # the batch size is symbolic in an export
        classifier = Classifier(
            self.width, self.dropout, self.DROPOUT_FIRST, **common, name="classifier"
        )
        return classifier(x, keys if train else None)


@TRUNKS.register("alexnet_one_tower")
class AlexNetOneTower(AlexNet):
    """AlexNet with one tower: torchvision's `alexnet`, after Krizhevsky 2014 (arXiv:1404.5997).

    64-192-384-256-256 kernels, no normalisation, 61,100,840 parameters with 1000 classes.
    torchvision's weights fit crops of 223 to 254 pixels, whose feature map is 6 x 6: the average
    pooling of torchvision to 6 x 6 is then the identity. Other crops change the classifier's size.

    **Arguments:** as for `AlexNet`.
    """

    initialisation: str = "torch"

    CONVOLUTIONS: ClassVar = (
        functools.partial(Convolution, 64, 11, stride=4, padding=2),
        functools.partial(Convolution, 192, 5, padding=2),
        functools.partial(Convolution, 384, 3),
        functools.partial(Convolution, 256, 3),
        functools.partial(Convolution, 256, 3),
    )
    NORMALISE: ClassVar = False
    DROPOUT_FIRST: ClassVar = True


_TORCH_LAYERS = {
    **{f"conv{i + 1}.conv": f"features.{j}" for i, j in enumerate((0, 3, 6, 8, 10))},
    "classifier.fc6": "classifier.1",
    "classifier.fc7": "classifier.4",
}


def _to_torch_name(name: str) -> str:
    layer, leaf = name.rsplit(".", 1)
    return f"{_TORCH_LAYERS[layer]}.{leaf}"


def _to_channels_last(name: str, array: np.ndarray) -> np.ndarray:
    """Reorders the inputs of the first fully connected layer from (C, h, w) to (h, w, C)."""
    if name != "classifier.1.weight" or array.ndim != 2 or array.shape[1] % 256:
        return array
    outputs, inputs = array.shape
    return array.reshape(outputs, 256, inputs // 256).swapaxes(1, 2).reshape(array.shape)


TORCH_MAPPINGS["alexnet_one_tower"] = TorchMapping(
    requirement="torchvision's AlexNet fits trunk.width = 4096 and data.crop_size = 223 to 254",
    to_torch_name=_to_torch_name,
    head="classifier.6",
    reorder_axes=_to_channels_last,
)
