"""Defects in layouts: a face is skipped with a reason, or one error names the problem."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affect_jax.core import labels, registry
from affect_jax.core.errors import UserError
from affect_jax.data import aff_wild2, annotation_parsing
from tests.data import layout_folders as folders
from tests.data.layout_folders import prepare, table

registry.import_submodules("affect_jax.data")


def damage_yolo(base):
    lines = ("0 1.9 0.5 0.4 0.5", "7 0 0 1 1", "0 0.5 0.5", "0 a b c d", "")
    folders.write(base / "labels/train/b.txt", "\n".join(lines))
    folders.write(base / "labels/train/lost.txt", "0 0.5 0.5 1 1\n")


def damage_parquet(base):
    shutil.rmtree(base / "data")
    images = [folders.content(0), b"", None, b"text"]
    pq.write_table(pa.table({"image": images, "label": ["happy"] * 4}), base / "train.parquet")


def damage_raf_db(base):
    folders.write(base / "Annotation/boundingbox/train_00001_boundingbox.txt", "1 2 x")
    with open(base / "EmoLabel/list_patition_label.txt", "a") as file:
        file.write("train_3.jpg 8\ntrain_4.jpg\n")


def damage_fer_plus(base):
    votes, faces = base / "fer2013new.csv", base / "fer2013.csv"
    text = votes.read_text().replace("4,0,0,1,3,2,0", "0,0,0,0,0,0,0")
    votes.write_text(f"{text}Training,,-1{',1' * 9}\nTraining,a.png{',1' * 10}\n")
    faces.write_text(f"{faces.read_text()}\n0,0 0,Training\n0,{'256 ' * 48**2},Training\n")


def damage_affectnet_plus(base):
    folder = base / "human_annotated/train_set"
    folders.write(folder / "annotations/0.json", '{"human-label": 1, "soft-')
    folders.write(folder / "annotations/1.json", '{"soft-label": [0.5, 0.5]}')
    (folder / "images/2.jpg").unlink()
    folders.write(folder / "annotations/3.json", "[]")
    folders.write(folder / "annotations/4.json", "{}")
    folders.save(folder / "images/4.jpg")


def damage_aff_wild2(base):
    shutil.rmtree(base / "cropped_aligned/b_left")
    names = ",".join(aff_wild2.NAMES)
    folders.write(base / "EXPR_Recognition_Challenge/Train_Set/a.txt", f"{names}\n9\n0\nx\n")


AFF_WILD2_CLASSES = ", ".join(labels.DATASET_CLASSES["aff_wild2"])
DEFECTS = {
    "yolo_faces": (
        damage_yolo,
        [
            "box is outside the image",
            "not a class, x, y, width and height: '7 0 0 1 1'",
            "not a class, x, y, width and height: '0 0.5 0.5'",
            "not a class, x, y, width and height: '0 a b c d'",
            "file missing",
        ],
    ),
    "parquet_faces": (damage_parquet, ["not an image"] * 3),
    "raf_db": (
        damage_raf_db,
        [
            "no four numbers in train_00001_boundingbox.txt",
            "expression: '8' is outside 1..7",
            "expression: '' is outside 1..7",
        ],
    ),
    "fer_plus": (
        damage_fer_plus,
        [
            "votes: the sum is 0",
            "pixels: not 48 x 48 numbers from 0 to 255",
            "pixels: not 48 x 48 numbers from 0 to 255",
        ],
    ),
    "affectnet_plus": (
        damage_affectnet_plus,
        [
            "annotation is not the JSON of a face",
            "expression_distribution: 5 numbers for 11 classes",
            "file missing",
            "annotation is not the JSON of a face",
        ],
    ),
    "aff_wild2": (
        damage_aff_wild2,
        [
            f"expression: 'annotation 9' is not one of {AFF_WILD2_CLASSES}",
            f"expression: 'annotation x' is not one of {AFF_WILD2_CLASSES}",
            "no frames of the video",
        ],
    ),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", DEFECTS)
def test_unusable_faces_are_skipped_with_a_reason(name, tmp_path):
    damage, reasons = DEFECTS[name]
    base = tmp_path / "set"
    options = folders.WRITERS[name](base)
    damage(base)
    builder = prepare(name, base, max_skipped=1.0, **options)
    assert [row[-1] for row in table(builder.data_path / "skipped.csv")] == reasons


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("votes", "reason"),
    [
        ((1, -1, 3), "votes: a number is negative"),
        ((0, 0, 0), "votes: the sum is 0"),
        ((1, 2), "votes: 2 numbers for 3 classes"),
        ((1, "x", 2), "votes: 'x' is not a number"),
    ],
)
def test_votes_that_are_no_distribution_are_unusable(votes, reason):
    with pytest.raises(annotation_parsing.UnusableInputError, match=reason):
        annotation_parsing.parse_extra_features({"votes": votes}, ("votes",), 3)


@pytest.mark.bad_input
def test_fer_plus_needs_both_tables_in_the_same_order(tmp_path):
    base = tmp_path / "set"
    folders.fer_plus_pixels(base)
    text = (base / "fer2013.csv").read_text()
    (base / "fer2013.csv").write_text(text[: text.rindex("\n")])
    with pytest.raises(UserError, match="line 5 of fer2013new.csv and of fer2013.csv are not the"):
        prepare("fer_plus", base)


@pytest.mark.bad_input
@pytest.mark.parametrize(("name", "option"), [("raf_db", "images"), ("aff_wild2", "track")])
def test_wrong_options_are_an_error(tmp_path, name, option):
    with pytest.raises(UserError, match=f"{option}.*'mine'"):
        prepare(name, tmp_path, **{option: "mine"})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "path", "text", "message"),
    [
        ("folder_faces", "", "", "has no faces in this layout"),
        ("yolo_faces", "labels/train/a.txt", "", "data.yaml: no names of classes can be read"),
        ("yolo_faces", "data.yaml", "names: 3", "data.yaml: no names of classes can be read"),
        ("yolo_faces", "data.yaml", "names: [", "data.yaml: no names of classes can be read"),
        ("yolo_faces", "data.yaml", "names: ['0', '1']", "are the numbers 0, 1"),
        (
            "parquet_faces",
            "train.parquet",
            "text",
            "train.parquet: cannot be used: Parquet file size",
        ),
        ("raf_db", "", "", "neither EmoLabel/list_patition_label.txt nor basic/EmoLabel"),
        ("fer_plus", "", "", "no fer2013new.csv"),
        ("affectnet_plus", "", "", "has no faces in this layout"),
        ("aff_wild2", "", "", "has no faces in this layout"),
    ],
)
def test_folders_in_another_layout_are_an_error(tmp_path, name, path, text, message):
    base = tmp_path / "set"
    base.mkdir()
    if path:
        folders.write(base / path, text)
    with pytest.raises(UserError, match=message) as raised:
        prepare(name, base)
    assert "\n" not in str(raised.value)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", folders.WRITERS)
def test_a_missing_folder_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: .*none: no such folder"):
        prepare(name, tmp_path / "none")


@pytest.mark.bad_input
def test_linked_folders_and_two_sets_of_frames_are_one_line(tmp_path):
    folders.save(tmp_path / "a" / "train" / "happy" / "a.jpg")
    (tmp_path / "a" / "train" / "sad").symlink_to(tmp_path / "a" / "train" / "happy")
    with pytest.raises(UserError, match="train/sad: is a link to a folder"):
        prepare("folder_faces", tmp_path / "a")
    options = folders.WRITERS["aff_wild2"](tmp_path / "b")
    folders.save(tmp_path / "b" / "cropped" / "a" / "00001.jpg")
    with pytest.raises(UserError, match="frames of a are in cropped/a and cropped_aligned/a"):
        prepare("aff_wild2", tmp_path / "b", **options)
