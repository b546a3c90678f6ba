"""Prepared data in an object store: fsspec's in-memory file system, shared within a process."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import synthetic_faces
from affect_jax.data.tfds_builder import open_split
from tests.data.test_synthetic_faces import prepare

URL = "memory://bucket/faces"


@pytest.fixture
def files():
    """The file system of the store, emptied after the test."""
    memory_files = fsspec.filesystem("memory")
    yield memory_files
    if memory_files.exists("/bucket"):
        memory_files.rm("/bucket", recursive=True)


@pytest.fixture
def switch_machine(tmp_path, monkeypatch):
    """Returns a function that simulates another machine by setting another cache folder."""

    def switch(name: str):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return tmp_path / name

    return switch


def read_files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def forbid_rendering(monkeypatch) -> None:
    def fail(*_, **__):
        raise AssertionError("a face was rendered")

    monkeypatch.setattr(synthetic_faces, "render_record", fail)


def test_one_machine_prepares_and_another_downloads(
    files, switch_machine, tmp_path, monkeypatch, capsys
):
    switch_machine("first")
    first = prepare(URL, seed=5)
    local = prepare(tmp_path / "local", seed=5)
    assert read_files(first.data_path) == read_files(local.data_path)
    remote_folder = "/bucket/faces/" + "/".join(first.data_path.parts[-3:])
    assert {name.rsplit("/", 1)[1] for name in files.ls(remote_folder, detail=False)} == set(
        read_files(first.data_path)
    )
    second_cache = switch_machine("second")
    forbid_rendering(monkeypatch)
    second = prepare(URL, seed=5)
    assert second.data_path.is_relative_to(second_cache)
    assert read_files(second.data_path) == read_files(first.data_path)
    first_split, second_split = (open_split(builder, "training") for builder in (first, second))
    assert first_split.fingerprint == second_split.fingerprint
    np.testing.assert_array_equal(first_split.columns()["id"], second_split.columns()["id"])
    assert f"copying {URL}" in capsys.readouterr().err


def test_local_copy_suffices_without_the_store(files, switch_machine, monkeypatch):
    """It works without a network, and after the store is deleted."""
    switch_machine("first")
    before = read_files(prepare(URL).data_path)
    monkeypatch.setattr(fsspec.core, "url_to_fs", None)
    forbid_rendering(monkeypatch)
    assert read_files(prepare(URL).data_path) == before


def test_incomplete_upload_is_prepared_again(files, switch_machine):
    switch_machine("first")
    first = prepare(URL)
    remote_folder = "/bucket/faces/" + "/".join(first.data_path.parts[-3:])
    files.rm_file(f"{remote_folder}/prepared.json")  # uploaded last
    switch_machine("second")
    assert read_files(prepare(URL).data_path) == read_files(first.data_path)
    assert files.exists(f"{remote_folder}/prepared.json")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name",
    ["synthetic_faces-training.array_record-00000-of-00001", "prepared.json", "dataset_info.json"],
)
def test_error_names_a_damaged_file_in_the_store_and_no_copy_is_left(
    files, switch_machine, monkeypatch, name
):
    switch_machine("first")
    first = prepare(URL)
    path = "/bucket/faces/" + "/".join(first.data_path.parts[-3:]) + f"/{name}"
    content = files.cat_file(path)
    second_cache = switch_machine("second")
    forbid_rendering(monkeypatch)
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    for damaged in (b"", content[:100], flipped if "record" in name else b"[]"):
        files.pipe_file(path, damaged)
        with pytest.raises(UserError, match=f"{URL}/.*/{name}: the file is missing or damaged"):
            prepare(URL)
        assert not list(second_cache.rglob("1.1.0"))
    files.pipe_file(path, content)
    assert read_files(prepare(URL).data_path) == read_files(first.data_path)


@pytest.mark.parametrize(
    "error, message",
    [
        (ImportError("Install s3fs to access S3"), r"Install s3fs .*'affect_jax\[cloud\]'"),
        (PermissionError("Access\nDenied"), "Access; check the address and your credentials"),
        (RuntimeError(), "RuntimeError; check the address"),
    ],
)
def test_unreachable_store_is_a_one_line_error(error, message, switch_machine, monkeypatch):
    switch_machine("first")

    def fail(url):
        raise error

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(UserError, match=message) as error_info:
        prepare("s3://bucket/faces")
    assert "\n" not in str(error_info.value)


def test_unknown_protocol_is_a_one_line_error(switch_machine):
    switch_machine("first")
    with pytest.raises(UserError, match="flying://bucket.*Protocol not known"):
        prepare("flying://bucket/faces")
