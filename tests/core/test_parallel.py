"""Devices and processes, in one process; tests/faults has the tests with several processes."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest

from affect_jax.core import parallel
from affect_jax.core.errors import UserError

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
COMPLETE = dict(zip(parallel.PROCESS_VARIABLES, ("127.0.0.1:1", "2", "0"), strict=True))


@pytest.fixture
def environment(monkeypatch):
    """Returns a function that sets the variables of `initialize` and returns its recorded calls."""
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))

    def set_variables(variables: dict[str, str]) -> list[dict]:
        for name in (*parallel.PROCESS_VARIABLES, "AFFECT_JAX_CLUSTER"):
            monkeypatch.setenv(name, "")  # so that monkeypatch restores it
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return calls

    return set_variables


def test_without_variables_the_run_has_one_process(environment):
    calls = environment({})
    parallel.initialize()
    assert not calls and not parallel.is_multiprocess() and parallel.is_main()


def test_initialize_passes_the_variables_to_jax(environment):
    calls = environment(COMPLETE)
    parallel.initialize()
    (options,) = calls
    assert options["coordinator_address"] == "127.0.0.1:1"
    assert (options["num_processes"], options["process_id"]) == (2, 0)
    assert options["heartbeat_timeout_seconds"] < 60  # the others exit within a minute


def test_one_variable_enables_cluster_detection(environment):
    calls = environment({"AFFECT_JAX_CLUSTER": "auto"})
    parallel.initialize()
    assert calls == [{"heartbeat_timeout_seconds": parallel.HEARTBEAT_TIMEOUT_SECONDS}]


@pytest.mark.parametrize("missing", parallel.PROCESS_VARIABLES)
def test_incomplete_variables_are_an_error_that_lists_all(environment, missing):
    calls = environment({name: value for name, value in COMPLETE.items() if name != missing})
    with pytest.raises(UserError) as caught:
        parallel.initialize()
    assert all(name in str(caught.value) for name in parallel.PROCESS_VARIABLES)
    assert not calls


def test_process_id_must_be_a_number(environment):
    environment(COMPLETE | {"JAX_PROCESS_ID": "first"})
    with pytest.raises(UserError, match="index of this process"):
        parallel.initialize()


def test_connection_failure_is_a_one_line_error(environment, monkeypatch):
    environment(COMPLETE)

    def fail(**options):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(
        UserError, match="cannot connect to each other: DEADLINE_EXCEEDED"
    ) as caught:
        parallel.initialize()
    assert "\n" not in str(caught.value)


def test_collectives_of_one_process_do_nothing():
    tree = {"a": np.arange(3), "b": jax.numpy.ones(2)}
    assert parallel.broadcast_from_main(tree) is tree
    assert parallel.process_max(15) == 15


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
