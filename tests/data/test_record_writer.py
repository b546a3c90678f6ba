"""What is written is what `tfds` would write, to a reader; and to itself, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow_datasets.core import example_serializer, shuffle
from tensorflow_datasets.proto import tf_example_pb2

from affect_jax.data import external_sort, record_writer
from affect_jax.data.builder import face_features, make_record

FEATURES = face_features(32)
THEIRS = example_serializer.ExampleSerializer(FEATURES.get_serialized_info())
OURS = record_writer.Serializer(FEATURES.get_serialized_info())
FLOAT = st.floats(width=32)


def ordered(content: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(content).SerializeToString(deterministic=True)


@given(
    image=st.binary(min_size=1, max_size=60),
    identifier=st.text(st.characters(codec="utf-8"), max_size=20),
    expression=st.integers(-1, 10),
    valence=FLOAT,
    landmarks=st.none() | arrays.arrays(np.float32, (68, 2), elements=FLOAT),
    units=st.none() | arrays.arrays(np.float32, (18,), elements=FLOAT),
    box=arrays.arrays(np.float64, (4,), elements=FLOAT),
)
def test_a_record_is_the_one_of_tfds(image, identifier, expression, valence, landmarks, units, box):
    """Also where a file ends in zero bytes, which NumPy's strings lose."""
    record = make_record(
        identifier,
        image + b"\0",
        expression,
        box=box,
        valence=valence,
        landmarks=landmarks,
        action_units=units,
    )
    encoded = FEATURES.encode_example(record)
    found = OURS.serialize_example(encoded)
    assert found == ordered(THEIRS.serialize_example(encoded))
    assert found == ordered(found)
    stored = tf_example_pb2.Example.FromString(found).features.feature["image"]
    assert stored.bytes_list.value[0] == image + b"\0"


def test_a_full_disk_is_an_error_of_the_system():
    with pytest.raises(OSError, match="No space left"):
        record_writer.Writer().write("/dev/full", [(0, bytes(10_000))])


def test_the_library_is_left_as_it_was():
    before = shuffle.Shuffler, example_serializer.ExampleSerializer
    with pytest.raises(KeyError), record_writer.ours():
        assert shuffle.Shuffler is external_sort.Sorter
        assert example_serializer.ExampleSerializer is record_writer.Serializer
        raise KeyError
    assert (shuffle.Shuffler, example_serializer.ExampleSerializer) == before
