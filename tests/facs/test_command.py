"""Tests of the command `affect_jax.facs`."""

from __future__ import annotations

import csv
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from affect_jax.data.synthetic_faces import synthetic_faces
from affect_jax.facs import __main__ as command
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import estimate
from affect_jax.facs.render import random_face
from tests.facs.sampled_faces import sample_faces

FACES = sample_faces(3)


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_command_writes_every_face_of_a_prepared_data_set(tmp_path):
    builder = synthetic_faces(
        data_dir=str(tmp_path), num_training=12, num_validation=8, image_size=32, skew="balanced"
    )
    out = tmp_path / "units.csv"
    argv = [f"--prepared={builder.data_path}", f"--out={out}"]
    result = subprocess.run(
        [sys.executable, "-m", "affect_jax.facs", *argv],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and not result.stderr
    rows = read_csv(out)
    assert list(rows[0]) == ["id", "split", "expression", *(f"AU{u}" for u in UNITS), "residual"]
    assert sorted(row["id"] for row in rows if row["split"] == "validation") == [
        f"validation/{index:07d}" for index in range(8)
    ]
    face = random_face.sample_face(0, 3, split="validation", skew="balanced", size=32)
    [row] = [row for row in rows if row["id"] == "validation/0000003"]
    assert row["expression"] == "surprise"
    expected = estimate(face.landmarks[None]).intensities[0]
    np.testing.assert_allclose([float(row[f"AU{u}"]) for u in UNITS], expected, atol=1e-3)
    assert "20 faces, 0 of them" in result.stdout


def test_cells_of_a_face_without_landmarks_or_expression_are_empty(tmp_path):
    points = np.stack([FACES.landmarks[0], np.full((68, 2), np.nan)])
    names = np.array(["a", "=b"])
    faces = command.LabelledFaces(names, names, np.array(["fear", ""]), points)
    command.write_csv(faces, estimate(points), tmp_path / "units.csv")
    first, second = read_csv(tmp_path / "units.csv")
    assert first["expression"] == "fear" and first["AU1"] and first["residual"]
    texts = {"id": "'=b", "split": "'=b"}
    assert {name: text for name, text in second.items() if text} == texts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--help lists the flags"),
        (["--prepared=nowhere"], "--prepared=nowhere: cannot be read"),
        (["--prepared=.", "--wrong"], "--wrong"),
        (["--prepared=.", "--out=units.xlsx"], "ends in .csv"),
    ],
)
def test_command_reports_errors_in_one_line(arguments, words, capsys):
    assert command.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("affect_jax: ") and words in message and message.count("\n") == 1


def test_damaged_prepared_data_set_is_reported_in_one_line(tmp_path, capsys):
    builder = synthetic_faces(
        data_dir=str(tmp_path), image_size=32, num_training=8, num_validation=8, num_workers=0
    )
    folder = pathlib.Path(builder.data_path)
    for name in ("dataset_info.json", "features.json", "prepared.json"):
        original = (folder / name).read_text()
        (folder / name).write_text("{}" if name == "prepared.json" else "not JSON")
        capsys.readouterr()
        assert command.main([f"--prepared={folder}"]) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("affect_jax: ") and "\n" not in message, name
        (folder / name).write_text(original)
    assert command.main([f"--prepared={folder}"]) == 0
    (tmp_path / "folder.csv").mkdir()
    assert command.main([f"--prepared={folder}", f"--out={tmp_path / 'folder.csv'}"]) == 2
    assert "cannot be written: Is a directory" in capsys.readouterr().err
