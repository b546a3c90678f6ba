"""Files are damaged between two starts: the run resumes from an intact checkpoint or refuses.

`tests/run/test_damaged_checkpoints.py` and `tests/data/test_affectnet_damage.py` damage every file
in many ways without training.
"""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.faults.lab import Lab, checkpoint_steps, read_result


@pytest.fixture
def workdir(lab, tmp_path) -> pathlib.Path:
    shutil.copytree(lab.interrupted, tmp_path / "run")
    return tmp_path / "run"


def refusal(lab: Lab, workdir: pathlib.Path, *flags: str) -> str:
    """Runs a command that must fail without touching a checkpoint. Returns its error line."""

    def content() -> dict[pathlib.Path, bytes]:
        files = (workdir / "checkpoints").rglob("*")
        return {path: path.read_bytes() for path in files if path.is_file()}

    before = content()
    with lab.start(workdir, *flags) as run:
        assert run.wait() == 2, "\n".join(run.output)
    assert content() == before
    assert "Traceback" not in "\n".join(run.output)
    (message,) = [line for line in run.output if line.startswith("affect_jax: ")]
    return message


def flip_bits(step: pathlib.Path) -> None:
    """Flips bits of all files with arrays, since arrays may be stored twice."""
    for path in step.glob("state/**/d/*"):
        content = bytearray(path.read_bytes())
        for position in range(len(content) // 4, len(content), max(1, len(content) // 64)):
            content[position] ^= 0x10
        path.write_bytes(content)


def test_damaged_newest_checkpoint_is_skipped(lab, workdir, record_outcome):
    older, newest = checkpoint_steps(workdir)
    flip_bits(workdir / "checkpoints" / str(newest))
    run = lab.finish(workdir)
    (warning,) = [line for line in run.output if f"checkpoint {newest}: " in line]
    assert f"using checkpoint {older} instead" in warning
    assert run.start == older
    assert "Traceback" not in "\n".join(run.output)
    assert read_result(workdir) == lab.reference()[0]
    outcome = "warning; resumes from the checkpoint before, same final bits"
    record_outcome("newest checkpoint damaged", outcome, newest - older)


def test_other_shard_of_the_same_size_is_found_before_a_checkpoint_is_saved(
    lab, workdir, tmp_path, record_outcome
):
    """A byte that no reader uses is changed, as in an intact shard of another preparation."""
    data = tmp_path / "data"
    shutil.copytree(lab.folder / "data", data)
    (path,) = data.rglob("*training.array_record*")
    content = bytearray(path.read_bytes())
    content[content.rindex(bytes(4096))] = 1  # ArrayRecord pads its files
    path.write_bytes(content)
    message = refusal(lab, workdir, f"--config.data.data_dir={data}")
    assert str(data) in message and "array_record" in message
    record_outcome("prepared data damaged", "an error that names the file, exit 2", 0)
