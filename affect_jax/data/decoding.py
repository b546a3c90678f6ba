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
"""Index of this process among the worker processes of the loader, which set it."""


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

    An element has the rows, and the number of the slot of `pool` that holds the images.
    """

    def __init__(
        self,
        images: Records | np.ndarray,
        rows: sampling.Rows,
        steps: range,
        process: tuple[int, int],
        pool: batch_buffers.BatchPool,
    ):
        self._images, self._rows = images, rows
        self._steps, self._process, self._pool = steps, process, pool

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = sampling.select_process_rows(self._rows[self._steps[index]], *self._process)
        slot, images = self._pool.acquire_slot(worker_index)
        if isinstance(self._images, np.ndarray):  # mode "raise" would copy twice
            np.take(self._images, np.maximum(rows, 0), axis=0, out=images, mode="clip")
        else:
            _decode_rows(self._images, rows.tolist(), images)
        images[rows < 0] = 0
        return {"rows": rows, "slot": slot}


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
