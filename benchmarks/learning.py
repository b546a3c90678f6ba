"""Whether a finished run learned as well as PyTorch does from the same faces.

    python -m benchmarks.learning runs/resnet18_imbalanced-photographs ...

The run's network is trained again by PyTorch: torchvision's, with its own initialisation, loading,
cropping and mirroring, on the run's records, for as many epochs, with the same batch size, learning
rate, momentum and weight decay. What the two have in common is the data and the protocol's scores.
Where preprocessing, initialisation, normalisation or the optimizer differ, they part from epoch to
epoch, in `results/learning.json`. An interval is of the choice of test faces alone: with another
seed, or an epoch later, either side's scores move by as much as neighbouring epochs differ.

The run must be of the categorical model with `natural` sampling, plain cross entropy and a constant
rate; otherwise the peer would train something else, and the command says so.
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
from affect_jax.data.builder import open_split
from affect_jax.data.targets import prepare_dataset
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, read_predictions
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import all_registries
from benchmarks import peer_data, peers, recording

OURS, PEER = "affect_jax", "PyTorch"
SHOWN = {
    "accuracy": "categorical.top1.original.accuracy",
    "macro-F1": "categorical.top1.original.f1.macro",
    "AUC": "categorical.top1.original.auc.macro",
}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "torchvision", "pillow")


@dataclasses.dataclass
class Learned:
    """One side.

    - `epochs`: of each epoch, scores by the names of `SHOWN`.
    - `losses`: of each epoch, the mean of its training steps.
    - `best`: the epoch whose checkpoint the run's config would keep, from 0.
    - `predictions`: of that epoch.
    """

    epochs: list[dict[str, float]]
    losses: list[float]
    best: int
    predictions: Predictions


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    all_registries()
    loaded = [(run, from_dict(Workdir(run).load_config())) for run in options.runs]
    for run, config in loaded:
        refuse_others(run, config)
    rows, kept = [], {}
    for run, config in loaded:
        ours = of_run(run, config)
        peer = of_peer(config, ours.predictions)
        rows += rows_of(config, ours, peer)
        kept[run.name] = {
            side: {"epochs": one.epochs, "losses": one.losses}
            for side, one in ((OURS, ours), (PEER, peer))
        }
    recording.keep(
        "learning",
        what="Scores of the validation split after the last epoch and after the best, which each "
        "side chooses by its macro-F1 as runs do; the loss is the mean over the last epoch; "
        "the difference is of the best, PyTorch's less ours, with its paired 95% interval",
        options=options,
        rows=rows,
        runs=kept,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("runs", nargs="+", type=pathlib.Path, help="evaluated at their best")
    return recording.parse(found, arguments, {})


def refuse_others(run: pathlib.Path, config: Config) -> None:
    """**Raises:** `SystemExit` where the peer would train something else."""
    wanted = {
        "heads": ["expression"],
        "losses": [{"name": "cross_entropy", "head": "expression"}],
        "sampling": {"name": "natural"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
        "learning_rate": 0.01,
        "dtype": "float32",
        "ema_decay": 0.0,
        "init_from": "",
    }
    given = to_dict(config)
    other = [key for key in wanted if given[key] != wanted[key]]
    if given["schedule"].get("decay") != 1.0:
        other.append("schedule")
    if other:
        raise SystemExit(f"{run}: the peer has no such {', '.join(other)}: {given[other[0]]}")


def of_run(run: pathlib.Path, config: Config) -> Learned:
    """What a run's folder tells; it must have been evaluated."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if SHOWN["accuracy"] in line]
    epochs = [{name: line[key] for name, key in SHOWN.items()} for line in evaluated]
    edges = [0, *(line["step"] for line in evaluated)]
    losses = [mean_loss(lines, *steps) for steps in itertools.pairwise(edges)]
    chosen = [line[config.checkpoint.best] for line in evaluated]
    table = read_predictions(run / "evaluation" / config.evaluation.split / "predictions.parquet")
    return Learned(epochs, losses, int(np.argmax(chosen)), table)


def mean_loss(lines: list[dict[str, Any]], begin: int, end: int) -> float:
    """Of the log's lines after step `begin` and up to `end`."""
    trained = [line for line in lines if "train.loss" in line]
    return float(np.mean([line["train.loss"] for line in trained if begin < line["step"] <= end]))


def of_peer(config: Config, table: Predictions) -> Learned:
    """Trains the peer on the run's records.

    **Arguments:**

    - `table`: the run's predictions: the faces to score, and their labels.
    """
    epochs, losses, best, chosen = [], [], -np.inf, None
    with tempfile.TemporaryDirectory() as folder:
        for loss, probabilities in train(config, pathlib.Path(folder)):
            found = dataclasses.replace(table, probabilities=probabilities)
            scored = protocol.score(found, draws=1).values
            epochs.append({name: float(scored[key]) for name, key in SHOWN.items()})
            losses.append(loss)
            if scored[config.checkpoint.best] > best:
                best, chosen = scored[config.checkpoint.best], (len(epochs) - 1, found)
            print(f"PyTorch, epoch {len(epochs)}: loss {loss:.3f}, {epochs[-1]}", flush=True)
    assert chosen is not None  # a run has an epoch
    return Learned(epochs, losses, *chosen)


def train(config: Config, folder: pathlib.Path) -> Iterator[tuple[float, np.ndarray]]:
    """After each epoch its mean loss, and the probabilities [N, C] of the validation split."""
    torch = peers.torch()
    torch.manual_seed(config.seed)
    builder = prepare_dataset(config)
    loaders = {}
    for part in ("training", config.evaluation.split):
        split, training = open_split(builder, part), part == "training"
        labels = split.columns()["expression"]
        rows = np.flatnonzero(labels >= 0) if training else np.arange(len(split))
        peer_data.write_files(peer_data.jpegs(split, rows), folder / part)
        faces = peer_data.Faces(folder / part, labels[rows], config.data.crop_size, train=training)
        passes = 1 if training else None
        loaders[part] = peer_data.loader(faces, config.batch_size, workers=0, passes=passes)
    side = peers.Side(
        config.trunk.name,
        dtype=config.dtype,
        crop_size=config.data.crop_size,
        width=config.trunk.get("width"),
    )
    for _ in range(round(config.duration.epochs)):
        found = [
            side.update(peers.normalized(images), labels.to(peers.device()))
            for images, labels in loaders["training"]
        ]
        predicted = [
            side.predict(peers.normalized(images)) for images, _ in loaders[config.evaluation.split]
        ]
        yield float(torch.stack(found).mean()), torch.cat(predicted).double().cpu().numpy()


def rows_of(config: Config, ours: Learned, peer: Learned) -> list[dict[str, Any]]:
    """A row a side."""
    difference = protocol.compare(ours.predictions, peer.predictions, draws=1)
    rows = []
    for name, side in ((OURS, ours), (PEER, peer)):
        row = {
            "network": f"{config.trunk.name}, {config.data.crop_size} px",
            "epochs": len(side.epochs),
            "contender": name,
            "loss": f"{side.losses[-1]:.3f}",
        }
        for title in SHOWN:
            row[title] = f"{side.epochs[-1][title]:.3f}, best {side.epochs[side.best][title]:.3f}"
        for title in ("accuracy", "macro-F1"):
            if name == PEER:
                low, high = difference.intervals[SHOWN[title]]
                value = difference.values[SHOWN[title]]
                row[f"difference of {title}"] = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
