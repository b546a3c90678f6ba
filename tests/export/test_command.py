"""The command: its files, its last words, its errors."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from affect_jax.export import __main__ as command
from tests.trained_runs import settings, write

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_command_writes_a_folder_and_says_so(tmp_path, capsys):
    run = write(tmp_path / "run", settings(), (10, 20), (0.2, 0.1))
    assert command.main([f"--checkpoint={run}", "--format=safetensors"]) == 0
    folder = run / "export" / "safetensors"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "README.md",
        "card.json",
    }
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in said] == [
        f"written: {folder / name}" for name in ("model.safetensors", "README.md", "card.json")
    ]
    assert json.loads((folder / "card.json").read_text())["checkpoint_step"] == 10  # the best
    out = tmp_path / "other"
    assert command.main(
        [f"--checkpoint={run}", "--format=safetensors", f"--out={out}", "--step=20"]
    ) == 0  # fmt: skip
    assert json.loads((out / "card.json").read_text())["checkpoint_step"] == 20


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--checkpoint=nothing", "--format=onnx"], "no run here"),
        (["--checkpoint=run", "--format=pickle"], "--format: invalid choice: 'pickle'"),
        (["--format=onnx"], "required: --checkpoint"),
        (["--checkpoint=run", "--format=onnx", "--params=beside"], "with --format=stablehlo only"),
        (["--checkpoint=run", "--format=onnx", "--step=7"], "holds steps 200"),
        (["--checkpoint=run", "--format=onnx", "--quiet"], "unrecognized arguments: --quiet"),
        (["--checkpoint=run", "--format=safetensors", "--out=file"], "--out=file: cannot be writ"),
    ],
)
def test_what_is_wrong_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    write(tmp_path / "run", settings())
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert command.main(flags) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("affect_jax: ") and said.count("\n") == 1
    assert not (tmp_path / "run" / "export" / "onnx" / "model.onnx").exists()


def test_help_is_quick_and_loads_no_jax():
    code = (
        "import sys; from affect_jax.export import __main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: print('jax' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout.splitlines()[-1] == "False", result.stderr
    assert "--checkpoint" in result.stdout and "--params" in result.stdout
