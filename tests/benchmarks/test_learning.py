"""A run is compared with PyTorch, trained on the same faces for as many epochs."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from affect_jax.config import defaults, to_dict
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.report import evaluation_page
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import epoch, learning, torch_peer


@pytest.fixture
def workdir_path(tmp_path, tiny_networks) -> pathlib.Path:
    """Two epochs on sixteen rendered faces."""
    load_registries()
    config = epoch.create_config(epoch.parse_args(None, ["--quick"]), tmp_path)
    config.schedule.decay = 1.0
    workdir = Workdir(tmp_path / "alexnet_imbalanced-drawn")
    workdir.create()
    workdir.save_config(to_dict(config))
    train_and_evaluate(config, workdir)
    evaluation_page.write_report(
        evaluate_checkpoint(config, workdir, checkpoint="best", split=None)
    )
    return workdir.path


def test_both_sides_are_scored_at_their_best_epoch(workdir_path, folder):
    pytest.importorskip("torch").set_num_threads(1)  # otherwise its threads wait for each other
    learning.main(["--quick", "--folder", str(folder), "--runs", str(workdir_path)])
    result = json.loads((folder / "results" / "learning.json").read_text())
    (epochs,) = result["runs"].values()
    assert len(epochs) == 2 and str(folder) not in json.dumps(result)
    assert all(0 <= scores["accuracy"] <= 1 for scores in epochs)
    evaluation = workdir_path / "evaluation" / "validation" / "scores.json"
    scores = json.loads(evaluation.read_text())["scores"]
    ours, theirs = result["table"]
    assert ours["accuracy"] == f"{scores['categorical.top1.original.accuracy']:.3f}"
    assert theirs["macro-F1"] == f"{max(epoch['macro-F1'] for epoch in epochs):.3f}"
    assert "difference of accuracy" in theirs


def test_unsupported_run_is_refused(tmp_path):
    config = defaults()
    config.sampling = {"name": "down_sampling"}
    with pytest.raises(SystemExit, match="without such sampling, schedule: .*down"):
        learning.check_is_supported(pathlib.Path("runs/x"), config)


def test_torch_train_step_returns_the_loss(tiny_networks):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    trainer = torch_peer.Trainer("alexnet", dtype="float32", crop_size=32)
    images = torch_peer.normalize_images(np.zeros((4, 32, 32, 3), np.uint8))
    labels = torch.tensor([0, 1, 2, 3])
    trainer.network.train()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(trainer.network(images), labels)
    assert float(trainer.train_step(images, labels)) == pytest.approx(float(expected), rel=1e-5)
