"""Output tables: content of the rows, and equality of all file formats."""

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
from affect_jax.predict import outputs
from affect_jax.predict.outputs import face_columns, face_rows, open_face_table

HEADS = ("expression", "valence_arousal", "action_units")
NAMES = {"classes": classes(8), "units": (1, 12)}


def create_outputs(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "expression": rng.dirichlet(np.ones(8), count).astype(np.float32),
        "valence_arousal": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "action_units": rng.uniform(0, 1, (count, 2)).astype(np.float32),
    }


def create_two_rows(**options) -> list[dict]:
    boxes = np.array([[1, 2, 30, 40], [-5, 0, 20, 20]], np.float32)
    confidence = np.array([0.9, np.nan], np.float32)
    return list(
        face_rows("a.jpg", boxes, confidence, create_outputs(2), reason="", **NAMES, **options)
    )


def create_row_without_face(source: str = "b.jpg", reason: str = "no face found") -> dict:
    empty = {head: values[:0] for head, values in create_outputs(1).items()}
    rows = face_rows(source, np.zeros((0, 4)), np.zeros(0), empty, reason=reason, **NAMES)
    (row,) = rows
    return row


def test_rows_contain_the_predictions():
    first, second = create_two_rows()
    expected = create_outputs(2)
    assert (first["id"], second["id"]) == ("a.jpg", "a.jpg#1")
    assert (first["face"], second["face"]) == (0, 1)
    assert [second[name] for name in ("x", "y", "width", "height")] == [-5, 0, 20, 20]
    assert first["confidence"] == pytest.approx(0.9) and second["confidence"] is None
    for row, values in zip((first, second), expected["expression"], strict=True):
        probabilities = [row[f"p_{name}"] for name in classes(8)]
        assert probabilities == pytest.approx(values, abs=1e-6)
        assert row["predicted"] == classes(8)[values.argmax()]
    assert first["arousal_predicted"] == pytest.approx(expected["valence_arousal"][0, 1], abs=1e-6)
    assert second["AU12_predicted"] == pytest.approx(expected["action_units"][1, 1], abs=1e-6)


def test_video_rows_have_frame_time_and_track():
    first, second = create_two_rows(frame=7, seconds=0.28, tracks=[4, 2])
    assert (first["id"], second["id"]) == ("a.jpg@7", "a.jpg@7#1")
    assert (first["frame"], first["seconds"], first["track"]) == (7, 0.28, 4)
    assert second["track"] == 2


def read_rows(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_all_formats_contain_the_same_rows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(outputs, "ROW_GROUP_SIZE", 2)
    path = tmp_path / "new" / f"rows{suffix}"
    columns = face_columns(HEADS, **NAMES, has_video=False)
    rows = [
        *create_two_rows(),
        create_row_without_face(),
        create_row_without_face('odd\udcff,"name"\n.jpg'),
    ]
    with open_face_table(path, columns) as table:
        for row in rows:
            table.write(row)
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    written_rows = read_rows(path)
    assert len(written_rows) == 4
    for row, written in zip(rows, written_rows, strict=True):
        assert set(written) <= set(columns)
        for name in columns:
            expected = row[name] if name in row else None
            value = written[name] if name in written else None
            if suffix == ".csv":
                assert value == ("" if expected is None else str(expected))
            else:
                assert value == expected
    if suffix.startswith(".json"):
        assert written_rows[2] == {
            "id": "b.jpg", "source": "b.jpg", "face": None, "reason": "no face found"
        }  # fmt: skip


def test_error_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), open_face_table(tmp_path / "a.csv", {}) as table:
        table.write({})
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_columns_depend_on_heads_and_on_videos():
    video_columns = face_columns(("valence_arousal",), (), (), has_video=True)
    assert list(video_columns) == [
        "id", "source", "frame", "seconds", "track", "face", "reason",
        "x", "y", "width", "height", "confidence", "valence_predicted", "arousal_predicted",
    ]  # fmt: skip
    image_columns = face_columns(HEADS, **NAMES, has_video=False)
    assert "track" not in image_columns and {"predicted", "p_contempt", "AU12_predicted"} <= set(
        image_columns
    )


def test_evaluate_scores_rows_with_labels(tmp_path):
    """The columns have the names that `affect_jax.evaluate` reads."""
    path = tmp_path / "rows.parquet"
    columns = face_columns(HEADS, **NAMES, has_video=False)
    with open_face_table(path, columns) as table:
        for row in create_two_rows():
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
    rmse = scores["dimensional.valence.rmse"]
    errors = np.array([0.1, 0.2]) - create_outputs(2)["valence_arousal"][:, 0]
    assert rmse == pytest.approx(math.sqrt((errors**2).mean()), abs=1e-5)


def test_invalid_suffix_or_folder_raises(tmp_path):
    with pytest.raises(UserError, match=r"the suffix must be one of .jsonl, .json, .csv, .parq"):
        open_face_table(tmp_path / "rows.xlsx", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_face_table(tmp_path / "file" / "rows.csv", {})
