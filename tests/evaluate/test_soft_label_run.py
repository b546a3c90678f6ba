"""Runs on soft labels, with edited labels: scores against votes, what `scores.json` records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from affect_jax.config import defaults
from affect_jax.core.errors import UserError
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.metrics import protocol
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import check_config, load_registries
from affect_jax.train.loop import train_and_evaluate
from tests.data import layout_folders
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.releases import shrink_config, write_release


def small_config(folder, **changes):
    load_registries()
    config = defaults()
    shrink_config(config, folder / "source", folder / "data", **changes)
    config.trunk = {"name": "tiny"}
    config.duration = {"steps": 1}
    check_config(config)
    return config


def test_votes_are_learned_and_scored(tmp_path, monkeypatch):
    votes = (layout_folders.VOTES["Training"][0],) * 4
    monkeypatch.setitem(layout_folders.VOTES, "Training", votes)
    layout_folders.fer_plus_pixels(tmp_path / "source")
    config = small_config(tmp_path, data__name="fer_plus", data__soft_labels=True, batch_size=4)
    workdir = Workdir(tmp_path / "run")
    assert train_and_evaluate(config, workdir) == 0
    evaluation = evaluate_checkpoint(config, workdir, checkpoint="last", split="validation")
    table = evaluation.predictions
    assert table.votes is not None and table.distribution is not None
    np.testing.assert_array_equal(table.votes, [[0, 9, 0, 1, 0, 0, 0, 0]])
    np.testing.assert_allclose(table.distribution, [[0, 0.9, 0, 0.1, 0, 0, 0, 0]], rtol=1e-6)
    scores = json.loads((evaluation.folder / "scores.json").read_text())["scores"]
    assert set(protocol.SOFT_HEADLINES) <= set(scores)
    assert scores["soft.human_accuracy"] == 0.9  # nine of ten raters agree with the others


@pytest.mark.slow
def test_edits_are_recorded_and_compared_by_resume(tmp_path):
    write_release(tmp_path / "source", training=40, validation=16)
    (tmp_path / "ignore.csv").write_text("id\n0/training0000.jpg\n")
    noise = {"kind": "symmetric", "rate": 0.3}
    changes = {"data__ignore": str(tmp_path / "ignore.csv"), "data__label_noise": noise}
    config, workdir = small_config(tmp_path, **changes), Workdir(tmp_path / "run")
    assert train_and_evaluate(config, workdir) == 0
    evaluation = evaluate_checkpoint(config, workdir, checkpoint="last", split=None)
    about = json.loads((evaluation.folder / "scores.json").read_text())["about"]
    assert about["label_edits"] == {"ignored": 0, "relabelled": 0}
    training = about["label_edits_of_training"]
    assert training["ignored"] == 1 and 0 < training["label_noise"] < 30
    assert len(training["label_noise_sha256"]) == 64
    (tmp_path / "ignore.csv").write_text("id\n1/training0001.jpg\n")
    with pytest.raises(UserError, match="trained on other prepared data"):
        train_and_evaluate(config, workdir)
