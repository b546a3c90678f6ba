"""Runs of earlier versions still resume, evaluate and load.

`run_of_0f6deb1.tar.gz` holds a run of commit 0f6deb1, before the package was laid out in
folders: two steps of a ResNet18 of width 1 on random images, with its prepared records.
"""

from __future__ import annotations

import json
import pathlib
import tarfile

import numpy as np
import pytest

from affect_jax.config import Config, from_dict
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.trained_network import load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import check_config
from affect_jax.train.loop import train_and_evaluate

ARCHIVE = pathlib.Path(__file__).with_name("run_of_0f6deb1.tar.gz")


@pytest.fixture
def workdir(tmp_path) -> Workdir:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Workdir(tmp_path / "run")


def config_of(workdir: Workdir, **changes) -> Config:
    """The saved config, with the paths of this machine."""
    config = from_dict(workdir.load_config())
    config.data.data_dir, config.data.manual_dir = str(workdir.path.parent / "data"), ""
    config.update(changes)
    check_config(config)
    return config


@pytest.mark.slow
def test_it_resumes(workdir):
    config = config_of(workdir, duration={"steps": 4})
    assert train_and_evaluate(config, workdir) == 0
    assert Checkpoints(workdir.path / "checkpoints").all_steps()[-1] == 4
    rows = [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["train.loss"] for row in rows if "train.loss" in row}
    assert min(losses) <= 2 and max(losses) == 4 and np.isfinite(list(losses.values())).all()


def test_it_evaluates_to_the_scores_it_had(workdir):
    rows = [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]
    name = "dimensional.valence.rmse"
    logged = next(row[name] for row in rows if name in row)
    evaluation = evaluate_checkpoint(config_of(workdir), workdir, checkpoint="last", split=None)
    scores = json.loads((evaluation.folder / "scores.json").read_text())["scores"]
    assert scores[name] == pytest.approx(logged, rel=1e-3)


def test_its_network_loads_without_data(workdir):
    trained = load_network(workdir.path)
    assert trained.step == 2 and trained.config.trunk.name == "resnet18"
    assert len(trained.classes) == 8
