"""Writes small releases of AffectNet, in both layouts, optionally with defects."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
from PIL import Image

from affect_jax.data import DATASETS, affectnet

SIZE = 32
POINTS = ";".join(f"{value:.2f}" for value in np.linspace(4, 30, 136))


def picture(seed: int, side: int = 48) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC)


def line(path: str, expression=1, valence=0.5, arousal=-0.25, box=(4, 5, 30, 32)) -> list:
    return [path, *box, POINTS, expression, valence, arousal]


def write_csv(path: pathlib.Path, lines: list, header=affectnet.HEADER) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *lines] if header else lines)


def first_release(
    base: pathlib.Path,
    *,
    training: int = 24,
    validation: int = 6,
    tables: str = ".",
    images: str = "Manually_Annotated_Images",
    extra: tuple[list, ...] = (),
) -> pathlib.Path:
    """Writes a release; labels cycle through the eleven, every fourth face has no dimensions."""
    folder = base / images
    (base / tables).mkdir(parents=True, exist_ok=True)
    for split, total in (("training", training), ("validation", validation)):
        lines = []
        for i in range(total):
            path = f"{i % 3}/{split}{i}.jpg"
            (folder / str(i % 3)).mkdir(parents=True, exist_ok=True)
            picture(i).save(folder / path)
            dimensions = (-2, -2) if i % 4 == 3 else (i / 100, -i / 100)
            lines.append(line(path, i % 11, *dimensions))
        write_csv(base / tables / f"{split}.csv", lines + list(extra) * (split == "training"))
    return base


def second_release(base: pathlib.Path, *, as_text: bool = False, nested: bool = False) -> None:
    for name, total in (("train_set", 12), ("val_set", 5)):
        folder = base / name / name if nested else base / name
        (folder / "images").mkdir(parents=True)
        (folder / "annotations").mkdir()
        for i in range(total):
            picture(i, 24).save(folder / "images" / f"{i}.jpg")
            values = {"exp": i % 8, "val": -2 if i == 3 else i / 50, "aro": -i / 50}
            for suffix, value in values.items():
                array = np.array(str(value) if as_text else value)
                np.save(folder / "annotations" / f"{i}_{suffix}.npy", array)
            points = np.linspace(0, 23, 136)
            array = points.reshape(68, 2) if i % 2 else points
            np.save(folder / "annotations" / f"{i}_lnd.npy", array)


def prepare(base: pathlib.Path, data_dir: pathlib.Path, **options):
    options = {"image_size": SIZE, "num_workers": 1} | options
    return DATASETS["affectnet"](manual_dir=str(base), data_dir=str(data_dir), **options)
