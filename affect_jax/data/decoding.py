"""Decodes the faces of a batch: rows of a split to uint8 pixels; runs in any process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg

from affect_jax.core.errors import UserError, is_out_of_memory
from affect_jax.data import batch_buffers, sampling

if TYPE_CHECKING:
    from affect_jax.data.record_reader import Records

worker_index = 0
"""Index of this process among the worker processes of the loader; each of them sets it."""


def decode_jpeg(jpeg: bytes, image: np.ndarray) -> None:
    """Decodes a JPEG as RGB into `image`, uint8 [S, S, 3].

    **Raises:** `ValueError` if the bytes are not a complete JPEG of S x S pixels.
    """
    shape = simplejpeg.decode_jpeg(jpeg, "RGB", buffer=image).shape
    if shape != image.shape:
        raise ValueError(f"it has {shape[0]} x {shape[1]} pixels, not {len(image)} x {len(image)}")


def decode_faces(records: Records, rows: Iterable[int], image_size: int) -> np.ndarray:
    """Decodes the stored faces of the given rows: uint8 [n, S, S, 3].

    **Raises:** `UserError` that names the record if one cannot be decoded.
    """
    rows = [int(row) for row in rows]
    images = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    _decode_rows(records, rows, images)
    return images


class BatchSource:
    """Grain data source: element i is this process's share of the global batch of `steps[i]`.

    **Arguments:**

    - `shared_pool`: for worker processes; an element then has the number of a slot of the pool
      instead of images.
    """

    def __init__(
        self,
        images: Records | np.ndarray,
        rows: sampling.Rows,
        image_size: int,
        steps: range,
        process: tuple[int, int],
        shared_pool: batch_buffers.SharedBatchPool | None = None,
    ):
        self._images, self._rows, self._image_size = images, rows, image_size
        self._steps, self._process, self._shared_pool = steps, process, shared_pool
        self._buffer_pool = batch_buffers.BufferPool()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = sampling.select_process_rows(self._rows[self._steps[index]], *self._process)
        if self._shared_pool:
            slot, images = self._shared_pool.acquire_slot(worker_index)
            element = {"rows": rows, "slot": slot}
        else:
            shape = (len(rows), self._image_size, self._image_size, 3)
            images = self._buffer_pool.acquire(shape)
            element = {"rows": rows, "image": images}
        if isinstance(self._images, np.ndarray):  # mode "raise" would copy twice
            np.take(self._images, np.maximum(rows, 0), axis=0, out=images, mode="clip")
        else:
            _decode_rows(self._images, rows.tolist(), images)
        images[rows < 0] = 0
        return element


def _decode_rows(records: Records, rows: Iterable[int], images: np.ndarray) -> None:
    """Decodes the faces of some rows into `images`, uint8 [n, S, S, 3]; skips rows of -1."""
    for row, image in zip(rows, images, strict=True):
        if row < 0:
            continue
        try:
            decode_jpeg(records.read_jpeg(row), image)
        except ValueError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            name = records[row]["id"].decode()
            raise UserError(
                f"record {row} ({name}): its image cannot be decoded: {error}; delete the prepared "
                "records and prepare them again"
            ) from error
