"""Records have the content that `tfds` would write, and deterministic bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow_datasets.core import example_serializer, shuffle
from tensorflow_datasets.proto import tf_example_pb2

from affect_jax.data import record_writer, synthetic_faces
from affect_jax.data.record_writer import ExternalSorter
from affect_jax.data.tfds_builder import face_features, make_record

FEATURES = face_features(32)
TFDS_SERIALIZER = example_serializer.ExampleSerializer(FEATURES.get_serialized_info())
SERIALIZER = record_writer.RecordSerializer(FEATURES.get_serialized_info())
FLOAT = st.floats(width=32)


def normalize_order(content: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(content).SerializeToString(deterministic=True)


@settings(max_examples=20)
@given(
    image=st.binary(min_size=1, max_size=60),
    identifier=st.text(st.characters(codec="utf-8"), max_size=20),
    expression=st.integers(-1, 10),
    valence=FLOAT,
    landmarks=st.none() | arrays.arrays(np.float32, (68, 2), elements=FLOAT),
    units=st.none() | arrays.arrays(np.float32, (18,), elements=FLOAT),
    box=arrays.arrays(np.float64, (4,), elements=FLOAT),
)
def test_records_equal_those_of_tfds(image, identifier, expression, valence, landmarks, units, box):
    """Includes files that end in zero bytes, which NumPy strings drop."""
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
    serialized = SERIALIZER.serialize_example(encoded)
    assert serialized == normalize_order(TFDS_SERIALIZER.serialize_example(encoded))
    assert serialized == normalize_order(serialized)
    stored = tf_example_pb2.Example.FromString(serialized).features.feature["image"]
    assert stored.bytes_list.value[0] == image + b"\0"


def test_full_disk_raises_os_error():
    with pytest.raises(OSError, match="No space left"):
        record_writer.RecordWriter().write("/dev/full", [(0, bytes(10_000))])


def test_patched_tfds_io_restores_tfds():
    originals = shuffle.Shuffler, example_serializer.ExampleSerializer
    with pytest.raises(KeyError), record_writer.patched_tfds_io():
        assert shuffle.Shuffler is ExternalSorter
        assert example_serializer.ExampleSerializer is record_writer.RecordSerializer
        raise KeyError
    assert (shuffle.Shuffler, example_serializer.ExampleSerializer) == originals


# --- external sort ---


def test_order_and_content_equal_those_of_tfds(tmp_path):
    rng = np.random.default_rng(0)
    sorters = [
        sorter_class(tmp_path, "salt") for sorter_class in (shuffle.Shuffler, ExternalSorter)
    ]
    for number in range(300):
        data = rng.bytes(int(rng.integers(0, 400)))
        for sorter in sorters:
            sorter.add(f"face {number}", data)
    reference, external = sorters
    assert external.size == reference.size
    assert sum(external.bucket_lengths) == external.num_examples == 300
    assert list(external) == list(reference)
    assert not any(tmp_path.iterdir())


def test_duplicate_keys_are_an_error(tmp_path):
    sorter = ExternalSorter(tmp_path, "salt")
    for name in ("a", "b", "a"):
        sorter.add(name, name.encode())
    with pytest.raises(shuffle.DuplicatedKeysError):
        list(sorter)


def test_preparation_needs_no_more_memory_than_tfds_allows(tmp_path, monkeypatch):
    """`tfds` uses TensorFlow, which is not installed, for records beyond its memory limit."""
    results = []
    for limit in (1 << 30, 10_000):
        monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", limit)
        builder = synthetic_faces.synthetic_faces(
            data_dir=str(tmp_path / str(limit)), image_size=32, num_training=40, num_validation=8
        )
        results.append({path.name: path.read_bytes() for path in builder.data_path.iterdir()})
    assert results[0] == results[1] and results[0]
