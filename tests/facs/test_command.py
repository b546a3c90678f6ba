"""The command: from a release or prepared records to a table of units."""

from __future__ import annotations

import csv
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from affect_jax.data.affectnet import HEADER
from affect_jax.data.synthetic_faces import synthetic_faces
from affect_jax.facs import __main__ as command
from affect_jax.facs import estimation_error
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import estimate
from affect_jax.facs.render import sample

FACES = estimation_error.draw(400)


def run(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess:
    parts = [sys.executable, "-m", "affect_jax.facs", *map(str, arguments)]
    return subprocess.run(parts, capture_output=True, text=True, timeout=120)


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
    """A release without its photographs: no pixel is read."""
    folder = tmp_path / "release"
    folder.mkdir()
    rows = [["1/a.jpg", points(0), 1], ["1/b.jpg", "", 0], ["1/a.jpg", points(1), 10]]
    rows += [["1/c.jpg", "1;2;3", 0], ["1/d.jpg", points(2), "?"]]
    for name, some in (("training", rows), ("validation", rows[:1])):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for path, landmarks, expression in some:
                writer.writerow([path, 0, 0, 256, 256, landmarks, expression, -2, -2])
    return folder


def points(index: int) -> str:
    return ";".join(f"{value:.2f}" for value in FACES.landmarks[index].ravel())


def test_command_writes_every_face_of_a_release(release, tmp_path):
    done = run(f"--manual_dir={release}", f"--out={tmp_path / 'units.csv'}")
    assert done.returncode == 0 and not done.stderr
    rows = read(tmp_path / "units.csv")
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
    for row, index in ((rows[0], 0), (rows[2], 1), (rows[4], 2), (rows[5], 0)):
        cells = [float(row[f"AU{unit}"]) for unit in UNITS]
        np.testing.assert_allclose(cells, expected.intensities[index], atol=6e-5)
        assert float(row["residual"]) == pytest.approx(expected.residual[index], abs=6e-5)
    for row in (rows[1], rows[3]):
        assert {row[name] for name in row if name[:2] == "AU"} | {row["residual"]} == {""}
    assert "6 faces, 2 of them without usable landmarks; 2 rows" in done.stdout
    assert "training, 1/c.jpg: facial_landmarks: not 68 points" in done.stdout
    assert "training, 1/d.jpg: expression: '?' is not a number" in done.stdout


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
    first, second, *others = read(out)
    assert len(others) == 2 and "4 faces, 2 of them without" in capsys.readouterr().out
    assert (first["id"], first["expression"]) == ("0.jpg", "happiness")
    found = [float(first[f"AU{unit}"]) for unit in UNITS]
    np.testing.assert_allclose(found, estimate(FACES.landmarks[:1]).intensities[0], atol=6e-5)
    assert second["expression"] == "neutral" and second["residual"] == ""


def test_command_reads_a_prepared_data_set(tmp_path, capsys):
    builder = synthetic_faces(
        data_dir=str(tmp_path), num_training=12, num_validation=8, image_size=32, skew="balanced"
    )
    out = tmp_path / "units.csv"
    assert command.main([f"--prepared={builder.data_path}", f"--out={out}"]) == 0
    rows = read(out)
    assert sorted(row["id"] for row in rows if row["split"] == "validation") == [
        f"validation/{index:07d}" for index in range(8)
    ]
    face = sample.sample(0, 3, split="validation", skew="balanced", size=32)
    [row] = [row for row in rows if row["id"] == "validation/0000003"]
    assert row["expression"] == "surprise"
    expected = estimate(face.landmarks[None]).intensities[0]
    np.testing.assert_allclose([float(row[f"AU{u}"]) for u in UNITS], expected, atol=1e-3)
    assert "20 faces, 0 of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--help lists the flags"),
        (["--manual_dir=nowhere"], "no such folder"),
        (["--prepared=nowhere"], "prepared.json is missing"),
        (["--recovery", "--prepared=nowhere"], "not allowed with"),
        (["--manual_dir=.", "--variant=third"], "invalid choice"),
        (["--recovery", "--wrong"], "--wrong"),
        (["--recovery", "--out=units.csv"], "printed only"),
        (["--manual_dir=.", "--out=units.xlsx"], "ends in .csv"),
        ([f"--manual_dir={__file__}"], "a file, name the folder"),
    ],
)
def test_command_says_in_one_line_what_is_wrong(arguments, words, capsys):
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("affect_jax: ") and words in said and said.count("\n") == 1


def test_command_finds_out_early_that_it_cannot_write(release, tmp_path, capsys):
    out = tmp_path / "nowhere" / "units.csv"
    assert command.main([f"--manual_dir={release}", f"--out={out}"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "taken.csv").mkdir()
    assert command.main([f"--manual_dir={release}", f"--out={tmp_path / 'taken.csv'}"]) == 2
    assert "name a file" in capsys.readouterr().err


def test_command_needs_faces(release, tmp_path, capsys):
    shutil.copytree(release, tmp_path / "empty")
    for table in (tmp_path / "empty").glob("*.csv"):
        table.write_text(table.read_text().splitlines()[0] + "\n")
    assert command.main([f"--manual_dir={tmp_path / 'empty'}"]) == 2
    assert "no faces" in capsys.readouterr().err


def test_a_reader_that_is_gone_costs_nothing(release, tmp_path):
    """As of `... | head`: the table is written, and no traceback."""
    out = tmp_path / "units.csv"
    read, write = os.pipe()
    os.close(read)
    parts = [
        sys.executable,
        "-u",
        "-m",
        "affect_jax.facs",
        f"--manual_dir={release}",
        f"--out={out}",
    ]
    done = subprocess.run(parts, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert done.returncode == 0 and done.stderr == "" and out.stat().st_size > 100


def test_a_damaged_prepared_set_is_said_in_one_line(tmp_path, capsys):
    builder = synthetic_faces(
        data_dir=str(tmp_path), image_size=32, num_training=8, num_validation=8, num_workers=0
    )
    folder = pathlib.Path(builder.data_path)
    for name in ("dataset_info.json", "features.json", "prepared.json"):
        whole = (folder / name).read_text()
        (folder / name).write_text("{}" if name == "prepared.json" else "not JSON")
        capsys.readouterr()
        assert command.main([f"--prepared={folder}"]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("affect_jax: ") and "\n" not in said, name
        (folder / name).write_text(whole)
    assert command.main([f"--prepared={folder}"]) == 0


def test_command_prints_the_recovery(monkeypatch, capsys):
    monkeypatch.setattr(estimation_error, "NOISES", (0.0,))
    monkeypatch.setattr(estimation_error, "NUM_FACES", 50)
    assert command.main(["--recovery"]) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert "mean absolute error" in header and float(row.split()[1]) < 0.05


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from affect_jax.facs import __main__ as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: print({'numpy', 'jax', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "--manual_dir" in done.stdout and done.stdout.endswith("set()\n")


def test_units_separate_expressions_of_real_faces(real_faces, tmp_path):
    """Better than one distance between landmarks does."""
    out = tmp_path / "units.csv"
    done = run(f"--manual_dir={real_faces}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    rows = read(out)
    expression = np.array([row["expression"] for row in rows])
    assert len(rows) == 5255 and "5,255 faces, 0 of them without" in done.stdout

    def area(name: str, *units: int) -> float:
        score = np.array([max(float(row[f"AU{unit}"]) for unit in units) for row in rows])
        both = np.isin(expression, (name, "neutral"))
        return float(roc_auc_score(expression[both] == name, score[both]))

    assert area("happiness", 12) >= 0.93
    assert area("surprise", 25, 26) >= 0.84
    assert area("disgust", 9) >= 0.83 and area("disgust", 9, 10) >= 0.80
    assert area("anger", 4) >= 0.70
    assert f"{area('happiness', 12):.3f} (2,050 : 2,450)" in done.stdout
    raw = [line.split() for line in done.stdout.splitlines() if " distance " in line]
    best = {"happiness": (12,), "surprise": (25, 26), "disgust": (9,), "anger": (4,)}
    for words in raw:  # of all faces, the last column
        assert area(words[0], *best[words[0]]) > float(words[-4]), words
