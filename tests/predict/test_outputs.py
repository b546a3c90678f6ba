"""Output tables: content of the rows, and equality of all file formats."""

from __future__ import annotations

import csv
import errno
import json
import math

import numpy as np
import pyarrow.parquet
import pytest

from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES, classes
from affect_jax.evaluate import __main__ as command
from affect_jax.predict import outputs
from affect_jax.predict.inputs import Frame, Source
from affect_jax.predict.outputs import face_columns, face_rows, open_face_table
from affect_jax.predict.predictor import ImageFaces

NAMES = {
    "expression": classes(8),
    "valence_arousal": AXES,
    "action_units": ("AU1", "AU12"),
}


def create_outputs(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "expression": rng.dirichlet(np.ones(8), count).astype(np.float32),
        "valence_arousal": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "action_units": rng.uniform(0, 1, (count, 2)).astype(np.float32),
    }


def create_rows(boxes, frame: Frame, confidence=(), reason: str = "") -> list[dict]:
    boxes, confidence = np.array(boxes, np.float32).reshape(-1, 4), np.array(confidence, np.float32)
    crops = np.zeros((len(boxes), 4, 4, 3), np.uint8)
    outputs = create_outputs(len(boxes))
    faces = ImageFaces((640, 480), boxes, confidence, crops, reason, outputs)
    return list(face_rows(frame, faces, NAMES))


def create_two_rows(**position) -> list[dict]:
    frame = Frame(Source("a.jpg", "a.jpg"), "a.jpg", **position)
    return create_rows([[1, 2, 30, 40], [-5, 0, 20, 20]], frame, [0.9, np.nan])


def create_row_without_face(source: str = "b.jpg") -> dict:
    (row,) = create_rows([], Frame(Source(source, source), source), reason="no face found")
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


def test_video_rows_have_frame_and_time():
    first, second = create_two_rows(number=7, seconds=0.28)
    assert (first["id"], second["id"]) == ("a.jpg@7", "a.jpg@7#1")
    assert (second["frame"], second["seconds"]) == (7, 0.28)


def read_rows(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_all_formats_contain_the_same_rows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(outputs, "ROWS_IN_MEMORY", 2)
    path = tmp_path / "new" / f"rows{suffix}"
    columns = face_columns(NAMES, has_video=False)
    rows = [
        *create_two_rows(),
        create_row_without_face(),
        create_row_without_face('odd\udcff,"name"\n.jpg'),
    ]
    with open_face_table(path, columns) as write:
        for row in rows:
            write(row)
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    written_rows = read_rows(path)
    assert len(written_rows) == 4
    for row, written in zip(rows, written_rows, strict=True):
        assert set(written) <= set(columns)
        for name in columns:
            expected = row[name] if name in row else None
            value = written[name] if name in written else None
            if suffix == ".csv" and isinstance(expected, float):
                assert float(value) == expected
            elif suffix == ".csv":
                assert value == ("" if expected is None else str(expected))
            else:
                assert value == expected
    if suffix.startswith(".json"):
        assert written_rows[2] == {
            "id": "b.jpg", "source": "b.jpg", "face": None, "reason": "no face found"
        }  # fmt: skip


def test_csv_has_no_formulas(tmp_path):
    names = ["=cmd()|'x'!A1.jpg", "+x.jpg", "-x.jpg", "@x.jpg", "-5", "a=1.jpg"]
    with open_face_table(tmp_path / "a.csv", face_columns({}, has_video=False)) as write:
        for name in names:
            write({"id": name, "x": -1.5})
    rows = read_rows(tmp_path / "a.csv")
    assert [row["id"] for row in rows] == [*(f"'{name}" for name in names[:4]), *names[4:]]
    assert {row["x"] for row in rows} == {"-1.5"}


def test_error_leaves_no_file(tmp_path):
    columns = face_columns(NAMES, has_video=False)
    with pytest.raises(KeyError), open_face_table(tmp_path / "a.csv", columns) as write:
        write(create_row_without_face())
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_columns_depend_on_heads_and_on_videos():
    video_columns = face_columns({"valence_arousal": AXES}, has_video=True)
    assert list(video_columns) == [
        "id", "source", "frame", "seconds", "face", "reason",
        "x", "y", "width", "height", "confidence", "valence_predicted", "arousal_predicted",
    ]  # fmt: skip
    image_columns = face_columns(NAMES, has_video=False)
    assert "frame" not in image_columns
    assert {"predicted", "p_contempt", "AU12_predicted"} <= set(image_columns)


def test_evaluate_scores_rows_with_labels(tmp_path):
    """The columns have the names that `affect_jax.evaluate` reads."""
    path = tmp_path / "rows.parquet"
    columns = face_columns(NAMES, has_video=False)
    with open_face_table(path, columns) as write:
        for row in create_two_rows():
            write(row)
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
    message = "the suffix must be one of .jsonl, .csv, .parquet"
    with pytest.raises(UserError, match=message), open_face_table(tmp_path / "rows.xlsx", {}):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="file: cannot be written: File exists"),
        open_face_table(tmp_path / "file" / "rows.csv", {}),
    ):
        pass
    for name in ("x" * 300 + ".csv", "x" * 300 + ".parquet", "x/" * 3000 + "rows.jsonl"):
        path = tmp_path / name
        with pytest.raises(UserError, match="File name too long"), open_face_table(path, {}):
            pass


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_full_disk_is_one_line_and_leaves_no_file(tmp_path, suffix):
    columns = face_columns(NAMES, has_video=False)
    with (
        pytest.raises(UserError, match="cannot be written: No space left") as error,
        open_face_table(tmp_path / f"rows{suffix}", columns) as write,
    ):
        write(create_row_without_face())
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []
