"""Small training runs in separate processes for fault injection, and an uninterrupted reference."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from affect_jax.run.manifest import FORMAT_VERSION

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TIMEOUT_SECONDS = 900
"""A run that takes seconds counts as hung after this time, also on a busy machine."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Result of a run: hashes of its newest checkpoint's arrays, and the loss of every step."""

    step: int
    arrays: dict[str, str]  # name -> SHA-256
    losses: dict[int, float]


def manifest_path(workdir: pathlib.Path, step: int) -> pathlib.Path:
    return workdir / "checkpoints" / str(step) / "info" / "metadata"


def read_result(workdir: pathlib.Path) -> RunResult:
    step = checkpoint_steps(workdir)[-1]
    path = manifest_path(workdir, step)
    body = json.loads(json.loads(path.read_text())["body"])
    assert body["format"] == FORMAT_VERSION
    arrays = {name: entry["sha256"] for name, entry in body["arrays"].items()}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "train.loss" in line]
    assert len(set(steps)) == len(steps), "a step was logged twice"
    losses = {line["step"]: line["train.loss"] for line in lines if "train.loss" in line}
    return RunResult(step, arrays, losses)


class TrainingProcess:
    """A training process. Leaving its context kills it.

    **Arguments:** `timeout_seconds`: time after which it is killed.
    """

    def __init__(self, command: list[str], environment: dict[str, str], timeout_seconds: float):
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,  # its own process group, as in a terminal
        )
        self._watchdog = threading.Timer(timeout_seconds, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        self.output: list[str] = []  # lines of stderr
        self.step = 0  # newest step in the log
        self.start = 0  # step that it resumed from

    def lines(self) -> Iterator[str]:
        """Yields lines of stderr as they arrive and updates `step` and `start`."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.output.append(line.rstrip())
            logged = re.match(r"step (\d+) of ", line)
            resumed = re.search(r"resuming from step ([\d,]+)", line)
            self.step = int(logged[1]) if logged else self.step
            self.start = int(resumed[1].replace(",", "")) if resumed else self.start
            yield line

    def wait_for_steps(self, count: int) -> None:
        """Returns after `count` steps since `start` were logged, or when the run ended."""
        for _ in self.lines():
            if self.step >= self.start + count:
                return

    def wait_for_save(self, folder: pathlib.Path) -> None:
        """Returns while a checkpoint is being written into `folder`, or when the run ended."""
        while self._process.poll() is None:
            if any(folder.glob("*.orbax-checkpoint-tmp*")):
                return

    def wait(self) -> int:
        """Returns the exit code; it is negative if a signal killed the process."""
        for _ in self.lines():
            pass
        return self._process.wait()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def send_to_all(self, number: int) -> None:
        """Sends a signal to the process and its children, as Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, number)

    def kill(self) -> bool:
        """Kills the process. Returns whether it was still running."""
        self.send(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> TrainingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()


class Lab:
    """Data and environment of the runs, and the reference that all of them are compared with."""

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path):
        self.folder = folder
        self._environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        write_faces(folder / "faces")

    def command(self, workdir: pathlib.Path, *flags: str, trunk: str = "tiny") -> list[str]:
        return [
            *(sys.executable, "-m", "affect_jax.main"),
            f"--config={HERE / 'tiny_config.py'}:{trunk}",
            f"--config.data.manual_dir={self.folder / 'faces'}",
            f"--config.data.data_dir={self.folder / 'data'}",
            f"--workdir={workdir}",
            *flags,
        ]

    def start(
        self,
        workdir: pathlib.Path,
        *flags: str,
        trunk: str = "tiny",
        prefix: Sequence[str] = (),
        drop: int = 0,
        timeout_seconds: float = TIMEOUT_SECONDS,
        **environment: str,
    ) -> TrainingProcess:
        """Starts a run.

        **Arguments:**

        - `prefix`: words in front of the command.
        - `drop`: number of first words of the command that the prefix replaces.
        - `environment`: additional environment variables.
        """
        command = [*prefix, *self.command(workdir, *flags, trunk=trunk)[drop:]]
        return TrainingProcess(command, {**self._environment, **environment}, timeout_seconds)

    @functools.cached_property
    def interrupted(self) -> pathlib.Path:
        """Workdir of a run that SIGTERM stopped halfway. Copy it before you resume it."""
        workdir = self.folder / "interrupted"
        with self.start(workdir) as run:
            run.wait_for_steps(17)
            run.send(signal.SIGTERM)
            assert run.wait() == 143, "\n".join(run.output)
        return workdir

    def finish(self, workdir: pathlib.Path, *flags: str, trunk: str = "tiny") -> TrainingProcess:
        """Runs to the end and asserts that the exit code is 0."""
        with self.start(workdir, *flags, trunk=trunk) as run:
            code = run.wait()
        assert code == 0, "\n".join(run.output)
        return run

    @functools.cache  # noqa: B019  # lives as long as the lab
    def reference(self, trunk: str = "tiny") -> tuple[RunResult, float]:
        """Result of an uninterrupted run, and its seconds."""
        begin = time.perf_counter()
        self.finish(self.folder / f"reference_{trunk}", trunk=trunk)
        seconds = time.perf_counter() - begin
        return read_result(self.folder / f"reference_{trunk}"), seconds


def checkpoint_steps(workdir: pathlib.Path) -> list[int]:
    """Steps of the checkpoints in a workdir, in ascending order."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def write_faces(folder: pathlib.Path, *, training: int = 60, validation: int = 16) -> None:
    """Writes noise images, so that no two faces have the same loss, and their tables."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("training", training), ("validation", validation)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", "valence", "arousal"])
            for i in range(count):
                name = f"{split}_{i}.png"
                image = random.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(image).save(folder / name)
                table.writerow([name, i % 8, *random.uniform(-1, 1, 2)])
