"""Writes records like `tfds`, but without TensorFlow and with deterministic bytes.

`tfds` creates its shuffler and serializer itself; `patched_tfds_io` replaces both. Readers of the
datasets see no difference.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from tensorflow_datasets.core import example_serializer, file_adapters, shuffle, writer

from affect_jax.core.errors import first_line


class ExternalSorter(shuffle.Shuffler):
    """Sorts records by the hash of their ids, also more than fit into memory.

    `tfds` opens files for this with TensorFlow, which is not installed. This class writes the
    records to one temporary file and sorts their positions.
    """

    def __init__(self, dirpath: Any, *args: Any, **options: Any):
        super().__init__(dirpath, *args, **options)
        self._positions: list[tuple[int, int, int]] = []
        self._file = tempfile.TemporaryFile(dir=dirpath)  # noqa: SIM115  # closed by _iter_mem

    @property
    def bucket_lengths(self) -> list[int]:
        return [self.num_examples]

    def _add_to_mem_buffer(self, hkey: int, data: bytes) -> None:
        self._positions.append((hkey, self._file.tell(), len(data)))
        self._file.write(data)

    def _iter_mem(self) -> Iterator[tuple[int, bytes]]:
        with self._file as file:
            for hkey, position, length in sorted(self._positions):
                file.seek(position)
                yield hkey, file.read(length)


class RecordSerializer(example_serializer.ExampleSerializer):
    """Serializes a record as a `tf.train.Example` with its features sorted by name.

    The order of a protocol buffer's map differs between processes. Without sorting, preparing the
    same faces twice would give different bytes.
    """

    def serialize_example(self, example: Any) -> bytes:
        """Serializes a record that `tfds` has encoded."""
        return self.get_tf_example(example).SerializeToString(deterministic=True)


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
