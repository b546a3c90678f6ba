"""A run is compared with a peer that is trained on its very faces, for as long."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from affect_jax.config import defaults, to_dict
from affect_jax.evaluate.checkpoint import evaluate_checkpoint
from affect_jax.report import evaluation_page
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import all_registries
from affect_jax.train.loop import train_and_evaluate
from benchmarks import epoch, learning, peers


@pytest.fixture
def run(tmp_path, tiny) -> pathlib.Path:
    """Two epochs on sixteen rendered faces."""
    all_registries()
    config = epoch.config_of(epoch.parse(["--quick"]), tmp_path)
    config.schedule.decay = 1.0
    workdir = Workdir(tmp_path / "alexnet_imbalanced-drawn")
    workdir.create()
    workdir.save_config(to_dict(config))
    train_and_evaluate(config, workdir)
    evaluation_page.write(evaluate_checkpoint(config, workdir, checkpoint="best", split=None))
    return workdir.path


def test_both_sides_have_scores_of_every_epoch(run, folder):
    pytest.importorskip("torch").set_num_threads(1)  # else its threads wait for one another
    learning.main(["--quick", "--folder", str(folder), str(run)])
    kept = json.loads((folder / "results" / "learning.json").read_text())
    (sides,) = kept["runs"].values()
    assert list(sides) == [learning.OURS, learning.PEER] and str(folder) not in json.dumps(kept)
    for side in sides.values():
        assert len(side["epochs"]) == len(side["losses"]) == 2 and np.isfinite(side["losses"]).all()
        assert all(0 <= scored["accuracy"] <= 1 for scored in side["epochs"])
    written = json.loads((run / "evaluation" / "validation" / "scores.json").read_text())
    ours = sides[learning.OURS]["epochs"]
    best = max(ours, key=lambda scored: scored["macro-F1"])
    assert best["accuracy"] == written["scores"]["categorical.top1.original.accuracy"]
    assert len(kept["table"]) == 2 and "difference of accuracy" in kept["table"][1]


def test_what_the_peer_does_not_train_is_refused(tmp_path):
    config = defaults()
    config.sampling = {"name": "down_sampling"}
    with pytest.raises(SystemExit, match="no such sampling, schedule: .*down"):
        learning.refuse_others(pathlib.Path("runs/x"), config)


def test_an_update_returns_its_loss(tiny):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    side = peers.Side("alexnet", dtype="float32", crop_size=32)
    images = peers.normalized(np.zeros((4, 32, 32, 3), np.uint8))
    labels = torch.tensor([0, 1, 2, 3])
    side.network.train()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(side.network(images), labels)
    assert float(side.update(images, labels)) == pytest.approx(float(expected), rel=1e-5)
