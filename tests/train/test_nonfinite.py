"""Steps without a finite loss change nothing, are logged, and stop the run."""

from __future__ import annotations

import functools
from typing import Any, cast

import clu.metrics
import jax
import numpy as np
import pytest

from affect_jax.core.batch import make_targets, split_for_devices
from affect_jax.core.errors import UserError
from affect_jax.core.parallel import AXIS
from affect_jax.train.experiment import create_experiment
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
from affect_jax.train.step_intervals import Intervals
from tests.faults import tiny_config
from tests.train import test_step


def metrics(loss: float, norm: float = 1.0) -> Any:
    """A step's clu collection on the host."""
    values = {"loss": loss, "gradient_norm": norm, "loss_ccc": loss}
    averages = {name: clu.metrics.Average.from_output(name) for name in values}
    arrays = {name: np.float32([value, value]) for name, value in values.items()}
    return jax.device_get(
        clu.metrics.Collection.create(**averages).single_from_model_output(**arrays)
    )


def create_log(skip_nonfinite: int) -> MetricsLog:
    config, unused = tiny_config.get_config(), cast(Any, None)
    config.skip_nonfinite = skip_nonfinite
    intervals = Intervals(10, total=40, log=5, evaluate=20, save=20, images=20)
    return MetricsLog(config, unused, intervals, unused, start=0)


def test_finite_steps_pass():
    steps = [metrics(0.0), metrics(1e30), metrics(-5.0, norm=0.0)]
    assert create_log(0).filter_finite(1, steps) == steps


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((np.nan, 1.0), r"the loss \(nan\) or its gradient \(norm 1.0\)"),
        ((1.0, np.inf), r"the loss \(1.0\) or its gradient \(norm inf\)"),
        ((-np.inf, np.nan), r"the loss \(-inf\) or its gradient \(norm nan\)"),
    ],
)
def test_first_step_over_the_limit_stops_the_run(bad, message):
    steps = [metrics(1.0, norm=3.0), metrics(2.0, norm=4.0), metrics(*bad), metrics(1.0)]
    with pytest.raises(UserError, match=f"^step 13: {message}.*skip_nonfinite=10") as caught:
        create_log(0).filter_finite(11, steps)
    assert "\n" not in str(caught.value)


def test_allowed_steps_are_skipped_and_one_more_stops_the_run(logged_warnings):
    log, finite = create_log(2), metrics(1.0)
    assert log.filter_finite(1, [finite, metrics(np.nan)]) == [finite]
    assert log.filter_finite(3, [metrics(np.nan)]) == []
    assert [line[:8] for line in logged_warnings] == ["step 2: ", "step 3: "]
    assert all("skipped (" in line for line in logged_warnings)
    with pytest.raises(UserError, match="^step 5: "):
        log.filter_finite(4, [finite, metrics(np.nan)])


def test_nonfinite_step_changes_only_the_step_number():
    config = tiny_config.get_config()
    targets = make_targets({"expression": np.repeat(np.arange(8), 5)})
    experiment = create_experiment(config, targets, steps_per_epoch=10)
    run = functools.partial(train_step, experiment)
    step = jax.jit(jax.vmap(run, axis_name=AXIS, in_axes=(None, 0), out_axes=None))
    batch = split_for_devices(test_step.random_batch(config), 2)
    state, result = step(create_state(experiment), batch)
    assert np.isfinite(float(result.compute()["loss"]))

    head = state.params["model"]["expression"]
    nan_head = jax.tree.map(lambda leaf: leaf.at[..., 0].set(np.nan), head)
    model = {**state.params["model"], "expression": nan_head}
    broken = state.replace(params={**state.params, "model": model})
    after, result = step(broken, batch)
    assert not np.isfinite(float(result.compute()["loss"]))
    assert int(after.step) == 2
    for a, b in zip(*map(jax.tree.leaves, (after, broken.replace(step=after.step))), strict=True):
        np.testing.assert_array_equal(a, b)
