"""Compares the scores of a finished run with those of PyTorch trained on the same faces.

    python -m benchmarks.learning --runs runs/resnet18_imbalanced-photographs ...

PyTorch trains the network of torchvision on the records of the run, with its own initialisation,
loading, cropping and mirroring, for as many epochs, with the same batch size, learning rate,
momentum and weight decay. Only the data and the scores of the protocol are shared. Each side is
scored at its best epoch, by the score that the run selects with. An interval covers the choice of
test faces only: with another seed, or one epoch later, the scores of either side change as much as
those of neighbouring epochs differ.

The run must train the categorical model with `natural` sampling, plain cross entropy and a constant
learning rate. The command refuses other runs, because PyTorch would train something else.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from affect_jax.config import Config, from_dict, to_dict
from affect_jax.metrics import protocol, system_scores
from affect_jax.metrics.predictions import Predictions, read_predictions
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from benchmarks import harness, torch_peer, torch_training

OURS, PEER = "affect_jax", "PyTorch"
SCORES = {
    "accuracy": "categorical.top1.original.accuracy",
    "macro-F1": "categorical.top1.original.f1.macro",
    "AUC": "categorical.top1.original.auc.macro",
}


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__, argv, runs=((pathlib.Path,), None, "folders of runs, evaluated at best")
    )
    load_registries()
    loaded = [(run, from_dict(Workdir(run).load_config())) for run in args.runs]
    for run, config in loaded:
        check_is_supported(run, config)
    rows, histories = [], {}
    for run, config in loaded:
        split = run / "evaluation" / config.evaluation.split
        ours = read_predictions(split / "predictions.parquet")
        theirs, histories[run.name] = train_peer(config, ours)
        rows += table_rows(config, ours, theirs)
    harness.write_result(
        "learning",
        what="Scores of the validation split at the best epoch of each side; the difference is "
        "PyTorch - ours, with its paired 95% interval",
        args=args,
        rows=rows,
        runs=histories,
    )


def check_is_supported(run: pathlib.Path, config: Config) -> None:
    """Checks that PyTorch can train the same.

    **Raises:** `SystemExit` if it cannot.
    """
    required = {
        "heads": ["expression"],
        "losses": [{"name": "cross_entropy", "head": "expression"}],
        "sampling": {"name": "natural"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "learning_rate": 0.01,
        "dtype": "float32",
        "ema_decay": 0.0,
        "init_from": "",
    }
    values = to_dict(config)
    unsupported = [key for key in required if values[key] != required[key]]
    if values["schedule"].get("decay") != 1.0:
        unsupported.append("schedule")
    if unsupported:
        raise SystemExit(
            f"{run}: PyTorch is trained without such {', '.join(unsupported)}: "
            f"{values[unsupported[0]]}; choose another run"
        )


def train_peer(config: Config, ours: Predictions) -> tuple[Predictions, list[dict[str, float]]]:
    """Trains PyTorch on the records of a run.

    **Arguments:** `ours`: the predictions of the run, for the faces to score and their labels.

    **Returns:** the predictions at the best epoch, and the scores of every epoch.
    """
    epochs, best_score, best = [], -np.inf, ours
    with tempfile.TemporaryDirectory() as folder:
        torch_peer.torch().manual_seed(config.seed)
        epochs_of_peer = torch_training.train_epochs(
            config, pathlib.Path(folder), epochs=round(config.duration.epochs)
        )
        for probabilities in epochs_of_peer:
            predictions = dataclasses.replace(ours, probabilities=probabilities)
            scores = protocol.score(predictions, draws=1).values
            epochs.append({name: float(scores[key]) for name, key in SCORES.items()})
            print(f"PyTorch, epoch {len(epochs)}: {epochs[-1]}", flush=True)
            if scores[config.checkpoint.best] > best_score:
                best_score, best = scores[config.checkpoint.best], predictions
    return best, epochs


def table_rows(config: Config, ours: Predictions, theirs: Predictions) -> list[dict[str, Any]]:
    """Returns a row for each side."""
    difference = system_scores.compare([ours], [theirs], draws=1)
    rows = []
    for name, predictions in ((OURS, ours), (PEER, theirs)):
        scores = protocol.score(predictions, draws=1).values
        row = {"network": f"{config.trunk.name}, {config.data.crop_size} px", "contender": name}
        row |= {title: f"{scores[key]:.3f}" for title, key in SCORES.items()}
        for title in ("accuracy", "macro-F1"):
            if name == PEER:
                low, high = difference.intervals[SCORES[title]]
                value = difference.values[SCORES[title]]
                row[f"difference of {title}"] = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
