"""Reads faces in PyTorch: a dataset of JPEG files, and the loader its documentation advises."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import frameworks


def read_jpegs(split: Any, rows: Iterable[int]) -> Iterator[bytes]:
    """Yields the JPEGs of the given rows of a prepared split."""
    return (split.records[int(row)]["image"] for row in rows)


def write_files(jpegs: Iterable[bytes], folder: pathlib.Path) -> None:
    """Creates the folder and writes `0.jpg`, `1.jpg`, ... into it."""
    folder.mkdir(parents=True)
    for index, jpeg in enumerate(jpegs):
        (folder / f"{index}.jpg").write_bytes(jpeg)


class FaceFiles:
    """A map-style dataset of JPEG files, decoded by Pillow.

    Training crops and mirrors at random, evaluation crops the centre. The crop is an array slice,
    which is the cheapest one, and the faces stay uint8.

    **Arguments:**

    - `folder`: a folder of `write_files`.
    - `labels`: int [N].
    - `train`: whether to crop and mirror at random.
    """

    def __init__(self, folder: pathlib.Path, labels: np.ndarray, crop_size: int, train: bool):
        self._folder, self._labels = folder, labels
        self._crop_size, self._train = crop_size, train

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        torch = frameworks.torch()
        with Image.open(self._folder / f"{index}.jpg") as image:
            pixels = np.asarray(image.convert("RGB"))
        margin = pixels.shape[0] - self._crop_size
        top = left = margin // 2
        if self._train:
            top, left, mirrored = torch.randint(0, 1 << 30, (3,)).tolist()
            top, left = top % (margin + 1), left % (margin + 1)
            pixels = pixels[:, ::-1] if mirrored % 2 else pixels
        crop = pixels[top : top + self._crop_size, left : left + self._crop_size]
        return torch.from_numpy(np.ascontiguousarray(crop)), int(self._labels[index])


def create_loader(data: Any, batch_size: int, *, workers: int, passes: int | None = None) -> Any:
    """Creates a `DataLoader`.

    **Arguments:** `passes`: the number of shuffled passes in one iteration, without the last,
    incomplete batch of each. None: one pass in order, with all faces.
    """
    frameworks.torch()
    from torch.utils.data import DataLoader, RandomSampler

    num_faces = len(data) // batch_size * batch_size
    return DataLoader(
        data,
        batch_size,
        sampler=RandomSampler(data, num_samples=passes * num_faces) if passes else None,
        drop_last=passes is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=frameworks.torch_device().type == "cuda",
        multiprocessing_context="spawn"
        if workers
        else None,  # a fork would copy locks of JAX's threads
    )
