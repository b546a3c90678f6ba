"""Rows of faces: what they hold, and the same in every kind of file."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pyarrow.parquet
import pytest

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.evaluate import __main__ as command
from affect_jax.predict.outputs import face_columns, face_rows, open_face_table

HEADS = ("expression", "valence_arousal", "action_units")
NAMES = {"classes": classes(8), "units": (1, 12)}


def outputs(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "expression": random.dirichlet(np.ones(8), count).astype(np.float32),
        "valence_arousal": random.uniform(-1, 1, (count, 2)).astype(np.float32),
        "action_units": random.uniform(0, 1, (count, 2)).astype(np.float32),
    }


def two(**options) -> list[dict]:
    boxes = np.array([[1, 2, 30, 40], [-5, 0, 20, 20]], np.float32)
    confidence = np.array([0.9, np.nan], np.float32)
    return list(face_rows("a.jpg", boxes, confidence, outputs(2), reason="", **NAMES, **options))


def none(source: str = "b.jpg", reason: str = "no face found") -> dict:
    empty = {head: values[:0] for head, values in outputs(1).items()}
    found = face_rows(source, np.zeros((0, 4)), np.zeros(0), empty, reason=reason, **NAMES)
    (row,) = found
    return row


def test_a_row_holds_what_was_predicted():
    first, second = two()
    given = outputs(2)
    assert (first["id"], second["id"]) == ("a.jpg", "a.jpg#1")
    assert (first["face"], second["face"]) == (0, 1)
    assert [second[name] for name in ("x", "y", "width", "height")] == [-5, 0, 20, 20]
    assert first["confidence"] == pytest.approx(0.9) and second["confidence"] is None
    for row, values in zip((first, second), given["expression"], strict=True):
        found = [row[f"p_{name}"] for name in classes(8)]
        assert found == pytest.approx(values, abs=1e-6)
        assert row["predicted"] == classes(8)[values.argmax()]
    assert first["arousal_predicted"] == pytest.approx(given["valence_arousal"][0, 1], abs=1e-6)
    assert second["AU12_predicted"] == pytest.approx(given["action_units"][1, 1], abs=1e-6)


def test_a_films_rows_have_frame_time_and_track():
    first, second = two(frame=7, seconds=0.28, tracks=[4, 2])
    assert (first["id"], second["id"]) == ("a.jpg@7", "a.jpg@7#1")
    assert (first["frame"], first["seconds"], first["track"]) == (7, 0.28, 4)
    assert second["track"] == 2


def read(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_kind_of_file_holds_the_same(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(face_rows, "ROWS_AT_ONCE", 2)
    path = tmp_path / "new" / f"rows{ending}"
    columns = face_columns(HEADS, **NAMES, film=False)
    given = [*two(), none(), none('odd\udcff,"name"\n.jpg')]
    with open_face_table(path, columns) as table:
        for row in given:
            table.write(row)
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    found = read(path)
    assert len(found) == 4
    for row, written in zip(given, found, strict=True):
        assert set(written) <= set(columns)
        for name in columns:
            wanted = row[name] if name in row else None
            value = written[name] if name in written else None
            if ending == ".csv":
                assert value == ("" if wanted is None else str(wanted))
            else:
                assert value == wanted
    if ending.startswith(".json"):
        assert found[2] == {
            "id": "b.jpg", "source": "b.jpg", "face": None, "reason": "no face found"
        }  # fmt: skip


def test_what_fails_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), open_face_table(tmp_path / "a.csv", {}) as table:
        table.write({})
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_columns_are_of_the_heads_and_of_films_where_there_are_some():
    film = face_columns(("valence_arousal",), (), (), film=True)
    assert list(film) == [
        "id", "source", "frame", "seconds", "track", "face", "reason",
        "x", "y", "width", "height", "confidence", "valence_predicted", "arousal_predicted",
    ]  # fmt: skip
    still = face_columns(HEADS, **NAMES, film=False)
    assert "track" not in still and {"predicted", "p_contempt", "AU12_predicted"} <= set(still)


def test_rows_with_labels_beside_them_are_scored(tmp_path):
    """The columns are those that evaluation reads."""
    path = tmp_path / "rows.parquet"
    columns = face_columns(HEADS, **NAMES, film=False)
    with open_face_table(path, columns) as table:
        for row in two():
            table.write(row)
    rows = pyarrow.parquet.read_table(path)
    labels = {"expression": [0, 1], "valence": [0.1, 0.2], "arousal": [0.0, 0.3]}
    labels |= {"AU1": [0.0, 1.0], "AU12": [1.0, 0.0]}
    for name, values in labels.items():
        rows = rows.append_column(name, pyarrow.array(values))
    pyarrow.parquet.write_table(rows, tmp_path / "labelled.parquet")
    arguments = ["--predictions", str(tmp_path / "labelled.parquet"), "--out", str(tmp_path)]
    assert command.main([*arguments, "--draws=1", "--bootstrap=0", "--no-report"]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    error = scores["dimensional.valence.rmse"]
    truth = np.array([0.1, 0.2]) - outputs(2)["valence_arousal"][:, 0]
    assert error == pytest.approx(math.sqrt((truth**2).mean()), abs=1e-5)


def test_another_ending_and_a_folder_that_cannot_be_are_told(tmp_path):
    with pytest.raises(UserError, match=r"its ending must be one of .jsonl, .json, .csv, .parq"):
        open_face_table(tmp_path / "rows.xlsx", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_face_table(tmp_path / "file" / "rows.csv", {})
