"""Learning-rate schedules, step by step."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.train import schedules

PROTOCOL = {"name": "step", "decay": 0.1, "interval": {"steps": 10_000}}


def compute_rates(
    spec: dict, steps, *, total_steps: int = 100, steps_per_epoch: int = 10
) -> np.ndarray:
    """Returns the rates at the given steps from one compiled call."""
    schedule = schedules.SCHEDULES.create(
        spec, learning_rate=0.01, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32)))


def test_protocol_divides_by_ten_every_ten_thousand_steps():
    steps = [0, 9_999, 10_000, 19_999, 20_000, 22_460]
    expected = [0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4]
    np.testing.assert_allclose(compute_rates(PROTOCOL, steps), expected, rtol=1e-6)
    np.testing.assert_allclose(compute_rates({"name": "step"}, steps), expected, rtol=1e-6)


def test_decay_of_ten_percent_as_in_the_summary():
    result = compute_rates({**PROTOCOL, "decay": 0.9}, [9_999, 10_000, 20_000])
    np.testing.assert_allclose(result, [0.01, 0.009, 0.0081], rtol=1e-6)


@settings(max_examples=10)  # each one compiles
@given(st.integers(1, 50_000), st.integers(1, 300), st.floats(0.05, 1))
@example(141, 1, 0.1)  # 141 times the float32 value of 1 / 141 is below 1
def test_rate_drops_exactly_at_multiples_of_the_interval(interval, multiple, decay):
    edge = interval * multiple
    spec = {"name": "step", "decay": decay, "interval": {"steps": interval}}
    schedule = schedules.SCHEDULES.create(
        spec, learning_rate=1.0, steps_per_epoch=1, total_steps=edge
    )
    schedule = jax.jit(schedule)  # only compiled code divides by multiplying with the reciprocal
    before, after = schedule(jnp.int32(edge - 1)), schedule(jnp.int32(edge))
    np.testing.assert_allclose(before, decay ** (multiple - 1), rtol=2e-4, atol=1e-37)
    np.testing.assert_allclose(after, decay**multiple, rtol=2e-4, atol=1e-37)


def test_epochs_equal_the_same_number_of_steps():
    by_steps = compute_rates(
        {"name": "step", "interval": {"steps": 25}, "warmup": {"steps": 5}}, range(99)
    )
    by_epochs = compute_rates(
        {"name": "step", "interval": {"epochs": 2.5}, "warmup": {"epochs": 0.5}}, range(99)
    )
    np.testing.assert_array_equal(by_steps, by_epochs)


def test_constant_schedule_is_constant():
    np.testing.assert_allclose(compute_rates({"name": "constant"}, range(100)), 0.01, rtol=1e-7)


@pytest.mark.parametrize("warmup", [0, 1, 20])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_cosine_schedule_equals_its_formula(warmup, final):
    spec = {"name": "cosine", "final": final}
    spec |= {"warmup": {"steps": warmup}} if warmup else {}
    result = compute_rates(spec, range(121))
    for step in range(100):
        if step < warmup:
            expected = 0.01 * (step + 1) / warmup
        else:
            wave = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (100 - warmup)))
            expected = 0.01 * (final + (1 - final) * wave)
        np.testing.assert_allclose(result[step], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(result[100:], 0.01 * final, atol=1e-9)  # constant after the end
    assert np.all(np.diff(result[warmup:]) <= 1e-9)


@pytest.mark.parametrize("name", schedules.SCHEDULES.names())
def test_warmup_rises_linearly_to_the_rate_without_it(name):
    without_warmup = compute_rates({"name": name}, range(40))
    with_warmup = compute_rates({"name": name, "warmup": {"steps": 8}}, range(40))
    if name != "cosine":  # its cosine begins after the warmup
        np.testing.assert_allclose(with_warmup[8:], without_warmup[8:])
    np.testing.assert_allclose(with_warmup[:8], 0.01 * np.arange(1, 9) / 8, rtol=1e-6)


@pytest.mark.parametrize("name", schedules.SCHEDULES.names())
def test_rate_is_a_pure_function_of_the_step(name):
    spec = {"name": name, "warmup": {"epochs": 1}}
    schedule = schedules.SCHEDULES.create(
        spec, learning_rate=0.01, steps_per_epoch=10, total_steps=100
    )
    compiled = jax.jit(schedule)
    for step in (57, 3, 57, 99, 0):
        rate = schedule(step)  # a Python integer, as in the log
        np.testing.assert_allclose(rate, compiled(jnp.int32(step)), rtol=1e-6)
        assert jnp.shape(rate) == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "stpe"}, "did you mean 'step'"),
        ({"name": "cosine", "decay": 0.1}, "decay: cosine has no such option"),
        ({"name": "step", "decay": 0}, "schedule.decay = 0: must be in"),
        ({"name": "step", "decay": 10}, "schedule.decay = 10"),
        ({"name": "step", "decay": "0.1"}, "decay = '0.1': must be float"),
        ({"name": "cosine", "final": -1}, "schedule.final = -1"),
        ({"name": "step", "interval": {"steps": 5, "epochs": 1}}, "schedule.interval = .*exactly"),
        ({"name": "step", "interval": {}}, "schedule.interval = .*exactly one"),
        ({"name": "step", "interval": {"steps": -5}}, "schedule.interval = {'steps': -5}"),
        ({"name": "constant", "warmup": {"stpes": 5}}, "schedule.warmup = {'stpes': 5}"),
        ({"name": "cosine", "warmup": {"epochs": 10}}, "100 steps: must be shorter than"),
    ],
)
def test_invalid_schedules_are_rejected(spec, message):
    with pytest.raises(UserError, match=message):
        schedules.SCHEDULES.create(spec, learning_rate=0.01, steps_per_epoch=10, total_steps=100)
