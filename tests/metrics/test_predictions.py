from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest

from affect_jax.core.errors import UserError
from affect_jax.core.labels import classes
from affect_jax.metrics.predictions import (
    Predictions,
    from_table,
    read_predictions,
    to_table,
    write_predictions,
)


@pytest.fixture
def table() -> Predictions:
    random = np.random.default_rng(0)
    labels = random.uniform(-1, 1, (5, 2))
    labels[2] = np.nan
    votes = random.integers(1, 9, (5, 8)).astype(float)
    votes[1] = np.nan
    return Predictions(
        id=np.array([f"face/{i}.jpg" for i in range(5)]),
        classes=classes(8),
        expression=np.array([0, 7, -1, 3, 3]),
        probabilities=random.dirichlet(np.ones(8), 5),
        distribution=votes / votes.sum(axis=1, keepdims=True),
        votes=votes,
        valence_arousal=labels,
        valence_arousal_predicted=random.uniform(-1, 1, (5, 2)),
        units=(1, 12),
        action_units=np.array([[0, 1], [np.nan, 0.5], [0.2, 0.1], [1, 1], [0, 0]]),
        action_units_predicted=random.uniform(0, 1, (5, 2)),
    )


@pytest.mark.parametrize("name", ["predictions.parquet", "predictions.csv"])
def test_write_and_read_round_trip(tmp_path, table, name):
    write_predictions(table, tmp_path / name)
    read = read_predictions(tmp_path / name)
    for field in dataclasses.fields(table):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(table, field.name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_labels_are_empty_cells(table):
    columns = to_table(table)
    assert columns["expression"].to_pylist() == [0, 7, None, 3, 3]
    assert columns["valence"][2].as_py() is None
    assert columns["AU1"][1].as_py() is None


def change(table, column, values):
    columns = to_table(table)
    place = columns.column_names.index(column)
    return columns.set_column(place, column, pyarrow.array(values))


BAD_VALUES = [
    ("id", ["a", "a", "b", "c", "d"], "column 'id': 'a' is empty or duplicate"),
    ("id", ["a", None, "b", "c", "d"], "column 'id': None is empty or duplicate"),
    ("id", [["a"], ["b"], ["c"], ["d"], ["e"]], "column 'id' is not text"),
    ("id", [float("nan")] * 5, "column 'id': .* is empty or duplicate"),
    ("expression", [0, 1, 2, 3, 9], r"'expression', row 5: 9 is not in \[0, 7\] or empty"),
    ("expression", [0, 1, 2, 3, -2], r"'expression', row 5: -2 is not in \[0, 7\] or empty"),
    ("expression", [0.5, 1, 2, 3, 4], "'expression' must hold whole numbers"),
    (
        "expression",
        ["fear", "1", "2", "3", "4"],
        "'expression', row 2: '1' is none of the classes neutral, happiness",
    ),
    ("p_fear", [2.0, 0, 0, 0, 0], "row 1: the p_ columns sum to 2.*, not to 1"),
    ("p_fear", [-0.5, 0, 0, 0, 0], "'p_fear', row 1: -0.5 is not in "),
    ("p_fear", ["0", "x", "0", "0", "0"], "'p_fear' has a value that is not a number: .*'x'"),
    ("p_fear", [0.1, None, 0.1, 0.1, 0.1], "'p_fear', row 2: nan is not in"),
    ("p_fear", [0.1, 0.1, float("nan"), 0.1, 0.1], "'p_fear', row 3: nan is not in"),
    ("p_fear", [[0.1], [0.1], [0.1], [0.1], [0.1]], "'p_fear' has a value that is not a number"),
    ("t_fear", [2.0, None, 0, 0, 0], "row 1: the t_ columns sum to 2.*, not to 1"),
    ("t_fear", [0.1, 0.1, 0.1, 0.1, 0.1], "the t_ columns sum to .*, not to 1"),
    ("v_fear", [1.0, None, -3, 0, 0], r"'v_fear', row 3: -3 is not in \[0, 1e\+100\] or empty"),
    ("valence", [-2.0, 0, 0, 0, 0], r"row 1: -2 is not in \[-1, 1\] or empty"),
    ("valence_predicted", [0.0, float("inf"), 0, 0, 0], "row 2: inf is not in"),
    ("valence_predicted", [0.0, None, 0, 0, 0], "row 2: nan is not in"),
    ("valence_predicted", [0.0, 0, -1e300, 0, 0], r"row 3: -1e\+300 is not in"),
    ("AU12", [0.0, 0, 3.0, 0, 0], r"row 3: 3 is not in \[0, 1\] or empty"),
    ("AU12_predicted", [0.0, 0, 0, 0, 4.5], r"row 5: 4.5 is not in \[0, 1\]"),
]


@pytest.mark.bad_input
@pytest.mark.parametrize(("column", "values", "message"), BAD_VALUES)
def test_invalid_values_are_reported_alike_for_csv_and_parquet(
    tmp_path, table, column, values, message
):
    changed = change(table, column, values)
    pyarrow.parquet.write_table(changed, tmp_path / "t.parquet")
    names = ["t.parquet"]
    if not isinstance(values[0], list):  # CSV has no lists
        pyarrow.csv.write_csv(changed, tmp_path / "t.csv")
        names.append("t.csv")
    for name in names:
        with pytest.raises(UserError, match=message) as error:
            read_predictions(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "column",
    ["id", "expression", "valence", "arousal", "arousal_predicted", "AU1"],
)
def test_missing_column_is_reported(table, column):
    columns = to_table(table).drop_columns([column])
    with pytest.raises(UserError, match=f"missing or duplicate columns: {column}; found: .*p_fear"):
        from_table(columns, "mine.csv")


def test_class_columns_in_wrong_order_raise(table):
    """Without an error, every score would be silently wrong."""
    columns = to_table(table)
    alphabetical = columns.select(sorted(columns.column_names))
    with pytest.raises(UserError, match="'p_anger' is at the position of label 0; write all p_"):
        from_table(alphabetical, "mine.csv")
    with pytest.raises(UserError, match="'p_disgust' is at the position of label 4"):
        from_table(columns.drop_columns(["p_fear"]), "mine.csv")
    synonyms = [name.replace("p_anger", "p_Angry") for name in alphabetical.column_names]
    with pytest.raises(UserError, match="'p_Angry' is at the position of label 0"):
        from_table(alphabetical.rename_columns(synonyms), "mine.csv")


@pytest.mark.parametrize("names", [classes(7), classes(8)[:2], ("calm", "tense", "other")])
def test_other_classes_are_numbered_by_column_order(names):
    count = len(names)
    columns = {"id": ["a", "b"], "expression": [0, count - 1]}
    columns |= {f"p_{name}": [1 / count] * 2 for name in names}
    assert from_table(pyarrow.table(columns), "mine.csv").classes == names


def test_expression_labels_without_probabilities_are_kept(table, tmp_path):
    """Scores per expression and the identification of the dataset need them."""
    for name in ("t.csv", "t.parquet"):
        axes = dataclasses.replace(table, probabilities=None, units=(), action_units=None,
                                   action_units_predicted=None)  # fmt: skip
        write_predictions(axes, tmp_path / name)
        read = read_predictions(tmp_path / name)
        np.testing.assert_array_equal(read.expression, table.expression)
        assert read.classes == classes(8) and read.probabilities is None


NAMES = ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprised")
"""AffectNet's classes in alphabetical order, in the words of other tools."""


def create_foreign(prefix="p_", **columns) -> pyarrow.Table:
    """Three faces that are predicted as happiness, anger and fear."""
    scores = np.full((3, len(NAMES)), 0.05)
    scores[[0, 1, 2], [4, 0, 3]] = 0.65
    named = {f"{prefix}{name}": column for name, column in zip(NAMES, scores.T, strict=True)}
    return pyarrow.table({"id": ["a", "b", "c"], **columns, **named})


@pytest.mark.parametrize("label_column", ["label", "expression"])
def test_labels_by_name_need_no_order(label_column):
    table = create_foreign(**{label_column: ["JOY", "angry", None]})
    read = from_table(table, "mine.csv")
    assert read.classes == classes(8) and read.expression.tolist() == [1, 6, -1]
    assert read.probabilities.argmax(axis=1).tolist() == [1, 6, 4]


def test_logits_become_probabilities():
    read = from_table(create_foreign("l_", label=["fear"] * 3), "mine.csv")
    expected = np.exp([0.65, 0.05]) / (np.exp(0.65) + 7 * np.exp(0.05))
    np.testing.assert_allclose(read.probabilities[0, :2], expected[::-1])


def test_seven_classes_leave_contempt_out():
    table = create_foreign(label=["happy", "contempt", "non-face"]).drop_columns(["p_Contempt"])
    total = pyarrow.array(np.full(3, 0.1))  # the columns still sum to one
    table = table.set_column(table.column_names.index("p_Neutral"), "p_Neutral", total)
    read = from_table(table, "mine.csv")
    assert read.classes == classes(7) and read.expression.tolist() == [1, -1, -1]
    assert read.notes == ("2 faces have a label that is not among the predicted classes",)


@pytest.mark.parametrize("labels", [["happy", "fear"], [1, 4], ["1", "4"]])
@pytest.mark.parametrize("predicted", [["Happiness", "contempt"], [1, 7], ["1.0", "7"]])
def test_predicted_classes_by_name_or_number(labels, predicted):
    columns = {"id": ["a", "b"], "label": labels, "predicted": predicted}
    read = from_table(pyarrow.table(columns), "mine.csv")
    assert read.is_hard and read.classes == classes(8) and read.expression.tolist() == [1, 4]
    assert read.probabilities.argmax(axis=1).tolist() == [1, 7]
    again = from_table(to_table(read), "again.csv")
    np.testing.assert_array_equal(again.probabilities, read.probabilities)


def test_predicted_classes_of_another_task():
    columns = {"id": ["a", "b"], "label": ["calm", "Tense"], "predicted": ["tense", "tense"]}
    read = from_table(pyarrow.table(columns), "mine.csv")
    assert read.classes == ("calm", "tense") and read.expression.tolist() == [0, 1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "columns, message",
    [
        ({"label": ["happy", "Joyy"], "p_happy": [1, 1]}, "'Joyy' is none of"),
        ({"label": [1, 1], "predicted": ["fear", None]}, "'predicted', row 2: is empty"),
        ({"label": [1, 1], "predicted": ["fear", "none"]}, "'predicted', row 2: is empty or not"),
        ({"predicted": [1, 1]}, "missing or duplicate columns: expression"),
        ({"label": [[1], [1]], "predicted": [1, 1]}, "'expression' is not text"),
        ({"label": ["fear", "Joyy"], "predicted": [1, 1]}, "'joyy' is none of neutral, happiness"),
        ({"label": [0, 1], "predicted": ["bad", "good"]}, "must both be names"),
        (
            {"label": ["fear", "fear"], "p_happy": [0.5, 0.5], "p_happiness": [0.5, 0.5]},
            "two columns are of the same class",
        ),
    ],
)
def test_invalid_foreign_columns_raise_one_line(columns, message):
    with pytest.raises(UserError, match=message):
        from_table(pyarrow.table({"id": ["a", "b"], **columns}), "mine.csv")


@pytest.mark.parametrize("empty", ["", "NA", "nan", "null", "#N/A"])
def test_missing_value_markers_are_empty(tmp_path, empty):
    path = write_csv(tmp_path / "t.csv", [("a", empty, "0.25", "0.75"), ("b", "1", "1", "0")])
    np.testing.assert_array_equal(read_predictions(path).expression, [-1, 1])


def write_csv(path, cells, **encoding):
    lines = ["id,expression,p_neutral,p_happiness", *(",".join(row) for row in cells)]
    path.write_text("\n".join(lines) + "\n", **encoding)
    return path


@pytest.mark.parametrize("label", ["1", "1.0", "1e0"])
def test_csv_labels_may_be_integers_or_floats(tmp_path, label):
    path = write_csv(tmp_path / "t.csv", [("a", label, "0.25", "0.75"), ("b", "", "1", "0")])
    np.testing.assert_array_equal(read_predictions(path).expression, [1, -1])


def test_csv_types_do_not_depend_on_the_first_rows(tmp_path):
    rows = [(f"{i:06}", "1", "1", "0") for i in range(100_000)]  # megabytes of whole numbers
    path = write_csv(tmp_path / "t.csv", [*rows, ("last", "1.0", "0.5", "0.5")])
    read = read_predictions(path)
    assert read.id[0] == "000000" and read.probabilities[-1].tolist() == [0.5, 0.5]


def test_spreadsheet_csv_is_read(tmp_path):
    """A byte order mark and CRLF line endings."""
    cells = [("a", "0", "0.5", "0.5\r"), ("b", "1", "0.5", "0.5\r")]
    path = write_csv(tmp_path / "T.CSV", cells, encoding="utf-8-sig", newline="")
    assert read_predictions(path).classes == ("neutral", "happiness")


@pytest.mark.bad_input
def test_invalid_files_raise_one_line(tmp_path):
    def refused(name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_predictions(tmp_path / name)
        assert "\n" not in str(error.value)

    unreadable = "cannot be read as .parquet or .csv"
    for path in (tmp_path / "none.parquet", tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match=f"{path}: no such file"):
            read_predictions(path)
    refused("broken.parquet", b"PAR1 not really", unreadable)
    refused("a_csv.parquet", b"id,p_neutral\n1,1\n", unreadable)
    refused("table.xlsx", b"PK", unreadable)
    refused("empty.csv", b"", unreadable)
    refused("ragged.csv", b"id,p_neutral\n1\n", unreadable)
    refused("binary.csv", b"id,expression,p_a,p_b\n\xff\xfe,0,1,0\n", unreadable)
    refused("head_only.csv", b"id,expression,p_neutral,p_happiness\n", "no rows")
    refused("other.csv", b"id,name\n1,a\n", "missing .*p_<class>.*; found: id, name")
    refused("semicolons.csv", b"id;p_neutral\n1;1\n", "missing .*; found: id;p_neutral")
    refused("twice.csv", b"id,id,expression,p_a,p_b\n1,2,0,1,0\n", "duplicate columns: id; found")


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_damaged_file_is_read_or_raises_one_line(tmp_path, table, name):
    """Changed bytes and truncation never cause a traceback or a hang."""
    write_predictions(table, tmp_path / name)
    whole, random, refused = (tmp_path / name).read_bytes(), np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(len(damaged), size=random.integers(1, 6)):
            damaged[place] = random.choice([0, 10, 13, 34, 44, 45, 46, 57, 101, 255])
        (tmp_path / name).write_bytes(damaged[: random.integers(len(damaged)) or None])
        try:
            read = read_predictions(tmp_path / name)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert np.isfinite(read.probabilities).all()
    assert refused > 100
