"""`config.profile` writes one trace of steps 10 to 20 for TensorBoard's profile plugin."""

from __future__ import annotations

import gzip
import json
import pathlib

import jax.numpy as jnp
import pytest

from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from affect_jax.train.profiling import FIRST_STEP, LAST_STEP, Profiler
from tests.faults import tiny_config
from tests.faults.lab import write_faces


def read_traces(folder: pathlib.Path) -> list[dict]:
    paths = (folder / "tensorboard" / "plugins" / "profile").glob("*/*.trace.json.gz")
    return [json.loads(gzip.decompress(path.read_bytes())) for path in paths]


@pytest.mark.slow
def test_trace_contains_the_profiled_steps(tmp_path):
    write_faces(tmp_path / "faces")
    load_registries()
    config = tiny_config.get_config()
    config.data.manual_dir, config.data.data_dir = str(tmp_path / "faces"), str(tmp_path / "data")
    config.profile = True
    for duration in (config.duration, config.evaluate_every, config.checkpoint.every):
        duration.steps = LAST_STEP + 4
    workdir = Workdir(tmp_path / "run")
    workdir.create()
    assert train_and_evaluate(config, workdir) == 0
    (trace,) = read_traces(workdir.path)
    names = [event["name"] for event in trace["traceEvents"] if event.get("dur")]
    dispatches = [name for name in names if "metrics_log.py" in name and name.endswith(" add")]
    assert len(dispatches) == LAST_STEP - FIRST_STEP + 1
    assert any("Execute" in name for name in names)  # work of the devices, not only of Python


def take_steps(folder: pathlib.Path | None, steps: int) -> None:
    with Profiler(folder) as profiler:
        for step in range(steps):
            profiler.before_dispatch(step, jnp.zeros(()) + step)


def test_short_run_has_no_trace(tmp_path):
    take_steps(tmp_path, FIRST_STEP - 1)
    assert not list(tmp_path.iterdir())


def test_run_that_ends_during_the_trace_writes_it(tmp_path):
    take_steps(tmp_path / "tensorboard", LAST_STEP - 1)
    (trace,) = read_traces(tmp_path)
    assert trace["traceEvents"]
