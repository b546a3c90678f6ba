"""Command `export`: files, printed lines and error messages."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from affect_jax.export import __main__ as command
from tests.trained_runs import create_config, write_run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_writes_a_folder_and_prints_its_files(tmp_path, capsys):
    run = write_run(tmp_path / "run", create_config(), (10, 20), (0.2, 0.1))
    assert command.main([f"--checkpoint={run}", "--format=safetensors"]) == 0
    folder = run / "export" / "safetensors"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "README.md",
        "card.json",
    }
    output_lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in output_lines] == [
        f"written: {folder / name}" for name in ("model.safetensors", "README.md", "card.json")
    ]
    assert json.loads((folder / "card.json").read_text())["checkpoint_step"] == 10  # the best step
    out = tmp_path / "other"
    assert command.main(
        [f"--checkpoint={run}", "--format=safetensors", f"--out={out}", "--step=20"]
    ) == 0  # fmt: skip
    assert json.loads((out / "card.json").read_text())["checkpoint_step"] == 20


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--checkpoint=nothing", "--format=onnx"], "contains no run"),
        (["--checkpoint=run", "--format=pickle"], "--format: invalid choice: 'pickle'"),
        (["--checkpoint=run"], "required: --format"),
        (["--checkpoint=run", "--format=onnx", "--half"], "only --format=safetensors stores"),
        (["--checkpoint=run", "--format=onnx", "--calibrate"], "run/evaluation/validation"),
        (["--checkpoint=run", "--format=onnx", "--step=7"], "holds steps 200"),
        (["--checkpoint=run", "--format=onnx", "--quiet"], "unrecognized arguments: --quiet"),
        (["--checkpoint=run", "--format=safetensors", "--out=file"], "file: cannot be written"),
    ],
)
def test_invalid_arguments_give_one_line(flags, message, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "run", create_config())
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert command.main(flags) == 2
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.startswith("affect_jax: ") and stderr.count("\n") == 1
    assert not (tmp_path / "run" / "export" / "onnx" / "model.onnx").exists()


def test_missing_extra_leaves_no_folder(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", create_config())
    monkeypatch.setitem(sys.modules, "jax2onnx", None)  # an import raises ImportError
    assert command.main([f"--workdir={run}", "--format=onnx"]) == 2
    assert "pip install 'affect_jax[export]'" in capsys.readouterr().err
    assert not (run / "export").exists()


def test_help_imports_no_jax():
    code = (
        "import sys; from affect_jax.export import __main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: print('jax' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.splitlines()[-1] == "False", process.stderr
    assert "--checkpoint" in process.stdout and "--format" in process.stdout
