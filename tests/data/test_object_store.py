"""Prepared data in an object store: fsspec's own in memory, which is one for a process."""

from __future__ import annotations

import json

import fsspec
import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import synthetic_faces
from affect_jax.data.builder import open_split
from tests.data.test_synthetic_faces import prepared

URL = "memory://bucket/faces"


@pytest.fixture
def files():
    """The store, empty."""
    found = fsspec.filesystem("memory")
    yield found
    found.rm("/bucket", recursive=True)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Moves to a machine of that name: another cache."""

    def move(name: str):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return tmp_path / name

    return move


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def no_drawing(monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("a face is drawn")

    monkeypatch.setattr(synthetic_faces, "draw_faces", refuse)


def test_one_machine_prepares_and_another_copies(files, machine, tmp_path, monkeypatch, capsys):
    machine("one")
    first = prepared(URL, seed=5)
    beside = prepared(tmp_path / "local", seed=5)
    assert content(first.data_path) == content(beside.data_path)
    place = "/bucket/faces/" + "/".join(first.data_path.parts[-3:])
    assert {name.rsplit("/", 1)[1] for name in files.ls(place, detail=False)} == set(
        content(first.data_path)
    )
    other = machine("other")
    no_drawing(monkeypatch)
    second = prepared(URL, seed=5)
    assert second.data_path.is_relative_to(other)
    assert content(second.data_path) == content(first.data_path)
    one, two = (open_split(builder, "training") for builder in (first, second))
    assert one.fingerprint == two.fingerprint
    np.testing.assert_array_equal(one.columns()["id"], two.columns()["id"])
    assert f"copying {URL}" in capsys.readouterr().err


def test_a_copy_is_enough(files, machine, monkeypatch):
    """Without a network, and when the store is gone."""
    machine("one")
    before = content(prepared(URL).data_path)
    monkeypatch.setattr(fsspec.core, "url_to_fs", None)
    no_drawing(monkeypatch)
    assert content(prepared(URL).data_path) == before


def test_what_was_not_sent_whole_is_prepared_again(files, machine):
    machine("one")
    first = prepared(URL)
    place = "/bucket/faces/" + "/".join(first.data_path.parts[-3:])
    files.rm_file(f"{place}/prepared.json")  # the last to be sent
    machine("other")
    assert content(prepared(URL).data_path) == content(first.data_path)
    assert files.exists(f"{place}/prepared.json")


def test_a_damaged_file_in_the_store_is_named_and_nothing_is_kept(files, machine, monkeypatch):
    machine("one")
    first = prepared(URL)
    place = "/bucket/faces/" + "/".join(first.data_path.parts[-3:])
    name = next(
        iter(json.loads((first.data_path / "prepared.json").read_text())["files"]["training"])
    )
    whole = files.cat_file(f"{place}/{name}")
    files.pipe_file(f"{place}/{name}", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    other = machine("other")
    no_drawing(monkeypatch)
    with pytest.raises(UserError, match=f"{URL}/.*/{name}: .* not those that were written"):
        prepared(URL)
    assert not list(other.rglob("*.json"))
    files.pipe_file(f"{place}/{name}", whole)
    assert content(prepared(URL).data_path) == content(first.data_path)


@pytest.mark.parametrize(
    "error, message",
    [
        (ImportError("Install s3fs to access S3"), r"Install s3fs .*'affect_jax\[cloud\]'"),
        (PermissionError("Access\nDenied"), "Access; are the address and your credentials right"),
        (RuntimeError(), "RuntimeError; are the address"),
    ],
)
def test_a_store_out_of_reach_is_one_line(error, message, machine, monkeypatch):
    machine("one")

    def fail(url):
        raise error

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(UserError, match=message) as told:
        prepared("s3://bucket/faces")
    assert "\n" not in str(told.value)


def test_an_unknown_kind_of_store_is_one_line(machine):
    machine("one")
    with pytest.raises(UserError, match="flying://bucket.*Protocol not known"):
        prepared("flying://bucket/faces")
