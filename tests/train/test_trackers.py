"""Loggers of trackers in their offline modes; skipped if the packages are not installed."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.train import log_writers


def write_and_resume(workdir, logger: str) -> None:
    """Writes steps 1 to 3 and an image, then resumes from step 2."""
    with log_writers.MetricWriter(workdir, 0, (logger,)) as writer:
        writer.write_hparams({"trunk.name": "alexnet", "heads": ["expression"]})
        for step in (1, 2, 3):
            writer.write_scalars(step, {"train.loss": 1 / step, "f1.class (a)": np.float32(0.5)})
        writer.write_images(3, {"grid": np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)})
    with log_writers.MetricWriter(workdir, 2, (logger,)) as writer:
        writer.write_scalars(3, {"train.loss": 0.25})


@pytest.mark.filterwarnings("ignore")  # of its libraries
def test_mlflow_writes_to_a_database(tmp_path, logged_warnings, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    write_and_resume(tmp_path / "run", "mlflow")
    assert not logged_warnings and not (tmp_path / "run/tensorboard").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/run/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("faces")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params == {"trunk.name": "alexnet", "heads": "['expression']"}
    history = client.get_metric_history(run.info.run_id, "train.loss")
    points = sorted((metric.step, metric.value) for metric in history)
    assert points == [(1, 1.0), (2, 0.5), (3, 0.25), (3, 1 / 3)]
    assert run.data.metrics["f1.class _a_"] == 0.5


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline(tmp_path, logged_warnings, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_and_resume(tmp_path / "run", "wandb")
    assert not logged_warnings
    run_id = (tmp_path / "run/wandb/run_id").read_text()
    written = sorted((tmp_path / "run/wandb/wandb").glob(f"offline-run-*-{run_id}"))
    assert written and all(any(folder.glob("*.wandb")) for folder in written)
    assert len(list(written[0].rglob("*.png"))) == 2


def test_errors_of_a_tracker_end_its_log_only(tmp_path, logged_warnings, monkeypatch):
    calls = []

    def init(**options):
        calls.append(options)
        raise RuntimeError("no network")

    fake = types.SimpleNamespace(Image=None, init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with log_writers.MetricWriter(tmp_path, 0, ("tensorboard", "wandb")) as writer:
        for step in range(5):
            writer.write_scalars(step, {"train.loss": 1.0})
    assert len(calls) == len(logged_warnings) == 1
    assert "wandb cannot be written: no network; training continues" in logged_warnings[0]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.bad_input
def test_missing_package_is_named_before_data_are_prepared(monkeypatch):
    monkeypatch.setattr(log_writers.importlib.util, "find_spec", lambda name: None)
    log_writers.require_packages(("tensorboard",))
    with pytest.raises(UserError, match="wandb is missing: pip install 'affect_jax.wandb.'"):
        log_writers.require_packages(("tensorboard", "wandb"))
