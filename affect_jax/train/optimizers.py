"""Optimizers: optax chains whose state contains only arrays.

An entry receives `schedule`, step -> learning rate; `trunk`, the linen module, for `layer_decay`;
and the options of the config's spec.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from affect_jax.core.errors import UserError
from affect_jax.core.registry import NOT_NEGATIVE, POSITIVE, SHARE, Registry, require_option

OPTIMIZERS = Registry("optimizer")

Rates = Mapping[str, float]  # prefix of a parameter's name -> factor of the learning rate


@OPTIMIZERS.register("sgd")
def sgd(
    *,
    schedule: optax.Schedule,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
    layer_decay: float = 1.0,
    trunk: Any = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum, equal to `torch.optim.SGD` step for step.

    The momentum buffer accumulates gradients, not updates, so a drop of the rate acts at once.

    **Arguments:**

    - `momentum`: in [0, 1).
    - `nesterov`: use Nesterov momentum.
    - `weight_decay`: L2 penalty, whose gradient is added before momentum. It applies to parameters
      with two or more axes, not to biases, batch normalisation and learned loss weights.
    - `clip_norm`: maximum global norm of the gradients, which are scaled down before weight decay;
      0: no clipping.
    - `rates`: learning-rate factors for parts of the network, for fine-tuning:
      `{"trunk": 0.1, "trunk/stage4": 0.5}`. A key is a prefix of a parameter's name. Its value
      multiplies the whole update, including weight decay. The longest matching key applies; without
      a match the factor is 1. A factor of 0 freezes the part and excludes it from `clip_norm`.
    - `layer_decay`: a number in (0, 1] whose power is another such factor: layer i of the trunk's
      n, from 0, has `layer_decay ** (n - i)`; heads and parameters outside of all layers have 1
      (Bao et al. 2022, BEiT; 0.65 to 0.75 are usual).
    """
    _check_options(momentum=momentum, weight_decay=weight_decay, clip_norm=clip_norm)
    update = optax.sgd(schedule, momentum or None, nesterov)
    return _assemble(update, clip_norm, rates, layer_decay, trunk, weight_decay)


@OPTIMIZERS.register("adam")
def adam(
    *,
    schedule: optax.Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
    layer_decay: float = 1.0,
    trunk: Any = None,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, algorithm 1), equal to `torch.optim.Adam` step for step.

    **Arguments:**

    - `beta1`, `beta2`: decay rates of the first and second moments, in [0, 1).
    - `weight_decay`, `clip_norm`, `rates`, `layer_decay`: as for `sgd`; the gradient of the penalty
      enters the moments.
    """
    _check_options(beta1=beta1, beta2=beta2, weight_decay=weight_decay, clip_norm=clip_norm)
    update = optax.adam(schedule, beta1, beta2)
    return _assemble(update, clip_norm, rates, layer_decay, trunk, weight_decay)


@OPTIMIZERS.register("adamw")
def adamw(
    *,
    schedule: optax.Schedule,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.01,
    clip_norm: float = 0.0,
    rates: Rates | None = None,
    layer_decay: float = 1.0,
    trunk: Any = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), equal to `torch.optim.AdamW`.

    **Arguments:**

    - `beta1`, `beta2`, `clip_norm`, `rates`, `layer_decay`: as for `adam`.
    - `weight_decay`: each step subtracts learning rate x `weight_decay` x weight, for the same
      parameters as in `sgd`.
    """
    _check_options(beta1=beta1, beta2=beta2, weight_decay=weight_decay, clip_norm=clip_norm)
    update = optax.adamw(schedule, beta1, beta2, weight_decay=weight_decay, mask=_is_decayed)
    return _assemble(update, clip_norm, rates, layer_decay, trunk)


@OPTIMIZERS.register("sam")
def sam(
    *,
    schedule: optax.Schedule,
    base: Mapping[str, Any],
    rho: float = 0.05,
    adaptive: bool = False,
    trunk: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Sharpness-aware minimisation (Foret et al. 2021): two gradients of the same batch per update.

    The second is computed at `params + rho * g / |g|`, where g is the first, with the same dropout
    and without frozen parts; the optimizer `base` follows it. The update needs `gradient_at`,
    params -> gradient.

    **Arguments:**

    - `base`: spec of an optimizer other than `sam` and `accumulate`.
    - `rho`: positive; the paper's is 0.05.
    - `adaptive`: multiply g by the parameters' squares instead, and divide by the norm of the
      product of g and the parameters (ASAM, Kwon et al. 2021, whose `rho` is about ten times as
      large).
    """
    require_option("optimizer.rho", rho, *POSITIVE)
    optimizer = optax.with_extra_args_support(_create_base(base, schedule, trunk))

    def scale_of(path: tuple, values: jax.Array) -> jax.Array:
        is_moving = rate_for(_parameter_name(path), base.get("rates") or {}) > 0
        return is_moving * (jnp.abs(values) if adaptive else jnp.ones_like(values))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        scale = jax.tree_util.tree_map_with_path(scale_of, params)
        scaled = jax.tree.map(operator.mul, scale, updates)
        factor = rho / (optax.tree.norm(scaled) + 1e-12)
        ascended = jax.tree.map(lambda p, s, g: p + factor * s * g, params, scale, scaled)
        return optimizer.update(extra["gradient_at"](ascended), state, params)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


@OPTIMIZERS.register("accumulate")
def accumulate(
    *, schedule: optax.Schedule, base: Mapping[str, Any], steps: int, trunk: Any = None
) -> optax.GradientTransformation:
    """One update of the optimizer `base` for the mean gradient of several batches.

    Four batches of 64 give the update of one batch of 256, within rounding, if they have equally
    many labels. Batch normalisation uses the statistics of the small batches. Durations, schedules
    and the moving average of the parameters count batches.

    **Arguments:**

    - `base`: spec of an optimizer other than `sam` and `accumulate`.
    - `steps`: number of batches per update, 2 or more.
    """
    require_option("optimizer.steps", steps, lambda v: v >= 2, "2 or more")
    optimizer = _create_base(base, lambda count: schedule(count * steps), trunk)
    return optax.MultiSteps(optimizer, steps).gradient_transformation()


def _create_base(
    spec: Mapping[str, Any], schedule: optax.Schedule, trunk: Any
) -> optax.GradientTransformation:
    if (name := spec.get("name")) in ("sam", "accumulate"):
        raise UserError(f"optimizer.base.name = {name!r}: must be neither sam nor accumulate")
    if problems := OPTIMIZERS.find_problems(spec, ("schedule", "trunk")):
        raise UserError(f"optimizer.base.{problems[0]}", problems[1:])
    return OPTIMIZERS.create(spec, schedule=schedule, trunk=trunk)


def _check_options(**options: float) -> None:
    for name, value in options.items():
        requirement = NOT_NEGATIVE if name in ("weight_decay", "clip_norm") else SHARE
        require_option(f"optimizer.{name}", value, *requirement)


def _is_decayed(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _assemble(
    update: optax.GradientTransformation,
    clip_norm: float,
    rates: Rates | None,
    layer_decay: float,
    trunk: Any,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Chains clipping, weight decay and an optimizer; multiplies each update by its two rates.

    The chain excludes frozen parameters, so they have no optimizer state.
    """
    steps = [update]
    if weight_decay:
        steps.insert(0, optax.add_decayed_weights(weight_decay, mask=_is_decayed))
    if clip_norm:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    rates, rates_by_layer = rates or {}, _layer_rates(layer_decay, trunk)
    if not rates and not rates_by_layer:
        return optax.chain(*steps)
    for prefix, rate in rates.items():
        require_option(f"optimizer.rates[{prefix!r}]", rate, *NOT_NEGATIVE)

    def rate_at(path: tuple, _: Any) -> float:
        name = _parameter_name(path)
        return rate_for(name, rates) * rate_for(name, rates_by_layer)

    def rates_of(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(rate_at, params)

    def scale(updates: Any, _: Any) -> Any:
        return jax.tree.map(operator.mul, rates_of(updates), updates)

    def label_parameters(params: Any) -> Any:
        names = [_parameter_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for prefix in rates:
            if not any(name.startswith(prefix) for name in names):
                raise UserError(
                    f"optimizer.rates: no parameter's name starts with {prefix!r}; names are such "
                    f"as {names[-1]!r}"
                )
        return jax.tree.map(lambda rate: "moving" if rate else "frozen", rates_of(params))

    trainable = optax.chain(optax.chain(*steps), optax.stateless(scale))
    return optax.partition({"moving": trainable, "frozen": optax.set_to_zero()}, label_parameters)


def _layer_rates(layer_decay: float, trunk: Any) -> Rates:
    require_option("optimizer.layer_decay", layer_decay, lambda v: 0 < v <= 1, "in (0, 1]")
    if layer_decay == 1 or trunk is None:
        return {}
    if not hasattr(trunk, "layers"):
        problem = f"{type(trunk).__name__} does not list its layers; use optimizer.rates"
        raise UserError(f"optimizer.layer_decay = {layer_decay}: {problem}")
    layers = trunk.layers()
    return {
        f"trunk/{prefix}": layer_decay ** (len(layers) - i)
        for i, prefixes in enumerate(layers)
        for prefix in prefixes
    }


def rate_for(name: str, rates: Rates) -> float:
    """Returns the factor of the longest key that is a prefix of a parameter's name; else 1."""
    prefixes = [prefix for prefix in rates if name.startswith(prefix)]
    return rates[max(prefixes, key=len)] if prefixes else 1.0


def describe_rates(spec: Mapping[str, Any]) -> str:
    """Lists the parts of the network with a rate of their own, for the log; "" without any."""
    spec = spec.get("base", spec)
    rates, layer_decay = spec.get("rates") or {}, spec.get("layer_decay", 1.0)
    parts = [f"{part} x {rate:g}" if rate else f"{part} frozen" for part, rate in rates.items()]
    if layer_decay != 1:
        parts.append(f"each layer of the trunk x {layer_decay:g} of the next")
    return f"learning rates of parts: {', '.join(parts)}" if parts else ""


def is_frozen(spec: Mapping[str, Any], part: str) -> bool:
    """Whether an optimizer updates no parameter whose name starts with `part`."""
    rates = spec.get("base", spec).get("rates") or {}
    nested_rates = [rate for key, rate in rates.items() if key.startswith(part)]
    return rate_for(part, rates) == 0 and not any(nested_rates)


def _parameter_name(path: tuple) -> str:
    """Returns the name of a parameter, such as `trunk/stem/conv/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("model/")
