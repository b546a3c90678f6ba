"""AffectNet with missing, damaged or changed files, and with dying processes."""

from __future__ import annotations

import functools
import math
import multiprocessing
import pathlib
import shutil
import subprocess
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, affectnet, worker_processes
from affect_jax.data.record_reader import BackgroundVerification
from affect_jax.data.tfds_builder import open_split
from tests.data.affectnet_releases import (
    SIZE,
    first_release,
    picture,
    prepare,
)

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
    with pytest.raises(UserError, match="train_set/annotations is not in it"):
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
    with pytest.raises(UserError, match=rf"{name}: it has [\d,]+ bytes, not"):
        open_split(copy, "training")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: the file is missing"):
        open_split(copy, "training")
    assert len(open_split(copy, "validation")) == 6
    open_split(copy, "validation").verify()


def test_error_names_a_damaged_prepared_json(copy):
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
def test_error_names_a_malformed_prepared_json(copy, content):
    (copy.data_path / "prepared.json").write_text(content)
    with pytest.raises(UserError, match="prepared.json: it lists no files with their hashes"):
        open_split(copy, "training")
    (copy.data_path / "prepared.json").unlink()
    (copy.data_path / "prepared.json").mkdir()
    with pytest.raises(UserError, match="prepared.json: it cannot be read"):
        open_split(copy, "training")


@pytest.mark.bad_input
def test_missing_dataset_info_is_an_error(copy):
    (copy.data_path / "dataset_info.json").unlink()
    with pytest.raises(UserError, match="file is missing.*to prepare"):
        prepare(pathlib.Path("nowhere"), copy.data_path.parents[2])


def test_wrong_number_of_records_is_an_error(copy):
    path = copy.data_path / "dataset_info.json"
    text = path.read_text()
    assert text.count('"24"') == 1
    path.write_text(text.replace('"24"', '"23"'))
    reopened = prepare(pathlib.Path("nowhere"), copy.data_path.parents[2])
    with pytest.raises(UserError, match="it lists 23 records, not 24"):
        open_split(reopened, "training")


def test_error_for_an_unreadable_file_has_the_reason_and_is_not_cached(copy):
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


def test_background_verification_detects_a_shard_of_another_preparation(copy):
    """The shard has the right size, since ArrayRecord pads its files."""
    name = "affectnet-training.array_record-00000-of-00001"
    path = copy.data_path / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[len(content) // 2 :][::-1])
    splits = [open_split(copy, split) for split in ("validation", "training")]
    with BackgroundVerification(splits) as verification, pytest.raises(UserError, match=name):
        verification.check()
    path.write_bytes(content)
    with BackgroundVerification(splits) as verification:
        verification.check()


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
