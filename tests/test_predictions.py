from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow
import pytest

from affect_jax import predictions
from affect_jax.errors import UserError
from affect_jax.labels import classes


@pytest.fixture
def table() -> predictions.Predictions:
    random = np.random.default_rng(0)
    labels = random.uniform(-1, 1, (5, 2))
    labels[2] = np.nan
    return predictions.Predictions(
        id=np.array([f"face/{i}.jpg" for i in range(5)]),
        classes=classes(8),
        expression=np.array([0, 7, -1, 3, 3]),
        probabilities=random.dirichlet(np.ones(8), 5),
        valence_arousal=labels,
        valence_arousal_predicted=random.uniform(-1, 1, (5, 2)),
        units=(1, 12),
        action_units=np.array([[0, 1], [np.nan, 0.5], [0.2, 0.1], [1, 1], [0, 0]]),
        action_units_predicted=random.uniform(0, 1, (5, 2)),
    )


@pytest.mark.parametrize("name", ["predictions.parquet", "predictions.csv"])
def test_read_returns_what_was_written(tmp_path, table, name):
    predictions.write(table, tmp_path / name)
    back = predictions.read(tmp_path / name)
    for field in dataclasses.fields(table):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(table, field.name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_labels_are_empty_cells(table):
    columns = predictions.to_table(table)
    assert columns["expression"].to_pylist() == [0, 7, None, 3, 3]
    assert columns["valence"][2].as_py() is None
    assert columns["AU1"][1].as_py() is None


def change(table, column, values):
    columns = predictions.to_table(table)
    place = columns.column_names.index(column)
    return columns.set_column(place, column, pyarrow.array(values))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("id", ["a", "a", "b", "c", "d"], "'a' is there 2 times"),
        ("expression", [0, 1, 2, 3, 9], "row 5: unknown label 9; labels are 0 to 7"),
        ("expression", [0.5, 1, 2, 3, 4], "row 1: unknown label 0.5"),
        ("p_fear", [2.0, 0, 0, 0, 0], "row 1 .*sum to 1"),
        ("p_fear", ["x", "0", "0", "0", "0"], "'p_fear' holds something not a number"),
        ("p_fear", [None, 0.1, 0.1, 0.1, 0.1], "'p_fear', row 1"),
        ("valence", [-2.0, 0, 0, 0, 0], r"row 1: label -2 is outside \[-1, 1\]"),
        ("valence_predicted", [0.0, float("inf"), 0, 0, 0], "row 2: inf"),
        ("AU12", [0.0, 0, 3.0, 0, 0], r"row 3: label 3 is outside \[0, 1\]"),
    ],
)
def test_bad_values_are_named_with_their_row(table, column, values, message):
    with pytest.raises(UserError, match=message) as error:
        predictions.from_table(change(table, column, values), "mine.csv")
    assert str(error.value).startswith("mine.csv: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("column", ["id", "expression", "arousal", "arousal_predicted", "AU1"])
def test_a_missing_column_is_named(table, column):
    columns = predictions.to_table(table).drop_columns([column])
    with pytest.raises(UserError, match=f"column '{column}' is missing"):
        predictions.from_table(columns, "mine.csv")


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        predictions.read(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read"):
        predictions.read(tmp_path / "broken.parquet")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        predictions.read(tmp_path / "empty.csv")
    (tmp_path / "other.csv").write_text("id,name\n1,a\n")
    with pytest.raises(UserError, match="no predictions"):
        predictions.read(tmp_path / "other.csv")
    (tmp_path / "twice.csv").write_text("id,id\n1,2\n")
    with pytest.raises(UserError, match="twice"):
        predictions.read(tmp_path / "twice.csv")
