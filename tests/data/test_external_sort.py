"""External sort: the same order and bytes as in memory, and no leftover files."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from affect_jax.data import DATASETS, external_sort, synthetic_faces  # noqa: F401


def create_filled_sorter(sorter_class: type, folder, seed: int = 0):
    rng = np.random.default_rng(seed)
    sorter = sorter_class(folder, "salt")
    for number in range(300):
        sorter.add(f"face {number}", rng.bytes(int(rng.integers(0, 400))))
    return sorter


@pytest.mark.parametrize("limit", (1 << 30, 20_000, 0))
def test_order_and_content_do_not_depend_on_the_buffer_size(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(external_sort, "MAX_BUFFER_BYTES", limit)
    reference = create_filled_sorter(shuffle.Shuffler, tmp_path)
    external = create_filled_sorter(external_sort.ExternalSorter, tmp_path)
    assert any(tmp_path.iterdir()) == (limit < 1 << 30)
    assert (
        external.size == reference.size
        and sum(external.bucket_lengths) == external.num_examples == 300
    )
    assert list(external) == list(reference)
    assert not any(tmp_path.iterdir())


def test_buffer_does_not_exceed_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(external_sort, "MAX_BUFFER_BYTES", 5_000)
    sorter = create_filled_sorter(external_sort.ExternalSorter, tmp_path)
    assert sum(len(data) for _, data in sorter._mem_buffer) <= 5_000


def test_duplicate_keys_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(external_sort, "MAX_BUFFER_BYTES", 0)
    sorter = external_sort.ExternalSorter(tmp_path, "salt")
    for name in ("a", "b", "a"):
        sorter.add(name, name.encode())
    with pytest.raises(shuffle.DuplicatedKeysError):
        list(sorter)


def test_prepared_files_do_not_depend_on_the_buffer_size(tmp_path, monkeypatch):
    """It also needs no TensorFlow, which `tfds` uses for records beyond its memory limit."""
    results = []
    for name, limit in (("all", 1 << 30), ("few", 10_000)):
        monkeypatch.setattr(external_sort, "MAX_BUFFER_BYTES", limit)
        monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", limit)
        builder = DATASETS["synthetic_faces"](
            data_dir=str(tmp_path / name), image_size=32, num_training=40, num_validation=8
        )
        files = sorted(path for path in builder.data_path.iterdir() if "array_record" in path.name)
        assert not [path for path in builder.data_path.iterdir() if path.suffix == ".tmp"]
        results.append({path.name: path.read_bytes() for path in files})
    assert results[0] == results[1] and results[0]
