"""Reading weight files, and one-line errors for invalid, damaged and missing files."""

from __future__ import annotations

import json
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
def valid_file(tmp_path) -> pathlib.Path:
    path = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    return path


def assert_arrays_equal(loaded: dict[str, np.ndarray]) -> None:
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_safetensors_round_trip(valid_file):
    assert_arrays_equal(weight_files.read(str(valid_file)))


def test_bfloat16_is_read_from_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.tensor([1.0, -2.5]).to(torch.bfloat16)}, tmp_path / "w.safetensors")
    array = weight_files.read(str(tmp_path / "w.safetensors"))["a"]
    assert array.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(array.astype(np.float32), [1.0, -2.5])


@pytest.mark.parametrize("suffix", weight_files.TORCH_SUFFIXES)
def test_torch_files_are_recognised_by_suffix(tmp_path, suffix):
    torch = pytest.importorskip("torch")
    path = tmp_path / f"weights{suffix}"
    torch.save({"a": torch.ones(2)}, path)
    np.testing.assert_array_equal(weight_files.read(str(path))["a"], [1, 1])


def get_error(source: object) -> str:
    with pytest.raises(UserError) as error:
        weight_files.read(str(source))
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"init_from = {str(source)!r}: ")
    return text


def test_every_truncation_is_rejected(tmp_path, valid_file):
    content, path = valid_file.read_bytes(), tmp_path / "cut.safetensors"
    for length in range(0, len(content), 9):
        path.write_bytes(content[:length])
        assert "damaged or not a safetensors file" in get_error(path)


@given(content=st.binary(max_size=300), suffix=st.sampled_from([".safetensors", ".pth"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_rejected(tmp_path, content, suffix):
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    assert path.name in get_error(path)


@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_byte_is_rejected_or_stays_within_the_file(tmp_path, valid_file, place, value):
    """safetensors has no checksum, but reading must stay within the file."""
    content, path = bytearray(valid_file.read_bytes()), tmp_path / "changed.safetensors"
    content[place % len(content)] ^= value
    path.write_bytes(content)
    try:
        arrays = weight_files.read(str(path))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= len(content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pth", "no such file"),
        ("a" * 300 + ".pth", "File name too long"),
        ("", "no such file"),
        ("notes.txt", r"must be a run's folder or end in \.safetensors, \.pth"),
    ],
)
def test_other_paths_are_rejected(tmp_path, name, message):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=message):
        weight_files.read(str(tmp_path / name))


def test_home_folder_is_expanded(tmp_path, valid_file, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_arrays_equal(weight_files.read(f"~/{valid_file.name}"))
    assert "no such file" in get_error("~unknown_user/weights.pth")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Sets the Hub's client offline and returns the folder of its cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def write_to_cache(
    cache: pathlib.Path, revision: str, commit: str, file: str, content: bytes
) -> None:
    """Writes a file of owner/faces-18.v1 to the cache in the Hub's layout."""
    repository = cache / "models--owner--faces-18.v1"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    path = repository / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_hub_cache_is_read_by_revision_and_file(hub, valid_file):
    other_content = safetensors.numpy.save({"b": np.ones(2, np.float32)})
    write_to_cache(hub, "main", "1" * 40, "model.safetensors", valid_file.read_bytes())
    write_to_cache(hub, "v2.0", "2" * 40, "model.safetensors", other_content)
    write_to_cache(hub, "main", "1" * 40, "folder/other.safetensors", other_content)
    assert_arrays_equal(weight_files.read("hf://owner/faces-18.v1"))
    assert_arrays_equal(weight_files.read("hf://owner/faces-18.v1/model.safetensors"))
    for source in (
        "hf://owner/faces-18.v1@v2.0",
        "hf://owner/faces-18.v1/folder/other.safetensors",
    ):
        assert set(weight_files.read(source)) == {"b"}


def test_missing_hub_files_are_one_line_errors(hub, valid_file):
    write_to_cache(hub, "main", "1" * 40, "model.safetensors", valid_file.read_bytes())
    for source in (
        "hf://owner/faces-18.v1/absent.pth",
        "hf://owner/faces-18.v1@absent",
        "hf://owner/absent",
    ):
        assert source in get_error(source)


def test_pickle_from_the_hub_is_not_run(hub, tmp_path):
    write_to_cache(
        hub, "main", "1" * 40, "pytorch_model.bin", b"cposix\nmkdir\n(S'%s/made'\ntR." % b"x"
    )
    assert "truncated or was not written by torch.save" in get_error(
        "hf://owner/faces-18.v1/pytorch_model.bin"
    )


@pytest.mark.parametrize(
    "source", ["hf://", "hf://faces", "hf://owner/faces@", "hf://a b/c", "hf://owner/"]
)
def test_invalid_hub_addresses_are_rejected(source):
    assert "must be hf://owner/name[@revision][/file]" in get_error(source)


@pytest.mark.parametrize("error", [ConnectionError("no\nroute"), RuntimeError()])
def test_every_client_error_is_one_line(monkeypatch, error):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert "hf://owner/faces" in get_error("hf://owner/faces")


def test_missing_client_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'affect_jax[hub]'" in get_error("hf://owner/faces")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3"])
def test_dtypes_that_numpy_lacks_are_rejected(tmp_path, dtype):
    header = {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 4 if dtype == "F4" else 8]}}
    encoded = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(
        len(encoded).to_bytes(8, "little") + encoded + bytes(header["a"]["data_offsets"][1])
    )
    assert "not a safetensors file that NumPy can hold" in get_error(path)
