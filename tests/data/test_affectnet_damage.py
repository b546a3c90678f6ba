"""AffectNet with missing, damaged or changed files, and with dying processes."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, affectnet, csv_faces, loader, sampling, worker_processes
from affect_jax.data.record_reader import verify_in_background
from affect_jax.data.tfds_builder import open_split
from tests.data.affectnet_releases import SIZE, first_release, picture, prepare

# --- missing or changed files ---


def test_error_for_missing_data_has_instructions(tmp_path):
    for manual_dir in ("", str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(UserError) as caught:
            DATASETS["affectnet"](manual_dir=manual_dir, data_dir=str(tmp_path / "data"))
        text = str(caught.value)
        for words in (
            "AffectNet is missing",
            "licence",
            "University of Denver",
            "mohammadmahoor.com/affectnet",
            "training.csv and validation.csv",
            "--config.data.manual_dir=",
            "--config=configs/alexnet_weighted.py:synthetic_faces",
        ):
            assert words in text
    assert not (tmp_path / "data").exists()
    with pytest.raises(UserError, match="train_set/annotations is not in manual_dir"):
        prepare(tmp_path, tmp_path / "data", variant="second")


@pytest.mark.bad_input
def test_malformed_tables_are_errors(tmp_path):
    base = first_release(tmp_path / "r")
    table = base / "training.csv"
    good = table.read_text()
    cases = {
        "no column valence, arousal": "\n".join(x.rsplit(",", 2)[0] for x in good.splitlines()),
        "none of the images of its first 0 rows": good.splitlines()[0] + "\n",
        "no column subDirectory_filePath": "",
        "after line 0: unexpected end of data": good.splitlines()[0] + '\n"0/training0.jpg,1,2\n',
        "field larger than field limit": good + '"' + "x" * 200_000 + '"\n',
        "none of the images of its first 1 rows": good.splitlines()[0] + "\nz.jpg,1,1,9,9,,1,0,0\n",
    }
    for reason, content in cases.items():
        table.write_text(content)
        with pytest.raises(UserError, match=reason):
            prepare(base, tmp_path / "data")
    table.write_bytes(good.encode("utf-16"))
    with pytest.raises(UserError, match="training.csv, after line 0: .*utf-8"):
        prepare(base, tmp_path / "data")


def test_records_of_another_release_are_refused(release, tmp_path):
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

    fingerprints = [
        fingerprint("same", lambda base: None),
        fingerprint("again", lambda base: None),
        fingerprint("label", relabel),
        fingerprint(
            "picture",
            lambda base: picture(9).save(base / "Manually_Annotated_Images/0/training0.jpg"),
        ),
    ]
    assert fingerprints[0] == fingerprints[1] and len(set(fingerprints)) == 3


@pytest.fixture
def copy(builder, tmp_path):
    """A copy of the prepared records, for tests that damage it."""
    shutil.copytree(builder.data_path.parents[2], tmp_path / "copy")
    return prepare(pathlib.Path("nowhere"), tmp_path / "copy")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "name", ["affectnet-training.array_record-00000-of-00001", "training.labels.npz"]
)
def test_error_names_the_damaged_file(copy, name):
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
    message = f"{name}: is missing or damaged; delete the folder {copy.data_path} to prepare"
    with pytest.raises(UserError, match=message):
        open_split(copy, "training")
    path.unlink()
    with pytest.raises(UserError, match=message):
        open_split(copy, "training")
    assert len(open_split(copy, "validation")) == 6
    open_split(copy, "validation").verify()


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 20],
    "no text": lambda content: bytes(range(128, 256)),
    "zeros": lambda content: bytes(len(content)),
    "other JSON": lambda content: b"[1, 2]",
    "other values": lambda content: re.sub(rb"[0-9]+", b"{}", content),
    "other names": lambda content: content.replace(b"training", b"trainung"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["prepared.json", "dataset_info.json"])
def test_error_names_damaged_metadata(copy, name, damage):
    path = copy.data_path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError) as caught:
        open_split(prepare(pathlib.Path("nowhere"), copy.data_path.parents[2]), "training")
    names_split = (name, damage) == ("prepared.json", "other names")
    expected = "split 'training': unknown" if names_split else name
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["prepared.json", "dataset_info.json"])
def test_missing_metadata_is_an_error(copy, name):
    (copy.data_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}: is missing or damaged; delete .* to prepare"):
        prepare(pathlib.Path("nowhere"), copy.data_path.parents[2])


def test_unreadable_records_are_an_error(copy):
    records = open_split(copy, "training").records
    path = copy.data_path / "affectnet-training.array_record-00000-of-00001"
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name}: is missing or damaged"):
        records[0]
    path.write_text("")
    with pytest.raises(UserError, match=f"{path.name}: is missing or damaged"):
        records[0]


@pytest.mark.bad_input
@pytest.mark.parametrize("damage", ["truncated", "empty", "zeros"])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_records_damaged_while_they_are_loaded_are_an_error(copy, damage, workers):
    """The reader has opened the file before."""
    split = open_split(copy, "training")
    split.records[0]
    path = copy.data_path / "affectnet-training.array_record-00000-of-00001"
    damaged = DAMAGES[damage](path.read_bytes())
    with open(path, "r+b") as file:  # the same file, not another one of its name
        file.write(damaged)
        file.truncate(len(damaged))
    rows = sampling.SequentialRows(len(split), 4)
    options = {"image_size": SIZE, "num_workers": workers}
    with (
        contextlib.closing(loader.load_batches(split.records, {}, rows, **options)) as batches,
        pytest.raises(UserError, match=f"{path.name}: is missing or damaged"),
    ):
        list(batches)


def test_background_verification_detects_a_shard_of_another_preparation(copy):
    """The shard has the right size, since ArrayRecord pads its files."""
    name = "affectnet-training.array_record-00000-of-00001"
    path = copy.data_path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[len(content) // 2 :][::-1])
    splits = [open_split(copy, split) for split in ("validation", "training")]
    with pytest.raises(UserError, match=name):
        verify_in_background(splits).result()
    path.write_bytes(content)
    verify_in_background(splits).result()


@pytest.mark.bad_input
def test_a_pipe_as_a_table_is_an_error(release, tmp_path):
    """Reading it would wait for ever."""
    shutil.copytree(release, tmp_path / "r")
    table = tmp_path / "r" / "training.csv"
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(UserError, match="training.csv is not in manual_dir"):
        prepare(tmp_path / "r", tmp_path / "data")
    with pytest.raises(UserError, match="training.csv: no such file"):
        csv_faces.csv_faces(manual_dir=str(tmp_path / "r"), data_dir=str(tmp_path / "data"))


# --- processes ---


def test_error_for_an_unwritable_folder_has_instructions(release, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder with --config.data.data_dir"):
        prepare(release, tmp_path / "file")


def test_map_ordered_keeps_the_order_and_reads_few_items_ahead():
    numbers_read = []

    def read_numbers():
        for number in range(2000):
            numbers_read.append(number)
            yield number

    results = iter(worker_processes.map_ordered(math.sqrt, read_numbers(), 2000, "faces", 2))
    assert next(results) == 0
    assert len(numbers_read) < 10 * worker_processes.CHUNK_SIZE  # only those in flight were read
    assert list(results) == [math.sqrt(number) for number in range(1, 2000)]


def test_progress_is_reported_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(worker_processes, "LOG_INTERVAL_SECONDS", 0)
    assert list(worker_processes.map_ordered(int, range(3), 3, "affectnet: training")) == [0, 1, 2]
    assert "affectnet: training: 100%" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_prepare_once(release, tmp_path):
    """Both succeed; the lock of the folder lets one write and the other wait."""
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


def test_workers_and_the_registry_do_not_import_tfds_or_jax():
    code = (
        "import sys; import affect_jax.data;"
        "import affect_jax.data.face_images, affect_jax.data.worker_processes;"
        "sys.exit('tensorflow_datasets' in sys.modules or 'jax' in sys.modules)"
    )
    repository = pathlib.Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0
