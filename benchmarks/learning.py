"""Compares the scores of a finished run with those of PyTorch trained on the same faces.

    python -m benchmarks.learning runs/resnet18_imbalanced-photographs ...

PyTorch trains the network of torchvision on the records of the run, with its own initialisation,
loading, cropping and mirroring, for as many epochs, with the same batch size, learning rate,
momentum and weight decay. Only the data and the scores of the protocol are shared. Differences in
preprocessing, initialisation, normalisation or optimizer show in the scores of each epoch, in
`results/learning.json`. An interval covers the choice of test faces only: with another seed, or one
epoch later, the scores of either side change as much as those of neighbouring epochs differ.

The run must train the categorical model with `natural` sampling, plain cross entropy and a constant
learning rate. The command refuses other runs, because PyTorch would train something else.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from affect_jax.config import Config, from_dict, to_dict
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, read_predictions
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from benchmarks import harness, torch_peer

OURS, PEER = "affect_jax", "PyTorch"
SCORES = {
    "accuracy": "categorical.top1.original.accuracy",
    "macro-F1": "categorical.top1.original.f1.macro",
    "AUC": "categorical.top1.original.auc.macro",
}


@dataclasses.dataclass
class TrainingResult:
    """The training of one side.

    - `epochs`: the scores of each epoch, by the names of `SCORES`.
    - `losses`: the mean training loss of each epoch.
    - `best`: index of the epoch that `config.checkpoint.best` selects, from 0.
    - `predictions`: of that epoch.
    """

    epochs: list[dict[str, float]]
    losses: list[float]
    best: int
    predictions: Predictions


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    load_registries()
    loaded = [(run, from_dict(Workdir(run).load_config())) for run in args.runs]
    for run, config in loaded:
        check_is_supported(run, config)
    rows, histories = [], {}
    for run, config in loaded:
        ours = read_run(run, config)
        peer = train_peer(config, ours.predictions)
        rows += table_rows(config, ours, peer)
        histories[run.name] = {
            side: {"epochs": result.epochs, "losses": result.losses}
            for side, result in ((OURS, ours), (PEER, peer))
        }
    harness.write_result(
        "learning",
        what="Scores of the validation split after the last epoch and after the best, which each "
        "side selects by macro-F1, as runs do; the loss is the mean over the last epoch; the "
        "difference is PyTorch - ours at the best epoch, with its paired 95% interval",
        args=args,
        rows=rows,
        runs=histories,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=pathlib.Path,
        help="folders of runs, evaluated at their best checkpoint",
    )
    return harness.parse_args(parser, argv, {})


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


def read_run(run: pathlib.Path, config: Config) -> TrainingResult:
    """Reads the result of an evaluated run from its folder."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if SCORES["accuracy"] in line]
    epochs = [{name: line[key] for name, key in SCORES.items()} for line in evaluated]
    boundaries = [0, *(line["step"] for line in evaluated)]
    losses = [mean_loss(lines, *steps) for steps in itertools.pairwise(boundaries)]
    selection_scores = [line[config.checkpoint.best] for line in evaluated]
    predictions = read_predictions(
        run / "evaluation" / config.evaluation.split / "predictions.parquet"
    )
    return TrainingResult(epochs, losses, int(np.argmax(selection_scores)), predictions)


def mean_loss(lines: list[dict[str, Any]], begin: int, end: int) -> float:
    """Returns the mean training loss of the log lines after step `begin` up to `end`."""
    trained = [line for line in lines if "train.loss" in line]
    return float(np.mean([line["train.loss"] for line in trained if begin < line["step"] <= end]))


def train_peer(config: Config, predictions: Predictions) -> TrainingResult:
    """Trains PyTorch on the records of a run.

    **Arguments:**

    - `predictions`: those of the run, for the faces to score and their labels.
    """
    epochs, losses, best_score, best_epoch = [], [], -np.inf, None
    with tempfile.TemporaryDirectory() as folder:
        for loss, probabilities in train(config, pathlib.Path(folder)):
            epoch_predictions = dataclasses.replace(predictions, probabilities=probabilities)
            scores = protocol.score(epoch_predictions, draws=1).values
            epochs.append({name: float(scores[key]) for name, key in SCORES.items()})
            losses.append(loss)
            if scores[config.checkpoint.best] > best_score:
                best_score = scores[config.checkpoint.best]
                best_epoch = (len(epochs) - 1, epoch_predictions)
            print(f"PyTorch, epoch {len(epochs)}: loss {loss:.3f}, {epochs[-1]}", flush=True)
    assert best_epoch is not None  # a run has at least one epoch
    return TrainingResult(epochs, losses, *best_epoch)


def train(config: Config, folder: pathlib.Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yields after each epoch its mean loss and the validation probabilities [N, C]."""
    torch = torch_peer.torch()
    torch.manual_seed(config.seed)
    builder = prepare_dataset(config)
    loaders = {}
    for part in ("training", config.evaluation.split):
        split, training = open_split(builder, part), part == "training"
        labels = split.columns()["expression"]
        rows = np.flatnonzero(labels >= 0) if training else np.arange(len(split))
        torch_peer.write_files(torch_peer.read_jpegs(split, rows), folder / part)
        faces = torch_peer.FaceFiles(
            folder / part, labels[rows], config.data.crop_size, train=training
        )
        passes = 1 if training else None
        loaders[part] = torch_peer.create_loader(faces, config.batch_size, workers=0, passes=passes)
    trainer = torch_peer.Trainer(
        config.trunk.name,
        dtype=config.dtype,
        crop_size=config.data.crop_size,
        width=config.trunk.get("width"),
    )
    for _ in range(round(config.duration.epochs)):
        losses = [
            trainer.train_step(
                torch_peer.normalize_images(images), labels.to(torch_peer.torch_device())
            )
            for images, labels in loaders["training"]
        ]
        probabilities = [
            trainer.predict(torch_peer.normalize_images(images))
            for images, _ in loaders[config.evaluation.split]
        ]
        yield float(torch.stack(losses).mean()), torch.cat(probabilities).double().cpu().numpy()


def table_rows(config: Config, ours: TrainingResult, peer: TrainingResult) -> list[dict[str, Any]]:
    """Returns a row for each side."""
    difference = protocol.compare(ours.predictions, peer.predictions, draws=1)
    rows = []
    for name, result in ((OURS, ours), (PEER, peer)):
        row = {
            "network": f"{config.trunk.name}, {config.data.crop_size} px",
            "epochs": len(result.epochs),
            "contender": name,
            "loss": f"{result.losses[-1]:.3f}",
        }
        for title in SCORES:
            row[title] = (
                f"{result.epochs[-1][title]:.3f}, best {result.epochs[result.best][title]:.3f}"
            )
        for title in ("accuracy", "macro-F1"):
            if name == PEER:
                low, high = difference.intervals[SCORES[title]]
                value = difference.values[SCORES[title]]
                row[f"difference of {title}"] = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
