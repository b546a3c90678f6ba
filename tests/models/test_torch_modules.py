"""Reading networks of `torch.save(network)`: equal to their `state_dict`, and no code is run."""

from __future__ import annotations

import argparse
import collections
import enum
import functools
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affect_jax.models import torch_files
from affect_jax.models.torch_files import InvalidWeightsError

torch = pytest.importorskip("torch")  # before modules that need it

from tests.models.test_torch_files import Tensor, Touch, pickle_with_storages, write_archive  # noqa: E402

nn = torch.nn


def assert_equals_state_dict(path: pathlib.Path, network) -> None:
    arrays, expected = torch_files.read(path), network.state_dict()
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name].numpy())


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("outputs", [8, 10])
@pytest.mark.parametrize("wrapped", [False, True])
def test_efficientnet_of_timm(tmp_path, timm, outputs, wrapped, protocol):
    network = timm.create_model("tf_efficientnet_b0", num_classes=outputs)
    if wrapped:  # as HSEmotion does
        network.classifier = nn.Sequential(nn.Linear(1280, outputs))
    torch.save(network, tmp_path / "network.pt", pickle_protocol=protocol)
    assert_equals_state_dict(tmp_path / "network.pt", network)


class Mode(enum.Enum):
    FAST = "fast"


class Items(dict):
    """A subclass of `dict` with attributes."""


class Network(nn.Module):
    """A network whose attributes need many instructions of a pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.BatchNorm1d(2), nn.LSTM(2, 2)])
        self.shared = self.layers[0]
        self.bias = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_parameter("none", None)
        self.activation, self.mode = functools.partial(torch.relu), Mode.FAST
        self.names, self.fixed = {"a", ("b", 1)}, frozenset({1, "c"})
        self.counts = collections.defaultdict(list, {"a": [1, 2], 3: [4]})
        self.items = Items(x=torch.Size([1, 2]), y=self.forward)
        vars(self.items)["owner"] = self


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_network_with_other_attributes(tmp_path, protocol):
    network, path = Network(), tmp_path / "network.pt"
    torch.save(network, path, pickle_protocol=protocol)
    assert_equals_state_dict(path, network)
    checkpoint = {"args": argparse.Namespace(a=1), "model": nn.DataParallel(network)}
    torch.save(checkpoint, path, pickle_protocol=protocol)
    assert_equals_state_dict(path, network)


def test_code_in_attributes_is_not_run(tmp_path):
    network, path, marker = nn.Linear(2, 2), tmp_path / "network.pt", tmp_path / "exploded"
    network.extra = Touch(marker)
    torch.save(network, path)
    assert_equals_state_dict(path, network)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the network of this test does nothing"


class Module:
    """A stand-in for a module whose state is changed after its creation."""

    def __init__(self, **state):
        self.__dict__.update(state)


def nested_modules(kind: str) -> Module:
    """Modules that a small pickle holds and whose names would fill a disk."""
    module = Module(_parameters={"a": Tensor(0, (2,), (1,))})
    if kind == "cycle":
        vars(module)["_modules"] = {"a": module}
    for _ in range({"doubled": 60, "deep": 150}.get(kind, 0)):
        module = Module(_modules={"a": module, "b": module if kind == "doubled" else None})
    if kind == "long names":
        name = "a" * 10**6
        module = Module(_modules={str(i): Module(_modules={name: module}) for i in range(10**4)})
    return module


@pytest.mark.parametrize("kind", ["cycle", "doubled", "long names"])
def test_networks_without_end_are_rejected(tmp_path, kind):
    path = write_archive(tmp_path / "w.pt", pickle_with_storages(nested_modules(kind)))
    with pytest.raises(InvalidWeightsError, match="nested too deeply|maximum recursion depth"):
        torch_files.read(path)
    path = write_archive(tmp_path / "w.pt", pickle_with_storages(nested_modules("deep")))
    assert list(torch_files.read(path)) == [150 * "a." + "a"]


PARTS = [  # of a pickle; names of modules and functions are such that running them would show
    *(b"N", b"}", b")", b"]", b"(", b"t", b"\x85", b"\x86", b"s", b"u", b"a", b"e", b"b", b"R"),
    *(b"\x81", b"\x8f", b"\x90", b"\x91", b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"Q", b"0", b"2"),
    *(b"X\x01\x00\x00\x00a", b"X\x08\x00\x00\x00_modules", b"X\x0b\x00\x00\x00_parameters"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"K\x01", b"\x93"),
    *(b"cos\nabort\n", b"cbuiltins\neval\n", b"ctorch.nn.modules.linear\nLinear\n"),
]


@given(parts=st.lists(st.sampled_from(PARTS), max_size=40))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_programs_are_rejected(tmp_path, parts):
    path = write_archive(tmp_path / "weights.pt", b"\x80\x02" + b"".join(parts) + b".")
    with pytest.raises(InvalidWeightsError) as error:
        torch_files.read(path)
    assert "\n" not in str(error.value)
