"""Writes records like `tfds`, but without TensorFlow and in a fraction of the time.

`tfds` creates its shuffler and serializer itself; `patched_tfds_io` replaces both. Readers of the
datasets see no difference.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from tensorflow_datasets.core import example_serializer, file_adapters, shuffle, writer

from affect_jax.core.errors import first_line
from affect_jax.data.external_sort import ExternalSorter
from affect_jax.data.record_reader import Example


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
        for _, content in examples:
            write_or_raise(file.write, content)
        write_or_raise(file.close)


def write_or_raise(write: Any, *content: bytes) -> None:
    """Calls `write` and raises array_record's error for a full disk as `OSError`."""
    try:
        write(*content)
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
