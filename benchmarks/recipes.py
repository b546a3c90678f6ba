"""Compares training recipes on photographs: each ingredient alone, those that helped, three seeds.

    python -m benchmarks.recipes --manual_dir=/path/to/faces --run_dir=runs/recipes

The protocol, fixed before the first run: ResNet18 of half the width (32 channels, the network in
the package) on crops of 112 pixels, batch 32, SGD 0.01, the training split only; the validation
split is scored once, after the last epoch. Every contender has the same budget: five epochs of
plain training; SAM, whose update costs two gradients, has half. "All that helped" holds the
ingredients whose mean macro-F1 is above that of plain training. It is also trained after
pretraining on rendered faces (one more budget, on no photograph). PyTorch trains the same network
with timm's RandAugment, mixup and moving average for as many epochs.

A run that is finished in `--run_dir` is not repeated: a stopped command resumes, and
`--contenders` and `--seeds` select a part, to train on several machines. The module is also the
config of its runs:

    python -m affect_jax.main --config=benchmarks/recipes.py:augmentation+mixup
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics

from affect_jax.config import Config, defaults
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import open_split
from affect_jax.metrics.predictions import read_predictions
from affect_jax.train.experiment import load_registries
from benchmarks import harness, torch_peer, torch_training

PAGE = harness.FOLDER.parent / "docs" / "results.md"
EPOCHS = 5.0
PLAIN, PRETRAINING, PEER = "plain", "pretraining", "PyTorch"
INGREDIENTS = ("augmentation", "mixup", "sam", "balanced", "ema", "smoothing")
SCORES = ("accuracy", "macro-F1", "balanced accuracy")
AUGMENTATIONS = (
    {"name": "affine", "degrees": 10, "scale": (0.9, 1.1), "translate": 0.05},
    {"name": "colour_jitter", "brightness": 0.4, "contrast": 0.4},
    {"name": "random_erasing", "probability": 0.25},
)
MIXUP = {"name": "mixup", "alpha": 0.2, "probability": 1.0}
PEER_AUGMENTATION, PEER_EMA = "rand-m5-n2", 0.99


def get_config(contender: str = PLAIN) -> Config:
    """Returns the config of a contender: ingredients joined by `+`, `plain` or `pretraining`."""
    config = defaults()
    config.trunk = {"name": "resnet18", "width": 32}
    config.data.image_size, config.data.crop_size = 128, 112
    config.data.cache = "host"
    config.batch_size = 32
    config.checkpoint.best = ""
    parts = () if contender in (PLAIN, PRETRAINING) else contender.split("+")
    if contender == PRETRAINING:
        config.data.name = "synthetic_faces"
        sizes = {"num_training": 4_640, "num_validation": 640}
        config.data.options = {**sizes, "skew": "balanced"}
    loss: dict[str, Any] = {"name": "cross_entropy", "head": "expression"}
    if "balanced" in parts:
        loss = {"name": "weighted_cross_entropy", "head": "expression", "max_weight": 10.0}
        loss["scheme"] = "effective_number"
    if "smoothing" in parts:
        loss["label_smoothing"] = 0.1
    config.losses = (loss,)
    augmentations = AUGMENTATIONS if "augmentation" in parts else ()
    config.data.augment = (*augmentations, MIXUP) if "mixup" in parts else augmentations
    config.ema_decay = 0.99 if "ema" in parts else 0.0
    config.duration.epochs = EPOCHS
    if "sam" in parts:
        config.optimizer = {"name": "sam", "base": config.optimizer.to_dict()}
        config.duration.epochs = EPOCHS / 2
    for interval in (config.evaluate_every, config.checkpoint.every, config.images_every):
        interval.epochs = 2 * EPOCHS  # only after the last step
    return config


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        manual_dir=(str, None, "photographs in AffectNet's layout"),
        run_dir=(pathlib.Path, None, "folder of the runs"),
        page=(PAGE, None, "file with the table"),
        seeds=((0, 1, 2), None),
        contenders=((PLAIN, *INGREDIENTS, PEER), None),
        combine=(1, None, "also train all that helped, with and without pretraining; 0: do not"),
    )
    for seed in args.seeds:
        for contender in args.contenders:
            train_missing(contender, seed, args)
    finished = read_finished(args)
    if args.combine:
        helpful = select_helpful(finished)
        for seed in args.seeds:
            for contender in (helpful, f"{PRETRAINING}+{helpful}"):
                train_missing(contender, seed, args)
        finished = read_finished(args)
    harness.write_result(
        "recipes",
        what="Mean and standard deviation over seeds of the scores of the validation split after "
        "the last epoch, and minutes of processor time",
        args=args,
        rows=table_rows(finished),
        runs=finished,
        page=args.page,
    )


def train_missing(contender: str, seed: int, args: argparse.Namespace) -> None:
    """Trains and scores a run, unless it is finished; its result is `study.json` in its folder."""
    name = f"{contender}, seed {seed}"
    if name in read_finished(args):
        return
    folder = args.run_dir / f"{contender}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if contender.startswith(f"{PRETRAINING}+"):
        train_missing(PRETRAINING, seed, args)
    is_resumed, before = (folder / "checkpoints").exists(), processor_seconds()
    if contender == PEER:
        labels, probabilities = train_peer(seed, args)
    else:
        labels, probabilities = train_ours(contender, seed, folder, args)
    # The time before an interruption is not known.
    minutes = None if is_resumed else (processor_seconds() - before) / 60
    result = {**score(labels, probabilities), "minutes": minutes}
    (folder / "study.json").write_text(json.dumps({name: result}))
    print(name, result, flush=True)


def train_ours(
    contender: str, seed: int, folder: pathlib.Path, args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Trains with the command; returns labels [N] and probabilities [N, C] of the validation."""
    recipe = contender.removeprefix(f"{PRETRAINING}+")
    manual_dir = f"--config.data.manual_dir={args.manual_dir}"
    data_dir = f"--config.data.data_dir={args.run_dir / 'data'}"
    command = [sys.executable, "-m", "affect_jax.main", f"--workdir={folder}"]
    command += [f"--config={__file__}:{recipe}", f"--config.seed={seed}", manual_dir, data_dir]
    if recipe != contender:
        pretrained = args.run_dir / f"{PRETRAINING}-{seed}"
        command.append(f"--config.init_from={pretrained}")
    subprocess.run(command, check=True)
    evaluate = ["--mode=evaluate", "--checkpoint=last"]
    subprocess.run([*command[:4], *evaluate], check=True, stdout=subprocess.DEVNULL)
    predictions = read_predictions(folder / "evaluation" / "validation" / "predictions.parquet")
    assert predictions.expression is not None and predictions.probabilities is not None
    return predictions.expression, predictions.probabilities


def train_peer(seed: int, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Trains PyTorch on the same records with timm's ingredients; returns as `train_ours`."""
    torch = torch_peer.torch()
    torch_peer.torchvision()
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.mixup import Mixup

    load_registries()
    torch.manual_seed(seed)
    np.random.seed(seed)  # timm's mixup draws from it
    config = get_config()
    config.data.manual_dir, config.data.data_dir = args.manual_dir, str(args.run_dir / "data")
    randomize = rand_augment_transform(PEER_AUGMENTATION, {})

    def decode(path: pathlib.Path) -> np.ndarray:
        with torch_peer.Image.open(path) as image:
            return np.asarray(randomize(image.convert("RGB")))

    folder = args.run_dir / f"faces-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    (probabilities,) = torch_training.train_epochs(
        config,
        folder,
        epochs=1,
        passes=round(EPOCHS),
        decode=decode,
        mix=Mixup(MIXUP["alpha"], num_classes=config.data.num_classes, label_smoothing=0.0),
        ema_decay=PEER_EMA,
    )
    split = open_split(prepare_dataset(config), config.evaluation.split)
    labels = split.columns("expression")["expression"]
    return np.where(labels < config.data.num_classes, labels, -1), probabilities


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores the faces that have an expression."""
    rows = labels >= 0
    classes, predicted = np.unique(labels[rows]), probabilities[rows].argmax(axis=1)
    accuracy = np.mean(predicted == labels[rows])
    f1 = sklearn.metrics.f1_score(labels[rows], predicted, labels=classes, average="macro")
    recalls = [np.mean(predicted[labels[rows] == k] == k) for k in classes]
    return dict(zip(SCORES, map(float, (accuracy, f1, np.mean(recalls))), strict=True))


def processor_seconds() -> float:
    """Returns the processor time of this process and of the children that it waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def read_finished(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns `contender, seed N` -> result, of the folders of runs."""
    finished: dict[str, dict[str, float]] = {}
    for path in sorted(args.run_dir.glob("*/study.json")):
        finished |= json.loads(path.read_text())
    return finished


def select_helpful(finished: dict[str, dict[str, float]]) -> str:
    """Returns the ingredients whose mean macro-F1 is above that of plain training."""

    def mean(contender: str) -> float:
        return statistics.mean(values_of(finished, contender, "macro-F1"))

    return "+".join(name for name in INGREDIENTS if mean(name) > mean(PLAIN)) or PLAIN


def values_of(finished: dict[str, dict[str, float]], contender: str, score: str) -> list[float]:
    """Returns a value of each seed of a contender."""
    return [run[score] for name, run in finished.items() if name.rpartition(",")[0] == contender]


def table_rows(finished: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Returns a row of the table for each contender, in the order of the protocol."""
    trained = {name.rpartition(",")[0] for name in finished}
    alone = (PLAIN, *INGREDIENTS)
    combined = sorted(trained - {*alone, PEER, PRETRAINING}, key=len)
    rows = []
    for contender in (*alone, *combined, PEER):
        if contender not in trained:
            continue
        values = {score: values_of(finished, contender, score) for score in (*SCORES, "minutes")}
        row: dict[str, Any] = {"recipe": contender, "seeds": len(values["minutes"])}
        for name in SCORES:
            spread = statistics.stdev(values[name]) if len(values[name]) > 1 else float("nan")
            row[name] = f"{statistics.mean(values[name]):.3f} ± {spread:.3f}"
        minutes = [value for value in values["minutes"] if value is not None]
        rows.append(row | {"minutes": statistics.mean(minutes) if minutes else ""})
    return rows


if __name__ == "__main__":
    main()
