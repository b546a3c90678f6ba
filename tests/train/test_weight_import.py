"""Complete weights become a run: its predictions are those of PyTorch, in our order of classes."""

from __future__ import annotations

import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest

from affect_jax import Predictor
from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.main import main
from affect_jax.run.trained_network import load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train import initial_weights
from affect_jax.train.experiment import load_registries
from affect_jax.train.initial_weights import import_weights

torch = pytest.importorskip("torch")  # before modules that need it

from tests.models.conftest import randomize_values  # noqa: E402
from tests.models.test_weight_mapping import to_arrays  # noqa: E402
from tests.trained_runs import create_config  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
EIGHT = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
SEVEN = tuple(name for name in EIGHT if name != "Contempt")
TEN = (*EIGHT, "valence", "arousal")


def create_network(timm, outputs: int, wrapped: bool = False, name: str = "resnet18"):
    """A network of timm with random weights; `wrapped`: HSEmotion's classifier."""
    network = timm.create_model(name, num_classes=outputs).eval()
    if wrapped:
        layer = torch.nn.Sequential(torch.nn.Linear(network.num_features, outputs))
        setattr(network, network.pretrained_cfg["classifier"], layer)
    randomize_values(network, seed=outputs)
    with torch.no_grad():
        for value in network.get_classifier().parameters():
            value *= 0.02 if name == "resnet18" else 1.5  # neither flat nor one certain class
    return network


def config_of(path: object, outputs=(), classes: int = 8, **changes):
    heads = ("expression", "valence_arousal") if "valence" in outputs else ("expression",)
    config = create_config(**{"heads": heads, "data__num_classes": classes, **changes})
    config.trunk = {"name": "resnet18"}
    config.data.image_size = config.data.crop_size = 64
    config.init_from, config.init_outputs = str(path), outputs
    return config


@pytest.fixture(scope="module", autouse=True)
def _registries():
    load_registries()


def assert_predicts_as(network, run: pathlib.Path, outputs, classes: int = 8) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    predictor = Predictor.load(run, detector="none", margin=0.0)
    faces = predictor.predict(list(images))
    crops = np.concatenate([predictor.detect(image).crops for image in images])  # JPEG, as in data
    inputs = (crops / 255 - (0.485, 0.456, 0.406)) / np.array((0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = network(torch.tensor(inputs.transpose(0, 3, 1, 2), dtype=torch.float32))
    columns = [outputs.index(name.title()) for name in labels.classes(classes)]
    probabilities = torch.softmax(expected[:, columns], 1).numpy()
    assert faces.classes == labels.classes(classes) and faces.expression is not None
    np.testing.assert_allclose(faces.expression, probabilities, atol=1e-4)
    assert probabilities.max() - probabilities.min() > 0.1
    if outputs is TEN:
        assert faces.valence_arousal is not None
        axes = expected[:, 8:].clip(-1, 1).numpy()
        np.testing.assert_allclose(faces.valence_arousal, axes, atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "classes", "wrapped", "ema"),
    [
        pytest.param(EIGHT, 8, True, 0.0, marks=pytest.mark.slow),
        pytest.param(SEVEN, 7, False, 0.9, marks=pytest.mark.slow),
        pytest.param(TEN, 8, False, 0.0, marks=pytest.mark.slow),
        pytest.param(EIGHT, 7, True, 0.0, marks=pytest.mark.slow),
    ],
)
def test_predictions_equal_timm(tmp_path, timm, outputs, classes, wrapped, ema):
    network = create_network(timm, len(outputs), wrapped)
    torch.save(network, tmp_path / "network.pt")
    config = config_of(tmp_path / "network.pt", outputs, classes, ema_decay=ema)
    text = import_weights(config, Workdir(tmp_path / "run"))
    assert "arrays loaded" in text and "not used" not in text
    assert_predicts_as(network, tmp_path / "run", outputs, classes)


@pytest.fixture(scope="module")
def arrays(timm):
    return to_arrays(create_network(timm, 8))


def error_message(arrays, tmp_path, read=initial_weights.read, **options) -> str:
    torch.save({name: torch.tensor(a) for name, a in arrays.items()}, tmp_path / "w.pth")
    with pytest.raises(UserError) as error:
        read(config_of(tmp_path / "w.pth", **options))
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("outputs", "classes", "message"),
    [
        (("Angr", *EIGHT[1:]), 8, "'angr': unknown; did you mean 'anger'?"),
        (SEVEN, 8, "'contempt' is missing"),
        (TEN[:9], 8, "'arousal' is missing"),
        (TEN, 8, "must be () or name the outputs of fc.weight [8, 512] in "),
        (SEVEN, 7, "must be () or name the outputs of fc.weight [8, 512] in "),
    ],
)
def test_wrong_names_of_outputs_are_refused(arrays, tmp_path, outputs, classes, message):
    line = error_message(arrays, tmp_path, outputs=outputs, classes=classes)
    assert line.startswith(f"init_outputs = {outputs}: {message}")


def test_training_starts_from_the_classifier_in_our_order(arrays, tmp_path):
    torch.save({name: torch.tensor(a) for name, a in arrays.items()}, tmp_path / "w.pth")
    weights = initial_weights.read(config_of(tmp_path / "w.pth", EIGHT))
    assert weights is not None and not weights.report.initialised
    rows = [EIGHT.index(name.title()) for name in labels.classes(8)]
    head = weights.params["expression"]
    np.testing.assert_array_equal(head["kernel"], arrays["fc.weight"][rows].T)
    np.testing.assert_array_equal(head["bias"], arrays["fc.bias"][rows])


def test_incomplete_weights_are_not_imported(arrays, tmp_path):
    def import_run(config):
        import_weights(config, Workdir(tmp_path / "run"))

    trunk = {name: array for name, array in arrays.items() if not name.startswith("fc.")}
    message = error_message(trunk, tmp_path, import_run, outputs=EIGHT)
    assert "has no params.expression.bias, params.expression.kernel" in message
    message = error_message(arrays, tmp_path, import_run, heads=("expression", "valence_arousal"))
    assert "has no params.valence_arousal.bias" in message
    message = error_message({**trunk, "fc.bias": np.ones(8)}, tmp_path, import_run)
    assert "has no params.expression.bias, params.expression.kernel" in message
    with pytest.raises(UserError, match="needs the weights, as --config.init_from=FILE"):
        import_run(config_of(""))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_command(timm, tmp_path, monkeypatch, capsys):
    """The command in a process; then the errors of commands that would change the run."""
    monkeypatch.chdir(tmp_path)
    torch.save(create_network(timm, 10), "network.pt")
    flags = ["--mode=import", f"--config={ROOT}/configs/resnet18_joint.py", "--workdir=run"]
    flags += ["--config.init_from=network.pt", f"--config.init_outputs={TEN}"]
    result = subprocess.run(
        [sys.executable, "-m", "affect_jax.main", *flags],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "imported: run"
    assert load_network("run").step == 0 and not pathlib.Path("data").exists()
    for arguments, message in (
        (flags, "run: contains a run; use another --workdir"),
        (["--workdir=run"], "run: its weights were imported, so there is no training to resume"),
        ([flags[1], "--workdir=new", "--config.init_outputs=(1,)"], "init_outputs = [1]: must be"),
        ([flags[1], "--workdir=new", "--config.init_outputs="], "init_outputs = ['']: must be ()"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    run = initial_weights.read(config_of("run", TEN))  # the names are those of a PyTorch file
    assert run is not None and not run.report.initialised


@pytest.mark.parametrize("size", ["b0", pytest.param("b2", marks=pytest.mark.slow)])
def test_configs_of_hsemotion_import_its_networks(size, tmp_path, timm):
    network = create_network(timm, 8, wrapped=size == "b0", name=f"tf_efficientnet_{size}")
    torch.save(network, tmp_path / "network.pt")
    config = runpy.run_path(str(ROOT / "configs" / f"hsemotion_{size}.py"))["get_config"]()
    config.init_from = str(tmp_path / "network.pt")
    config.data.image_size = config.data.crop_size = 64
    import_weights(config, Workdir(tmp_path / "run"))
    assert_predicts_as(network, tmp_path / "run", EIGHT)
