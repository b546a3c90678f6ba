"""Layouts of datasets: every label, every file and every defect is accounted for."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import simplejpeg

from affect_jax.core import labels, registry
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, layouts
from affect_jax.data.tfds_builder import open_split
from affect_jax.facs.action_units import UNITS
from tests.data import layout_folders as folders
from tests.data.affectnet_releases import picture
from tests.data.layout_folders import prepare, table

registry.import_submodules("affect_jax.data")

# Layout -> split -> id -> class, and the files that are not used.
EXPECTED = {
    "folder_faces": (
        {
            "training": {
                "train/happy/a.jpg": "happiness",
                "train/happy/b.PNG": "happiness",
                "train/Sad/c.jpg": "sadness",
                "train/3_Surprised/d.webp": "surprise",
            },
            "validation": {"val/happy/e.jpg": "happiness"},
            "test": {"PrivateTest/Sad/f.jpg": "sadness"},
        },
        {
            "train/no_class.jpg": "image without a label",
            "train/happy/Thumbs.db": "other file",
            "readme.txt": "other file",
        },
    ),
    "yolo_faces": (
        {
            "training": {
                "images/train/a.jpg": "happiness",
                "images/train/a.jpg#2": "anger",
                "images/train/b.png": "anger",
            },
            "validation": {"images/val/c.jpg": "happiness"},
        },
        {"images/train/background.jpg": "image without a label"},
    ),
    "parquet_faces": (
        {
            "training": {
                "data/train-00000-of-00001.parquet#0": "happiness",
                "data/train-00000-of-00001.parquet#1": "anger",
                "data/train-00000-of-00001.parquet#2": "",
            },
            "test": {"data/test-00000-of-00001.parquet#0": "anger"},
        },
        {},
    ),
    "raf_db": (
        {
            "training": {"train_00001.jpg": "sadness", "train_00002.jpg": "happiness"},
            "test": {"test_0001.jpg": "neutral"},
        },
        {
            f"Image/aligned/{name}_aligned.jpg": "image without a label"
            for name in ("train_00001", "train_00002", "test_0001")
        },
    ),
    "raf_db_compound": (
        {
            "training": {"train_0001.jpg": "disgustedly surprised"},
            "test": {"test_0001.jpg": "happily surprised"},
        },
        {},
    ),
    "fer_plus": (
        {
            "training": {
                "FER2013Train/fer0000000.png": "neutral",
                "FER2013Train/fer0000001.png": "non-face",
            },
            "validation": {"FER2013Valid/fer0000002.png": "happiness"},
            "test": {"FER2013Test/fer0000003.png": "uncertain"},
        },
        {},
    ),
    "affectnet_plus": (
        {
            "training": {
                "human_annotated/train_set/images/0.jpg": "happiness",
                "human_annotated/train_set/images/1.jpg": "sadness",
                "human_annotated/train_set/images/2.jpg": "happiness",
            },
            "validation": {"human_annotated/validation_set/images/0.jpg": "happiness"},
        },
        {},
    ),
    "aff_wild2": (
        {
            "training": {
                "cropped_aligned/a/00001.jpg": "happiness",
                "cropped_aligned/a/00003.jpg": "other",
                "cropped_aligned/b_left/00001.jpg": "neutral",
            },
            "validation": {"cropped_aligned/c/00001.jpg": "surprise"},
        },
        {
            "cropped_aligned/a/00002.jpg": "image without a label",
            "VA_Estimation_Challenge/Train_Set/c.txt": "other file",
        },
    ),
}


def rows_by_id(builder, split: str) -> dict[str, dict]:
    columns = open_split(builder, split).columns()
    return {
        identifier: {name: values[i] for name, values in columns.items()}
        for i, identifier in enumerate(columns["id"])
    }


def test_records_and_hidden_files_in_the_folder_are_left_out(tmp_path):
    folders.save(tmp_path / "train/happy/a.jpg")
    folders.save(tmp_path / "train/.ipynb_checkpoints/a.jpg")
    for _ in range(2):
        builder = prepare("folder_faces", tmp_path, data_dir=str(tmp_path / "data"))
        assert not table(builder.data_path / "unused.csv")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Layout -> its prepared builder."""
    builders = {}

    def get(name: str):
        if name not in builders:
            base = tmp_path_factory.mktemp(name) / "set"
            builders[name] = prepare(name, base, **folders.WRITERS[name](base))
        return builders[name]

    return get


@pytest.mark.parametrize("name", folders.WRITERS)
def test_every_face_and_every_file_is_accounted_for(prepared, name):
    builder = prepared(name)
    expected, unused = EXPECTED[name]
    classes = labels.dataset_classes(name, {})
    found = {}
    for split in builder.info.splits:
        assert open_split(builder, split).classes == classes
        found[split] = {
            identifier: classes[row["expression"]] if row["expression"] >= 0 else ""
            for identifier, row in rows_by_id(builder, split).items()
        }
    assert found == expected
    assert {path: reason for path, reason in table(builder.data_path / "unused.csv")} == unused
    assert not table(builder.data_path / "skipped.csv")


@pytest.mark.parametrize("name", folders.WRITERS)
def test_prepared_records_need_no_source_and_changed_sources_are_an_error(name, tmp_path):
    base = tmp_path / "set"
    options = folders.WRITERS[name](base)
    builder = prepare(name, base, **options)
    folders.save(base / "train/happy/new.jpg")
    with pytest.raises(UserError, match="prepared from other files"):
        prepare(name, base, **options)
    shutil.rmtree(base)
    split = next(iter(builder.info.splits))
    reopened = open_split(prepare(name, base, **options), split)
    assert reopened.fingerprint == open_split(builder, split).fingerprint


def test_every_layout_has_a_written_example():
    written = {name for name in DATASETS.names() if hasattr(DATASETS[name], "__wrapped__")}
    assert written - {"affectnet", "csv_faces"} == set(folders.WRITERS) == set(EXPECTED)


# --- boxes, votes, distributions and groups ---


def test_yolo_boxes_are_pixels_of_the_image(prepared):
    records = {r["id"].decode(): r for r in open_split(prepared("yolo_faces"), "training").records}
    np.testing.assert_allclose(records["images/train/a.jpg"]["box"], [12, 18, 24, 12])
    np.testing.assert_allclose(records["images/train/a.jpg#2"]["box"], [0, 0, 24, 24])
    crop = np.asarray(picture(1).crop((34, 12, 48, 36)).resize((32, 32)))
    image = simplejpeg.decode_jpeg(records["images/train/b.png"]["image"])
    assert np.abs(image.astype(int) - crop).mean() < 8


def test_raf_db_boxes_are_corners(prepared):
    record = open_split(prepared("raf_db"), "test").records[0]
    np.testing.assert_array_equal(record["box"], [4, 6, 30, 40])


def test_fer_plus_has_votes_in_the_order_of_the_classes(prepared):
    row = rows_by_id(prepared("fer_plus"), "training")["FER2013Train/fer0000000.png"]
    votes = dict(zip(labels.EXPRESSIONS, row["votes"], strict=True))
    assert {name: n for name, n in votes.items() if n} == {
        "neutral": 4, "sadness": 1, "anger": 3, "disgust": 2
    }  # fmt: skip
    np.testing.assert_allclose(row["expression_distribution"], row["votes"] / 10)
    record = open_split(prepared("fer_plus"), "validation").records[0]
    image = simplejpeg.decode_jpeg(record["image"]).astype(int)
    assert np.abs(image[..., 0] - np.asarray(picture(2).convert("L").resize((32, 32)))).mean() < 8


def test_fer_plus_reads_folders_of_images(tmp_path, prepared):
    base = tmp_path / "set"
    for i, (usage, name) in enumerate(folders.fer_plus_votes(base)):
        folder = {"Training": "Train", "PublicTest": "Valid", "PrivateTest": "Test"}[usage]
        folders.write(base / f"FER2013{folder}/label.csv", "")
        if name:  # a face without a face has no file
            folders.save(base / f"FER2013{folder}" / name, i)
    builder = prepare("fer_plus", base, max_skipped=0.5)
    assert len(table(builder.data_path / "skipped.csv")) == 1
    rows, expected = rows_by_id(builder, "test"), rows_by_id(prepared("fer_plus"), "test")
    np.testing.assert_equal(rows["FER2013Test/fer0000003.png"]["votes"],
                            expected["FER2013Test/fer0000003.png"]["votes"])  # fmt: skip


def test_affectnet_plus_reads_what_there_is(prepared):
    rows = rows_by_id(prepared("affectnet_plus"), "training")
    complete, hard, soft = (rows[f"human_annotated/train_set/images/{i}.jpg"] for i in range(3))
    expected = [0.1, 0.6, 0, 0.1, 0, 0, 0, 0.2, 0, 0, 0]
    np.testing.assert_allclose(complete["expression_distribution"], expected, rtol=1e-6)
    np.testing.assert_allclose(soft["expression_distribution"], expected, rtol=1e-6)
    assert np.isnan(hard["expression_distribution"]).all() and np.isnan(hard["valence"])
    assert complete["valence"] == 0.5 and np.isfinite(complete["landmarks"]).all()
    assert "votes" not in complete


def test_aff_wild2_joins_tracks_of_the_same_split(prepared):
    rows = rows_by_id(prepared("aff_wild2"), "training")
    first, third = (rows[f"cropped_aligned/a/{i}.jpg"] for i in ("00001", "00003"))
    assert (first["valence"], first["arousal"]) == (0.5, -0.5)
    np.testing.assert_array_equal(first["action_units"][UNITS.index(24)], 1)
    assert np.isnan(third["action_units"]).all() and third["valence"] == np.float32(0.1)
    assert rows["cropped_aligned/b_left/00001.jpg"]["group"] == "b"
    assert np.isnan(
        rows_by_id(prepared("aff_wild2"), "validation")["cropped_aligned/c/00001.jpg"]["valence"]
    )


def test_another_track_has_its_own_splits(tmp_path):
    base = tmp_path / "set"
    folders.aff_wild2_frames(base)
    builder = prepare("aff_wild2", base, track="valence_arousal")
    assert sorted(rows_by_id(builder, "training")) == [
        "cropped_aligned/a/00001.jpg", "cropped_aligned/a/00003.jpg", "cropped_aligned/c/00001.jpg"
    ]  # fmt: skip


# --- names of classes ---


def test_numbered_folders_need_the_order_of_the_classes(tmp_path, capsys):
    base = tmp_path / "set"
    for i in (1, 2, 3):
        folders.save(base / f"train/{i}/a.jpg", i)
    with pytest.raises(UserError, match="are the numbers 1, 2, 3, whose meaning is not known"):
        prepare("folder_faces", base)
    with pytest.raises(UserError, match="pass the 3 names in their order"):
        prepare("folder_faces", base, classes=("fear", "anger"))
    builder = prepare("folder_faces", base, classes=("fear", "anger", "calm"))
    assert rows_by_id(builder, "training")["train/3/a.jpg"]["expression"] == 2
    assert re.search(r"\n +2 +calm +3 +1\n", capsys.readouterr().err)


@pytest.mark.parametrize("name", labels.EXPRESSIONS)
def test_names_match_regardless_of_case_and_numbers(name):
    for written in (name, name.upper(), f"3_{name}", f" {name.title()} "):
        assert labels.match_classes([written], (), "x") == {written: name}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("happy", "Happiness"), "'Happiness' and 'happy' are two spellings of a class"),
        (("happy", "bored"), "'bored' is none of neutral, happiness"),
        (("0", "1", "02"), "are the numbers 0, 02, 1"),
        (("0", "happy"), "'0' is none of"),
    ],
)
def test_names_that_are_not_clear_are_an_error(names, message):
    with pytest.raises(UserError, match=message):
        labels.match_classes(names, (), "folder")


@pytest.mark.parametrize(("dataset", "splits"), layouts.KNOWN_COUNTS.items())
def test_counts_of_known_datasets_are_recognised(dataset, splits):
    compare = layouts.compare_counts
    for counts in splits:
        named = dict(zip(labels.EXPRESSIONS, counts, strict=False))
        assert compare(named | {"valence": 7}) == f"these are {dataset}'s counts"
        swapped = {**named, "neutral": named["fear"], "fear": named["neutral"]}
        assert f"the {counts[0]:,} faces are neutral" in compare(swapped)
        assert not compare({**named, "fear": 1})
