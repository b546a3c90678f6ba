"""The command in a separate process: from flags to files, messages and exit codes."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from jax.errors import JaxRuntimeError

from affect_jax import main
from affect_jax.core.errors import UserError, is_out_of_memory
from tests.releases import create_flags, write_release

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = f"--config={ROOT}/configs/resnet18_joint.py"


def run_main(*arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "affect_jax.main", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def error_message(result: subprocess.CompletedProcess) -> str:
    """Returns the message of a failed command and checks its form: one line, exit code 2."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("affect_jax: ")]
    assert len(lines) == 1, result.stderr
    return result.stderr[result.stderr.index("affect_jax: ") :]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess, list[str]]:
    """A folder with a trained run in `run/`, the result of the command, and its flags."""
    folder = tmp_path_factory.mktemp("trained")
    write_release(folder / "release")
    flags = [CONFIG, "--workdir=run"]
    flags += create_flags(folder / "release", folder / "data", duration__epochs=2)
    return folder, run_main(*flags, folder=folder), flags


def test_train_then_evaluate(trained):
    folder, result, _ = trained
    assert result.returncode == 0, result.stderr
    assert "64 read = 64 written + 0 skipped" in result.stderr
    assert "resnet18" in result.stderr and "images_per_second" in result.stderr
    assert "validation, step" in result.stdout and "contempt" in result.stdout
    scored = run_main("--mode=evaluate", "--workdir=run", folder=folder)
    assert scored.returncode == 0, scored.stderr
    out = folder / "run" / "evaluation" / "validation"
    written = json.loads((out / "scores.json").read_text())
    accuracy = written["scores"]["categorical.top1.original.accuracy"]
    assert f"{accuracy:.3f}" in scored.stdout
    assert written["about"]["machine_of_training"] == written["about"]["machine"]
    assert written["about"]["checkpoint_step"] > 0 and written["about"]["data"] == "affectnet"
    table = pyarrow.parquet.read_table(out / "predictions.parquet")
    assert table.num_rows == 24 and len(set(table["id"].to_pylist())) == 24
    assert {"p_neutral", "p_contempt", "valence", "arousal_predicted"} <= set(table.column_names)
    report = (out / "report.html").read_text()
    assert "Not AffectNet: faces in AffectNet" in report and "Grad-CAM" in report
    assert report.count("data:image/jpeg") > 24 and (out / "figures" / "grad_cam.png").is_file()
    assert list((out / "tensorboard").iterdir())
    # Scoring the table of predictions gives the same scores.
    rescored = subprocess.run(
        [sys.executable, "-m", "affect_jax.evaluate", "--predictions",
         str(out / "predictions.parquet"), "--out", str(folder / "rescored"), "--draws", "5"],
        capture_output=True, text=True, timeout=400, cwd=ROOT,
    )  # fmt: skip
    assert rescored.returncode == 0, rescored.stderr
    assert (
        json.loads((folder / "rescored" / "scores.json").read_text())["scores"] == written["scores"]
    )


def test_exported_model_reproduces_the_predictions_of_evaluation(trained, monkeypatch):
    folder, _, _ = trained
    onnxruntime = pytest.importorskip("onnxruntime")
    from affect_jax.data import decoding
    from affect_jax.data.dataset import prepare_dataset
    from affect_jax.data.tfds_builder import open_split
    from affect_jax.export.__main__ import main as export
    from affect_jax.run.trained_network import load_network

    monkeypatch.chdir(folder)
    if not pathlib.Path("run/evaluation/validation").exists():
        run_main("--mode=evaluate", "--workdir=run", folder=folder)
    assert export(["--checkpoint=run", "--format=onnx"]) == 0
    split = open_split(prepare_dataset(load_network("run").config), "validation")
    faces = np.empty((len(split), 40, 40, 3), np.uint8)
    for i, face in enumerate(faces):
        decoding.decode_jpeg(split.records[i]["image"], face)
    session = onnxruntime.InferenceSession("run/export/onnx/model.onnx")
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"image": faces}), strict=True))
    table = pyarrow.parquet.read_table("run/evaluation/validation/predictions.parquet")
    assert table["id"].to_pylist() == split.columns()["id"].tolist()
    columns = [name for name in table.column_names if name.startswith("p_")]
    probabilities = np.stack([table[name].to_numpy() for name in columns], axis=1)
    np.testing.assert_allclose(outputs["expression"], probabilities, atol=1e-4)
    axes = [table[f"{axis}_predicted"].to_numpy() for axis in ("valence", "arousal")]
    np.testing.assert_allclose(outputs["valence_arousal"], np.stack(axes, axis=1), atol=1e-4)
    card = pathlib.Path("run/export/onnx/README.md").read_text()
    assert "faces in AffectNet’s layout" in card and "validation split, 24 faces" in card


@pytest.mark.parametrize("checkpoint", ["last", "7", "8"])
def test_evaluate_selects_a_checkpoint_by_name_or_step(trained, tmp_path, checkpoint):
    """Runs in another folder: the saved config has absolute paths."""
    folder, _, _ = trained
    steps = sorted(int(p.name) for p in (folder / "run/checkpoints").iterdir() if p.name.isdigit())
    result = run_main(
        "--mode=evaluate", f"--workdir={folder / 'run'}", f"--checkpoint={checkpoint}",
        "--split=training", folder=tmp_path,
    )  # fmt: skip
    assert steps == [7, 14]
    if checkpoint == "8":
        assert "holds steps 7, 14" in error_message(result)
        return
    assert result.returncode == 0, result.stderr
    written = json.loads((folder / "run/evaluation/training/scores.json").read_text())
    expected = 14 if checkpoint == "last" else 7
    assert written["about"]["checkpoint_step"] == expected
    assert re.fullmatch("[0-9a-f]{12}", written["about"]["config"])  # a digest
    assert f"step {expected}, training split, 64 faces" in result.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config.learning_rat=0.1"], "did you mean 'learning_rate'"),
        (["--config.losses[0].gama=2"], "no key 'gama'; tuples can only be set as a whole"),
        (["--workdri=x"], "--workdri: no such flag; did you mean 'workdir'?"),
        (["--config.trunk=resnet18"], "set one of its keys: --config.trunk.name="),
        (["--config.trunk.name=alexnt"], "did you mean 'alexnet'"),
        (["--config.batch_size=0"], "batch_size = 0: must be 1 or more"),
        (["--checkpoint"], "checkpoint"),
        (["--mode=trian"], "trian"),
        (["argument"], "'argument' is not a flag"),
    ],
)
def test_wrong_flag_is_a_one_line_error(tmp_path, flags, message):
    assert message in error_message(run_main(CONFIG, "--workdir=run", *flags, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_all_config_problems_are_reported_together(tmp_path):
    flags = ["--config.batch_size=-1", "--config.dtype=float16", "--config.sampling.name=dwn"]
    message = error_message(run_main(CONFIG, "--workdir=run", *flags, folder=tmp_path))
    assert "has 3 problems" in message
    for part in ("batch_size = -1", "did you mean 'bfloat16'", "did you mean 'down'"):
        assert part in message


def test_missing_config_file(tmp_path):
    message = error_message(
        run_main("--config=configs/nothing.py", "--workdir=run", folder=tmp_path)
    )
    assert "configs/nothing.py: no such file" in message


def test_missing_affectnet_release_is_explained(tmp_path):
    message = error_message(run_main(CONFIG, "--workdir=run", folder=tmp_path))
    for part in ("AffectNet", "licen", "--config.data.manual_dir", "synthetic_faces"):
        assert part in message
    assert not (tmp_path / "data" / "affectnet").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes"),
    ],
)
def test_out_of_memory_is_a_one_line_error(monkeypatch, capsys, error):
    def dispatch() -> int:
        raise error

    monkeypatch.setattr(main, "_dispatch", dispatch)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("affect_jax: Out of memory (") and "batch_size" in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "no", "out of memory.csv"),
        UserError("out of memory.csv"),
        ValueError(),
    ],
)
def test_is_out_of_memory_ignores_other_errors(error):
    assert not is_out_of_memory(error)


def test_evaluating_a_folder_without_a_run(tmp_path):
    assert "contains no run" in error_message(
        run_main("--mode=evaluate", "--workdir=nothing", folder=tmp_path)
    )


def test_resume_with_another_config_lists_the_differences(trained):
    folder, _, flags = trained
    message = error_message(run_main(*flags, "--config.learning_rate=0.5", folder=folder))
    assert "learning_rate: saved 0.02, new 0.5" in message


def test_help_lists_the_flags(tmp_path):
    result = run_main("--help", folder=tmp_path)
    assert "--config" in result.stdout and "--workdir" in result.stdout
    assert "Traceback" not in result.stderr


def test_flag_parsing_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys, affect_jax.main; "
        "print([m for m in ('jax', 'tensorflow', 'tensorflow_datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_training_and_evaluation_do_not_import_tensorflow():
    code = (
        "import sys; from affect_jax.train import experiment, loop; experiment.load_registries(); "
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "False", result.stdout + result.stderr
