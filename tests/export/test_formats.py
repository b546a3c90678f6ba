"""Export formats: the outputs equal those of the network at any batch size."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import pytest
from jax import export as jax_export

from affect_jax.config import from_dict, to_dict
from affect_jax.core.errors import UserError
from affect_jax.export import formats, model_card
from affect_jax.metrics import calibration
from affect_jax.models import weight_mapping
from affect_jax.models.network import predict_step
from affect_jax.run.trained_network import load_network
from affect_jax.train import initial_weights
from tests.export.conftest import create_faces, onnx_session, predict
from tests.trained_runs import ALL_HEADS, create_config, packaged_trunks

pytestmark = pytest.mark.usefixtures("short_trunks")

TOLERANCE = 1e-4


def assert_same_outputs(actual, expected):
    assert set(actual) == set(expected) == set(ALL_HEADS)
    for head, array in expected.items():
        assert actual[head].shape == array.shape and actual[head].dtype == np.float32
        np.testing.assert_allclose(actual[head], array, rtol=0, atol=TOLERANCE)


def every_trunk(*fast: str):
    """Parametrizes over the registry; trunks other than `fast` are slow."""
    names = [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in packaged_trunks()]
    return pytest.mark.parametrize("trunk", names)


@every_trunk("resnet18")
def test_onnx_outputs_equal_the_network(trunk, create_exported):
    trained, folder, result = create_exported("onnx", trunk)
    assert result["files"] == ["model.onnx"] == [path.name for path in folder.iterdir()]
    assert set(result["largest_difference"]) == {"1", "8"}
    session = onnx_session(folder / "model.onnx")
    faces = create_faces(trained)
    expected = predict(trained, faces)
    assert_same_outputs(session(faces), expected)
    assert_same_outputs(session(faces[:1]), {head: array[:1] for head, array in expected.items()})
    spread = np.ptp(expected["expression"], axis=0)
    assert spread.max() > 100 * TOLERANCE  # outputs differ: the comparison is meaningful


@pytest.mark.slow
def test_onnx_averages_over_the_mirror_image_with_weights_stored_once(create_exported):
    unmirrored, unmirrored_folder, _ = create_exported("onnx")
    _, folder, _ = create_exported("onnx", evaluation__mirror=True)
    faces = create_faces(unmirrored)
    outputs = predict(unmirrored, faces), predict(unmirrored, faces[:, :, ::-1])
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *outputs)
    assert_same_outputs(onnx_session(folder / "model.onnx")(faces), expected)
    assert np.abs(outputs[0]["expression"] - expected["expression"]).max() > TOLERANCE
    sizes = [(path / "model.onnx").stat().st_size for path in (folder, unmirrored_folder)]
    assert sizes[0] < 1.2 * sizes[1]


def test_unsupported_primitive_gives_one_line():
    def unsupported(images):
        return {"result": jax.pure_callback(lambda x: x, images, images)}

    with pytest.raises(UserError, match="jax2onnx cannot convert this network") as error:
        formats.convert_to_onnx(unsupported, (4, 4, 3), name="case", metadata={})
    assert "\n" not in str(error.value) and "stablehlo" in str(error.value)


@every_trunk("vit_small")
def test_stablehlo_outputs_equal_the_network(trunk, create_exported):
    trained, folder, result = create_exported("stablehlo", trunk)
    assert result["files"] == ["model.stablehlo"] == [path.name for path in folder.iterdir()]
    network = jax_export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    assert network.platforms == ("cpu", "cuda", "tpu")
    faces = create_faces(trained)
    assert_same_outputs(jax.device_get(network.call(faces)), predict(trained, faces))


@every_trunk("vit_small")
def test_safetensors_initialise_a_run(trunk, create_trained, tmp_path):
    trained = create_trained(trunk)
    assert formats.write_network(trained, "safetensors", tmp_path) == {
        "files": ["model.safetensors"]
    }
    config = from_dict(to_dict(trained.config))
    config.init_from = str(tmp_path / "model.safetensors")
    weights = initial_weights.read(config)
    assert not weights.report.initialised and not weights.report.unused
    expected = weight_mapping.flatten_by_name(
        trained.variables["params"], trained.variables["batch_stats"]
    )
    actual = weight_mapping.flatten_by_name(weights.params, weights.batch_stats)
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.slow
def test_bfloat16_network_is_exported_in_float32(create_trained, create_exported):
    trained, folder, _ = create_exported("onnx", dtype="bfloat16")
    faces = create_faces(trained)
    outputs = onnx_session(folder / "model.onnx")(faces)
    same_weights_in_float32 = create_trained("resnet18")
    assert_same_outputs(outputs, predict(same_weights_in_float32, faces))


def test_differing_outputs_are_not_written(create_trained, tmp_path, monkeypatch):
    trained = create_trained("resnet18")

    def run(faces):
        return {head: array + 2e-4 for head, array in predict(trained, faces).items()}

    monkeypatch.setattr(formats, "convert_to_onnx", lambda *_: (b"", run))
    with pytest.raises(UserError, match=r"--format=onnx: the outputs differ from JAX's by \d"):
        formats.write_network(trained, "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_package_error_suggests_installation(create_trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime; pip install 'affect_jax\[export\]'"):
        formats.write_network(create_trained("resnet18"), "onnx", pathlib.Path(tmp_path))


@pytest.mark.parametrize("half", [False, True])
def test_folder_with_weights_is_loaded_as_a_run(half, create_trained, tmp_path):
    trained = dataclasses.replace(create_trained("resnet18"), temperature=2.0)
    exported = formats.write_network(trained, "safetensors", tmp_path, half=half)
    card = model_card.create_card(trained, "safetensors", exported)
    calibrated = {"temperature": 2.0, "split": "validation", "part": "", "faces": 9}
    model_card.write_card(
        {**card, "calibration": {**calibrated, "before": 0.2, "after": 0.1}}, tmp_path
    )
    loaded = load_network(tmp_path)
    assert (loaded.classes, loaded.step, loaded.temperature) == (trained.classes, 200, 2.0)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3 if half else 0, atol=1e-5 * half),
        loaded.variables,
        trained.variables,
    )
    with pytest.raises(UserError, match="checkpoint '7': an export, which holds step 200"):
        load_network(tmp_path, "7")
    config = create_config()
    config.init_from = str(tmp_path)
    assert not initial_weights.read(config).report.initialised


def test_damaged_card_is_an_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    for text, message in (("{", "card.json: damaged"), ('{"config": {}}', "card.json: damaged")):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_network(tmp_path)


@pytest.mark.parametrize("mirror", [False, True])
def test_temperature_is_applied_as_it_is_fitted(mirror, create_trained):
    trained = create_trained("resnet18")
    faces = create_faces(trained)
    step = functools.partial(predict_step, trained.network, trained.variables, {"image": faces})
    scaled, expected = step(mirror=mirror, temperature=2.0), step(mirror=mirror)
    probabilities = calibration.scale_probabilities(expected.pop("expression"), 2.0)
    np.testing.assert_allclose(scaled.pop("expression"), probabilities, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), scaled, expected)
