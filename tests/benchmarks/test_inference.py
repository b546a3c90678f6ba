"""The benchmark of inference runs from end to end, and hands over figures of both sides."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import recording


def test_inference(tmp_path):
    pytest.importorskip("onnxruntime")
    from benchmarks import inference

    shutil.copy(recording.FOLDER / "README.md", tmp_path)
    inference.main(["--quick", "--folder", str(tmp_path)])
    kept = json.loads((tmp_path / "results" / "inference.json").read_text())
    assert recording.table(kept["table"]) in (tmp_path / "README.md").read_text()
    (runs,) = kept["runs"].values()
    assert set(runs) == {inference.JAX, inference.ONNX} and min(map(min, runs.values())) > 0
    assert kept["versions"]["onnxruntime"]
