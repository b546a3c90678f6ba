"""Small data in AffectNet's first layout, made by the tests that train on it."""

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
    """A release whose classes differ in colour; the ninth label of each ten has no class.

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


SMALL = {
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
"""What makes any config a run of seconds on `write_release`'s faces."""


def shrink(config: Config, release: pathlib.Path, data: pathlib.Path, **changes) -> None:
    """Sets `SMALL`, the places of the data and `changes` (dots are double underscores)."""
    values = SMALL | {"data.manual_dir": str(release), "data.data_dir": str(data)}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    for key, value in values.items():
        *path, last = key.split(".")
        place = config
        for part in path:
            place = place[part]
        place[last] = value


def as_flags(release: pathlib.Path, data: pathlib.Path, **changes) -> list[str]:
    """The same as command line flags."""
    values = SMALL | {"data.manual_dir": str(release), "data.data_dir": str(data)}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return [f"--config.{key}={value}" for key, value in values.items()]
