"""Writes records like `tfds`, but without TensorFlow and in a fraction of the time.

`tfds` creates its shuffler and serializer itself; `patched_tfds_io` replaces both. Readers of the
datasets see no difference.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, cast

import numpy as np
from tensorflow_datasets.core import example_serializer, file_adapters, shuffle, writer

from affect_jax.core.errors import first_line
from affect_jax.data.record_reader import Example

MAX_BUFFER_BYTES = 128 << 20
"""Records sorted in memory, bytes; a million faces at 256 pixels make about 120 files."""


class ExternalSorter(shuffle.Shuffler):
    """Sorts records by the hash of their ids, also more than fit into memory.

    `tfds` opens files for this with TensorFlow, which is not installed. This class sorts parts in
    memory, writes each to a temporary file and merges them.
    """

    def __init__(self, dirpath: Any, *args: Any, **options: Any):
        super().__init__(dirpath, *args, **options)
        self._folder = dirpath
        self._files: list[IO[bytes]] = []
        self._buffered_bytes = 0

    @property
    def bucket_lengths(self) -> list[int]:
        return [self.num_examples]

    def _add_to_mem_buffer(self, hkey: int, data: bytes) -> None:
        self._mem_buffer.append((hkey, data))
        self._buffered_bytes += len(data)
        if self._buffered_bytes > MAX_BUFFER_BYTES:
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed by _iter_mem
            for record in sorted(self._mem_buffer):
                pickle.dump(record, file)
            self._files.append(file)
            self._mem_buffer = []
            self._buffered_bytes = 0

    def _iter_mem(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.ExitStack() as stack:
            parts = [_read_sorted(stack.enter_context(file)) for file in self._files]
            yield from heapq.merge(*parts, sorted(self._mem_buffer))


def _read_sorted(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        yield pickle.load(file)


class RecordSerializer(example_serializer.ExampleSerializer):
    """Serializes a record as a `tf.train.Example` with its features sorted by name.

    The order of a protocol buffer's map differs between processes. Without sorting, preparing the
    same faces twice would give different bytes.
    """

    def serialize_example(self, example: Mapping[str, Any]) -> bytes:
        """Serializes a flat record whose values `tfds` has checked and encoded."""
        message, specs = Example(), cast(Mapping[str, Any], self.example_specs)
        for name, value in example.items():
            feature = message.features.feature[name]
            kind = np.dtype(specs[name].np_dtype).kind
            if kind == "f":
                feature.float_list.value.extend(np.ravel(value).tolist())
            elif kind == "i":
                feature.int64_list.value.extend(np.ravel(value).tolist())
            else:  # a single text: NumPy would strip zero bytes from the end of a file
                text = value.item() if isinstance(value, np.ndarray) else value
                feature.bytes_list.value.append(text.encode() if isinstance(text, str) else text)
        return message.SerializeToString(deterministic=True)


class RecordWriter(writer.ExampleWriter):
    """Writes ArrayRecord files, one record per block, uncompressed since JPEGs do not compress."""

    def __init__(self):
        super().__init__(file_adapters.FileFormat.ARRAY_RECORD)

    def write(self, path: Any, examples: Any) -> None:
        """**Raises:** `OSError` if the disk is full."""
        from array_record.python.array_record_module import ArrayRecordWriter

        file = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        try:
            for _, content in examples:
                file.write(content)
            file.close()
        except RuntimeError as error:
            raise OSError(first_line(error)) from error


@contextlib.contextmanager
def patched_tfds_io() -> Iterator[None]:
    """Makes `tfds` sort with `ExternalSorter` and serialize with `RecordSerializer`."""
    originals = shuffle.Shuffler, example_serializer.ExampleSerializer
    shuffle.Shuffler, example_serializer.ExampleSerializer = ExternalSorter, RecordSerializer
    try:
        yield
    finally:
        shuffle.Shuffler, example_serializer.ExampleSerializer = originals
