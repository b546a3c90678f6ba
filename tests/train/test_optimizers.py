"""Optimizers equal PyTorch's step for step; moving average of parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.train import optimizers, schedules
from affect_jax.train.state import ema_update

torch = pytest.importorskip("torch")

STEPS = 20
INTERVAL = 7
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(STEPS, 16, 5)).astype(np.float32)
TARGETS = RANDOM.normal(size=(STEPS, 16, 3)).astype(np.float32)
PARAMS = {
    "bias": RANDOM.normal(size=3).astype(np.float32),
    "kernel": RANDOM.normal(size=(5, 3)).astype(np.float32),
    "scale": RANDOM.normal(size=()).astype(np.float32),
}
SCHEDULE = {"name": "step", "decay": 0.5, "interval": {"steps": INTERVAL}}


def create_optimizer(spec: dict, rate: float = 0.1) -> optax.GradientTransformation:
    return optimizers.OPTIMIZERS.create(spec, schedule=optax.constant_schedule(rate))


def model(params, features):
    return params["scale"] * (features @ params["kernel"] + params["bias"])


def train(spec: dict) -> list[dict[str, np.ndarray]]:
    """The parameters after each of `STEPS` updates."""
    schedule = schedules.SCHEDULES.create(
        SCHEDULE, learning_rate=0.05, steps_per_epoch=1, total_steps=STEPS
    )
    optimizer = optimizers.OPTIMIZERS.create(spec, schedule=schedule)

    def update(carry, data):
        params, state = carry

        def objective(params):
            features, targets = data
            return jnp.mean((model(params, features) - targets) ** 2)

        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    params = jax.tree.map(jnp.asarray, PARAMS)
    start = (params, optimizer.init(params))
    _, history = jax.lax.scan(update, start, (jnp.asarray(FEATURES), jnp.asarray(TARGETS)))
    return [{key: np.asarray(leaf[i]) for key, leaf in history.items()} for i in range(STEPS)]


def train_torch(create, weight_decay: float, clip_norm: float) -> list[dict[str, np.ndarray]]:
    params = {key: torch.tensor(value, requires_grad=True) for key, value in PARAMS.items()}
    groups = [
        {"params": [params["kernel"]], "weight_decay": weight_decay},
        {"params": [params["bias"], params["scale"]], "weight_decay": 0.0},
    ]
    optimizer = create(groups, lr=0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, INTERVAL, 0.5)
    history = []
    for features, targets in zip(FEATURES, TARGETS, strict=True):
        optimizer.zero_grad()
        error = model(params, torch.tensor(features)) - torch.tensor(targets)
        (error**2).mean().backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
        optimizer.step()
        scheduler.step()
        history.append({key: value.detach().numpy().copy() for key, value in params.items()})
    return history


def torch_sgd(**options):
    return lambda groups, lr: torch.optim.SGD(groups, lr=lr, **options)


@pytest.mark.parametrize(
    ("spec", "create"),
    [
        ({"name": "sgd", "weight_decay": 0.1, "clip_norm": 0.5}, torch_sgd(momentum=0.9)),
        ({"name": "sgd", "weight_decay": 0.1}, torch_sgd(momentum=0.9)),
        ({"name": "sgd"}, torch_sgd(momentum=0.9)),
        ({"name": "sgd", "momentum": 0.0, "weight_decay": 0.1}, torch_sgd()),
        (
            {"name": "sgd", "nesterov": True, "weight_decay": 0.1},
            torch_sgd(momentum=0.9, nesterov=True),
        ),
        ({"name": "adam", "weight_decay": 0.1, "clip_norm": 0.5}, torch.optim.Adam),
        ({"name": "adam", "beta1": 0.8, "beta2": 0.9}, None),
        ({"name": "adamw", "weight_decay": 0.1, "clip_norm": 0.5}, torch.optim.AdamW),
        ({"name": "adamw"}, torch.optim.AdamW),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_twenty_steps_equal_torch(spec, create):
    if create is None:

        def create(groups, lr):
            return torch.optim.Adam(groups, lr=lr, betas=(0.8, 0.9))

    history = train(spec)
    default = {"clip_norm": 0.0, "weight_decay": 0.01 if spec["name"] == "adamw" else 0.0}
    options = {**default, **spec}
    torch_history = train_torch(create, options["weight_decay"], options["clip_norm"])
    for params, torch_params in zip(history, torch_history, strict=True):
        for key in PARAMS:
            np.testing.assert_allclose(params[key], torch_params[key], rtol=1e-4, atol=2e-6)
    assert np.abs(history[-1]["kernel"] - PARAMS["kernel"]).max() > 0.1


def squared_error(params):
    return jnp.mean((model(params, FEATURES[0]) - TARGETS[0]) ** 2)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("base", [{"name": "sgd", "weight_decay": 0.1}, {"name": "adamw"}])
def test_sam_follows_the_gradient_at_the_highest_point_nearby(base, adaptive):
    """Foret et al. 2021, equation 2; with `adaptive`, Kwon et al. 2021, equation 6."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    grads = jax.grad(squared_error)(params)
    scale = {k: np.abs(v) if adaptive else np.ones_like(v) for k, v in PARAMS.items()}
    norm = np.sqrt(sum(np.sum((scale[k] * grads[k]) ** 2) for k in PARAMS))
    ascended = {k: params[k] + 0.5 * scale[k] ** 2 * grads[k] / norm for k in PARAMS}
    optimizer = create_optimizer({"name": "sam", "base": base, "rho": 0.5, "adaptive": adaptive})
    updates, _ = optimizer.update(
        grads, optimizer.init(params), params, gradient_at=jax.grad(squared_error)
    )
    plain = create_optimizer(base)
    expected, _ = plain.update(jax.grad(squared_error)(ascended), plain.init(params), params)
    assert_trees_close(updates, expected)
    assert np.abs(ascended["kernel"] - PARAMS["kernel"]).max() > 0.01


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_does_not_move_frozen_parts(adaptive):
    """The gradient is that of a network whose frozen parameter is a constant."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    moving = {key: value for key, value in params.items() if key != "kernel"}

    def objective(moving):
        return squared_error({"kernel": params["kernel"], **moving})

    sam, base = {"name": "sam", "rho": 0.5, "adaptive": adaptive}, {"name": "sgd"}
    updates = []
    for function, values, rates in (
        (squared_error, params, {"kernel": 0.0}),
        (objective, moving, {}),
    ):
        gradient = jax.grad(function)
        optimizer = create_optimizer({**sam, "base": {**base, "rates": rates}})
        state = optimizer.init(values)
        updates.append(optimizer.update(gradient(values), state, values, gradient_at=gradient)[0])
    assert not np.any(updates[0].pop("kernel"))
    assert_trees_close(*updates)


def test_accumulated_batches_equal_one_large_batch():
    """Also under a schedule, which counts small batches."""
    base = {"name": "adam", "weight_decay": 0.1}
    rate = 0.1

    def schedule(count):
        return rate / (1 + count)

    accumulated = optimizers.OPTIMIZERS.create(
        {"name": "accumulate", "base": base, "steps": 4}, schedule=schedule
    )
    large = optimizers.OPTIMIZERS.create(base, schedule=lambda count: schedule(4 * count))
    params = expected = jax.tree.map(jnp.asarray, PARAMS)
    state, large_state = accumulated.init(params), large.init(params)
    for first in range(0, 12, 4):
        gradients = [
            jax.grad(lambda p, i: jnp.mean((model(p, FEATURES[i]) - TARGETS[i]) ** 2))(params, i)
            for i in range(first, first + 4)
        ]
        for grads in gradients:
            updates, state = accumulated.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda *parts: sum(parts) / 4, *gradients)
        updates, large_state = large.update(mean, large_state, expected)
        expected = optax.apply_updates(expected, updates)
        assert_trees_close(params, expected)


def assert_trees_close(tree, expected) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), tree, expected
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "sam", "base": {"name": "sgd"}, "rho": 0.0}, "optimizer.rho = 0.0"),
        ({"name": "sam", "base": {"name": "accumulate"}}, "must be neither sam nor accumulate"),
        ({"name": "sam", "base": {"name": "sdg"}}, "did you mean 'sgd'"),
        (
            {"name": "accumulate", "base": {"name": "sam"}, "steps": 2},
            "must be neither sam nor accumulate",
        ),
        ({"name": "accumulate", "base": {"name": "sgd"}, "steps": 1}, "must be 2 or more"),
        ({"name": "accumulate", "base": {"name": "sgd", "momentum": 1}, "steps": 2}, "momentum"),
    ],
)
def test_invalid_options_of_wrappers_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        create_optimizer(spec)


@pytest.mark.parametrize(
    ("name", "create", "clip_norm"),
    [
        ("sgd", torch_sgd(momentum=0.9), 0.0),
        ("sgd", torch_sgd(momentum=0.9), 0.5),
        ("adam", torch.optim.Adam, 0.0),
        ("adamw", torch.optim.AdamW, 0.5),
    ],
)
def test_rates_equal_torch_parameter_groups(name, create, clip_norm):
    """The kernel has a tenth of the rate; the scale has rate 0 and is excluded from clipping."""

    def create_with_rates(groups, lr):
        kernel, (bias, scale) = groups[0]["params"], groups[1]["params"]
        scale.requires_grad_(False)
        return create(
            [
                {"params": kernel, "weight_decay": 0.1, "lr": 0.1 * lr},
                {"params": [bias], "weight_decay": 0.0},
            ],
            lr=lr,
        )

    rates = {"kernel": 0.1, "scale": 0.0}
    spec = {"name": name, "weight_decay": 0.1, "clip_norm": clip_norm, "rates": rates}
    history, torch_history = train(spec), train_torch(create_with_rates, 0.1, clip_norm)
    for params, torch_params in zip(history, torch_history, strict=True):
        for key in PARAMS:
            np.testing.assert_allclose(
                params[key], torch_params[key], rtol=1e-4, atol=2e-6, err_msg=key
            )
        np.testing.assert_array_equal(params["scale"], PARAMS["scale"])
    assert np.abs(history[-1]["kernel"] - PARAMS["kernel"]).max() > 0.005


@pytest.mark.parametrize("name", sorted({*optimizers.OPTIMIZERS.names()} - {"accumulate", "sam"}))
def test_weight_decay_excludes_biases_norms_and_scalars(name):
    params = {
        "conv": jnp.ones((3, 3, 2, 4)),
        "dense": jnp.ones((4, 2)),
        "bias": jnp.ones(4),
        "norm": jnp.ones(4),
        "loss": jnp.ones(()),
    }
    optimizer = create_optimizer({"name": name, "weight_decay": 0.1})
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    for key, update in updates.items():
        assert np.all(np.asarray(update) < 0) == (key in ("conv", "dense")), key
        assert np.all(np.asarray(update) <= 0), key


@settings(max_examples=20)
@given(st.floats(0.1, 100), st.floats(0.1, 10))
def test_clipping_bounds_the_global_norm(size, limit):
    optimizer = create_optimizer({"name": "sgd", "momentum": 0.0, "clip_norm": limit}, rate=1.0)
    gradients = {"a": jnp.array([[0.6 * size]]), "b": jnp.array([0.8 * size])}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose(optax.tree.norm(updates), min(size, limit), rtol=1e-5)
    np.testing.assert_allclose(updates["a"][0, 0] / updates["b"][0], 0.75, rtol=1e-5)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS.names())
def test_state_contains_only_arrays_of_constant_shape(name):
    spec = {"name": name, "weight_decay": 0.1, "clip_norm": 1.0}
    if name in ("accumulate", "sam"):
        spec = {"name": name, "base": {**spec, "name": "adam"}}
        spec |= {"steps": 3} if name == "accumulate" else {}
    optimizer = optax.with_extra_args_support(create_optimizer(spec))
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))

    def update(grads, state, params):
        return optimizer.update(grads, state, params, gradient_at=lambda params: params)

    _, after = jax.jit(update)(params, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "sdg"}, "did you mean 'sgd'"),
        ({"name": "sgd", "beta1": 0.9}, "beta1: sgd has no such option"),
        ({"name": "sgd", "momentum": 1.0}, "optimizer.momentum = 1.0: must be in"),
        ({"name": "sgd", "weight_decay": -1e-4}, "optimizer.weight_decay = -0.0001"),
        ({"name": "sgd", "clip_norm": None}, "clip_norm = None: must be float"),
        ({"name": "adam", "beta2": 1}, "optimizer.beta2 = 1"),
        ({"name": "adamw", "beta1": -0.1}, "optimizer.beta1 = -0.1"),
        ({"name": "adamw", "weight_decay": "no"}, "weight_decay = 'no': must be float"),
    ],
)
def test_invalid_optimizer_options_are_rejected(spec, message):
    with pytest.raises(UserError, match=message):
        create_optimizer(spec)


def test_moving_average_equals_its_definition():
    history = RANDOM.normal(size=(200, 4)).astype(np.float32)
    expected = np.zeros(4)
    ema = {"layer": {"kernel": jnp.zeros(4)}}
    update = jax.jit(lambda ema, params, step: ema_update(ema, params, 0.9, step))
    for t, params in enumerate(history):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * params
        ema = update(ema, {"layer": {"kernel": jnp.asarray(params)}}, jnp.int32(t))
        np.testing.assert_allclose(ema["layer"]["kernel"], expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=20)
@given(st.floats(0, 0.9999), st.integers(0, 10**6))
def test_moving_average_of_constant_parameters_is_constant(decay, step):
    params = {"kernel": jnp.array([1.5, -2.0, 1e-3])}
    ema = ema_update(params, params, decay, jnp.int32(step))
    np.testing.assert_allclose(ema["kernel"], params["kernel"], rtol=1e-6)


def test_moving_average_forgets_its_initial_value():
    ema, params = {"kernel": jnp.full(3, 100.0)}, {"kernel": jnp.ones(3)}
    update = jax.jit(ema_update, static_argnums=2)
    for t in range(100):
        ema = update(ema, params, 0.9999, jnp.int32(t))
    np.testing.assert_allclose(ema["kernel"], 1.0, atol=1e-4)
