"""The example of the documentation runs without JAX and without this package."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.export.conftest import create_faces, predict

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "examples" / "onnx_face.py"


def test_the_example_is_short():
    code = EXAMPLE.read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_exported_network_runs_without_jax(create_exported, tmp_path):
    pytest.importorskip("onnxruntime")
    trained, folder, _ = create_exported("onnx")
    model = str(folder / "model.onnx")
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir()
    for name in ("jax", "jaxlib", "flax", "affect_jax"):
        (forbidden / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')\n")
    faces = create_faces(trained)[:2]
    for name, face in zip(("a.png", "b.png"), faces, strict=True):
        Image.fromarray(face).save(tmp_path / name)
    process = subprocess.run(
        [sys.executable, EXAMPLE, model, "a.png", "b.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(forbidden)},
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if " expression " in line]
    assert [line.split()[0] for line in lines] == ["a.png", "b.png"]
    assert [re.findall("[a-z]+ ", line.split("expression ")[1])[0] for line in lines] == [
        "neutral "
    ] * 2
    probabilities = [[float(n) for n in re.findall(r"\d\.\d{3}", line)] for line in lines]
    np.testing.assert_allclose(
        probabilities, predict(trained, create_faces(trained))["expression"][:2], atol=6e-4
    )
    import_result = subprocess.run(
        [sys.executable, "-c", "import jax"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(forbidden)},
    )
    assert "jax is blocked" in import_result.stderr  # the block works
