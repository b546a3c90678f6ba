"""Steps without a finite loss change nothing, are logged with their faces, and stop the run."""

from __future__ import annotations

import functools
import json
from typing import Any

import clu.metrics
import jax
import numpy as np
import pytest

from affect_jax.core.batch import make_targets, split_for_devices
from affect_jax.core.errors import UserError
from affect_jax.core.parallel import AXIS
from affect_jax.train import nonfinite
from affect_jax.train.experiment import create_experiment
from affect_jax.train.state import create_state
from affect_jax.train.step import train_step
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


def face_ids(step: int) -> list[str]:
    return [f"{step}/a.jpg", f"{step}/b.jpg"]


def test_finite_steps_pass(tmp_path):
    steps = [metrics(0.0), metrics(1e30), metrics(-5.0, norm=0.0)]
    assert nonfinite.NonFiniteGuard(tmp_path, 0, face_ids).filter_finite(1, steps) == steps
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [(np.nan, 1.0), (1.0, np.inf), (-np.inf, np.nan)])
def test_first_step_over_the_limit_stops_the_run_and_is_written(tmp_path, bad):
    steps = [metrics(1.0, norm=3.0), metrics(2.0, norm=4.0), metrics(*bad), metrics(1.0)]
    with pytest.raises(UserError, match=r"^step 13: .*nonfinite.json.*skip_nonfinite=10") as caught:
        nonfinite.NonFiniteGuard(tmp_path, 0, face_ids).filter_finite(11, steps)
    assert "\n" not in str(caught.value)
    (entry,) = json.loads((tmp_path / "nonfinite.json").read_text())
    assert entry["step"] == 13
    assert entry["faces"] == ["13/a.jpg", "13/b.jpg"]
    assert entry["gradient_norms_before"] == [3.0, 4.0]
    np.testing.assert_equal((float(entry["loss"]), float(entry["gradient_norm"])), bad)
    np.testing.assert_equal(float(entry["loss_ccc"]), bad[0])


def test_allowed_steps_are_skipped_and_one_more_stops_the_run(tmp_path, logged_warnings):
    guard = nonfinite.NonFiniteGuard(tmp_path, 2, face_ids)
    finite = metrics(1.0)
    assert guard.filter_finite(1, [finite, metrics(np.nan)]) == [finite]
    assert guard.filter_finite(3, [metrics(np.nan)]) == []
    assert [line[:19] for line in logged_warnings] == ["step 2 was skipped:", "step 3 was skipped:"]
    with pytest.raises(UserError, match="^step 5: "):
        guard.filter_finite(4, [finite, metrics(np.nan)])
    entries = json.loads((tmp_path / "nonfinite.json").read_text())
    assert [entry["step"] for entry in entries] == [2, 3, 5]


def test_unwritable_file_hides_no_error(tmp_path, logged_warnings):
    with pytest.raises(UserError, match="^step 1: the loss or its gradient is not finite"):
        nonfinite.NonFiniteGuard(tmp_path / "nowhere", 0, face_ids).filter_finite(
            1, [metrics(np.nan)]
        )
    assert "nonfinite.json cannot be written" in logged_warnings[0]


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
