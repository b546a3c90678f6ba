"""Records beyond memory: the same order, the same bytes, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from affect_jax.data import DATASETS, external_sort, synthetic_faces  # noqa: F401


def filled(kind: type, folder, seed: int = 0):
    rng = np.random.default_rng(seed)
    sorter = kind(folder, "salt")
    for number in range(300):
        sorter.add(f"face {number}", rng.bytes(int(rng.integers(0, 400))))
    return sorter


@pytest.mark.parametrize("limit", (1 << 30, 20_000, 0))
def test_order_and_content_do_not_depend_on_the_memory(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(external_sort, "MAX_BYTES", limit)
    theirs = filled(shuffle.Shuffler, tmp_path)
    ours = filled(external_sort.Sorter, tmp_path)
    assert any(tmp_path.iterdir()) == (limit < 1 << 30)
    assert ours.size == theirs.size and sum(ours.bucket_lengths) == ours.num_examples == 300
    assert list(ours) == list(theirs)
    assert not any(tmp_path.iterdir())


def test_memory_holds_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(external_sort, "MAX_BYTES", 5_000)
    sorter = filled(external_sort.Sorter, tmp_path)
    assert sum(len(data) for _, data in sorter._mem_buffer) <= 5_000


def test_a_key_that_comes_twice_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(external_sort, "MAX_BYTES", 0)
    sorter = external_sort.Sorter(tmp_path, "salt")
    for name in ("a", "b", "a"):
        sorter.add(name, name.encode())
    with pytest.raises(shuffle.DuplicatedKeysError):
        list(sorter)


def test_prepared_files_are_equal_byte_for_byte(tmp_path, monkeypatch):
    """And TensorFlow, which `tfds` would use for what is beyond its memory, is not needed."""
    found = []
    for name, limit in (("all", 1 << 30), ("few", 10_000)):
        monkeypatch.setattr(external_sort, "MAX_BYTES", limit)
        monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", limit)
        builder = DATASETS["synthetic_faces"](
            data_dir=str(tmp_path / name), image_size=32, num_training=40, num_validation=8
        )
        files = sorted(path for path in builder.data_path.iterdir() if "array_record" in path.name)
        assert not [path for path in builder.data_path.iterdir() if path.suffix == ".tmp"]
        found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1] and found[0]
