"""Writing records as `tfds` would, without TensorFlow and in a fraction of its time.

`tfds` makes its shuffler and serializer itself: `ours` puts these in their place. To readers of its
data sets nothing is different.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from tensorflow_datasets.core import example_serializer, file_adapters, shuffle, writer

from affect_jax.core.errors import first_line
from affect_jax.data.external_sort import Sorter
from affect_jax.data.records import Example


class Serializer(example_serializer.ExampleSerializer):
    """A record as a `tf.train.Example`, its features in the order of their names.

    A protocol buffer's map has another order in every process, so that the same faces prepared
    twice would differ in their bytes.
    """

    def serialize_example(self, example: Mapping[str, Any]) -> bytes:
        """Bytes of a flat record whose values `tfds` has checked and encoded."""
        stored, specs = Example(), cast(Mapping[str, Any], self.example_specs)
        for name, value in example.items():
            feature = stored.features.feature[name]
            kind = np.dtype(specs[name].np_dtype).kind
            if kind == "f":
                feature.float_list.value.extend(np.ravel(value).tolist())
            elif kind == "i":
                feature.int64_list.value.extend(np.ravel(value).tolist())
            else:  # one text: NumPy would cut zero bytes off the end of a file
                text = value.item() if isinstance(value, np.ndarray) else value
                feature.bytes_list.value.append(text.encode() if isinstance(text, str) else text)
        return stored.SerializeToString(deterministic=True)


class Writer(writer.ExampleWriter):
    """ArrayRecord files of one record a block, uncompressed: of a JPEG nothing would be gained."""

    def __init__(self):
        super().__init__(file_adapters.FileFormat.ARRAY_RECORD)

    def write(self, path: Any, examples: Any) -> None:
        """**Raises:** `OSError` where the disk takes no more."""
        from array_record.python.array_record_module import ArrayRecordWriter

        file = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        for _, content in examples:
            _complaining_as_usual(file.write, content)
        _complaining_as_usual(file.close)


def _complaining_as_usual(write: Any, *content: bytes) -> None:
    try:
        write(*content)
    except RuntimeError as error:  # how array_record reports a full disk
        raise OSError(first_line(error)) from error


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """`tfds` sorts with `Sorter` and serializes with `Serializer` as long as this lasts."""
    theirs = shuffle.Shuffler, example_serializer.ExampleSerializer
    shuffle.Shuffler, example_serializer.ExampleSerializer = Sorter, Serializer
    try:
        yield
    finally:
        shuffle.Shuffler, example_serializer.ExampleSerializer = theirs
