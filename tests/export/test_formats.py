"""Each format gives what the network gives, at any batch size."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import export as jax_export

from affect_jax import models
from affect_jax.config import from_dict, to_dict
from affect_jax.core.errors import UserError
from affect_jax.export import formats
from affect_jax.models import imported_weights
from affect_jax.train import initial_weights
from tests.export.conftest import faces_for, onnx_session, predicted
from tests.trained_runs import ALL, SMALL

TOLERANCE = 1e-4


def assert_same(found, wanted):
    assert set(found) == set(wanted) == set(ALL)
    for head, array in wanted.items():
        assert found[head].shape == array.shape and found[head].dtype == np.float32
        np.testing.assert_allclose(found[head], array, rtol=0, atol=TOLERANCE)


def test_every_trunk_is_tried():
    ours = {
        name
        for name in models.TRUNKS.names()
        if models.TRUNKS[name].__module__.startswith("affect_jax")
    }
    assert set(SMALL) == ours  # other tests may have registered one of their own


@pytest.mark.parametrize("trunk", sorted(SMALL))
def test_onnx_gives_what_the_network_gives(trunk, exported):
    run, folder, made = exported("onnx", trunk)
    assert made["files"] == ["model.onnx"] == [path.name for path in folder.iterdir()]
    assert set(made["largest_difference"]) == {"1", "8"}
    session = onnx_session(folder / "model.onnx")
    faces = faces_for(run)
    wanted = predicted(run, faces)
    assert_same(session(faces), wanted)
    assert_same(session(faces[:1]), {head: array[:1] for head, array in wanted.items()})
    spread = np.ptp(wanted["expression"], axis=0)
    assert spread.max() > 100 * TOLERANCE  # the faces are told apart, so equality says something


def test_onnx_averages_with_the_mirror_image_where_evaluation_does(run_of, tmp_path):
    run, alone = run_of("resnet18", evaluation__mirror=True), run_of("resnet18")
    formats.write(run, "onnx", tmp_path)
    faces = faces_for(run)
    sides = predicted(alone, faces), predicted(alone, faces[:, :, ::-1])
    wanted = jax.tree.map(lambda one, other: (one + other) / 2, *sides)
    assert_same(onnx_session(tmp_path / "model.onnx")(faces), wanted)
    assert np.abs(sides[0]["expression"] - wanted["expression"]).max() > TOLERANCE


def test_the_mirror_images_weights_are_stored_once(run_of, exported, tmp_path):
    _, folder, _ = exported("onnx", "resnet18")
    formats.write(run_of("resnet18", evaluation__mirror=True), "onnx", tmp_path)
    once, both = ((path / "model.onnx").stat().st_size for path in (folder, tmp_path))
    assert both < 1.2 * once


def test_what_cannot_be_converted_is_one_line():
    from affect_jax.export import onnx_model

    def strange(images):
        return {"result": jax.pure_callback(lambda x: x, images, images)}

    with pytest.raises(UserError, match="jax2onnx cannot convert this network .*stablehlo") as told:
        onnx_model.convert(strange, (4, 4, 3), name="case", about={})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("beside", [False, True], ids=["baked", "beside"])
def test_stablehlo_gives_what_the_network_gives(beside, exported):
    run, folder, made = exported("stablehlo", beside=beside)
    assert set(made["files"]) == {path.name for path in folder.iterdir()}
    content = (folder / "model.stablehlo").read_bytes()
    network = jax_export.deserialize(bytearray(content))
    assert network.platforms == ("cpu", "cuda", "tpu")
    faces = faces_for(run)
    wanted = predicted(run, faces)
    if not beside:
        assert_same(jax.device_get(network.call(faces)), wanted)
        return
    parameters = safetensors.numpy.load_file(folder / "model.safetensors")
    assert len(content) < sum(array.nbytes for array in parameters.values())  # they are not in it
    call = jax.jit(network.call)
    assert_same(jax.device_get(call(parameters, faces)), wanted)
    moved = {n: a * 2 if n.endswith("bias") else a for n, a in parameters.items()}
    other = call(moved, faces)
    assert np.abs(other["expression"] - wanted["expression"]).max() > TOLERANCE


def test_safetensors_is_what_a_run_can_start_from(run_of, tmp_path):
    run = run_of("resnet18")
    assert formats.write(run, "safetensors", tmp_path) == {"files": ["model.safetensors"]}
    config = from_dict(to_dict(run.config))
    config.init_from = str(tmp_path / "model.safetensors")
    read = initial_weights.read(config)
    assert not read.report.fresh and not read.report.unmatched
    wanted = imported_weights.named(run.variables["params"], run.variables["batch_stats"])
    found = imported_weights.named(read.params, read.batch_stats)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_network_of_bfloat16_is_written_in_float32(run_of, tmp_path):
    run = run_of("resnet18", dtype="bfloat16")
    formats.write(run, "onnx", tmp_path)
    faces = faces_for(run)
    found = onnx_session(tmp_path / "model.onnx")(faces)
    assert_same(found, predicted(run_of("resnet18"), faces))  # the same weights in float32


def test_outputs_that_differ_are_not_kept(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match=r"--format=onnx: its outputs differ from JAX's by \d"):
        formats.write(run_of("resnet18"), "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(run_of, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime; pip install 'affect_jax\[export\]'"):
        formats.write(run_of("resnet18"), "onnx", pathlib.Path(tmp_path))
