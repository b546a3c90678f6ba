"""Losses of the categorical model: logits [b, C], targets int32 [b]."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from affect_jax.core.errors import UserError
from affect_jax.core.registry import NOT_NEGATIVE, SHARE, describe_unknown_name
from affect_jax.losses.base import CAP, LOSSES, LossTerm, cap_weights


@LOSSES.register("cross_entropy")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CrossEntropy(LossTerm):
    """Softmax cross entropy.

    With soft labels it has the gradient of the Kullback-Leibler divergence; the two differ by the
    entropy of the labels, a constant.

    **Arguments:**

    - `label_smoothing`: the share of a target that is distributed evenly over all classes, in
      [0, 1) (Szegedy et al. 2016, section 7).
    """

    label_smoothing: float = 0.0
    heads = ("expression",)
    requirements: ClassVar = {"label_smoothing": SHARE}

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        if not self.label_smoothing:
            return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        one_hot = jax.nn.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype)
        return optax.softmax_cross_entropy(
            outputs, optax.smooth_labels(one_hot, self.label_smoothing)
        )


def check_class_counts(counts: np.ndarray | None) -> np.ndarray:
    """Returns class counts as float64 [C]. **Raises:** `UserError` if a class is empty."""
    if counts is None or not np.any(counts):
        raise UserError("needs a training split with expressions to count the classes")
    if not np.all(counts):
        empty = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise UserError(
            f"class {empty} has no face in the training split, so it has no weight; "
            "use cross_entropy or focal, data with every class, or a smaller data.num_classes"
        )
    return np.asarray(counts, np.float64)


@LOSSES.register("weighted_cross_entropy")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WeightedCrossEntropy(CrossEntropy):
    """Cross entropy times a weight of the example's class (Mollahosseini et al. 2017).

    **Arguments:**

    - `scheme`: the weighting scheme, for `f_i` faces of class i, N faces and C classes.
      `min_over`: smallest class count over the class's count, `f_min / f_i`, as in the paper.
      `inverse_frequency`: `N / (C f_i)`.
      `effective_number`: proportional to `(1 - beta) / (1 - beta^f_i)`, with sum C
      (Cui et al. 2019, equation 4).
    - `beta`: parameter of `effective_number`, in [0, 1).
    - `power`: exponent of the weights; 0.5 takes their square roots, 0 disables weighting.
    - `max_weight`: maximum ratio of a weight to the smallest weight; 0 means no cap. With a handful
      of faces in a class, the paper's weights reach ratios of hundreds and training fails.
    - `normalize_weights`: True divides by the sum of the batch's weights, as in PyTorch, which
      preserves the scale of the loss. False divides by the number of examples, as the paper's
      framework did, which makes gradients on AffectNet about 10 times smaller.
    """

    scheme: str = "min_over"
    beta: float = 0.999
    power: float = 1.0
    max_weight: float = 0.0
    normalize_weights: bool = True
    class_counts: np.ndarray | None
    requirements: ClassVar = {
        **CrossEntropy.requirements,
        "beta": SHARE,
        "power": NOT_NEGATIVE,
        "max_weight": CAP,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme not in SCHEMES:
            raise UserError(f"scheme = {describe_unknown_name(self.scheme, SCHEMES)}")
        check_class_counts(self.class_counts)

    def class_weights(self) -> np.ndarray:
        """The weights of the classes, float64 [C]."""
        weights = SCHEMES[self.scheme](check_class_counts(self.class_counts), self.beta)
        return cap_weights(weights**self.power, self.max_weight)

    def example_weights(self, losses: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.asarray(self.class_weights(), losses.dtype)[targets]

    def weigh(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses, weights = super().weigh(outputs, targets)
        return losses, weights if self.normalize_weights else jnp.ones_like(weights)


def _effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    weights = 1.0 / -np.expm1(counts * math.log(beta)) if beta else np.ones_like(counts)
    return weights * len(counts) / np.sum(weights)


SCHEMES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "min_over": lambda counts, beta: np.min(counts) / counts,
    "inverse_frequency": lambda counts, beta: np.mean(counts) / counts,
    "effective_number": _effective_number,
}


@LOSSES.register("balanced_softmax")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BalancedSoftmax(LossTerm):
    """Cross entropy of `logits + tau log(prior)`, the logit adjustment of Menon et al. (2021,
    equation 10). With tau = 1 it is the balanced softmax of Ren et al. (2020, theorem 1).

    Only the loss includes the prior. Predictions use the plain logits, which correspond to a
    uniform prior.

    **Arguments:**

    - `tau`: strength of the adjustment; 0 is plain cross entropy.
    """

    tau: float = 1.0
    class_counts: np.ndarray | None
    heads = ("expression",)
    requirements: ClassVar = {"tau": NOT_NEGATIVE}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_class_counts(self.class_counts)

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        counts = check_class_counts(self.class_counts)
        adjustment = jnp.asarray(self.tau * np.log(counts / np.sum(counts)), outputs.dtype)
        return optax.softmax_cross_entropy_with_integer_labels(
            outputs + adjustment[None, :], targets
        )


@LOSSES.register("focal")
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Focal(LossTerm):
    """Focal loss (Lin et al. 2017, equation 4).

    The loss is `-(1 - p)^gamma log(p)` with p the predicted probability of the target. For
    `expression`, p is a softmax probability. For `action_units`, each unit has a sigmoid and a
    target in [0, 1].

    **Arguments:**

    - `gamma`: focusing exponent; 0 is cross entropy, larger values reduce the weight of examples
      that are already classified well.
    """

    gamma: float = 2.0
    heads = ("expression", "action_units")
    requirements: ClassVar = {"gamma": NOT_NEGATIVE}

    def per_example(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        if self.head == "action_units":
            return optax.sigmoid_focal_loss(outputs, targets, gamma=self.gamma)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        # log(1 - p) comes from the logits of the other classes: 1 - p rounds to 0 in float32 if p
        # is near 1, and its power has no derivative there.
        is_other_class = ~jax.nn.one_hot(targets, outputs.shape[-1], dtype=bool)
        log_not_p = jax.nn.logsumexp(jax.nn.log_softmax(outputs), axis=-1, where=is_other_class)
        return jnp.exp(self.gamma * log_not_p) * losses
