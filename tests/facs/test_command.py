"""Tests of the command `affect_jax.facs` on a release and on prepared records."""

from __future__ import annotations

import csv
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from affect_jax.data.affectnet import HEADER
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


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
    """A release without its photographs: the command reads no images."""
    folder = tmp_path / "release"
    folder.mkdir()
    rows = [
        ["1/a.jpg", landmarks_text(0), 1],
        ["1/b.jpg", "", 0],
        ["1/a.jpg", landmarks_text(1), 10],
    ]
    rows += [["1/c.jpg", "1;2;3", 0], ["1/d.jpg", landmarks_text(2), "?"]]
    for name, split_rows in (("training", rows), ("validation", rows[:1])):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for path, landmarks, expression in split_rows:
                writer.writerow([path, 0, 0, 256, 256, landmarks, expression, -2, -2])
    return folder


def landmarks_text(index: int) -> str:
    return ";".join(f"{value:.2f}" for value in FACES.landmarks[index].ravel())


def test_command_writes_every_face_of_a_release(release, tmp_path):
    argv = [f"--manual_dir={release}", f"--out={tmp_path / 'units.csv'}"]
    result = subprocess.run(
        [sys.executable, "-m", "affect_jax.facs", *argv],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and not result.stderr
    rows = read_csv(tmp_path / "units.csv")
    assert list(rows[0]) == ["id", "split", "expression", *(f"AU{u}" for u in UNITS), "residual"]
    assert [(row["split"], row["id"], row["expression"]) for row in rows] == [
        ("training", "1/a.jpg", "happiness"),
        ("training", "1/b.jpg", "neutral"),
        ("training", "1/a.jpg#2", "non-face"),
        ("training", "1/c.jpg", "neutral"),
        ("training", "1/d.jpg", ""),
        ("validation", "1/a.jpg", "happiness"),
    ]
    expected = estimate(np.round(FACES.landmarks[:3], 2))
    for row, index in ((rows[0], 0), (rows[2], 1), (rows[5], 0)):
        cells = [float(row[f"AU{unit}"]) for unit in UNITS]
        np.testing.assert_allclose(cells, expected.intensities[index], atol=6e-5)
        assert float(row["residual"]) == pytest.approx(expected.residual[index], abs=6e-5)
    for row in (rows[1], rows[3], rows[4]):
        assert {row[name] for name in row if name[:2] == "AU"} | {row["residual"]} == {""}
    assert "6 faces, 3 of them without usable landmarks; 2 rows" in result.stdout
    assert "training, 1/c.jpg: facial_landmarks: not 68 points" in result.stdout
    assert "training, 1/d.jpg: expression: '?' is not a number" in result.stdout


def test_command_reads_the_second_release(tmp_path, capsys):
    for split in ("train_set", "val_set"):
        folder = tmp_path / split
        (folder / "annotations").mkdir(parents=True)
        for number, expression in ((0, "1"), (1, "0")):
            np.save(folder / "annotations" / f"{number}_exp.npy", np.array(expression))
            np.save(folder / "annotations" / f"{number}_val.npy", np.array("0.5"))
            np.save(folder / "annotations" / f"{number}_aro.npy", np.array("0.5"))
        np.save(folder / "annotations" / "0_lnd.npy", FACES.landmarks[0].ravel())
    out = tmp_path / "units.csv"
    arguments = [f"--manual_dir={tmp_path}", "--variant=second", f"--out={out}"]
    assert command.main(arguments) == 0
    first, second, *remaining = read_csv(out)
    assert len(remaining) == 2 and "4 faces, 2 of them without" in capsys.readouterr().out
    assert (first["id"], first["expression"]) == ("0.jpg", "happiness")
    values = [float(first[f"AU{unit}"]) for unit in UNITS]
    np.testing.assert_allclose(values, estimate(FACES.landmarks[:1]).intensities[0], atol=6e-5)
    assert second["expression"] == "neutral" and second["residual"] == ""


def test_command_reads_a_prepared_data_set(tmp_path, capsys):
    builder = synthetic_faces(
        data_dir=str(tmp_path), num_training=12, num_validation=8, image_size=32, skew="balanced"
    )
    out = tmp_path / "units.csv"
    assert command.main([f"--prepared={builder.data_path}", f"--out={out}"]) == 0
    rows = read_csv(out)
    assert sorted(row["id"] for row in rows if row["split"] == "validation") == [
        f"validation/{index:07d}" for index in range(8)
    ]
    face = random_face.sample_face(0, 3, split="validation", skew="balanced", size=32)
    [row] = [row for row in rows if row["id"] == "validation/0000003"]
    assert row["expression"] == "surprise"
    expected = estimate(face.landmarks[None]).intensities[0]
    np.testing.assert_allclose([float(row[f"AU{u}"]) for u in UNITS], expected, atol=1e-3)
    assert "20 faces, 0 of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--help lists the flags"),
        (["--prepared=nowhere"], "--prepared=nowhere: cannot be read"),
        (["--manual_dir=.", "--prepared=nowhere"], "not allowed with"),
        (["--manual_dir=.", "--variant=third"], "invalid choice"),
        (["--manual_dir=.", "--wrong"], "--wrong"),
        (["--manual_dir=.", "--out=units.xlsx"], "ends in .csv"),
    ],
)
def test_command_reports_errors_in_one_line(arguments, words, capsys):
    assert command.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("affect_jax: ") and words in message and message.count("\n") == 1


def test_unwritable_table_is_one_line(release, tmp_path, capsys):
    (tmp_path / "folder.csv").mkdir()
    assert command.main([f"--manual_dir={release}", f"--out={tmp_path / 'folder.csv'}"]) == 2
    assert "cannot be written: Is a directory" in capsys.readouterr().err


def test_command_needs_faces(release, tmp_path, capsys):
    shutil.copytree(release, tmp_path / "empty")
    for table in (tmp_path / "empty").glob("*.csv"):
        table.write_text(table.read_text().splitlines()[0] + "\n")
    assert command.main([f"--manual_dir={tmp_path / 'empty'}"]) == 2
    assert "no faces" in capsys.readouterr().err


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
    names = (folder / "expression.labels.txt").read_text()
    (folder / "expression.labels.txt").write_text("neutral\n")
    assert command.main([f"--prepared={folder}"]) == 2
    assert "expression.labels.txt is damaged" in capsys.readouterr().err
    (folder / "expression.labels.txt").write_text(names)
    assert command.main([f"--prepared={folder}"]) == 0
