"""Files are damaged between two starts: the run resumes from an intact checkpoint or refuses."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal

import pytest

from affect_jax.run import checkpoint_manifest
from tests.faults.conftest import soak_only
from tests.faults.lab import Lab, checkpoint_steps, read_result


@pytest.fixture
def workdir(lab, tmp_path) -> pathlib.Path:
    shutil.copytree(lab.interrupted, tmp_path / "run")
    return tmp_path / "run"


def refusal(lab: Lab, workdir: pathlib.Path, *flags: str, trunk: str = "tiny") -> str:
    """Runs a command that must fail without touching a checkpoint. Returns its error line."""

    def content() -> dict[pathlib.Path, bytes]:
        files = (workdir / "checkpoints").rglob("*")
        return {path: path.read_bytes() for path in files if path.is_file()}

    before = content()
    with lab.start(workdir, *flags, trunk=trunk) as run:
        assert run.wait() == 2, "\n".join(run.output)
    assert content() == before
    assert "Traceback" not in "\n".join(run.output)
    (message,) = [line for line in run.output if line.startswith("affect_jax: ")]
    return message


def array_files(step: pathlib.Path) -> list[pathlib.Path]:
    """All files with arrays. Each damage changes all of them, since arrays may be stored twice."""
    return [path for path in step.glob("state/**/d/*") if path.is_file()]


def flip_bits_of_file(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, len(content), max(1, len(content) // 64)):
        content[position] ^= 0x10
    path.write_bytes(content)


def flip_bits(step: pathlib.Path) -> None:
    for path in array_files(step):
        flip_bits_of_file(path)


def truncate(step: pathlib.Path) -> None:
    for path in array_files(step):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(step: pathlib.Path) -> None:
    for path in array_files(step):
        path.write_bytes(b"")


def remove_manifest(step: pathlib.Path) -> None:
    (step / "info" / "metadata").unlink()


def remove_all_files(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def replace_arrays(step: pathlib.Path) -> None:
    """Puts the intact arrays of another step in place."""
    (older,) = (path for path in step.parent.iterdir() if path != step)
    shutil.rmtree(step / "state")
    shutil.copytree(older / "state", step / "state")


def raise_format(step: pathlib.Path) -> None:
    """Makes the checkpoint look like one of a newer version of this package."""
    path = step / "info" / "metadata"
    info = json.loads(json.loads(path.read_text())["body"]) | {
        "format": checkpoint_manifest.FORMAT_VERSION + 1
    }
    path.write_text(json.dumps(checkpoint_manifest.build_manifest(info)))


DAMAGES = [flip_bits, truncate, empty, remove_manifest, remove_all_files, replace_arrays]


@pytest.mark.parametrize(
    "damage",
    [DAMAGES[0], *(pytest.param(d, marks=soak_only) for d in [*DAMAGES[1:], raise_format])],
)
def test_damaged_newest_checkpoint_is_skipped(lab, workdir, record_outcome, damage):
    older, newest = checkpoint_steps(workdir)
    damage(workdir / "checkpoints" / str(newest))
    run = lab.finish(workdir)
    (warning,) = [line for line in run.output if f"checkpoint {newest}: " in line]
    assert f"using checkpoint {older} instead" in warning
    assert run.start == older
    assert "Traceback" not in "\n".join(run.output)
    assert read_result(workdir) == lab.reference()[0]
    outcome = "warning; resumes from the checkpoint before, same final bits"
    record_outcome("newest checkpoint damaged, in seven ways", outcome, newest - older)


@soak_only
def test_leftover_of_an_interrupted_save_is_ignored(lab, workdir, record_outcome):
    newest = checkpoint_steps(workdir)[-1]
    folder = workdir / "checkpoints"
    shutil.copytree(
        folder / str(newest), folder / f"{newest + 1}.orbax-checkpoint-tmp-1700000000000000"
    )
    run = lab.finish(workdir)
    assert run.start == newest
    assert read_result(workdir) == lab.reference()[0]
    record_outcome("leftover of an interrupted save", "ignored; same final bits", 0)


@soak_only
def test_checkpoints_of_another_model_are_refused(lab, workdir, record_outcome):
    """Without config.json, which would be refused first."""
    (workdir / "config.json").unlink()
    assert "no checkpoint can be restored" in refusal(lab, workdir, trunk="resnet18")
    record_outcome("every checkpoint of another model", "one error, exit 2", 0)


def test_run_without_intact_checkpoint_is_refused(lab, workdir, record_outcome):
    for step in checkpoint_steps(workdir):
        (workdir / "checkpoints" / str(step) / "info" / "metadata").write_bytes(b"")
    assert "no checkpoint can be restored" in refusal(lab, workdir)
    record_outcome("every checkpoint damaged", "one error, exit 2", 0)


def test_run_with_another_config_is_refused(lab, workdir):
    assert "another config" in refusal(lab, workdir, "--config.learning_rate=0.1")


def test_second_run_in_the_workdir_is_refused(lab, tmp_path, record_outcome):
    with lab.start(tmp_path) as first:
        first.wait_for_steps(1)
        first.send(signal.SIGSTOP)
        with lab.start(tmp_path) as second:
            assert second.wait() == 2
        (message,) = [line for line in second.output if line.startswith("affect_jax: ")]
        assert f"another run is using it (process {first.pid} on " in message
        first.send(signal.SIGCONT)
        assert first.wait() == 0
    assert read_result(tmp_path) == lab.reference()[0]
    record_outcome("two runs in one workdir", "the second is refused, exit 2", 0)


def damage_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*training.array_record*")
    flip_bits_of_file(path)


def truncate_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*training.array_record*")
    path.write_bytes(path.read_bytes()[:-100])


def remove_shard(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("*validation.array_record*")
    path.unlink()


def change_padding(folder: pathlib.Path) -> None:
    """Changes a byte that no reader uses, like an intact shard of another preparation."""
    (path,) = folder.rglob("*training.array_record*")
    content = bytearray(path.read_bytes())
    position = content.rindex(bytes(4096))  # ArrayRecord pads its files
    content[position] = 1
    path.write_bytes(content)


def damage_labels(folder: pathlib.Path) -> None:
    (path,) = folder.rglob("training.labels.npz")
    flip_bits_of_file(path)


@pytest.mark.parametrize(
    "damage", [damage_shard, truncate_shard, remove_shard, change_padding, damage_labels]
)
def test_damaged_data_error_names_the_file(lab, workdir, tmp_path, damage, record_outcome):
    data = tmp_path / "data"
    shutil.copytree(lab.folder / "data", data)
    damage(data)
    message = refusal(lab, workdir, f"--config.data.data_dir={data}")
    assert str(data) in message and ("array_record" in message or "labels.npz" in message)
    record_outcome("prepared data damaged", "an error that names the file, exit 2", 0)


def test_resume_with_other_data_is_refused(lab, workdir, tmp_path):
    faces = tmp_path / "faces"
    shutil.copytree(lab.folder / "faces", faces)
    table = faces / "training.csv"
    table.write_text(table.read_text().replace("training_1.png,1,", "training_1.png,2,"))
    flags = f"--config.data.manual_dir={faces}", f"--config.data.data_dir={tmp_path / 'data'}"
    assert "trained on other prepared data" in refusal(lab, workdir, *flags)
