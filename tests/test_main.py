"""The command: from flags to files, messages and exit codes."""

from __future__ import annotations

import errno
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from jax.errors import JaxRuntimeError

from affect_jax import main
from affect_jax.config import flatten, to_dict
from affect_jax.core import processes
from affect_jax.core.errors import UserError, is_out_of_memory
from affect_jax.evaluate.__main__ import main as evaluate
from affect_jax.report import evaluation_page
from affect_jax.run.workdir import Workdir
from tests.trained_runs import create_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = f"--config={ROOT}/configs/resnet18_joint.py"

# ml_collections imports config files with it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def error_message(capsys, *arguments: str) -> str:
    """Returns the message of a failed command and checks its form: one error, exit code 2."""
    assert main.main(arguments) == 2
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("affect_jax: ")]
    assert len(lines) == 1, text
    return text[text.index("affect_jax: ") :]


@pytest.fixture
def evaluation_copy(trained_run, tmp_path, monkeypatch) -> pathlib.Path:
    """A copy of the trained run in another folder: its config has absolute paths."""
    shutil.copytree(trained_run.folder / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_train_then_evaluate(trained_run):
    result = trained_run.trained
    assert result.returncode == 0, result.stderr
    assert "64 read = 64 written + 0 skipped" in result.stderr
    assert "resnet18" in result.stderr and "images_per_second" in result.stderr
    assert "validation, step" in result.stdout and "contempt" in result.stdout
    scored = trained_run.evaluated
    assert scored.returncode == 0, scored.stderr
    out = trained_run.folder / "run" / "evaluation" / "validation"
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


def test_scoring_the_table_of_predictions_gives_the_same_scores(trained_run, tmp_path):
    out = trained_run.folder / "run" / "evaluation" / "validation"
    flags = ["--predictions", str(out / "predictions.parquet"), "--draws", "5"]
    assert evaluate([*flags, "--out", str(tmp_path)]) == 0
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (out, tmp_path)]
    assert scores[0]["scores"] == scores[1]["scores"]


@pytest.mark.slow
def test_exported_model_reproduces_the_predictions_of_evaluation(evaluation_copy):
    onnxruntime = pytest.importorskip("onnxruntime")
    from affect_jax.data import decoding
    from affect_jax.data.dataset import prepare_dataset
    from affect_jax.data.tfds_builder import open_split
    from affect_jax.export.__main__ import main as export
    from affect_jax.run.trained_network import load_network
    from affect_jax.train.experiment import load_registries

    load_registries()
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


@pytest.mark.parametrize("checkpoint", ["last", pytest.param("7", marks=pytest.mark.slow)])
def test_evaluate_selects_a_checkpoint_by_name_or_step(
    evaluation_copy, capsys, monkeypatch, checkpoint
):
    monkeypatch.setattr(evaluation_page, "write_report", lambda evaluation: "no page")
    flags = ("--mode=evaluate", f"--workdir={evaluation_copy}", "--split=training")
    assert main.main([*flags, f"--checkpoint={checkpoint}"]) == 0
    written = json.loads((evaluation_copy / "evaluation/training/scores.json").read_text())
    expected = 14 if checkpoint == "last" else 7
    assert written["about"]["checkpoint_step"] == expected
    assert re.fullmatch("[0-9a-f]{12}", written["about"]["config"])  # a digest
    assert f"step {expected}, training split, 64 faces" in capsys.readouterr().out
    assert not pathlib.Path("data").exists()


def test_unknown_checkpoint_is_an_error(evaluation_copy, capsys):
    flags = ("--mode=evaluate", f"--workdir={evaluation_copy}", "--checkpoint=8")
    assert "holds steps 7, 14" in error_message(capsys, *flags)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config.learning_rat=0.1"], "did you mean 'learning_rate'"),
        (
            ["--config.losses[0].gama=2"],
            "losses[0].gama: weighted_cross_entropy has no such option",
        ),
        (["--config.losses[2].gamma=2"], "does not exist (tuple index out of range)"),
        (["--config.losses.gamma=2"], "does not exist (tuple indices must be integers"),
        (["--config.optimzer.name=adam"], 'Did you mean "optimizer" instead of "optimzer"?'),
        (["--config.learning_rate.x=2"], "Attempting to lookup: learning_rate.x"),
        (
            ["--config.optimizer.rates.trunk=0"],
            "('rates'); an option that the config does",
        ),
        (["--config.imports=no_such_package"], "'no_such_package' cannot be imported"),
        (["--config.loggers=tensorbord"], "loggers: 'tensorbord': unknown; did you mean"),
        (["--config.trunk.name=mine"], "config.imports lists the modules of your own entries"),
        (["--workdri=x"], "flag 'workdri'. Did you mean: workdir"),
        (["--config.trunk=resnet18"], "set one of its keys, such as --config.trunk.name="),
        (["--config.trunk.name=alexnt"], "did you mean 'alexnet'"),
        (["--config.batch_size=0"], "batch_size = 0: must be 1 or more"),
        (["--config.learning_rate=nan"], "learning_rate = nan: must be positive"),
        (["--flagfile=nothing"], "Unable to open flagfile"),
        (["--checkpoint"], "checkpoint"),
        (["--mode=trian"], "trian"),
        (["argument"], "'argument' is not a flag"),
    ],
)
def test_wrong_flag_is_a_one_line_error(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert message in error_message(capsys, CONFIG, "--workdir=run", *flags)
    assert list(tmp_path.iterdir()) == []  # nothing was written


@pytest.mark.parametrize(
    "flags, changed",
    [
        ({"duration.steps": 40}, {"duration.epochs": 0.0}),
        ({"duration.steps": 40, "duration.epochs": 1.0}, {}),  # reported as a problem
        ({"duration.steps": 0}, {}),
        ({"evaluate_every.steps": 40}, {"evaluate_every.epochs": 0.0}),
        ({"schedule.interval.epochs": 2}, {"schedule.interval.steps": 0}),
        ({"optimizer.name": "sgd"}, {}),
        ({"optimizer.name": "adamw"}, {"optimizer.momentum": None, "optimizer.weight_decay": None}),
        ({"optimizer.name": "adamw", "optimizer.weight_decay": 0.1}, {"optimizer.momentum": None}),
        ({"schedule.name": "cosine"}, {"schedule.decay": None, "schedule.interval.steps": None}),
        ({"losses[0].max_weight": 5}, {}),
        ({"losses[1].name": "squared_error", "losses[1].weight": 2}, {}),
    ],
)
def test_flags_clear_what_they_replace(flags, changed):
    def flat(arguments: list[str]) -> dict:
        values = flatten(main.parse_flags([CONFIG, *arguments]).config)
        terms = {f"losses[{i}]": term for i, term in enumerate(values.pop("losses"))}
        return values | {
            f"{k}.{option}": v for k, term in terms.items() for option, v in term.items()
        }

    before, after = flat([]), flat([f"--config.{key}={value}" for key, value in flags.items()])
    expected = {**before, **flags, **changed}
    assert after == {key: value for key, value in expected.items() if value is not None}


def test_without_config_flags_change_the_saved_config_as_far_as_a_run_can_resume(tmp_path, capsys):
    saved = create_config(duration__epochs=2.0, heads=("expression",))
    Workdir(tmp_path).save_config(to_dict(saved))
    resumed = ["--config.duration.steps=40", "--config.log_every", "7", f"--workdir={tmp_path}"]
    config = main.parse_flags(resumed).config
    changes = {"duration.steps": 40, "duration.epochs": 0.0, "log_every": 7}
    assert flatten(config) == flatten(saved) | changes
    resumed += ["--config.imports=my_package", "--config.loggers=('tensorboard', 'wandb')"]
    config = main.parse_flags(resumed).config
    assert config.imports == ("my_package",) and config.loggers == ("tensorboard", "wandb")
    (tmp_path / "flags").write_text("\n".join(resumed[::3]))
    assert main.parse_flags([f"--flagfile={tmp_path / 'flags'}"]).config.duration.steps == 40
    message = error_message(capsys, f"--workdir={tmp_path}", "--config.trunk.width=4")
    assert "--config.trunk.width: without --config, flags can change only" in message
    message = error_message(capsys, f"--workdir={tmp_path}", "--config.duration.stepz=4")
    assert "duration.stepz = 4: no such key" in message
    message = error_message(capsys, f"--workdir={tmp_path / 'no'}", "--config.log_every=4")
    assert "contains no run" in message


def test_all_config_problems_are_reported_together(capsys):
    flags = ["--config.batch_size=-1", "--config.dtype=float16", "--config.sampling.name=dwn"]
    message = error_message(capsys, CONFIG, "--workdir=run", *flags)
    assert "has 3 problems" in message
    for part in ("batch_size = -1", "must be one of float32, bfloat16", "did you mean 'down'"):
        assert part in message


def test_unusable_config_file_is_a_one_line_error(tmp_path, capsys):
    message = error_message(capsys, "--config=configs/nothing.py")
    assert "No such file or directory: 'configs/nothing.py'" in message
    (tmp_path / "wrong.py").write_text("def get_config():\n    return learning_rate\n")
    message = error_message(capsys, f"--config={tmp_path / 'wrong.py'}")
    assert "wrong.py, line 2: NameError: name 'learning_rate' is not defined" in message
    (tmp_path / "wrapped.py").write_text("x = 1\ny = int('one')\n")
    message = error_message(capsys, f"--config={tmp_path / 'wrapped.py'}:variant")
    assert "wrapped.py, line 2: ValueError: invalid literal" in message
    (tmp_path / "empty.py").write_text("def get_config():\n    pass\n")
    message = error_message(capsys, f"--config={tmp_path / 'empty.py'}", "--config.seed=1")
    assert "get_config() must return a config" in message


def test_missing_affectnet_release_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = error_message(capsys, CONFIG, "--workdir=run", "--config.batch_size=8")
    for part in ("AffectNet", "licen", "--config.data.manual_dir", "synthetic_faces"):
        assert part in message
    assert not (tmp_path / "data" / "affectnet").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes"),
        RuntimeError("can't start new thread"),
    ],
)
def test_out_of_memory_is_a_one_line_error(monkeypatch, capsys, error):
    def dispatch(values) -> int:
        raise error

    monkeypatch.setattr(main, "_dispatch", dispatch)
    assert main.main([]) == 2
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


@pytest.mark.parametrize(
    "error",
    [
        JaxRuntimeError("INTERNAL: connection closed by peer"),
        ValueError("UNKNOWN: Gloo AllGather failed: connection closed by peer"),
    ],
)
def test_loss_of_another_process_is_a_one_line_error(monkeypatch, capsys, error):
    def dispatch(values) -> int:
        raise error

    monkeypatch.setattr(main, "_dispatch", dispatch)
    assert main.main([]) == 1
    assert f"{type(error).__name__}: {error}" in capsys.readouterr().err
    monkeypatch.setattr(processes, "is_multiprocess", lambda: True)
    assert "Restart all processes with the same command" in error_message(capsys)


def test_evaluating_a_folder_without_a_run(tmp_path, capsys):
    flags = ("--mode=evaluate", f"--workdir={tmp_path / 'nothing'}")
    assert "contains no run" in error_message(capsys, *flags)


def test_resume_with_another_config_lists_the_differences(trained_run, monkeypatch, capsys):
    monkeypatch.chdir(trained_run.folder)
    message = error_message(capsys, *trained_run.flags, "--config.learning_rate=0.5")
    assert "learning_rate: saved 0.02, new 0.5" in message


def test_help_lists_the_flags(capsys):
    assert main.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert "--config" in output and "--workdir" in output


def test_list_prints_a_table_of_components(capsys):
    assert main.main(["--list=losses"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("## losses\n") and "| `gamma` | `2.0` | focusing exponent" in output


def test_flag_parsing_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys; from affect_jax import main; main.main(['--help']); main.main(['--x']); "
        "print([m for m in ('jax', 'tensorflow', 'tensorflow_datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr
