"""A training step that needs only JAX, flax and optax.

`affect_jax.train.step` averages metrics with clu and reads configs with ml_collections, which a
borrowed GPU machine may lack. This module combines the same networks, losses and preprocessing
without them. A test compares its updates with those of `affect_jax.train.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from affect_jax import losses, models
from affect_jax.data import preprocessing

AXIS = "batch"  # the mesh axis of batch normalisation
REPLICATED = PartitionSpec()


class MinimalExperiment:
    """A network of the package with the loss and optimizer of the protocol, on the first device.

    **Arguments:**

    - `trunk`: a spec of `models.TRUNKS`.
    - `mirror`: whether training mirrors faces at random.
    """

    def __init__(
        self, trunk: Mapping[str, Any], *, dtype: str, crop_size: int, mirror: bool = True
    ):
        self._model: Any = models.model_from_spec(trunk, ("expression",), dtype=dtype)
        self._loss = losses.create_loss([{"name": "cross_entropy", "head": "expression"}])
        self._optimizer = optax.chain(
            optax.add_decayed_weights(
                5e-4, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
            ),
            optax.sgd(optax.exponential_decay(0.01, 10_000, 0.1, staircase=True), 0.9),
        )
        self._crop_size, self._mirror, self._dtype = crop_size, mirror, jnp.dtype(dtype)

    def create_state(self) -> dict[str, Any]:
        """Creates a state with the sharding that steps return, so that they compile only once."""

        def init() -> dict[str, Any]:
            images = jnp.zeros((1, self._crop_size, self._crop_size, 3))
            variables = dict(self._model.init(jax.random.key(0), images))
            params = variables.pop("params")
            state = {"step": jnp.zeros((), jnp.int32), "params": params, "batch_stats": {}}
            return state | {"opt_state": self._optimizer.init(params), **variables}

        return jax.jit(init, out_shardings=NamedSharding(first_device_mesh(), REPLICATED))()

    def train_step(self, state: dict, images: Any, labels: Any, index: Any) -> tuple[dict, Any]:
        """Computes one update, like `affect_jax.train.step.train_step`.

        **Arguments:**

        - `images`: uint8 [B, S, S, 3].
        - `labels`, `index`: int32 [B]; `index` seeds the random numbers of each face.

        **Returns:** the new state, and (loss, gradient norm).
        """
        key = jax.random.fold_in(jax.random.key(0), state["step"])
        augment, dropout = (
            jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, purpose), index)
            for purpose in range(2)
        )
        options: Any = {"crop_size": self._crop_size, "dtype": self._dtype}
        crops = preprocessing.preprocess_for_training(
            images, augment, mirror=self._mirror, **options
        ).images
        batch = {"expression": labels, "expression_mask": jnp.ones(labels.shape, bool)}

        def objective(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            outputs, updates = self._model.apply(
                variables, crops, train=True, keys=dropout, mutable=["batch_stats"]
            )
            values = self._loss.values(lax.psum(self._loss.sums(outputs, batch), AXIS))
            return self._loss.total(values, {}), dict(updates)

        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(state["params"])
        grads, stats = lax.pmean((grads, stats), AXIS)
        updates, opt_state = self._optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new_state = state | {"params": params, "opt_state": opt_state, **stats}
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)
        return state | {"step": state["step"] + 1}, (loss, norm)

    def train_steps(self, state: dict, faces: Any, labels: Any, rows: Any) -> tuple[dict, Any]:
        """Computes K updates in one dispatch.

        **Arguments:**

        - `faces`: uint8 [N, S, S, 3].
        - `rows`: int32 [K, B], the faces of each batch.
        """

        def step(state: dict, rows: Any) -> tuple[dict, Any]:
            batch = lax.optimization_barrier((faces[rows], labels[rows], rows))
            return self.train_step(state, *batch)

        return lax.scan(step, state, rows)

    def predict(self, state: dict, images: Any) -> Any:
        """Returns probabilities [B, 8] for `images` uint8 [B, S, S, 3]."""
        options: Any = {"crop_size": self._crop_size, "dtype": self._dtype}
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        outputs = self._model.apply(
            variables, preprocessing.preprocess_for_evaluation(images, **options), train=False
        )
        return jax.nn.softmax(outputs["expression"], axis=-1)


def compile_on_first_device(
    function: Callable, compiler_options: dict[str, Any] | None = None
) -> Callable:
    """Compiles a function of a state, which is donated, for the first device.

    The mesh axis of batch normalisation has size one.

    **Arguments:** `compiler_options`: flags of XLA by name.
    """
    mapped = jax.shard_map(
        function,
        mesh=first_device_mesh(),
        in_specs=REPLICATED,
        out_specs=REPLICATED,
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=compiler_options)


def first_device_mesh() -> Mesh:
    """Returns a mesh of the first device alone."""
    return Mesh(np.array(jax.devices()[:1]), (AXIS,))
