"""Writes small releases in AffectNet's first layout for tests that train on them."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
from PIL import Image

from affect_jax.config import Config
from affect_jax.core import labels

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,"
    "facial_landmarks,expression,valence,arousal"
).split(",")
SIDE = 48


def write_release(folder: pathlib.Path, *, training: int = 64, validation: int = 24) -> None:
    """Writes a release whose classes differ in colour; every tenth label is not a class.

    Every third face has no valence and arousal; landmarks are 68 random points.
    """
    colours = np.random.default_rng(0).integers(40, 216, (len(labels.EXPRESSIONS), 3))
    for name, count in (("training", training), ("validation", validation)):
        random = np.random.default_rng(count)
        rows = []
        for i in range(count):
            path = f"{i % 3}/{name}{i:04d}.jpg"
            file = folder / "Manually_Annotated_Images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            expression = 9 if i % 10 == 9 else i % 8
            noise = random.integers(-30, 31, (SIDE, SIDE, 3))
            image = np.clip(colours[expression] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(file, quality=95)
            points = ";".join(f"{value:.2f}" for value in random.uniform(0, SIDE, 136))
            axes = (-2, -2) if i % 3 == 2 else random.uniform(-1, 1, 2).round(4)
            rows.append((path, 0, 0, SIDE, SIDE, points, expression, *axes))
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])


SMALL_RUN = {
    "data.image_size": 40,
    "data.crop_size": 32,
    "trunk.name": "resnet18",
    "trunk.width": 8,
    "batch_size": 8,
    "evaluation.batch_size": 16,
    "evaluation.draws": 5,
    "log_every": 3,
    "learning_rate": 0.02,
    "ema_decay": 0.9,
}
"""Config values with which a run on the faces of `write_release` takes seconds."""


def shrink_config(config: Config, release: pathlib.Path, data: pathlib.Path, **changes) -> None:
    """Sets `SMALL_RUN`, the folders of the data and `changes` (keys with `__` in place of dots)."""
    values = SMALL_RUN | {"data.manual_dir": str(release), "data.data_dir": str(data)}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    for key, value in values.items():
        *path, last = key.split(".")
        target = config
        for part in path:
            target = target[part]
        target[last] = value


def create_flags(release: pathlib.Path, data: pathlib.Path, **changes) -> list[str]:
    """Returns the same settings as command-line flags."""
    values = SMALL_RUN | {"data.manual_dir": str(release), "data.data_dir": str(data)}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return [f"--config.{key}={value}" for key, value in values.items()]
