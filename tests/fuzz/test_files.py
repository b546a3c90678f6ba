"""Damaged files: a command succeeds, or ends with code 2 and one line. `launch/fuzz.sh` tries more.

Code 1 is an unexpected error, see `core.cli.handle_cli_errors`.
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from affect_jax import main as training_command
from affect_jax.config import defaults, flatten, to_dict
from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.evaluate import __main__ as evaluate_command
from affect_jax.export import __main__ as export_command
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.models import weight_files
from affect_jax.report import __main__ as report_command
from affect_jax.report import run_page, runs
from tests.fuzz.damage import JSON_VALUES, damaged_bytes, damaged_json
from tests.releases import create_flags, write_release
from tests.trained_runs import create_config, write_run

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "resnet18_joint.py"

EXPECTED_CODES = (0, 2)
"""Exit codes of a success and of an error with a message for the user."""

few = settings(max_examples=max(5, settings().max_examples // 5))
"""For commands that take a tenth of a second or more."""


def run(command: Callable[[Sequence[str]], int], *flags: object) -> int:
    """Runs a command and returns its exit code. pytest shows its errors if the test fails."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        code = command([str(flag) for flag in flags])
    print(stderr.getvalue())
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def small_run(folder) -> pathlib.Path:
    return write_run(folder / "run", create_config(), scores=(0.5,))


@pytest.fixture(scope="module", params=["csv", "parquet"])
def predictions(request, folder) -> pathlib.Path:
    random = np.random.default_rng(0)
    table = Predictions(
        id=np.array([f"{i}.jpg" for i in range(30)]),
        classes=classes(8),
        expression=np.arange(30) % 9 - 1,
        probabilities=random.dirichlet(np.ones(8), 30),
        valence_arousal=random.uniform(-1, 1, (30, 2)),
        valence_arousal_predicted=random.uniform(-1, 1, (30, 2)),
        units=(1, 12),
        action_units=random.uniform(0, 1, (30, 2)),
        action_units_predicted=random.uniform(0, 1, (30, 2)),
    )
    path = folder / f"predictions.{request.param}"
    write_predictions(table, path)
    return path


def test_intact_files_are_accepted(folder, predictions, small_run):
    """Otherwise the other tests would find nothing."""
    flags = (f"--predictions={predictions}", f"--out={folder / 'scores'}", "--draws=2")
    assert run(evaluate_command.main, *flags, "--no-report") == 0
    assert run(report_command.main, folder / "scores", f"--out={folder / 'report.html'}") == 0
    assert run(export_command.main, f"--workdir={small_run}", "--format=safetensors") == 0
    write_release(folder / "intact", training=6, validation=3)
    flags = [f"--config={CONFIG}", *create_flags(folder / "intact", folder / "intact_data")]
    assert run(training_command.main, "--mode=prepare", *flags) == 0


@few
@given(data=st.data())
def test_predictions(folder, predictions, data):
    path = folder / f"damaged{predictions.suffix}"
    path.write_bytes(data.draw(damaged_bytes(predictions.read_bytes())))
    flags = ("--no-report", "--draws=2", "--bootstrap=2")
    assert (
        run(evaluate_command.main, f"--predictions={path}", f"--out={folder / 'scores'}", *flags)
        in EXPECTED_CODES
    )


@pytest.fixture(scope="module", params=["safetensors", "pth", "pt"])
def weights(request, folder) -> pathlib.Path:
    arrays = {"conv.weight": np.ones((4, 3, 2, 2), np.float32), "fc.bias": np.ones(8, np.float32)}
    path = folder / f"weights.{request.param}"
    if request.param == "safetensors":
        save_file(arrays, path)
    else:
        torch = pytest.importorskip("torch")
        state_dict = {key: torch.from_numpy(array) for key, array in arrays.items()}
        content = {"pth": {"state_dict": state_dict}, "pt": torch.nn.Linear(3, 2)}
        torch.save(content[request.param], path)
    return path


@given(data=st.data())
def test_weights(folder, weights, data):
    path = folder / f"damaged{weights.suffix}"
    path.write_bytes(data.draw(damaged_bytes(weights.read_bytes())))
    with contextlib.suppress(UserError):
        assert all(isinstance(array, np.ndarray) for array in weight_files.read(str(path)).values())


@few
@given(data=st.data())
def test_saved_config(folder, small_run, data):
    path = small_run / "config.json"
    intact = path.read_text()
    try:
        path.write_text(json.dumps(data.draw(damaged_json(json.loads(intact)))))
        assert (
            run(export_command.main, f"--workdir={small_run}", "--format=safetensors")
            in EXPECTED_CODES
        )
    finally:
        path.write_text(intact)


@given(data=st.data())
def test_scores(folder, predictions, data):
    """A page shows them, without its figures, which need the predictions only."""
    path = folder / "scored" / "scores.json"
    if not path.exists():
        groups = folder / "groups.csv"
        groups.write_text(
            "id,hair\n" + "".join(f"{i}.jpg,{('fair', 'dark')[i % 2]}\n" for i in range(30))
        )
        flags = (f"--predictions={predictions}", f"--out={path.parent}", f"--groups={groups}")
        assert run(evaluate_command.main, *flags, "--no-report", "--draws=2", "--bootstrap=2") == 0
    intact = path.read_text()
    try:
        path.write_text(json.dumps(data.draw(damaged_json(json.loads(intact)))))
        with contextlib.suppress(UserError):
            assert run_page.render_html(runs.read_run(path.parent), {})
    finally:
        path.write_text(intact)


@few
@given(data=st.data())
def test_release(folder, data):
    """Tables and images of a release are prepared, or skipped with a reason."""
    intact, damaged = folder / "release", folder / "damaged_release"
    if not intact.exists():
        write_release(intact, training=6, validation=3)
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.rmtree(folder / "data", ignore_errors=True)
    shutil.copytree(intact, damaged)
    files = sorted(path for path in damaged.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from([*files, *damaged.glob("*.csv")]))
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    flags = create_flags(damaged, folder / "data")
    assert (
        run(training_command.main, "--mode=prepare", f"--config={CONFIG}", *flags) in EXPECTED_CODES
    )


@few
@given(data=st.data())
def test_flags(folder, data):
    """Flags of a config, with values of any type."""
    config = to_dict(defaults())
    keys = [*flatten(config), *config, "data.options.x", "trunk.width", "schedule.warmup"]
    flags = []
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(keys) | st.text(max_size=8))
        value = data.draw(st.text(max_size=12) | JSON_VALUES.map(repr))
        flags.append(f"--config.{key}={value}")
    # No data are read: the release's folder does not exist.
    flags += [f"--config.data.manual_dir={folder}/none", f"--config.data.data_dir={folder}/none"]
    assert (
        run(training_command.main, "--mode=prepare", f"--config={CONFIG}", *flags) in EXPECTED_CODES
    )
