"""The example of the documentation runs where JAX and this package cannot even be imported."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.export.conftest import faces_for, predicted

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "examples" / "onnx_face.py"


def test_the_example_is_short():
    code = EXAMPLE.read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_an_exported_network_runs_without_jax(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    run, folder, _ = exported("onnx")
    model = str(folder / "model.onnx")
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir()
    for name in ("jax", "jaxlib", "flax", "affect_jax"):
        (forbidden / f"{name}.py").write_text(f"raise ImportError('{name} is not to be had')\n")
    faces = faces_for(run)[:2]
    for name, face in zip(("a.png", "b.png"), faces, strict=True):
        Image.fromarray(face).save(tmp_path / name)
    result = subprocess.run(
        [sys.executable, EXAMPLE, model, "a.png", "b.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(forbidden)},
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if " expression " in line]
    assert [line.split()[0] for line in lines] == ["a.png", "b.png"]
    assert [re.findall("[a-z]+ ", line.split("expression ")[1])[0] for line in lines] == [
        "neutral "
    ] * 2
    found = [[float(n) for n in re.findall(r"\d\.\d{3}", line)] for line in lines]
    np.testing.assert_allclose(found, predicted(run, faces_for(run))["expression"][:2], atol=6e-4)
    refused = subprocess.run(
        [sys.executable, "-c", "import jax"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(forbidden)},
    )
    assert "jax is not to be had" in refused.stderr  # the wall stands
