"""Devices and processes, as far as one process can show; several are in tests/faults."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest

from affect_jax.core import parallel
from affect_jax.core.errors import UserError

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WHOLE = dict(zip(parallel.ENVIRONMENT, ("127.0.0.1:1", "2", "0"), strict=True))


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables that name the processes, and those only; joining them is noted."""
    joined: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: joined.append(options))

    def give(variables: dict[str, str]) -> list[dict]:
        for name in (*parallel.ENVIRONMENT, "AFFECT_JAX_CLUSTER"):
            monkeypatch.setenv(name, "")  # so that it is put back as it was
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return joined

    return give


def test_without_variables_there_is_one_process(environment):
    joined = environment({})
    parallel.initialize()
    assert not joined and not parallel.is_multiprocess() and parallel.is_main()


def test_the_variables_are_handed_over(environment):
    joined = environment(WHOLE)
    parallel.initialize()
    (options,) = joined
    assert options["coordinator_address"] == "127.0.0.1:1"
    assert (options["num_processes"], options["process_id"]) == (2, 0)
    assert options["heartbeat_timeout_seconds"] < 60  # a dead process ends the others in a minute


def test_a_cluster_that_jax_knows_is_asked_for_by_one_variable(environment):
    joined = environment({"AFFECT_JAX_CLUSTER": "auto"})
    parallel.initialize()
    assert joined == [{"heartbeat_timeout_seconds": parallel.SECONDS_TO_MISS}]


@pytest.mark.parametrize("missing", parallel.ENVIRONMENT)
def test_an_incomplete_environment_is_an_error_that_names_all(environment, missing):
    joined = environment({name: value for name, value in WHOLE.items() if name != missing})
    with pytest.raises(UserError) as caught:
        parallel.initialize()
    assert all(name in str(caught.value) for name in parallel.ENVIRONMENT)
    assert not joined


def test_a_number_that_is_none_is_an_error(environment):
    environment(WHOLE | {"JAX_PROCESS_ID": "first"})
    with pytest.raises(UserError, match="a number and a number"):
        parallel.initialize()


def test_processes_that_do_not_meet_are_an_error(environment, monkeypatch):
    environment(WHOLE)

    def fail(**options):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match="do not find one another: DEADLINE_EXCEEDED") as caught:
        parallel.initialize()
    assert "\n" not in str(caught.value)


def test_one_process_agrees_with_itself():
    tree = {"a": np.arange(3), "b": jax.numpy.ones(2)}
    assert parallel.broadcast_from_main(tree) is tree
    assert parallel.process_max(15) == 15
    parallel.announce()  # nor one to tell
    parallel.leave(3)  # there is no one to leave


def test_a_batch_is_split_and_a_state_is_whole_on_every_device():
    devices = jax.local_device_count()
    batch = parallel.shard({"valid": np.arange(4 * devices).reshape(devices, 4)})["valid"]
    state = parallel.replicate({"step": np.arange(5)})["step"]
    for index, shard in enumerate(batch.addressable_shards):
        np.testing.assert_array_equal(np.ravel(shard.data), 4 * index + np.arange(4))
    assert len(state.addressable_shards) == devices
    assert all(shard.data.shape == (5,) for shard in state.addressable_shards)


@pytest.fixture
def no_cache_yet():
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def folder_of_compilations() -> str:
    return getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 (declared at run time)


def test_compilations_are_kept_in_the_users_cache(no_cache_yet, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parallel.remember_compilations()
    folder = pathlib.Path(folder_of_compilations())
    assert folder.is_dir() and folder.parent == tmp_path / "affect_jax" / "compiled"
    monkeypatch.setattr(parallel, "_processor", lambda: "flags: another")
    jax.config.update("jax_compilation_cache_dir", None)
    parallel.remember_compilations()
    assert pathlib.Path(folder_of_compilations()) != folder


def test_a_folder_that_was_named_is_left(no_cache_yet, monkeypatch, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    parallel.remember_compilations()
    assert folder_of_compilations() == str(tmp_path / "mine")


def test_without_a_home_to_write_to_each_start_compiles(no_cache_yet, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    parallel.remember_compilations()
    assert not folder_of_compilations()
