"""Tests run the code and commands of the tutorials, read from their pages."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import types

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from affect_jax import config_checks
from affect_jax.config import from_dict, to_dict
from affect_jax.core.labels import classes
from affect_jax.evaluate import __main__ as evaluate_command
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.export import formats
from affect_jax.metrics import protocol
from affect_jax.report import evaluation_page
from affect_jax.run.trained_network import load_network
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from tests.docs.conftest import ROOT, code_blocks
from tests.releases import shrink_config
from tests.trained_runs import create_config, write_run

CLASSES = ("calm", "cheerful", "cross")
COLOURS = ((40, 60, 200), (230, 220, 60), (200, 40, 40))
SMALL = [
    "--config.data.image_size=40", "--config.data.crop_size=32", "--config.trunk.width=8",
    "--config.batch_size=8", "--config.evaluation.batch_size=8", "--config.evaluation.draws=3",
    "--config.duration.epochs=1",
]  # fmt: skip
"""Flags that make the run of a tutorial take seconds."""


def write_faces(folder: pathlib.Path, header: tuple[str, ...], tables: dict[str, str]) -> None:
    """Writes a folder as in `docs/own_data.md`: one folder per person, several file formats."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(36):
        person, suffix = ("anna", "ben", "cleo")[i // 12], ("jpg", "png", "webp")[i % 3]
        path = folder / "images" / person / f"{i:04d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (40 + i, 50, 3)  # no squares, all different
        noise = random.integers(-30, 31, shape)
        pixels = np.clip(np.array(COLOURS[i % 3]) + noise, 0, 255).astype(np.uint8)
        image = Image.fromarray(pixels)
        exif = image.getexif()
        exif[0x0112] = 6  # rotated by 90 degrees, as phones do
        image.save(path, **({"exif": exif} if suffix == "jpg" else {}))
        label = "" if i == 5 else CLASSES[i % 3]
        valence_arousal = ("", "") if i % 4 == 3 else tuple(random.uniform(-1, 1, 2).round(3))
        split = "val" if person == "cleo" else "train"
        rows.append((f"{person}/{path.name}", label, *valence_arousal, split))
    for name, table_split in tables.items():
        with (folder / name).open("w", newline="") as file:
            selected = [row for row in rows if table_split in ("", row[-1])]
            csv.writer(file).writerows([header, *selected])


def run_module(module: str, *arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> pathlib.Path:
    """Weights of a small ResNet18, in place of those of the hub."""
    folder = tmp_path_factory.mktemp("weights")
    network = load_network(
        write_run(folder / "run", create_config("resnet18", data__num_classes=7))
    )
    formats.write_network(network, "safetensors", folder)
    return folder / "model.safetensors"


def test_own_data_tutorial(tmp_path, weights, monkeypatch):
    page = ROOT / "docs" / "own_data.md"
    code, _ = code_blocks(page, "python")  # the second mixes datasets
    (tmp_path / "my_faces.py").write_text(code)
    header = tuple(re.search(r"^(file,.+)$", page.read_text(), re.MULTILINE)[1].split(","))
    write_faces(tmp_path / "my_faces", header, {"labels.csv": ""})
    flags = ["--config=my_faces.py", "--workdir=runs/my_faces", *SMALL]
    flags += [f"--config.init_from={weights}", "--config.data.options.max_skipped=0.05"]
    result = run_module("affect_jax.main", *flags, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "training: 24 read = 24 written + 0 skipped" in result.stderr
    assert f"Weights of {weights}" in result.stderr + result.stdout
    monkeypatch.chdir(tmp_path)
    workdir = Workdir("runs/my_faces")
    config = from_dict(workdir.load_config())
    evaluation_page.write_report(
        evaluate_checkpoint(config, workdir, checkpoint="best", split=None)
    )
    out = tmp_path / "runs" / "my_faces" / "evaluation" / "validation"
    scores = json.loads((out / "scores.json").read_text())
    assert scores["about"]["classes"] == list(CLASSES) and scores["about"]["faces"] == 12
    assert "categorical.top1.original.recall.cheerful" in scores["scores"]
    assert "dimensional.valence.ccc" in scores["scores"]
    table = pyarrow.parquet.read_table(out / "predictions.parquet")
    assert set(table["id"].to_pylist()[0].split("/")) & {"cleo"}
    report = (out / "report.html").read_text()
    assert "cheerful" in report and "Not AffectNet" in report
    assert load_network("runs/my_faces").classes == CLASSES


def test_frozen_recipe_runs_on_own_data(tmp_path, weights):
    name = "frozen_resnet18"  # the other recipe is in tests/train/test_initial_weights.py
    header = ("path", "label", "valence", "arousal", "split")
    tables = {"training.csv": "train", "validation.csv": "val"}
    write_faces(tmp_path / "my_faces", header, tables)
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    config.data.name, config.data.options = "csv_faces", {"image_dir": "images", "classes": CLASSES}
    shrink_config(
        config, tmp_path / "my_faces", tmp_path / "data",
        data__num_classes=3, init_from=str(weights), ema_decay=0.0, duration={"steps": 3},
    )  # fmt: skip
    config_checks.check(
        config,
        registries=load_registries(),
        validate_score_name=protocol.validate_score_name,
        num_devices=2,
        name=name,
    )
    workdir = Workdir(tmp_path / "run")
    workdir.create()
    workdir.save_config(to_dict(config))
    assert train_and_evaluate(config, workdir) == 0
    before, after = (
        load_network(folder).variables["params"]["trunk"]["stem"]["conv"]["kernel"]
        for folder in (weights.parent / "run", tmp_path / "run")
    )
    np.testing.assert_array_equal(before, after)


def test_examples_of_the_scoring_page(tmp_path, monkeypatch):
    """Both tables of the same predictions have the same scores."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    numbers, random = np.arange(24) % 8, np.random.default_rng(0)
    logits = random.normal(0, 1, (24, 8)).astype(np.float32)
    alphabetical = sorted(zip(classes(8), range(8), strict=True))
    recognizer = types.SimpleNamespace(
        predict_emotions=lambda faces, logits: (None, faces),
        idx_to_emotion_class={i: name.title() for i, (name, _) in enumerate(alphabetical)},
    )
    inputs = {"names": [f"{i}.jpg" for i in range(24)]}
    inputs |= {"logits": torch.from_numpy(logits), "labels": torch.from_numpy(numbers)}
    inputs |= {"recognizer": recognizer, "faces": logits[:, [i for _, i in alphabetical]]}
    inputs["label_names"] = [classes(8)[i] for i in numbers]
    for code in code_blocks(ROOT / "docs" / "score_yours.md", "python"):
        exec(code, dict(inputs))
    scores = []
    for name in ("predictions.parquet", "predictions.csv"):
        flags = ["--predictions", name, "--out", "scored", "--bootstrap=0", "--no-report"]
        assert evaluate_command.main(flags) == 0
        scores.append(json.loads(pathlib.Path("scored/scores.json").read_text())["scores"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    expected = np.mean(logits.argmax(axis=1) == numbers)
    assert scores[0]["categorical.top1.original.accuracy"] == pytest.approx(expected)


def test_pictures_of_the_pages_can_be_rendered(tmp_path):
    result = run_module("docs.pictures", f"--out={tmp_path}", folder=ROOT)
    assert result.returncode == 0, result.stderr
    names = ("index.md", "models.md", "recipes.md", "ready_model.md")
    pages = "".join((ROOT / "docs" / name).read_text() for name in names)
    names = re.findall(r"images/(\w+\.jpg)", pages)
    assert {path.name for path in tmp_path.iterdir()} == set(names) and len(names) == 6
    for name in names:
        with (
            Image.open(tmp_path / name) as rendered,
            Image.open(ROOT / "docs/images" / name) as committed,
        ):
            assert rendered.size == committed.size
