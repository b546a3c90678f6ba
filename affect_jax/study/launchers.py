"""Trains and evaluates the runs of a study: here one after another, or as SLURM job arrays."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from affect_jax.config import Config, config_digest, to_steps
from affect_jax.core.errors import UserError
from affect_jax.core.paths import writing_to
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.manifest import read_manifest
from affect_jax.run.workdir import Workdir

SBATCH_SCRIPT = pathlib.Path("launch/slurm.sbatch")


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A run of a study: its folder and checked config, the flags of `affect_jax.main` that train
    it, and the checkpoint to evaluate: `best`, `last` or a step."""

    workdir: pathlib.Path
    config: Config
    flags: list[str]
    checkpoint: str

    @property
    def evaluation(self) -> pathlib.Path:
        return self.workdir / "evaluation" / self.config.evaluation.split

    @property
    def commands(self) -> dict[str, list[str]]:
        """The flags of `affect_jax.main` that train and evaluate the run."""
        evaluate = [*self.flags, "--mode=evaluate", f"--checkpoint={self.checkpoint}"]
        return {"train": self.flags, "evaluate": evaluate}

    def is_evaluated(self) -> bool:
        """Whether training has ended and the scores are those of the checkpoint and the config."""
        try:
            about = json.loads((self.evaluation / "scores.json").read_text())["about"]
            saved = about["config"], str(about["checkpoint_step"])
        except (OSError, ValueError, LookupError, TypeError):
            return False
        checkpoints = Checkpoints.from_config(self.config, Workdir(self.workdir))
        last = max(checkpoints.all_steps(), default=0)
        steps = {"best": checkpoints.best_step(), "last": last}
        step = str(steps.get(self.checkpoint, self.checkpoint))
        if not last or saved != (config_digest(self.config), step):
            return False
        epoch = read_manifest(checkpoints.directory / str(last)).get("epoch")
        if epoch and last >= to_steps(self.config.duration, round(last / epoch)):
            return True
        log = (self.workdir / "metrics.jsonl").read_text().splitlines()
        return any("early_stop.best_step" in line for line in log[-2:])


def run_here(runs: Sequence[StudyRun]) -> int:
    """Trains and evaluates runs one after another, each command in a process.

    **Returns:** 0, or 128 + the number of the signal that stopped the study.

    **Raises:** `UserError` if a command fails.
    """
    process: subprocess.Popen | None = None
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        if process:
            process.send_signal(number)  # does nothing if it has ended

    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # it is ignored under nohup
        handled.append(signal.SIGHUP)
    previous = {number: signal.signal(number, forward) for number in handled}
    try:
        for i, run in enumerate(runs):
            print(f"run {i + 1} of {len(runs)}: {run.workdir}", file=sys.stderr)
            for flags in run.commands.values():
                command = [sys.executable, "-m", "affect_jax.main", *flags]
                # A session of its own: a terminal would send Ctrl-C to it a second time.
                process = subprocess.Popen(command, start_new_session=True)
                if received:  # before the process was started
                    process.send_signal(received[0])
                code = process.wait()
                if received:
                    print("affect_jax: rerun the same command to resume the study", file=sys.stderr)
                    return 128 + received[0]
                if code:
                    raise UserError(
                        f"{run.workdir}: its command ended with exit code {code}, see above; rerun "
                        "the same command to resume the study"
                    )
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def submit_to_slurm(runs: Sequence[StudyRun], folder: pathlib.Path) -> None:
    """Submits one job array that trains the runs, and one that evaluates each run after it.

    The jobs run `launch/slurm.sbatch` with the flags in a folder of `FOLDER/jobs/`.

    **Raises:** `UserError` outside of the repository, or if SLURM refuses the jobs.
    """
    if not SBATCH_SCRIPT.is_file():
        raise UserError(f"{SBATCH_SCRIPT}: not found; start the study in the repository's folder")
    jobs = folder.resolve() / "jobs" / time.strftime("%Y%m%d-%H%M%S")  # none are overwritten
    with writing_to(jobs):
        for i, run in enumerate(runs):
            for kind, flags in run.commands.items():
                (jobs / f"{i}.{kind}").write_text("".join(f"{flag}\n" for flag in flags))
    job = ""
    for kind in ("train", "evaluate"):
        # Evaluation needs one node; it starts after the training with the same array index.
        options = ["--nodes=1", f"--dependency=aftercorr:{job}"] if job else []
        command = ["sbatch", "--parsable", f"--array=0-{len(runs) - 1}", *options]
        command += [str(SBATCH_SCRIPT), f"--flagfile={jobs}/%a.{kind}"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=True)
        except subprocess.CalledProcessError as error:
            raise UserError(f"sbatch: {error.stderr.strip() or error}") from error
        job = result.stdout.strip().partition(";")[0]
        print(f"submitted: job {job} ({kind}, {len(runs)} runs)")
