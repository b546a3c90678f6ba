"""One batch of faces: from rows of a split to bytes of pixels, in whichever process it happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import simplejpeg

from affect_jax.core.errors import UserError, for_want_of_memory
from affect_jax.data import batch_buffers, sampling


class Records(Protocol):
    """Random access to a split's records; picklable where worker processes are used.

    A method `image(row) -> bytes`, where there is one, gives the JPEG without the rest: the rest
    costs half as much as decoding, and holds Python's lock.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Mapping[str, Any]: ...


class Rows(Protocol):
    """Rows of each global batch, int64 [B], -1 is padding: see `sampling`."""

    def __getitem__(self, step: int, /) -> np.ndarray: ...


def decode(jpeg: bytes, image: np.ndarray) -> None:
    """Decodes a JPEG as RGB into `image`, uint8 [S, S, 3].

    **Raises:** `ValueError` for anything but a whole JPEG of S x S pixels.
    """
    found = simplejpeg.decode_jpeg(jpeg, "RGB", buffer=image).shape
    if found != image.shape:
        raise ValueError(f"it has {found[0]} x {found[1]} pixels, not {len(image)} x {len(image)}")


def faces(records: Records, rows: Iterable[int], image_size: int) -> np.ndarray:
    """Some faces of a split, as they are stored: uint8 [n, S, S, 3].

    **Raises:** `UserError` that names a record which cannot be decoded.
    """
    rows = [int(row) for row in rows]
    images = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    _read(records, rows, images)
    return images


class Source:
    """Grain's data source: element i is this process's share of global batch `start + i`.

    **Arguments:**

    - `slots`: for worker processes; element i has no image but lies there as batch i.
    """

    def __init__(
        self,
        images: Records | np.ndarray,
        rows: Rows,
        image_size: int,
        steps: range,
        process: tuple[int, int],
        slots: batch_buffers.Slots | None = None,
    ):
        self._images, self._rows, self._image_size = images, rows, image_size
        self._steps, self._process, self._slots = steps, process, slots
        self._buffers = batch_buffers.Buffers()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = sampling.process_rows(self._rows[self._steps[index]], *self._process)
        shape = (len(rows), self._image_size, self._image_size, 3)
        images = self._slots.fill(index) if self._slots else self._buffers.take(shape)
        if isinstance(self._images, np.ndarray):  # "clip": with "raise" NumPy copies twice
            np.take(self._images, np.maximum(rows, 0), axis=0, out=images, mode="clip")
        else:
            _read(self._images, rows.tolist(), images)
        images[rows < 0] = 0
        return {"rows": rows} | ({"batch": index} if self._slots else {"image": images})

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_buffers"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._buffers = batch_buffers.Buffers()


def _read(records: Records, rows: Iterable[int], images: np.ndarray) -> None:
    """Decodes the faces of some rows into `images`, uint8 [n, S, S, 3]; those of -1 are left."""
    read: Any = getattr(records, "image", None) or (lambda row: records[row]["image"])
    for row, image in zip(rows, images, strict=True):
        if row < 0:
            continue
        try:
            decode(read(row), image)
        except ValueError as error:
            if for_want_of_memory(error):
                raise MemoryError(str(error)) from error
            name = records[row]["id"]
            name = name.decode() if isinstance(name, bytes) else name
            raise UserError(
                f"record {row} ({name}): its image cannot be decoded: {error}; delete the prepared "
                "records and prepare them again"
            ) from error
