"""AffectNet when something is missing, damaged or changed, and when processes die."""

from __future__ import annotations

import functools
import multiprocessing
import pathlib
import shutil
import subprocess
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, affectnet, face_images, worker_processes
from affect_jax.data.builder import open_split
from affect_jax.data.records import Verification
from tests.data.affectnet_releases import (
    SIZE,
    first_release,
    picture,
    prepare,
)

# --- what is not there, or not as it was ---


def test_without_the_data_the_error_says_what_to_do(tmp_path):
    for manual_dir in ("", str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(UserError) as caught:
            DATASETS["affectnet"](manual_dir=manual_dir, data_dir=str(tmp_path / "data"))
        text = str(caught.value)
        for words in (
            "AffectNet is not there",
            "a million faces",
            "licence",
            "University of Denver",
            "mohammadmahoor.com/affectnet",
            "training.csv, validation.csv and Manually_Annotated_Images/",
            "--config.data.manual_dir=",
            "--config=configs/alexnet_weighted.py:synthetic_faces",
        ):
            assert words in text
    assert not (tmp_path / "data").exists()
    with pytest.raises(UserError, match="train_set/annotations/ is not in it"):
        prepare(tmp_path, tmp_path / "data", variant="second")


@pytest.mark.bad_input
def test_tables_that_are_not_as_published(tmp_path):
    base = first_release(tmp_path / "r")
    table = base / "training.csv"
    good = table.read_text()
    cases = {
        "no column valence, arousal": "\n".join(x.rsplit(",", 2)[0] for x in good.splitlines()),
        "has no rows": good.splitlines()[0] + "\n",
        "the file is empty": "",
        "line 2: unexpected end of data": good.splitlines()[0] + '\n"0/training0.jpg,1,2\n',
        "field larger than field limit": good + '"' + "x" * 200_000 + '"\n',
        "none of its first 1 images": good.splitlines()[0] + "\nz.jpg,1,1,9,9,,1,0,0\n",
    }
    for reason, content in cases.items():
        table.write_text(content)
        with pytest.raises(UserError, match=reason):
            prepare(base, tmp_path / "data")
    table.write_bytes(good.encode("utf-16"))
    with pytest.raises(UserError, match="no column subDirectory_filePath"):
        prepare(base, tmp_path / "data")


def test_records_of_another_release_are_not_used_in_silence(release, tmp_path):
    prepare(release, tmp_path / "data")
    other = first_release(tmp_path / "other", training=5)
    with pytest.raises(UserError, match=r"prepared from other files \(training.csv differ"):
        prepare(other, tmp_path / "data")


def test_fingerprint_changes_with_a_label_and_with_a_picture(tmp_path):
    def fingerprint(name: str, change) -> str:
        base = first_release(tmp_path / name, training=4)
        change(base)
        return open_split(prepare(base, tmp_path / f"{name}_data"), "training").fingerprint

    def relabel(base):
        table = base / "training.csv"
        lines = table.read_text().splitlines()
        lines[1] = lines[1].replace(",0,0.0,", ",5,0.0,")
        assert lines != table.read_text().splitlines()
        table.write_text("\n".join(lines))

    found = [
        fingerprint("same", lambda base: None),
        fingerprint("again", lambda base: None),
        fingerprint("label", relabel),
        fingerprint(
            "picture",
            lambda base: picture(9).save(base / "Manually_Annotated_Images/0/training0.jpg"),
        ),
    ]
    assert found[0] == found[1] and len(set(found)) == 3


@pytest.fixture
def copy(builder, tmp_path):
    """The prepared records, to be damaged."""
    shutil.copytree(builder.data_path.parents[2], tmp_path / "copy")
    return prepare(pathlib.Path("nowhere"), tmp_path / "copy")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name", ["affectnet-training.array_record-00000-of-00001", "training.labels.npz"]
)
def test_damaged_files_are_named(copy, name):
    path = copy.data_path / name
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    split = open_split(copy, "training")
    with pytest.raises(UserError, match=name):
        split.verify()
    with pytest.raises(UserError, match=name):
        split.columns() if name.endswith("npz") else list(split.records)
    path.write_bytes(content[:-7])
    with pytest.raises(UserError, match=rf"{name}: it has [\d,]+ bytes, not"):
        open_split(copy, "training")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: the file is missing"):
        open_split(copy, "training")
    assert len(open_split(copy, "validation")) == 6
    open_split(copy, "validation").verify()


def test_damaged_description_is_named(copy):
    (copy.data_path / "prepared.json").write_text("{")
    with pytest.raises(UserError, match="prepared.json: it is not JSON"):
        open_split(copy, "training")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"files": {}}',
        '{"files": null, "source": {}, "counts": {}}',
        '{"files": {"training": {"a": {"sha256": "0"}}}, "source": {}, "counts": {"training": {}}}',
    ],
)
def test_a_description_in_another_form_is_named(copy, content):
    (copy.data_path / "prepared.json").write_text(content)
    with pytest.raises(UserError, match="prepared.json: it names no files with their hashes"):
        open_split(copy, "training")
    (copy.data_path / "prepared.json").unlink()
    (copy.data_path / "prepared.json").mkdir()
    with pytest.raises(UserError, match="prepared.json: it cannot be read"):
        open_split(copy, "training")


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [None, "", "{", "\x00\xff", '{"splits": 3}', '{"name": []}'])
def test_what_describes_the_records_is_not_believed(copy, content):
    path = copy.data_path / "dataset_info.json"
    path.unlink() if content is None else path.write_bytes(content.encode("latin-1"))
    message = "(describes its records cannot be read|file is missing).*to prepare"
    with pytest.raises(UserError, match=message) as told:
        prepare(pathlib.Path("nowhere"), copy.data_path.parents[2])
    assert "\n" not in str(told.value)


def test_another_number_of_records_is_noticed(copy):
    path = copy.data_path / "dataset_info.json"
    text = path.read_text()
    assert text.count('"24"') == 1
    path.write_text(text.replace('"24"', '"23"'))
    again = prepare(pathlib.Path("nowhere"), copy.data_path.parents[2])
    with pytest.raises(UserError, match="it tells of 23 records, not 24"):
        open_split(again, "training")


def test_a_file_that_does_not_open_says_why_and_may_open_later(copy):
    records = open_split(copy, "training").records
    folder = pathlib.Path(copy.data_path)
    path = folder / "affectnet-training.array_record-00000-of-00001"
    path.rename(path.with_suffix(".aside"))
    with pytest.raises(UserError, match=f"{path.name}: the file is missing"):
        records[0]
    path.symlink_to(path.name)
    with pytest.raises(UserError, match="cannot be opened .Too many levels of symbolic links"):
        records[0]
    path.unlink()
    path.write_text("")
    with pytest.raises(UserError, match=f"{path.name}: it cannot be read as records"):
        records[0]
    path.with_suffix(".aside").rename(path)
    assert records[0]["id"]


def test_a_shard_of_another_preparation_is_noticed_before_anything_is_kept(copy):
    """It is as large as the right one: ArrayRecord pads its files."""
    name = "affectnet-training.array_record-00000-of-00001"
    path = copy.data_path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[len(content) // 2 :][::-1])
    splits = [open_split(copy, split) for split in ("validation", "training")]
    with Verification(splits) as verification, pytest.raises(UserError, match=name):
        verification.check()
    path.write_bytes(content)
    with Verification(splits) as verification:
        verification.check()


# --- processes ---


def test_unwritable_folder_is_named(release, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder with --config.data.data_dir"):
        prepare(release, tmp_path / "file")


def test_order_and_bound_of_the_pool():
    taken = []

    def source():
        for i in range(2000):
            taken.append(i)
            yield face_images.Row(i, str(i), "", {})

    found = worker_processes.in_order(list, source(), num_workers=2)
    assert next(found).number == 0
    assert len(taken) < 10 * worker_processes.CHUNK  # only what is under way was read
    assert [row.number for row in found] == list(range(1, 2000))


def test_two_processes_prepare_once(release, tmp_path):
    """Both come out with the records; the folder's lock lets one write and one wait."""
    options = {"image_size": SIZE, "num_workers": 1}
    task = functools.partial(affectnet.affectnet, manual_dir=str(release), **options)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=task, kwargs={"data_dir": str(tmp_path)}) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    (prepared,) = (tmp_path / "affectnet" / f"manual_{SIZE}").glob("*1.1.0*")
    assert (prepared / "prepared.json").is_file()


def test_workers_and_the_registry_do_without_tfds():
    code = (
        "import sys; import affect_jax.data, affect_jax.data.face_images, affect_jax.data.worker_processes;"
        "sys.exit('tensorflow_datasets' in sys.modules or 'jax' in sys.modules)"
    )
    repository = pathlib.Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0
