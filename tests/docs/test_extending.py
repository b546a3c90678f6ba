"""The files of `docs/extending.md`, as a package beside the installed wheel."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from affect_jax import config_checks, data, losses, models
from affect_jax.data import augment
from affect_jax.data.tfds_builder import open_split
from affect_jax.export import formats
from affect_jax.train.experiment import load_registries
from tests.docs.conftest import ROOT, code_blocks

PAGE = ROOT / "docs" / "extending.md"


def write_package(folder: pathlib.Path) -> None:
    """Writes the files of the page."""
    pattern = r"^`(my_package/\w+\.py)`:\n\n```python\n(.+?)^```"
    files = re.findall(pattern, PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(files) == len(code_blocks(PAGE, "python")) == 5
    (folder / "my_package").mkdir()
    for path, code in files:
        (folder / path).write_text(code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
    """A folder with the installed wheel of the package."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "affect_jax", folder / "source" / "affect_jax")
    shutil.copy(ROOT / "setup.py", folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir=.", "./source"]
    subprocess.run([*pip, *build], cwd=folder, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    install = ["install", "--no-deps", "--target=site", str(wheel)]
    subprocess.run([*pip, *install], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "site"


def test_commands_of_the_page_run_with_the_wheel(installed, tmp_path):
    write_package(tmp_path)
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "photo.jpg")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )

    location = run("python -c 'import affect_jax; print(affect_jax.__file__)'").stdout
    assert location.startswith(str(installed))
    commands = code_blocks(PAGE, "bash")[0].splitlines()
    assert len(commands) == 4
    for command in commands:
        result = run(command)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("importing my_package.losses") == 1
    workdir = tmp_path / "runs" / "grey_faces"
    assert "my_package.trunks" in json.loads((workdir / "config.json").read_text())["imports"]
    assert (workdir / "export" / "safetensors" / "model.safetensors").is_file()
    # A module that has moved, and a run that does not name its modules.
    (tmp_path / "my_package").rename(tmp_path / "moved")
    moved = run(commands[1])
    assert moved.returncode == 2 and "'my_package.trunks' cannot be imported" in moved.stderr
    assert len([line for line in moved.stderr.splitlines() if "affect_jax:" in line]) == 1
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**config, "imports": []}))
    unknown = run(commands[2])
    assert unknown.returncode == 2 and "config.imports" in unknown.stderr


@pytest.fixture
def page_modules(tmp_path, monkeypatch) -> None:
    """Imports the modules of the page; their entries are removed after the test."""
    load_registries()
    for registry in (models.TRUNKS, losses.LOSSES, augment.AUGMENTATIONS, data.DATASETS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("trunks", "losses", "augmentations", "datasets"):
        monkeypatch.delitem(sys.modules, f"my_package.{name}", raising=False)
        config_checks.import_modules([f"my_package.{name}"])


@pytest.mark.usefixtures("page_modules")
def test_trunk_and_loss_of_the_page():
    import jax
    import jax.numpy as jnp

    heads = ("expression", "valence_arousal")
    model = models.model_from_spec({"name": "three_layers", "width": 4}, heads)
    images = jnp.zeros((2, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)
    outputs: Any = model.apply(variables, images)
    assert outputs["expression"].shape == (2, 8)
    term = {"name": "absolute_error", "head": "valence_arousal"}
    objective = losses.create_loss([term], class_counts=np.ones(8), unit_frequencies=np.ones(18))
    batch = {
        "valence_arousal": jnp.array([[0.5, -0.5], [1.0, 1.0]]),
        "valence_arousal_mask": jnp.array([True, False]),
    }
    zeros = {"valence_arousal": jnp.zeros((2, 2))}
    total = objective.total(objective.values(objective.sums(zeros, batch)), {})
    assert float(total) == pytest.approx(0.5)  # the masked face does not count

    pytest.importorskip("onnx")
    _, run = formats.convert_to_onnx(
        lambda faces: model.apply(variables, faces.astype(jnp.float32)),  # pyright: ignore
        (32, 32, 3),
        name="three_layers", metadata={},
    )  # fmt: skip
    assert run(np.zeros((2, 32, 32, 3), np.uint8)).keys() == set(heads)


@pytest.mark.usefixtures("page_modules")
def test_dataset_of_the_page(tmp_path):
    spec = {"name": "grey_faces"}
    assert not data.DATASETS.find_problems(spec, config_checks.SUPPLIED_ARGUMENTS["dataset"])
    builder = data.DATASETS.create(spec, manual_dir="", data_dir=str(tmp_path), image_size=32)
    for name in ("training", "validation"):
        columns = open_split(builder, name).columns()
        assert sorted(columns["expression"]) == list(range(8))
        np.testing.assert_array_equal(columns["valence"], columns["expression"] / 4 - 1)
