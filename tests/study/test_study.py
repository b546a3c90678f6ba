"""The study command: missing runs are trained, interruption is resumed, runs are scored as one."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from affect_jax.report import runs
from affect_jax.report import tables as report_tables
from affect_jax.study import __main__ as study
from tests.faults import lab

CONFIG = f"--config={lab.HERE / 'tiny_config.py'}"
LAUNCH = lab.REPOSITORY / "launch"


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("study")
    lab.write_faces(folder / "faces")
    settings = {
        "data.manual_dir": folder / "faces",
        "data.data_dir": folder / "data",
        "duration.steps": 60,  # so that a signal arrives before the last
        "checkpoint.best": "",
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    return [CONFIG, f"--workdir={folder / 'x'}", "--seeds=0,1", *flags]


def start(command: list[str], prefix: tuple[str, ...] = (), **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "affect_jax.study", *command],
        cwd=lab.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_a_study_resumes_after_ctrl_c_skips_finished_runs_and_scores_the_rest(command, capfd):
    folder = pathlib.Path(command[1].removeprefix("--workdir="))
    command = [*command, "--grid", "learning_rate=0.05"]
    # Scripts start commands with & so: SIGINT is ignored.
    shell = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process = start(command, shell, start_new_session=True)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("step 1 of"):
            os.killpg(process.pid, signal.SIGINT)
            break
    _, errors = process.communicate(timeout=lab.TIMEOUT_SECONDS)
    assert process.returncode == 130 and "resume the study" in errors
    assert lab.checkpoint_steps(folder / "learning_rate=0.05" / "seed0")
    assert not (folder / "study.json").exists()
    assert study.main(command) == 0
    output, errors = capfd.readouterr()
    assert "run 2 of 2" in errors and "resuming from step" in errors, errors
    content = json.loads((folder / "study.json").read_text())
    assert list(content) == ["learning_rate=0.05"]
    name = "categorical.top1.original.accuracy"
    for options, result in content.items():
        members = [
            runs.read_run(folder / options / f"seed{seed}").scores.values[name] for seed in (0, 1)
        ]
        assert result["seeds"] == [0, 1] and result["faces"] == 16
        assert result["scores"][name] == pytest.approx(sum(members) / 2)
        assert result["deviations"][name] == pytest.approx(abs(members[0] - members[1]) / 2**0.5)
        low, high = result["intervals"][name]
        assert low <= result["scores"][name] <= high
    page = (folder / "study.html").read_text()
    assert "Learning curves" in page and "±" in page
    for ending in report_tables.FORMATS:
        assert (folder / "tables" / f"scores{ending}").is_file()
    assert report_tables.DEVIATION in output
    assert study.main(command) == 0
    output, errors = capfd.readouterr()
    assert "run " not in errors and "written:" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds=0,0"], "--seeds=0,0: must be whole numbers, each once"),
        (["--grid", "learning_rate"], "--grid learning_rate: must be KEY=VALUE,VALUE"),
        (["--grid", "learning_rate=0.1,-1"], "learning_rate = -1.0: must be positive"),
        (["--grid", "learningrate=1"], "no such key"),
        (["--epochs=3"], "'--epochs=3' is not a flag"),
        (["--launcher=slurm"], "start the study in the repository's folder"),
    ],
)
def test_wrong_flags_are_reported_in_one_line_before_training(
    command, flags, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    workdir = f"--workdir={tmp_path / 'x'}"
    assert study.main([*command, workdir, *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_slurm_trains_and_evaluates_in_job_arrays(command, tmp_path, monkeypatch, capsys):
    """A stub of sbatch runs the script once, as task 1; stubs of its commands print theirs."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "slurm.sbatch", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").write_text("")
    stubs = {
        "sbatch": 'echo "sbatch $*" >> log; while [[ $1 == --* ]]; do shift; done\n'
        "SLURM_ARRAY_TASK_ID=1 SLURM_NTASKS=2 SLURM_JOB_NODELIST=x bash $@ >> log; echo '7;x'",
        "scontrol": "echo host",
        "srun": 'echo "$JAX_COORDINATOR_ADDRESS ${@: -1}"',
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "x"
    assert study.main([*command, f"--workdir={folder}", "--launcher=slurm"]) == 0
    (jobs,) = (folder / "jobs").iterdir()
    assert (tmp_path / "log").read_text().splitlines() == [
        f"sbatch --parsable --array=0-1 launch/slurm.sbatch --flagfile={jobs}/%a.train",
        f"host:12356 --flagfile={jobs}/1.train",
        "sbatch --parsable --array=0-1 --nodes=1 --dependency=aftercorr:7 launch/slurm.sbatch "
        f"--flagfile={jobs}/%a.evaluate",
        f"host:12356 --flagfile={jobs}/1.evaluate",
    ]
    values = study.parse_flags([f"--flagfile={jobs}/1.evaluate"])
    assert (values.mode, values.checkpoint) == ("evaluate", "last")
    assert values.workdir == str(folder / "seed1") and values.config.seed == 1
