"""How PyTorch reads faces: a data set of JPEG files, and the loader its documentation advises."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import peers


def jpegs(split: Any, rows: Iterable[int]) -> Iterator[bytes]:
    """The encoded faces of a prepared split's rows."""
    return (split.records[int(row)]["image"] for row in rows)


def write_files(jpegs: Iterable[bytes], folder: pathlib.Path) -> None:
    """`folder/0.jpg`, `folder/1.jpg`, ...; the folder is made."""
    folder.mkdir(parents=True)
    for place, jpeg in enumerate(jpegs):
        (folder / f"{place}.jpg").write_bytes(jpeg)


class Faces:
    """JPEG files by Pillow, cut and mirrored at random in training, else cut in the middle.

    A slice of an array is the cheapest crop there is; the cut faces travel as bytes.

    **Arguments:**

    - `folder`: of `write_files`.
    - `labels`: int [N].
    """

    def __init__(self, folder: pathlib.Path, labels: np.ndarray, crop_size: int, train: bool):
        self._folder, self._labels = folder, labels
        self._crop_size, self._train = crop_size, train

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> Any:
        torch = peers.torch()
        with Image.open(self._folder / f"{place}.jpg") as image:
            pixels = np.asarray(image.convert("RGB"))
        free = pixels.shape[0] - self._crop_size
        top = left = free // 2
        if self._train:
            top, left, mirrored = torch.randint(0, 1 << 30, (3,)).tolist()
            top, left = top % (free + 1), left % (free + 1)
            pixels = pixels[:, ::-1] if mirrored % 2 else pixels
        cut = pixels[top : top + self._crop_size, left : left + self._crop_size]
        return torch.from_numpy(np.ascontiguousarray(cut)), int(self._labels[place])


def loader(data: Any, batch_size: int, *, workers: int, passes: int | None = None) -> Any:
    """A `DataLoader`: shuffled and of whole batches in training, else in order and complete.

    **Arguments:** `passes`: in training over how many shuffles of the data one iteration goes.
    """
    peers.torch()
    from torch.utils.data import DataLoader, RandomSampler

    whole = len(data) // batch_size * batch_size
    return DataLoader(
        data,
        batch_size,
        sampler=RandomSampler(data, num_samples=passes * whole) if passes else None,
        drop_last=passes is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=peers.device().type == "cuda",
        multiprocessing_context="spawn" if workers else None,  # a fork copies JAX's threads' locks
    )
