"""The study of recipes: configs, resumption, the choice of ingredients, the table."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from affect_jax.train.experiment import check_config
from benchmarks import recipes
from tests import releases


@pytest.mark.parametrize(
    "contender", [recipes.PLAIN, recipes.PRETRAINING, "+".join(recipes.INGREDIENTS)]
)
def test_configs_are_valid(contender):
    check_config(recipes.get_config(contender))


def test_scores_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(-1, 5, 200), rng.random((200, 8))
    scores = recipes.score(labels, probabilities)
    rows, predicted = labels >= 0, probabilities.argmax(axis=1)
    f1 = f1_score(labels[rows], predicted[rows], labels=range(5), average="macro")
    assert scores["macro-F1"] == pytest.approx(f1)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        recall = balanced_accuracy_score(labels[rows], predicted[rows])
    assert scores["balanced accuracy"] == pytest.approx(recall)


@pytest.fixture
def page(tmp_path):
    return shutil.copy(recipes.PAGE, tmp_path)


def test_ingredients_that_helped_are_combined(tmp_path, page, monkeypatch):
    trained = []

    def train(contender, seed, folder, args):
        trained.append((contender, seed))
        num_correct = {recipes.PLAIN: 4, "mixup": 6, "ema": 5}.get(contender, 3) + seed % 2
        labels = np.arange(8)
        return labels, np.eye(8)[np.where(labels < num_correct, labels, 0)]

    monkeypatch.setattr(recipes, "train_ours", train)
    monkeypatch.setattr(
        recipes, "train_peer", lambda seed, args: train("PyTorch", seed, None, args)
    )
    (tmp_path / "runs" / "ema-0" / "checkpoints").mkdir(parents=True)  # of an interrupted run
    argv = ["--manual_dir=faces", f"--run_dir={tmp_path / 'runs'}", f"--folder={tmp_path}"]
    recipes.main([*argv, f"--page={page}", "--seeds", "0", "1"])
    assert {("mixup+ema", 1), ("pretraining+mixup+ema", 0)} < set(trained)
    result = json.loads((tmp_path / "results" / "recipes.json").read_text())
    assert len(result["runs"]) == len(trained) == 2 * 11
    assert result["runs"]["ema, seed 0"]["minutes"] is None
    rows = {row["recipe"]: row for row in result["table"]}
    assert rows["mixup"]["seeds"] == 2 and rows["mixup"]["accuracy"] == "0.812 ± 0.088"
    assert "| mixup+ema " in (tmp_path / "results.md").read_text()
    recipes.main([*argv, f"--page={page}", "--seeds", "0", "1"])  # everything is finished
    assert len(trained) == 2 * 11


@pytest.mark.bench
def test_both_sides_train(tmp_path, page, monkeypatch):
    pytest.importorskip("torch").set_num_threads(1)
    monkeypatch.setattr(recipes, "EPOCHS", 1.0)  # of the peer; ours runs in another process
    releases.write_release(tmp_path / "release", training=80)
    argv = [f"--manual_dir={tmp_path / 'release'}", f"--run_dir={tmp_path / 'runs'}", "--seeds=0"]
    argv += ["--combine=0", f"--folder={tmp_path}", f"--page={page}", "--contenders"]
    recipes.main([*argv, recipes.PLAIN, recipes.PEER])
    result = json.loads((tmp_path / "results" / "recipes.json").read_text())
    assert set(result["runs"]) == {"plain, seed 0", "PyTorch, seed 0"}
    assert all(0 <= run["accuracy"] <= 1 and run["minutes"] > 0 for run in result["runs"].values())
