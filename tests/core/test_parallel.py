"""Devices and processes, in one process; tests/faults has the tests with several processes."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest

from affect_jax.core import parallel

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def test_batch_is_sharded_and_state_is_replicated():
    devices = jax.local_device_count()
    batch = parallel.shard({"valid": np.arange(4 * devices).reshape(devices, 4)})["valid"]
    state = parallel.replicate({"step": np.arange(5)})["step"]
    for index, shard in enumerate(batch.addressable_shards):
        np.testing.assert_array_equal(np.ravel(shard.data), 4 * index + np.arange(4))
    assert len(state.addressable_shards) == devices
    assert all(shard.data.shape == (5,) for shard in state.addressable_shards)


@pytest.fixture
def no_compilation_cache():
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def compilation_cache_folder() -> str:
    return getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 (declared at run time)


def test_compilation_cache_is_in_the_users_cache_folder(
    no_compilation_cache, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parallel.enable_compilation_cache()
    folder = pathlib.Path(compilation_cache_folder())
    assert folder.is_dir() and folder.parent == tmp_path / "affect_jax" / "compiled"
    monkeypatch.setattr(parallel, "_processor_flags", lambda: "flags: another")
    jax.config.update("jax_compilation_cache_dir", None)
    parallel.enable_compilation_cache()
    assert pathlib.Path(compilation_cache_folder()) != folder


def test_configured_compilation_cache_is_not_changed(no_compilation_cache, monkeypatch, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    parallel.enable_compilation_cache()
    assert compilation_cache_folder() == str(tmp_path / "mine")


def test_without_a_writable_home_there_is_no_compilation_cache(
    no_compilation_cache, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    parallel.enable_compilation_cache()
    assert not compilation_cache_folder()
