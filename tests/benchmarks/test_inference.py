"""The inference benchmark runs end to end and records all contenders."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import harness


def test_inference(tmp_path):
    pytest.importorskip("onnxruntime")
    from benchmarks import inference

    shutil.copy(harness.FOLDER / "README.md", tmp_path)
    inference.main(["--quick", "--folder", str(tmp_path)])
    result = json.loads((tmp_path / "results" / "inference.json").read_text())
    assert harness.markdown_table(result["table"]) in (tmp_path / "README.md").read_text()
    (runs,) = result["runs"].values()
    assert set(runs) == {inference.JAX, inference.ONNX} and min(map(min, runs.values())) > 0
    assert result["versions"]["onnxruntime"]
