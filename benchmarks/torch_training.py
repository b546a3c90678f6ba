"""Training PyTorch on the faces of a config, for the benchmarks that compare scores and epochs."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from affect_jax.config import Config
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.tfds_builder import Split, open_split
from benchmarks import torch_peer

Mix = Callable[[Any, Any], tuple[Any, Any]]  # a batch of images and labels -> mixed ones


def create_face_files(
    split: Split,
    folder: pathlib.Path,
    config: Config,
    *,
    train: bool,
    decode: torch_peer.Decode = torch_peer.decode_with_pillow,
) -> torch_peer.FaceFiles:
    """Writes the faces of a split to files; training omits those without an expression."""
    labels = split.columns("expression")["expression"]
    labels = np.where(labels < config.data.num_classes, labels, -1)
    rows = np.flatnonzero(labels >= 0) if train else np.arange(len(labels))
    torch_peer.write_files(torch_peer.read_jpegs(split, rows), folder)
    return torch_peer.FaceFiles(folder, labels[rows], config.data.crop_size, train, decode)


def train_epochs(
    config: Config,
    folder: pathlib.Path,
    *,
    epochs: int,
    passes: int = 1,
    decode: torch_peer.Decode = torch_peer.decode_with_pillow,
    mix: Mix | None = None,
    ema_decay: float = 0.0,
) -> Iterator[np.ndarray]:
    """Trains the network of a config with SGD; yields probabilities [N, C] after each epoch.

    **Arguments:**

    - `folder`: for the files of faces; must not exist.
    - `passes`: over the training split in an epoch.
    - `decode`: of training faces; may augment them.
    - `ema_decay`: of the moving average of the weights that predicts; 0: none.
    """
    builder, loaders = prepare_dataset(config), {}
    for part in ("training", config.evaluation.split):
        train = part == "training"
        options = {"decode": decode} if train else {}
        faces = create_face_files(
            open_split(builder, part), folder / part, config, train=train, **options
        )
        loaders[part] = torch_peer.create_loader(
            faces, config.batch_size, workers=0, passes=passes if train else None
        )
    trainer = torch_peer.Trainer(
        config.trunk.name,
        dtype=config.dtype,
        crop_size=config.data.crop_size,
        width=config.trunk.get("width"),
    )
    average = torch_peer.average_weights(trainer.network, ema_decay) if ema_decay else None
    predict = functools.partial(trainer.predict, network=average and average.module)
    for _ in range(epochs):
        for images, labels in loaders["training"]:
            batch = torch_peer.normalize_images(images), labels.to(torch_peer.torch_device())
            trainer.train_step(*(mix(*batch) if mix else batch))
            if average:
                average.update(trainer.network)
        yield np.concatenate(
            [
                predict(torch_peer.normalize_images(images)).double().cpu().numpy()
                for images, _ in loaders[config.evaluation.split]
            ]
        )
