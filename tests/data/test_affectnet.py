"""AffectNet on small generated releases, in both layouts: features, counts, errors."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import annotation_parsing
from affect_jax.data.record_reader import join_records, restore_aspect_ratio
from affect_jax.data.tfds_builder import open_split
from tests.data.affectnet_releases import (
    SIZE,
    first_release,
    line,
    picture,
    prepare,
    second_release,
    write_csv,
)


def by_id(split) -> dict[str, int]:
    return {identifier: i for i, identifier in enumerate(split.columns()["id"])}


# --- records ---


def test_splits_and_features(builder):
    assert builder.info.splits["training"].num_examples == 24
    assert builder.info.splits["validation"].num_examples == 6
    split = open_split(builder, "training")
    assert len(split) == 24 and split.classes == labels.EXPRESSIONS
    record = split.records[0]
    assert [split.records.read_jpeg(row) for row in range(24)] == [
        r["image"] for r in split.records
    ]
    assert set(record) == set(builder.info.features)
    assert simplejpeg.decode_jpeg(record["image"]).shape == (SIZE, SIZE, 3)
    assert simplejpeg.decode_jpeg_header(record["image"])[3] == "420"
    assert record["landmarks"].shape == (68, 2) and record["landmarks"].dtype == np.float32
    assert record["action_units"].shape == (18,) and np.isnan(record["action_units"]).all()
    np.testing.assert_array_equal(record["box"], [4, 5, 30, 32])


def test_every_row_is_written_to_its_record(builder):
    split = open_split(builder, "training")
    columns = split.columns()
    rows_by_id = by_id(split)
    assert sorted(rows_by_id) == sorted(f"{i % 3}/training{i}.jpg" for i in range(24))
    for i in range(24):
        row = rows_by_id[f"{i % 3}/training{i}.jpg"]
        record = split.records[row]
        assert record["expression"] == columns["expression"][row] == i % 11
        valence = np.nan if i % 4 == 3 else np.float32(i / 100)
        for name, value in (("valence", valence), ("arousal", -valence)):
            np.testing.assert_array_equal(np.float32(record[name]), value)
            np.testing.assert_array_equal(columns[name][row], value)
        expected_image = np.asarray(picture(i).crop((4, 5, 34, 37)).resize((SIZE, SIZE)))
        image = simplejpeg.decode_jpeg(record["image"])
        assert np.abs(image.astype(int) - expected_image).mean() < 8


def test_columns_have_the_records_types_and_landmarks(builder):
    split = open_split(builder, "validation")
    columns = split.columns()
    assert {name: array.shape for name, array in columns.items()} == {
        "expression": (6,),
        "valence": (6,),
        "arousal": (6,),
        "action_units": (6, 18),
        "action_unit_sides": (6, 2, 18),
        "landmarks": (6, 68, 2),
        "aspect": (6,),
        "id": (6,),
    }
    assert columns["expression"].dtype == np.int64 and columns["valence"].dtype == np.float32
    row = 2
    np.testing.assert_array_equal(columns["landmarks"][row], split.records[row]["landmarks"])
    first = np.array([4.0, 4 + 26 / 135])  # of POINTS, mapped from the box into the face
    expected = (first - (4, 5) + 0.5) * (SIZE / 30, SIZE / 32) - 0.5
    np.testing.assert_allclose(columns["landmarks"][row][0], expected, atol=0.01)
    np.testing.assert_allclose(columns["aspect"], 30 / 32)
    # Both axes have the scale of the box's height: SIZE / 32 per pixel of the source.
    source = restore_aspect_ratio(columns["landmarks"], columns["aspect"])[row]
    np.testing.assert_allclose(source[0] + (0.5 * 30 / 32, 0.5), (first - (4, 5) + 0.5) * SIZE / 32,
                               atol=0.01)  # fmt: skip


def test_records_can_be_pickled(builder):
    split = pickle.loads(pickle.dumps(open_split(builder, "training")))
    assert split.records[-1]["id"] == open_split(builder, "training").records[23]["id"]
    with pytest.raises(IndexError):
        split.records[24]


def test_records_of_several_files_are_one_sequence(builder):
    splits = [open_split(builder, name) for name in ("training", "validation")]
    ids = [record["id"] for record in join_records(splits)]
    assert ids == [record["id"] for split in splits for record in split.records]


def test_prepared_records_need_no_release(builder):
    reopened = prepare(pathlib.Path("nowhere"), builder.data_path.parents[2])
    assert (
        open_split(reopened, "training").fingerprint == open_split(builder, "training").fingerprint
    )


def test_preparing_twice_and_with_more_workers_gives_the_same_files(release, builder, tmp_path):
    """Includes another process, where hash tables have another order."""
    task = "import sys; from affect_jax.data.affectnet import affectnet as prepare; prepare("
    task += f"manual_dir=sys.argv[1], data_dir=sys.argv[2], image_size={SIZE}, num_workers=1)"
    repository = pathlib.Path(__file__).resolve().parents[2]
    other_process = str(tmp_path / "there")
    subprocess.run(
        [sys.executable, "-c", task, str(release), other_process], cwd=repository, check=True
    )
    folders = [pathlib.Path(other_process) / "affectnet" / f"manual_{SIZE}" / "1.1.0"]
    folders += [prepare(release, tmp_path / str(n), num_workers=n).data_path for n in (1, 2)]
    names = {path.name for path in builder.data_path.iterdir()}
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == names
        for name in names:
            assert (folder / name).read_bytes() == (builder.data_path / name).read_bytes(), name


def test_each_set_of_options_has_its_own_folder(release, builder, tmp_path):
    wide = prepare(release, tmp_path, margin=0.25)
    assert wide.data_path.parts[-3:] == ("affectnet", f"manual_{SIZE}_margin_0.25", "1.1.0")
    split, narrow = open_split(wide, "training"), open_split(builder, "training")
    assert split.fingerprint != narrow.fingerprint
    np.testing.assert_array_equal(split.records[0]["box"], [4, 5, 30, 32])
    assert split.records[0]["image"] != narrow.records[0]["image"]


def test_unknown_variant_error_suggests_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'manual'"):
        prepare(tmp_path, tmp_path / "data", variant="manuel")


# --- layouts ---


@pytest.mark.parametrize(
    ("tables", "images", "manual_dir"),
    [
        (".", "Manually_Annotated_Images", "."),
        (".", "Manually_Annotated_Images", "Manually_Annotated_Images"),
        (".", "Manually_Annotated_Images/Manually_Annotated_Images", "."),
        ("Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_Images", "."),
        ("AffectNet", "AffectNet/Manually_Annotated_Images", "."),
    ],
)
def test_first_release_is_found(tmp_path, tables, images, manual_dir):
    first_release(tmp_path / "r", training=2, validation=2, tables=tables, images=images)
    prepared = prepare(tmp_path / "r" / manual_dir, tmp_path / "data")
    assert len(open_split(prepared, "training")) == 2


def test_csv_without_a_header(tmp_path):
    first_release(tmp_path / "r", training=3, validation=2)
    table = tmp_path / "r" / "validation.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    prepared = prepare(tmp_path / "r", tmp_path / "data")
    assert len(open_split(prepared, "validation")) == 2


def automatic_release(base: pathlib.Path) -> pathlib.Path:
    folder = base / "Automatically_Annotated_Images" / "7"
    folder.mkdir(parents=True)
    for i in range(5):
        picture(i).save(folder / f"{i}.png")
    lines = [line(f"7/{i}.png", i) for i in range(5)]
    write_csv(base / "automatically_annotated.csv", lines)
    return base


def test_automatic_set_uses_the_manual_validation_split(tmp_path):
    first_release(automatic_release(tmp_path / "r"))
    prepared = prepare(tmp_path / "r", tmp_path / "data", variant="automatic")
    assert len(open_split(prepared, "training")) == 5
    assert len(open_split(prepared, "validation")) == 6


def test_automatic_set_alone_has_no_validation_split(tmp_path, capfd, caplog):
    automatic_release(tmp_path / "r")
    prepared = prepare(tmp_path / "r", tmp_path / "data", variant="automatic")
    assert "has no validation split" in capfd.readouterr().err
    assert not caplog.messages  # tfds warns of a folder without records
    with pytest.raises(UserError, match="split 'validation': unknown.*Known: training"):
        open_split(prepared, "validation")


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_second_release(tmp_path, as_text, nested):
    second_release(tmp_path / "r", as_text=as_text, nested=nested)
    prepared = prepare(tmp_path / "r", tmp_path / "data", variant="second")
    split = open_split(prepared, "training")
    columns, rows_by_id = split.columns(), by_id(split)
    assert len(split) == 12 and len(open_split(prepared, "validation")) == 5
    for i in range(12):
        row = rows_by_id[f"{i}.jpg"]
        assert columns["expression"][row] == i % 8
        np.testing.assert_equal(columns["valence"][row], np.float32(np.nan if i == 3 else i / 50))
        np.testing.assert_array_equal(split.records[row]["box"], [0, 0, 24, 24])
        last = (23 + 0.5) * SIZE / 24 - 0.5
        np.testing.assert_allclose(columns["landmarks"][row][67, 1], last, rtol=1e-5)


def test_second_release_lists_faces_that_it_cannot_use(tmp_path):
    second_release(tmp_path / "r")
    (tmp_path / "r/train_set/images/4.jpg").unlink()
    (tmp_path / "r/train_set/annotations/5_val.npy").unlink()
    (tmp_path / "r/train_set/annotations/6_aro.npy").write_bytes(b"junk")
    (tmp_path / "r/train_set/annotations/7_exp.npy").unlink()
    os.mkfifo(tmp_path / "r/train_set/annotations/7_exp.npy")
    np.save(tmp_path / "r/train_set/annotations/8_lnd.npy", np.zeros((2, 68)))
    prepared = prepare(tmp_path / "r", tmp_path / "data", variant="second", max_skipped=0.5)
    skipped = (prepared.data_path / "skipped.csv").read_text().splitlines()
    assert skipped[1:] == [
        "training,4,4.jpg,file missing",
        "training,5,5.jpg,5_val.npy: file missing",
        "training,6,6.jpg,6_aro.npy: not an array of numbers",
        "training,7,7.jpg,7_exp.npy: not a file",
        "training,8,8.jpg,facial_landmarks: not 68 points",
    ]


# --- skipped rows ---


TRUNCATED = "image is truncated"


def broken_rows(folder: pathlib.Path) -> dict[str, list]:
    """Reason -> a row that has it; writes the files that they name."""
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    picture(0).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:-30])
    (folder / "page.jpg").write_bytes(b"<html>moved</html>")
    (folder / "good.jpg").write_bytes(buffer.getvalue())
    (folder / "loop.jpg").symlink_to("loop.jpg")
    return {
        "file missing": line("gone.jpg"),
        TRUNCATED: line("cut.jpg"),
        "not an image": line("page.jpg"),
        "path leaves the image folder": line("../training.csv"),
        "file cannot be read: Too many levels of symbolic links": line("loop.jpg"),
        "box has no area": line("good.jpg", box=(1, 1, 0, 9)),
        "box is outside the image": line("good.jpg", box=(100, 1, 9, 9)),
        "face_x: 'left' is not a number": line("good.jpg", box=("left", 1, 9, 9)),
        "expression: '11' is outside 0..10": line("good.jpg", 11),
        "valence: '' is not a number": line("good.jpg", 1, ""),
        "arousal: '3' is outside -1..1": line("good.jpg", 1, 0, 3),
        "expression: ''": ["good.jpg", 3],  # the row is too short
    }


def test_every_row_is_written_or_skipped_with_its_reason(tmp_path, capfd):
    base = tmp_path / "r"
    broken = broken_rows(base / "Manually_Annotated_Images")
    first_release(base, extra=(*broken.values(), line("good.jpg"), line("good.jpg", 4)))
    prepared = prepare(base, tmp_path / "data", max_skipped=0.5)
    with open(prepared.data_path / "skipped.csv", newline="") as file:
        skipped = list(csv.DictReader(file))
    reasons = [row["reason"].partition(" is not one of")[0] for row in skipped]
    assert reasons == list(broken)
    assert [int(row["row"]) for row in skipped] == list(range(26, 26 + len(broken)))
    assert {row["split"] for row in skipped} == {"training"}
    counts = json.loads((prepared.data_path / "prepared.json").read_text())["counts"]["training"]
    assert counts == {"read": 38, "written": 26, "skipped": 12}
    assert "38 read = 26 written + 12 skipped" in capfd.readouterr().err
    columns = open_split(prepared, "training").columns()
    same = np.char.startswith(
        columns["id"], "good.jpg"
    )  # one photograph in two rows: both are kept
    assert sorted(columns["expression"][same]) == [1, 4] and len(set(columns["id"])) == 26


def test_too_many_skipped_rows_are_an_error_and_write_no_records(tmp_path):
    base = first_release(tmp_path / "r", extra=tuple(line(f"no{i}.jpg") for i in range(30)))
    with pytest.raises(UserError) as caught:
        prepare(base, tmp_path / "data", max_skipped=0.3)
    assert "17 of 54 rows, or more, cannot be used" in str(caught.value)
    assert len(caught.value.problems) == 10
    assert caught.value.problems[0] == "training, row 26: no0.jpg: file missing"
    refused = tmp_path / "data" / "affectnet" / f"manual_{SIZE}" / "refused.csv"
    assert str(refused) in str(caught.value)
    assert len(refused.read_text().splitlines()) == 18
    assert not list(refused.parent.glob("*1.1.0*"))
    prepare(base, tmp_path / "data", max_skipped=0.9)
    assert not refused.exists()


def test_one_skipped_row_in_a_small_split_is_an_error_by_default(tmp_path):
    base = first_release(tmp_path / "r", extra=(line("no.jpg"),))
    with pytest.raises(UserError, match="max_skipped = 0.01"):
        prepare(base, tmp_path / "data")


def test_no_usable_row_is_an_error_even_with_max_skipped_1(tmp_path):
    base = first_release(tmp_path / "r")
    write_csv(base / "validation.csv", [line("0/training0.jpg", "joyful")])
    with pytest.raises(UserError, match="validation: 1 of 1 rows, or more, cannot be used"):
        prepare(base, tmp_path / "data", max_skipped=1.0)


# --- real photographs ---


@pytest.mark.slow
def test_real_faces_are_prepared_completely(real_faces, tmp_path):
    """Compares with a reference that reads the table and crops the boxes with Pillow."""
    prepared = prepare(real_faces, tmp_path, image_size=64, num_workers=2)
    counts = np.bincount(open_split(prepared, "training").columns()["expression"]).tolist()
    assert counts == [2200, 1800, 146, 214, 10, 102, 148, 5]
    split = open_split(prepared, "validation")
    columns = split.columns()
    assert len(split) == 630 and np.isnan(columns["valence"]).all()
    assert len(set(columns["id"])) == 630
    inside = (columns["landmarks"] > -8) & (columns["landmarks"] < 72)
    assert inside.mean() > 0.99  # the boxes are around the landmarks
    assert (prepared.data_path / "skipped.csv").read_text() == "split,row,id,reason\n"
    with open(real_faces / "validation.csv", newline="") as file:
        rows = {row["subDirectory_filePath"]: row for row in csv.DictReader(file)}
    for index in range(0, 630, 21):
        record = split.records[index]
        row = rows[columns["id"][index]]
        assert columns["expression"][index] == int(row["expression"])
        x, y, width, height = (int(row[name]) for name in annotation_parsing.BOX_FIELDS)
        [path] = real_faces.glob(f"*/{row['subDirectory_filePath']}")
        with Image.open(path) as photograph:
            frame = (x, y, min(x + width, photograph.width), min(y + height, photograph.height))
            expected = photograph.convert("RGB").crop(frame).resize((64, 64), Image.Resampling.BOX)
        face = simplejpeg.decode_jpeg(record["image"]).astype(int)
        candidates = (
            expected,
            np.roll(expected, 2, axis=1),
            np.roll(expected, 2, axis=0),
            np.flip(expected, 1),
        )
        error, *other_errors = (np.abs(face - candidate).mean() for candidate in candidates)
        assert error < 5 and error + 2 < min(
            other_errors
        )  # JPEG's loss, smaller than the error of a shift
