"""Sorts more records than fit into memory (external merge sort).

`tfds` sorts the records of a split by a hash of their ids. Above one gigabyte it stores them in
files that it opens with TensorFlow, which is not installed. This module writes plain files, and
earlier, so that it uses less memory.
"""

from __future__ import annotations

import contextlib
import heapq
import struct
import uuid
from collections.abc import Iterator
from typing import IO, Any

from etils import epath
from tensorflow_datasets.core import shuffle

MAX_BUFFER_BYTES = 128 << 20
"""Records buffered in memory, bytes; a million faces at 256 pixels make about 120 files."""

_HEADER = struct.Struct("<QQQ")  # both halves of the key and the record's length


class ExternalSorter(shuffle.Shuffler):
    """A `tfds` shuffler that writes sorted runs to files and merges them at the end."""

    def __init__(self, dirpath: Any, *args: Any, **options: Any):
        super().__init__(dirpath, *args, **options)
        self._prefix = epath.Path(dirpath) / f"run_{uuid.uuid4()}"
        self._runs: list[epath.Path] = []
        self._buffered_bytes = 0

    @property
    def bucket_lengths(self) -> list[int]:
        return [self.num_examples]

    def _add_to_mem_buffer(self, hkey: int, data: bytes) -> None:
        self._mem_buffer.append((hkey, data))
        self._buffered_bytes += len(data)
        if self._buffered_bytes > MAX_BUFFER_BYTES:
            self._write_run()

    def _write_run(self) -> None:
        path = self._prefix.with_name(f"{self._prefix.name}_{len(self._runs):05d}.tmp")
        with path.open("wb") as file:
            for hkey, data in sorted(self._mem_buffer):
                file.write(_HEADER.pack(hkey >> 64, hkey & (2**64 - 1), len(data)))
                file.write(data)
        self._runs.append(path)
        self._mem_buffer = []
        self._buffered_bytes = 0

    def _iter_mem(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.ExitStack() as stack:
            runs = [_read_run(stack.enter_context(path.open("rb"))) for path in self._runs]
            yield from heapq.merge(*runs, sorted(self._mem_buffer))
        for path in self._runs:
            path.unlink()


def _read_run(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while head := file.read(_HEADER.size):
        high, low, length = _HEADER.unpack(head)
        yield high << 64 | low, file.read(length)
