"""A folder of images with CSV labels: column options, own classes, splits by file or by column."""

from __future__ import annotations

import csv
import pathlib
import re

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from affect_jax.core import labels
from affect_jax.core.batch import make_targets
from affect_jax.core.errors import UserError
from affect_jax.data.csv_faces import csv_faces
from affect_jax.data.source_files import read_csv
from affect_jax.data.tfds_builder import open_split
from affect_jax.facs.action_units import UNITS

POINTS = ";".join(str(value) for value in range(136))


def write_csv(path: pathlib.Path, *lines) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Eight images, the i-th of brightness 20 i, 40 x 30 pixels."""
    base = tmp_path / "set"
    (base / "pictures").mkdir(parents=True)
    for i in range(8):
        image = Image.fromarray(np.full((30, 40, 3), 20 * i, np.uint8))
        image.save(base / "pictures" / f"{i}.png")
    return base


def prepare(folder: pathlib.Path, **options):
    options = {"image_size": 16, "image_dir": "pictures", "num_workers": 1} | options
    data_dir = folder.parent / "data"
    return csv_faces(manual_dir=str(folder), data_dir=str(data_dir), **options)


def columns_by_id(builder, split: str) -> dict[str, dict]:
    columns = open_split(builder, split).columns()
    return {
        identifier: {name: values[i] for name, values in columns.items()}
        for i, identifier in enumerate(columns["id"])
    }


def test_two_files_with_default_columns(folder):
    write_csv(folder / "training.csv", ("path", "label"), ("0.png", "sadness"), ("1.png", "6"))
    write_csv(folder / "validation.csv", ("path", "label"), ("2.png", ""))
    builder = prepare(folder)
    rows = columns_by_id(builder, "training")
    assert rows["0.png"]["expression"] == labels.EXPRESSIONS.index("sadness")
    assert rows["1.png"]["expression"] == 6
    assert np.isnan(rows["0.png"]["valence"]) and np.isnan(rows["0.png"]["landmarks"]).all()
    assert columns_by_id(builder, "validation")["2.png"]["expression"] == -1  # not annotated
    record = open_split(builder, "validation").records[0]
    np.testing.assert_array_equal(record["box"], [0, 0, 40, 30])


def test_columns_boxes_classes_and_a_split_column(folder):
    header = ("what", "where", "x", "y", "w", "h", "v", "a", "points", "part")
    write_csv(
        folder / "all.csv",
        header,
        ("glad", "0.png", 5, 5, 20, 20, 0.5, "", POINTS, "train"),
        ("0", "1.png", "", "", "", "", -2, -0.5, "", "train"),
        ("cross", "2.png", 0, 0, 9, 9, "", "", "", "Val"),
        ("cross", "3.png", 0, 0, 9, 9, "", "", "", "test"),
    )
    builder = prepare(
        folder,
        training_csv="all.csv",
        path_column="where",
        label_column="what",
        box_columns=("x", "y", "w", "h"),
        valence_column="v",
        arousal_column="a",
        landmarks_column="points",
        split_column="part",
        classes=("cross", "glad"),
    )
    assert sorted(builder.info.splits) == ["test", "training", "validation"]
    training = open_split(builder, "training")
    assert training.classes == ("cross", "glad")
    rows = columns_by_id(builder, "training")
    assert (rows["0.png"]["expression"], rows["1.png"]["expression"]) == (1, 0)
    np.testing.assert_array_equal(rows["0.png"]["valence"], np.float32(0.5))
    assert np.isnan(rows["0.png"]["arousal"]) and np.isnan(rows["1.png"]["valence"])
    np.testing.assert_array_equal(rows["1.png"]["arousal"], np.float32(-0.5))
    scaled = (np.array([0, 1]) - 5 + 0.5) * 16 / 20 - 0.5
    np.testing.assert_allclose(rows["0.png"]["landmarks"][0], scaled, rtol=1e-5)
    assert list(columns_by_id(builder, "test")) == ["3.png"]


def test_action_units(folder):
    """Uses column names of other programs; empty fields and missing columns are unknown."""
    write_csv(
        folder / "training.csv",
        ("path", "label", " AU04_r", "AU12R"),
        ("0.png", "anger", "5", "0"),
        ("1.png", "anger", "", "2.5"),
        ("2.png", "anger", "", ""),
    )
    units = {"action_unit_columns": (" AU04_r", "AU12R"), "action_unit_scale": 5.0}
    builder = prepare(folder, validation_csv="", **units)
    rows = columns_by_id(builder, "training")
    expected = np.full((3, len(UNITS)), np.nan)
    expected[0, UNITS.index(4)], expected[0, UNITS.index(12)] = 1.0, 0.0
    expected[1, UNITS.index(12)] = 0.5
    np.testing.assert_array_equal([rows[f"{i}.png"]["action_units"] for i in range(3)], expected)
    columns = open_split(builder, "training").columns()
    indices = [columns["id"].tolist().index(f"{i}.png") for i in range(3)]
    mask = make_targets(columns, 8)["action_units_mask"][indices]
    np.testing.assert_array_equal(mask, np.isfinite(expected))
    other_scale = prepare(folder, validation_csv="", **units | {"action_unit_scale": 10.0})
    assert columns_by_id(other_scale, "training")["0.png"]["action_units"][UNITS.index(4)] == 0.5


def test_an_intensity_beyond_the_scale_is_skipped(folder):
    lines = [(f"{i}.png", "anger", value) for i, value in enumerate(("0.5", "3", "-1", "x"))]
    write_csv(folder / "training.csv", ("path", "label", "AU4"), *lines)
    options = {"validation_csv": "", "action_unit_columns": ("AU4",), "max_skipped": 1.0}
    skipped = (prepare(folder, **options).data_path / "skipped.csv").read_text()
    assert [line.split(",")[-1] for line in skipped.splitlines()[1:]] == [
        "AU4: '3' is outside 0..1", "AU4: '-1' is outside 0..1", "AU4: 'x' is not a number"
    ]  # fmt: skip


def test_without_a_validation_file(folder):
    write_csv(folder / "training.csv", ("path", "label"), ("0.png", 0))
    builder = prepare(folder, validation_csv="")
    assert list(builder.info.splits) == ["training"]


def test_exif_orientation_is_applied_only_without_a_box(folder):
    exif = Image.Exif()
    exif[274] = 6
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20] = 250  # bright on the left; rotated to the right: bright at the top
    Image.fromarray(image).save(folder / "pictures" / "turned.jpg", exif=exif, quality=95)
    header = ("path", "label", "x", "y", "w", "h")
    write_csv(folder / "training.csv", header, ("turned.jpg", 0, "", "", "", ""))
    write_csv(folder / "validation.csv", header, ("turned.jpg", 0, 0, 0, 40, 20))
    builder = prepare(folder, box_columns=("x", "y", "w", "h"))
    upright = simplejpeg.decode_jpeg(open_split(builder, "training").records[0]["image"])
    stored = simplejpeg.decode_jpeg(open_split(builder, "validation").records[0]["image"])
    assert upright[2].mean() > 240 > 10 > upright[-2].mean()
    assert stored[:, 2].mean() > 240 > 10 > stored[:, -2].mean()


def test_options_have_separate_folders_and_changed_tables_are_an_error(folder):
    write_csv(folder / "training.csv", ("path", "label"), ("0.png", 0))
    first = prepare(folder, validation_csv="")
    second = prepare(folder, validation_csv="", margin=0.5)
    assert first.data_path != second.data_path
    write_csv(folder / "training.csv", ("path", "label"), ("0.png", 1))
    with pytest.raises(UserError, match=r"prepared from other files \(training differ"):
        prepare(folder, validation_csv="")


def test_skipped_rows_are_listed(folder):
    lines = [("path", "label"), ("0.png", 0), ("none.png", 0), ("1.png", "sadnes"), ("a,b", 1, 2)]
    write_csv(folder / "training.csv", *lines)
    builder = prepare(folder, validation_csv="", max_skipped=0.9)
    assert (builder.data_path / "skipped.csv").read_text().splitlines()[1:] == [
        "training,3,none.png,file missing",
        "training,4,1.png,\"expression: 'sadnes' is not one of "
        + ", ".join(labels.EXPRESSIONS)
        + '"',
        'training,5,"a,b",file missing',
    ]


def test_splits_are_counted_and_unusual_names_warn(folder, capsys):
    splits = ("train", "Training", "TRAIN", "val", "tst", "test", "train")
    lines = [(f"{i}.png", i, split) for i, split in enumerate(splits)]
    write_csv(folder / "training.csv", ("path", "label", "split"), *lines)
    prepare(folder, split_column="split")
    printed = capsys.readouterr().err
    assert re.search(r"class +name in the source +training +validation +tst +test\n", printed)
    assert re.search(r"\n +all +4 +1 +1 +1\n", printed)
    assert "warning: tst: neither training nor validation" in printed


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path_column": "file"}, "no column file; it has path, label, split"),
        ({"valence_column": "v"}, "no column v"),
        ({"box_columns": ("x", "y")}, "must be four, for x, y, width, height"),
        ({"training_csv": "none.csv"}, "none.csv: no such file"),
        ({"training_csv": "empty.csv"}, "empty.csv: no column path, label; it has $"),
        ({"training_csv": "header.csv", "split_column": "split"}, "header.csv has no rows"),
        ({"classes": ("c1", "c2", "c1")}, "a name occurs twice"),
        ({"image_dir": "none"}, "image folder .*none: no such folder"),
        ({"split_column": "path"}, "is not a valid name of a split"),
        ({"action_unit_columns": ("AU12",)}, "no column AU12"),
        ({"action_unit_columns": ("AU3",)}, "'AU3' is not one of AU1, AU2"),
        ({"action_unit_columns": ("smile",)}, "'smile' is not one of"),
        ({"action_unit_scale": 0.0}, "must be above 0"),
        ({"max_skipped": 2.0}, r"data.options.max_skipped = 2.0: must be in \[0, 1\]"),
        ({"num_workers": -1}, "num_workers = -1: must be between 0 and 256"),
        ({"margin": -1.0}, r"margin = -1.0: must be in \[0, 10\]"),
        ({"align": "eye"}, r"data.options.align = 'eye': unknown; did you mean 'eyes'\?"),
    ],
)
def test_options_that_do_not_match_the_files_are_errors(folder, options, message):
    lines = [("0.png", f"c{i}", "train") for i in range(12)]
    (folder / "empty.csv").touch()
    (folder / "header.csv").write_text("path,label,split\n")
    write_csv(folder / "training.csv", ("path", "label", "split"), *lines)
    with pytest.raises(UserError, match=message):
        prepare(folder, validation_csv="", **options)


@pytest.mark.bad_input
def test_any_bytes_are_rows_or_an_error(tmp_path):
    path = tmp_path / "a.csv"

    @given(st.binary(max_size=200))
    def check(content: bytes):
        path.write_bytes(b"path,label\n0.png,1\n" + content)
        try:
            rows = list(read_csv(path))
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert all(set(row) - {None} == {"path", "label"} for _, row in rows)
            assert len(rows) <= 2 + content.count(b"\n") + content.count(b"\r")

    check()
