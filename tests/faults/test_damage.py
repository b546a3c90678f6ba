"""What is on disk is damaged between two starts: the run goes on from what is whole, or refuses."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal

import pytest

from affect_jax.run import manifest
from tests.faults.conftest import soak_only
from tests.faults.lab import Lab, end_of, steps_of


@pytest.fixture
def workdir(lab, tmp_path) -> pathlib.Path:
    shutil.copytree(lab.interrupted, tmp_path / "run")
    return tmp_path / "run"


def refused(lab: Lab, workdir: pathlib.Path, *flags: str, trunk: str = "tiny") -> str:
    """The one line with which a command ends that touches no checkpoint."""

    def content() -> dict[pathlib.Path, bytes]:
        files = (workdir / "checkpoints").rglob("*")
        return {path: path.read_bytes() for path in files if path.is_file()}

    before = content()
    with lab.start(workdir, *flags, trunk=trunk) as run:
        assert run.wait() == 2, "\n".join(run.said)
    assert content() == before
    assert "Traceback" not in "\n".join(run.said)
    (message,) = [line for line in run.said if line.startswith("affect_jax: ")]
    return message


def data_of(step: pathlib.Path) -> list[pathlib.Path]:
    """All files with arrays: what one of them loses, another may still hold."""
    return [path for path in step.glob("state/**/d/*") if path.is_file()]


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 4, len(content), max(1, len(content) // 64)):
        content[place] ^= 0x10
    path.write_bytes(content)


def flip_bits(step: pathlib.Path) -> None:
    for path in data_of(step):
        flip(path)


def truncate(step: pathlib.Path) -> None:
    for path in data_of(step):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(step: pathlib.Path) -> None:
    for path in data_of(step):
        path.write_bytes(b"")


def take_a_file_away(step: pathlib.Path) -> None:
    (step / "info" / "metadata").unlink()


def take_all_away(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def put_anothers_arrays(step: pathlib.Path) -> None:
    """A whole state, of another step."""
    (older,) = (path for path in step.parent.iterdir() if path != step)
    shutil.rmtree(step / "state")
    shutil.copytree(older / "state", step / "state")


def make_newer(step: pathlib.Path) -> None:
    path = step / "info" / "metadata"
    info = json.loads(json.loads(path.read_text())["body"]) | {"format": manifest.FORMAT + 1}
    path.write_text(json.dumps(manifest.seal(info)))


DAMAGES = [flip_bits, truncate, empty, take_a_file_away, take_all_away, put_anothers_arrays]


@pytest.mark.parametrize(
    "damage", [DAMAGES[0], *(pytest.param(d, marks=soak_only) for d in [*DAMAGES[1:], make_newer])]
)
def test_a_damaged_newest_checkpoint_is_passed_over(lab, workdir, outcome, damage):
    older, newest = steps_of(workdir)
    damage(workdir / "checkpoints" / str(newest))
    run = lab.finish(workdir)
    (warning,) = [line for line in run.said if f"checkpoint {newest}: " in line]
    assert f"going on from {older} instead" in warning
    assert run.start == older
    assert "Traceback" not in "\n".join(run.said)
    assert end_of(workdir) == lab.undisturbed()[0]
    what = "warning, the one before is taken; ends with the same bits"
    outcome("newest checkpoint damaged, in seven ways", what, newest - older)


@soak_only
def test_what_an_interrupted_save_leaves_is_no_checkpoint(lab, workdir, outcome):
    newest = steps_of(workdir)[-1]
    folder = workdir / "checkpoints"
    shutil.copytree(
        folder / str(newest), folder / f"{newest + 1}.orbax-checkpoint-tmp-1700000000000000"
    )
    run = lab.finish(workdir)
    assert run.start == newest
    assert end_of(workdir) == lab.undisturbed()[0]
    outcome("leftover of an interrupted save", "no checkpoint; ends with the same bits", 0)


@soak_only
def test_checkpoints_of_another_model_are_refused(lab, workdir, outcome):
    """Without the config that would tell the same at once."""
    (workdir / "config.json").unlink()
    assert "no checkpoint can be restored" in refused(lab, workdir, trunk="resnet18")
    outcome("every checkpoint of another model", "one error, exit 2", 0)


def test_without_a_whole_checkpoint_there_is_an_error_and_no_fresh_start(lab, workdir, outcome):
    for step in steps_of(workdir):
        (workdir / "checkpoints" / str(step) / "info" / "metadata").write_bytes(b"")
    assert "no checkpoint can be restored" in refused(lab, workdir)
    outcome("every checkpoint damaged", "one error, exit 2", 0)


def test_a_run_with_another_config_is_refused(lab, workdir):
    assert "another config" in refused(lab, workdir, "--config.learning_rate=0.1")


def test_a_second_run_in_the_workdir_is_refused(lab, tmp_path, outcome):
    with lab.start(tmp_path) as first:
        first.until(1)
        first.send(signal.SIGSTOP)
        with lab.start(tmp_path) as second:
            assert second.wait() == 2
        (message,) = [line for line in second.said if line.startswith("affect_jax: ")]
        assert f"another run is using it (process {first.pid} on " in message
        first.send(signal.SIGCONT)
        assert first.wait() == 0
    assert end_of(tmp_path) == lab.undisturbed()[0]
    outcome("two runs in one workdir", "the second is refused, exit 2", 0)


def damage_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*training.array_record*")
    flip(path)


def truncate_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*training.array_record*")
    path.write_bytes(path.read_bytes()[:-100])


def remove_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*validation.array_record*")
    path.unlink()


def change_what_nobody_reads(folder: pathlib.Path) -> None:
    """As a shard of another preparation would be: whole, as large, and not the one that was."""
    (path,) = folder.rglob("*training.array_record*")
    content = bytearray(path.read_bytes())
    place = content.rindex(bytes(4096))  # ArrayRecord pads its files
    content[place] = 1
    path.write_bytes(content)


def damage_labels(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("training.labels.npz")
    flip(path)


@pytest.mark.parametrize(
    "damage", [damage_shard, truncate_shard, remove_shard, change_what_nobody_reads, damage_labels]
)
def test_damaged_data_are_an_error_that_names_the_file(lab, workdir, tmp_path, damage, outcome):
    data = tmp_path / "data"
    shutil.copytree(lab.folder / "data", data)
    damage(data)
    message = refused(lab, workdir, f"--config.data.data_dir={data}")
    assert str(data) in message and ("array_record" in message or "labels.npz" in message)
    outcome("prepared data damaged", "an error that names the file, exit 2", 0)


def test_other_data_than_the_runs_are_refused(lab, workdir, tmp_path):
    faces = tmp_path / "faces"
    shutil.copytree(lab.folder / "faces", faces)
    table = faces / "training.csv"
    table.write_text(table.read_text().replace("training_1.png,1,", "training_1.png,2,"))
    flags = f"--config.data.manual_dir={faces}", f"--config.data.data_dir={tmp_path / 'data'}"
    assert "trained on other prepared data" in refused(lab, workdir, *flags)
