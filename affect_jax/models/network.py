"""A network: a trunk with heads, and the step that predicts with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from affect_jax.core.registry import Registry
from affect_jax.data import preprocessing
from affect_jax.facs.action_units import UNITS
from affect_jax.models.base import TRUNKS
from affect_jax.models.layers import uniform_bias, uniform_fan_in

if TYPE_CHECKING:  # benchmarks.gpu runs on machines without ml_collections
    from affect_jax.config import Config


HEADS = Registry("head")
"""Name -> function(num_classes) -> number of outputs."""


@HEADS.register("expression")
def expression(num_classes: int) -> int:
    """Logits of the categorical model, [b, num_classes]."""
    return num_classes


@HEADS.register("valence_arousal")
def valence_arousal(num_classes: int) -> int:
    """Valence and arousal, [b, 2]: linear, as in the paper; evaluation clips to [-1, 1]."""
    return 2


@HEADS.register("action_units")
def action_units(num_classes: int) -> int:
    """Logits of the action units of `facs.action_units.UNITS`, [b, 18]."""
    return len(UNITS)


class Head(nn.Module):
    """A linear layer with PyTorch's initialisation.

    The factors have type `dtype`; sums and outputs are float32.
    """

    size: int
    dtype: Any

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """[b, F] -> float32 [b, size]."""
        bias = self.param("bias", uniform_bias(features.shape[-1]), (self.size,))
        kernel = self.param("kernel", uniform_fan_in(), (features.shape[-1], self.size))
        kernel = kernel.astype(self.dtype)
        return jnp.dot(features, kernel, preferred_element_type=jnp.float32) + bias


class Model(nn.Module):
    """A trunk and the heads on its features.

    **Arguments:**

    - `trunk`: an instance of an entry of `TRUNKS`.
    - `sizes`: (head, number of outputs) pairs in the order of the config.
    - `frozen_trunk`: run the trunk in evaluation mode during training as well: it uses the running
      statistics without updating them, applies no dropout and receives no gradient.
    """

    trunk: nn.Module
    sizes: tuple[tuple[str, int], ...]
    dtype: Any
    frozen_trunk: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """**Arguments:**

        - `images`: float [b, c, c, 3], normalised.
        - `train`: use the statistics of this batch, averaged over the axis "batch", and dropout.
        - `keys`: typed dropout keys [b], one per example; None in evaluation.

        **Returns:** `{head: float32 [b, size]}`.
        """
        frozen = train and self.frozen_trunk  # Grad-CAM needs gradients in evaluation
        learning = train and not frozen
        features = self.trunk(images.astype(self.dtype), train=learning, keys=keys)  # type: ignore
        if frozen:
            features = lax.stop_gradient(features)
        return {name: Head(size, self.dtype, name=name)(features) for name, size in self.sizes}


def model_from_spec(
    trunk: Mapping[str, Any],
    heads: Sequence[str],
    *,
    num_classes: int = 8,
    dtype: str = "float32",
    frozen_trunk: bool = False,
) -> Model:
    """Creates the network that the specs describe.

    **Arguments:**

    - `trunk`: spec of an entry of `TRUNKS`.
    - `heads`: names of entries of `HEADS`; they are also the keys of the outputs.
    - `dtype`: compute dtype, `float32` or `bfloat16`; parameters and outputs are float32.
    - `frozen_trunk`: train only the heads, see `Model`.

    **Raises:** `UserError` for an unknown name or option.
    """
    compute = jnp.dtype(dtype)
    sizes = tuple((name, HEADS[name](num_classes)) for name in heads)
    return Model(TRUNKS.create(trunk, dtype=compute), sizes, compute, frozen_trunk)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The part of a run that prediction needs; `create_network` creates it without data."""

    model: Any  # linen module: images -> {head: outputs}
    heads: tuple[str, ...]
    crop_size: int  # side of the network's input, pixels
    dtype: Any  # dtype of the images that enter the network

    def variable_shapes(self) -> dict[str, Any]:
        """Shapes and dtypes of the variables: `{"params": ..., "batch_stats": ...}`.

        **Raises:** `UserError` for a crop that the trunk cannot take.
        """
        images = jnp.zeros((1, self.crop_size, self.crop_size, 3))
        return {"batch_stats": {}, **jax.eval_shape(self.model.init, jax.random.key(0), images)}


def create_network(config: Config, *, frozen_trunk: bool = False) -> Network:
    """Creates the network of a checked config, see `model_from_spec`."""
    model = model_from_spec(
        config.trunk.to_dict(),
        tuple(config.heads),
        num_classes=config.data.num_classes,
        dtype=config.dtype,
        frozen_trunk=frozen_trunk,
    )
    return Network(
        model=model, heads=tuple(config.heads), crop_size=config.data.crop_size, dtype=model.dtype
    )


TO_LABEL_UNITS = {
    "expression": lambda logits: jax.nn.softmax(logits, axis=-1),
    "valence_arousal": lambda values: jnp.clip(values, -1, 1),
    "action_units": jax.nn.sigmoid,
}
"""Head -> function from its outputs to the units and the range of the labels."""


def predict_step(
    network: Network,
    variables: dict,
    batch: dict,
    *,
    mirror: bool = False,
    temperature: float = 1.0,
    features: bool = False,
) -> dict:
    """Predicts every row of the batch, padding included, in the units of the labels.

    **Arguments:**

    - `variables`: `{"params": ..., "batch_stats": ...}` of the network.
    - `mirror`: average the predictions with those for the mirrored faces.
    - `temperature`: divides the logarithms of the probabilities of `expression`, after averaging.
    - `features`: return the trunk's features too.

    **Returns:** one float32 array per head: `expression` [b, C] probabilities, `valence_arousal`
    [b, 2] in [-1, 1], `action_units` [b, A] probabilities; and `features` [b, F] if requested.
    """
    images = preprocessing.preprocess_for_evaluation(
        batch["image"], crop_size=network.crop_size, dtype=network.dtype
    )

    def predict(images: jax.Array) -> dict:
        outputs, captured = network.model.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: features and module.name == "trunk",
            mutable=["intermediates"],
        )
        outputs = {head: TO_LABEL_UNITS[head](values) for head, values in outputs.items()}
        if features:
            outputs["features"] = captured["intermediates"]["trunk"]["__call__"][0].astype(
                "float32"
            )
        return outputs

    outputs = predict(images)
    if mirror:
        mirrored = predict(lax.rev(images, (2,)))
        outputs = jax.tree.map(lambda a, b: (a + b) / 2, outputs, mirrored)
    if temperature != 1:
        outputs["expression"] = jax.nn.softmax(jnp.log(outputs["expression"]) / temperature)
    return outputs
