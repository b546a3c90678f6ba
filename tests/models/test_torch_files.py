"""Reading torch.save files without PyTorch: equal to `torch.load`, and no code of them runs."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affect_jax.models import torch_files
from affect_jax.models.torch_files import InvalidWeightsError

torch = pytest.importorskip("torch")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def assert_reads_as_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    loaded = torch_files.read(path)
    expected = torch.load(path, weights_only=False)  # with True it warns of newer pickles
    assert list(loaded) == [name for name, value in expected.items() if torch.is_tensor(value)]
    for name, array in loaded.items():
        tensor = expected[name].detach()
        assert array.shape == tuple(tensor.shape), name
        assert str(array.dtype) == str(tensor.dtype).removeprefix("torch."), name
        np.testing.assert_array_equal(array.astype(np.float64), tensor.double().numpy())
    return loaded


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
def test_every_dtype_and_view_equals_torch_load(tmp_path, dtype, zipped):
    values = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    tensors = {
        "plain": values,
        "transposed": values.permute(2, 0, 1),
        "part": values[1, 1:, ::2],
        "scalar": values[1, 2, 3],
        "empty": values[:, :0],
        "parameter": torch.nn.Parameter(torch.ones(3), requires_grad=True),
        "epoch": 3,
    }
    torch.save(tensors, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    loaded = assert_reads_as_torch(tmp_path / "weights.pth")
    assert not any(array.flags.writeable and array.size for array in loaded.values())


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    seed=st.integers(0, 1000),
    protocol=st.sampled_from([2, 3, 4, 5]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_views_equal_torch_load(tmp_path, shape, seed, protocol):
    random = np.random.default_rng(seed)
    values = torch.tensor(random.normal(size=shape).astype(np.float32))
    view = values.permute(random.permutation(len(shape)).tolist())
    for axis, size in enumerate(view.shape):
        view = view.narrow(axis, size // 2, size - size // 2)
    tensors = {"all": values, "view": view}  # one storage
    torch.save(tensors, tmp_path / "weights.pth", pickle_protocol=protocol)
    assert_reads_as_torch(tmp_path / "weights.pth")


def test_weights_are_read_from_training_checkpoints(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    weights = model.state_dict()
    optimizer = {"state": {0: {"step": 3, "momentum": torch.ones(2, 3)}}, "betas": (0.9, 0.999)}
    for key in torch_files.WEIGHTS_KEYS:
        prefixed_weights = collections.OrderedDict(
            (f"module.{name}", w) for name, w in weights.items()
        )
        torch.save(
            {"epoch": 3, "best": 0.7, "optimizer": optimizer, key: prefixed_weights},
            tmp_path / "checkpoint.pth.tar",
        )
        loaded = torch_files.read(tmp_path / "checkpoint.pth.tar")
        assert list(loaded) == list(weights)
        for name, array in loaded.items():
            np.testing.assert_array_equal(array, weights[name])


class Touch:
    """Unpickling it creates a folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_archive(path: pathlib.Path, index: bytes, storage: bytes = b"\0" * 16) -> pathlib.Path:
    """Writes an archive in the format of torch.save with any pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        archive.writestr("archive/data/0", storage)
    return path


def malicious_pickles(marker: pathlib.Path) -> dict[str, bytes]:
    """Pickles that create the folder `marker` when they are loaded."""

    def encode_text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    module, folder = os.mkdir.__module__, encode_text(str(marker))
    call = f"c{module}\nmkdir\n".encode() + folder + b"\x85R"
    code = encode_text(f"__import__('os').mkdir({str(marker)!r})")
    return {
        "in the weights": pickle.dumps({"a": Touch(marker)}, protocol=2),
        "as protocol 4 names it": b"\x80\x04"
        + encode_text(module)
        + encode_text("mkdir")
        + b"\x93"
        + folder
        + b"\x85R.",
        "by the instruction INST": b"\x80\x02(" + folder + f"i{module}\nmkdir\n.".encode(),
        "by the instruction OBJ": b"\x80\x02(" + f"c{module}\nmkdir\n".encode() + folder + b"o.",
        "after good weights": b"\x80\x02}" + encode_text("a") + call + b"s.",
        "by another function": b"\x80\x02cbuiltins\neval\n" + code + b"\x85R.",
        "and then truncated": b"\x80\x02" + call,
    }


@pytest.mark.parametrize("kind", malicious_pickles(pathlib.Path("nowhere")))
def test_malicious_pickle_is_never_run(tmp_path, kind):
    marker = tmp_path / "exploded"
    index = malicious_pickles(marker)[kind]
    path = write_archive(tmp_path / "weights.pth", index)
    with pytest.raises(InvalidWeightsError) as error_info:
        torch_files.read(path)
    assert not marker.exists()
    assert "\n" not in str(error_info.value)
    with contextlib.suppress(EOFError, pickle.UnpicklingError):  # of the truncated one
        pickle.loads(index)
    assert marker.exists(), "the pickle of this test does nothing"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"args": argparse.Namespace(a=1), "state_dict": {}}, "argparse.Namespace"),
        (torch.nn.ReLU(), "torch.nn.modules.activation.ReLU"),
        ({"root": pathlib.PurePosixPath("/")}, "pathlib.PurePosixPath"),
    ],
)
def test_error_names_objects_besides_weights(tmp_path, content, name):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InvalidWeightsError, match=f"{name} besides weights, which was not run"):
        torch_files.read(tmp_path / "weights.pth")


class Storage:
    """A stand-in for a storage of type `kind` with the key "0"."""

    def __init__(self, kind=torch.FloatStorage):
        self.kind = kind


class Tensor:
    def __init__(self, *arguments, storage=None):
        self.arguments = (storage or Storage(), *arguments, False, collections.OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def pickle_with_storages(content) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", obj.kind, "0", "cpu", 4) if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(0, (5,), (1,)), "exceeds its storage of 4 numbers"),
        (Tensor(1, (4,), (1,)), "exceeds its storage of 4 numbers"),
        (Tensor(0, (2, 2), (3, 1)), "exceeds its storage"),
        (Tensor(0, (2**40, 2**40), (2**40, 1)), "exceeds its storage"),
        (Tensor(-1, (1,), (1,)), "impossible shape"),
        (Tensor(0, (-2,), (1,)), "impossible shape"),
        (Tensor(3, (4,), (-1,)), "impossible shape"),
        (Tensor(0, (2, 2), (1,)), "impossible shape"),
        (Tensor(0, (2.0,), (1,)), "impossible shape"),
        (Tensor(0, (1,) * 100, (1,) * 100), "number of dimensions"),
        (Tensor(0, (2**40,), (0,)), "exceeds its storage"),
        (Tensor(0, (4,), (1,), storage=5), "no storage of a supported type"),
        (Tensor(0, (4,), (1,), storage=Storage("float32")), "no storage of a supported type"),
        (Tensor(0, (4,), (1,), storage=Storage(torch.DoubleStorage)), "exceeds its storage of 2"),
    ],
)
def test_invalid_tensors_are_rejected(tmp_path, tensor, message):
    valid = write_archive(
        tmp_path / "good.pth", pickle_with_storages({"a": Tensor(0, (2, 2), (2, 1))})
    )
    np.testing.assert_array_equal(torch_files.read(valid)["a"], np.zeros((2, 2), np.float32))
    path = write_archive(tmp_path / "weights.pth", pickle_with_storages({"a": tensor}))
    with pytest.raises(InvalidWeightsError, match=message):
        torch_files.read(path)


def encode_nested_tuples(kind: str) -> bytes:
    """The pickle of a tuple that is too deep to be hashed, or would take 2^60 steps."""
    return b")" + {"deep": b"\x85" * 300_000, "doubled": b"q\x00h\x00\x86" * 60}[kind]


HOLDERS = [  # pickles that hold the tuple %s
    "}%sK\x01s.",
    "}(%sK\x01u.",
    "(%sK\x01d.",
    "\x8f(%s\x90.",
    "(%s\x91.",
    "ccollections\nOrderedDict\n%s\x85R.",
    "ccollections\nOrderedDict\n%sb.",
    "%sQ.",
    "X\x07\x00\x00\x00storage%sX\x01\x00\x00\x000\x87Q.",
    "X\x07\x00\x00\x00storagectorch\nFloatStorage\n%s\x87Q.",
    "%sX\x01\x00\x00\x00a\x93.",
    "ctorch._utils\n_rebuild_tensor_v2\n%sR.",
    "}X\x05\x00\x00\x00modelctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00%s)tRs.",
    "%s.",
    "%s",
]


@pytest.mark.parametrize(
    ("holder", "kind"),
    [*((holder, "doubled") for holder in HOLDERS), *((holder, "deep") for holder in HOLDERS[:3])],
)
def test_tuples_that_cannot_be_hashed_are_rejected(tmp_path, holder, kind):
    before, _, after = holder.encode("latin1").partition(b"%s")
    path = write_archive(
        tmp_path / "w.pth", b"\x80\x02" + before + encode_nested_tuples(kind) + after
    )
    with pytest.raises(InvalidWeightsError) as error:
        torch_files.read(path)
    assert "\n" not in str(error.value)


def test_entries_with_other_keys_are_left_out(tmp_path):
    torch.save({(1, 2): torch.ones(1), 3: 4, "a": torch.ones(2)}, tmp_path / "weights.pth")
    assert set(torch_files.read(tmp_path / "weights.pth")) == {"a"}


@pytest.mark.parametrize("size", [1 << 22, 1 << 23])
def test_pickles_larger_than_weights_need_are_rejected(tmp_path, size):
    path = write_archive(tmp_path / "weights.pth", b"\x80\x02" + b"N" * size)
    with pytest.raises(InvalidWeightsError, match="larger than weights need"):
        torch_files.read(path)


@pytest.fixture(scope="module")
def valid_file(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("torch") / "whole.pth"
    torch.save({"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}, path)
    return path


def assert_rejected_or_equal(path: pathlib.Path, valid_file: pathlib.Path) -> None:
    """Checks that the file is rejected with one line, or that the damage does not change values."""
    try:
        loaded = torch_files.read(path)
    except InvalidWeightsError as error:
        assert str(error) and "\n" not in str(error)
        return
    expected = torch_files.read(valid_file)
    assert set(loaded) == set(expected)
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, expected[name])


def test_every_truncation_is_rejected(tmp_path, valid_file):
    content = valid_file.read_bytes()
    path = tmp_path / "weights.pth"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidWeightsError, match="truncated"):
            torch_files.read(path)


def test_truncated_files_of_old_versions_are_rejected(tmp_path):
    path = tmp_path / "weights.pth"
    weights = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidWeightsError):
            torch_files.read(path)


@pytest.mark.parametrize("place", range(4))
def test_malicious_pickle_in_a_file_of_an_old_version_is_never_run(tmp_path, place):
    """Such a file begins with pickles of a version, the machine, the weights and the storages."""
    pickles = [pickle.dumps(part, 2) for part in (1001, {}, {}, [])]
    pickles[place] = pickle.dumps(Touch(tmp_path / "exploded"), 2)
    (tmp_path / "weights.pth").write_bytes(torch_files.OLD_MAGIC + b"".join(pickles))
    with pytest.raises(InvalidWeightsError):
        torch_files.read(tmp_path / "weights.pth")
    assert not (tmp_path / "exploded").exists()


@given(places=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), value=st.integers(0, 255))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_are_rejected_or_harmless(tmp_path, valid_file, places, value):
    content = bytearray(valid_file.read_bytes())
    for offset in places:
        content[offset % len(content)] ^= value
    (tmp_path / "weights.pth").write_bytes(bytes(content))
    assert_rejected_or_equal(tmp_path / "weights.pth", valid_file)


@given(index=st.binary(max_size=60))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_pickles_are_rejected(tmp_path, index):
    with pytest.raises(InvalidWeightsError):
        torch_files.read(write_archive(tmp_path / "weights.pth", index))


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_rejected(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InvalidWeightsError):
        torch_files.read(tmp_path / "weights.pth")


def save_compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle_with_storages({"a": Tensor(0, (2,), (1,))}))


def save_other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_compressed, "compressed"),
        (save_other_zip, "no item named .*data.pkl"),
        (lambda path: torch.save([1, 2], path), "holds no dictionary of weights"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no dictionary of weights"),
        (lambda path: torch.save({1: torch.ones(2)}, path), "holds no dictionary of weights"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_error_describes_other_files(tmp_path, save, message):
    save(tmp_path / "weights.pth")
    with pytest.raises(InvalidWeightsError, match=message):
        torch_files.read(tmp_path / "weights.pth")
