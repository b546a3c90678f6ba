"""A training step from the parts of the package that import where only JAX, flax and optax are.

`affect_jax.steps` keeps averages by clu and reads configs by ml_collections, which a machine that
is lent for its GPU may lack. Here the same networks, losses and preprocessing are put together
without them. A test holds the updates against those of `affect_jax.steps`.
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

AXIS = "batch"  # over which the networks' batch normalisation averages
WHOLE = PartitionSpec()


class Ours:
    """A network of the package with the protocol's loss and optimizer, on the first device.

    **Arguments:**

    - `trunk`: a spec of `models.TRUNKS`.
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

    def create(self) -> dict[str, Any]:
        """A fresh state, placed as updates return it: the second would else be compiled anew."""

        def init() -> dict[str, Any]:
            images = jnp.zeros((1, self._crop_size, self._crop_size, 3))
            variables = dict(self._model.init(jax.random.key(0), images))
            params = variables.pop("params")
            state = {"step": jnp.zeros((), jnp.int32), "params": params, "batch_stats": {}}
            return state | {"opt_state": self._optimizer.init(params), **variables}

        return jax.jit(init, out_shardings=NamedSharding(first_device(), WHOLE))()

    def update(self, state: dict, images: Any, labels: Any, index: Any) -> tuple[dict, Any]:
        """One update, as `affect_jax.train.step.train_step`; also the loss and the gradient's norm.

        **Arguments:**

        - `images`: uint8 [B, S, S, 3].
        - `labels`, `index`: int32 [B]; `index` gives each face its random numbers.
        """
        key = jax.random.fold_in(jax.random.key(0), state["step"])
        augment, dropout = (
            jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, purpose), index)
            for purpose in range(2)
        )
        options: Any = {"crop_size": self._crop_size, "dtype": self._dtype}
        cut = preprocessing.train(images, augment, mirror=self._mirror, **options).images
        batch = {"expression": labels, "expression_mask": jnp.ones(labels.shape, bool)}

        def objective(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            outputs, updates = self._model.apply(
                variables, cut, train=True, keys=dropout, mutable=["batch_stats"]
            )
            values = self._loss.values(lax.psum(self._loss.sums(outputs, batch), AXIS))
            return self._loss.total(values, {}), dict(updates)

        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(state["params"])
        grads, stats = lax.pmean((grads, stats), AXIS)
        updates, opt_state = self._optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = state | {"params": params, "opt_state": opt_state, **stats}
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
        return kept | {"step": state["step"] + 1}, (loss, norm)

    def updates(self, state: dict, faces: Any, labels: Any, rows: Any) -> tuple[dict, Any]:
        """Several updates: `rows` int32 [K, B] of `faces` uint8 [N, S, S, 3]."""

        def one(state: dict, rows: Any) -> tuple[dict, Any]:
            taken = lax.optimization_barrier((faces[rows], labels[rows], rows))
            return self.update(state, *taken)

        return lax.scan(one, state, rows)

    def predict(self, state: dict, images: Any) -> Any:
        """Probabilities [B, 8]."""
        options: Any = {"crop_size": self._crop_size, "dtype": self._dtype}
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        outputs = self._model.apply(
            variables, preprocessing.evaluate(images, **options), train=False
        )
        return jax.nn.softmax(outputs["expression"], axis=-1)


def compiled(function: Callable, flags: dict[str, Any] | None = None) -> Callable:
    """On the first device, where the axis of batch normalisation has one entry; state donated.

    **Arguments:** `flags`: of XLA's compiler, by their names.
    """
    mapped = jax.shard_map(
        function, mesh=first_device(), in_specs=WHOLE, out_specs=WHOLE, check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=flags)


def first_device() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]), (AXIS,))
