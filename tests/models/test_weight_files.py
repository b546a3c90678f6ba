"""Where weights lie and what a wrong, damaged or absent file says: one line each."""

from __future__ import annotations

import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.models import weight_files

ARRAYS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.array(2.5, np.float16),
    "count": np.array([3], np.int64),
}


@pytest.fixture
def whole(tmp_path) -> pathlib.Path:
    path = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    return path


def assert_equal(found: dict[str, np.ndarray]) -> None:
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_safetensors_reads_what_was_written(whole):
    assert_equal(weight_files.read(str(whole)))


def test_bfloat16_is_read_from_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.tensor([1.0, -2.5]).to(torch.bfloat16)}, tmp_path / "w.safetensors")
    found = weight_files.read(str(tmp_path / "w.safetensors"))["a"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype(np.float32), [1.0, -2.5])


@pytest.mark.parametrize("suffix", weight_files.TORCH_SUFFIXES)
def test_torch_files_are_known_by_their_ending(tmp_path, suffix):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"weights{suffix}"
    torch.save({"a": torch.ones(2)}, path)
    np.testing.assert_array_equal(weight_files.read(str(path))["a"], [1, 1])


def refusal(source: object) -> str:
    with pytest.raises(UserError) as error:
        weight_files.read(str(source))
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"init_from = {str(source)!r}: ")
    return text


def test_every_truncation_is_told(tmp_path, whole):
    content, path = whole.read_bytes(), tmp_path / "cut.safetensors"
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        assert "damaged, or no safetensors file" in refusal(path)


@given(content=st.binary(max_size=300), suffix=st.sampled_from([".safetensors", ".pth"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_told(tmp_path, content, suffix):
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    refusal(path)


@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_told_or_gives_arrays(tmp_path, whole, place, value):
    """safetensors has no checksum; what is read stays within the file."""
    content, path = bytearray(whole.read_bytes()), tmp_path / "changed.safetensors"
    content[place % len(content)] ^= value
    path.write_bytes(content)
    try:
        found = weight_files.read(str(path))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert sum(array.nbytes for array in found.values()) <= len(content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pth", "no such file"),
        ("", "a folder, and not of a run"),
        ("notes.txt", r"must end in one of \.safetensors, \.pth"),
        ("no_ending", "or be a run's folder"),
    ],
)
def test_what_is_no_file_of_weights_is_told(tmp_path, name, message):
    for known in ("notes.txt", "no_ending"):
        (tmp_path / known).write_text("nothing")
    with pytest.raises(UserError, match=message):
        weight_files.read(str(tmp_path / name))


def test_a_home_folder_is_found(tmp_path, whole, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_equal(weight_files.read(f"~/{whole.name}"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The Hub's own client, offline, and the folder of its cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def put(cache: pathlib.Path, revision: str, commit: str, file: str, content: bytes) -> None:
    """One file of owner/faces-18.v1 in the Hub's layout of a cache."""
    repository = cache / "models--owner--faces-18.v1"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    path = repository / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_the_hubs_cache_is_read_by_revision_and_file(hub, whole):
    other = safetensors.numpy.save({"b": np.ones(2, np.float32)})
    put(hub, "main", "1" * 40, "model.safetensors", whole.read_bytes())
    put(hub, "v2.0", "2" * 40, "model.safetensors", other)
    put(hub, "main", "1" * 40, "folder/other.safetensors", other)
    assert_equal(weight_files.read("hf://owner/faces-18.v1"))
    assert_equal(weight_files.read("hf://owner/faces-18.v1/model.safetensors"))
    for source in (
        "hf://owner/faces-18.v1@v2.0",
        "hf://owner/faces-18.v1/folder/other.safetensors",
    ):
        assert set(weight_files.read(source)) == {"b"}


def test_what_the_hub_has_not_is_told_in_one_line(hub, whole):
    put(hub, "main", "1" * 40, "model.safetensors", whole.read_bytes())
    for source in (
        "hf://owner/faces-18.v1/absent.pth",
        "hf://owner/faces-18.v1@absent",
        "hf://owner/absent",
    ):
        refusal(source)


def test_a_pickle_from_the_hub_is_not_run_either(hub, tmp_path):
    put(hub, "main", "1" * 40, "pytorch_model.bin", b"cposix\nmkdir\n(S'%s/made'\ntR." % b"x")
    assert "truncated, or no file of torch.save" in refusal(
        "hf://owner/faces-18.v1/pytorch_model.bin"
    )


@pytest.mark.parametrize(
    "source", ["hf://", "hf://faces", "hf://owner/faces@", "hf://a b/c", "hf://owner/"]
)
def test_addresses_on_the_hub_are_checked(source):
    assert "must be hf://owner/name[@revision][/file]" in refusal(source)


@pytest.mark.parametrize(
    "error",
    [ConnectionError("no\nroute"), ValueError("bad name"), RuntimeError(), KeyError("etag")],
)
def test_whatever_the_client_raises_is_one_line(monkeypatch, error):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    refusal("hf://owner/faces")


def test_without_the_client_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'affect_jax[hub]'" in refusal("hf://owner/faces")
