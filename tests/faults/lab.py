"""Small real runs in processes of their own, to do damage to, and an undisturbed one."""

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
import psutil
from PIL import Image

from affect_jax.run import manifest

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PATIENCE = 900  # seconds after which a run of seconds counts as hung, on however busy a machine


@dataclasses.dataclass(frozen=True)
class End:
    """What a run came to: every byte of its newest checkpoint, and the loss of every step."""

    step: int
    arrays: dict[str, str]  # name -> SHA-256
    losses: dict[int, float]


def end_of(workdir: pathlib.Path) -> End:
    step = steps_of(workdir)[-1]
    path = workdir / "checkpoints" / str(step) / "info" / "metadata"
    body = json.loads(json.loads(path.read_text())["body"])
    assert body["format"] == manifest.FORMAT
    arrays = {name: entry["sha256"] for name, entry in body["arrays"].items()}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "train.loss" in line]
    assert len(set(steps)) == len(steps), "a step was logged twice"
    losses = {line["step"]: line["train.loss"] for line in lines if "train.loss" in line}
    return End(step, arrays, losses)


class Run:
    """A training process; a context manager that leaves none behind.

    **Arguments:** `patience`: seconds after which it is killed.
    """

    def __init__(self, command: list[str], environment: dict[str, str], patience: float):
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,  # as a terminal gives a command
        )
        self._watchdog = threading.Timer(patience, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        self.said: list[str] = []
        self.step = 0  # the newest that was logged
        self.start = 0  # the one it went on from

    def lines(self) -> Iterator[str]:
        """What it says, as it says it."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())
            logged = re.match(r"step (\d+) of ", line)
            resumed = re.search(r"going on from step (\d+)", line)
            self.step = int(logged[1]) if logged else self.step
            self.start = int(resumed[1]) if resumed else self.start
            yield line

    def until(self, more: int) -> None:
        """Returns when so many steps more than it went on from were logged, or the run ended."""
        for _ in self.lines():
            if self.step >= self.start + more:
                return

    def until_saving(self, folder: pathlib.Path) -> None:
        """Returns when a checkpoint is being written, or the run ended."""
        while self._process.poll() is None:
            if any(folder.glob("*.orbax-checkpoint-tmp*")):
                return

    def wait(self) -> int:
        """Its exit code: negative for a signal that killed it."""
        for _ in self.lines():
            pass
        return self._process.wait()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def send_to_all(self, number: int) -> None:
        """To it and what it started, as Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, number)

    def kill(self) -> bool:
        """Whether it was still there to be killed."""
        self.send(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()


class Lab:
    """Data, settings and the undisturbed run that all the damaged ones are compared with."""

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
            f"--config={HERE / 'experiment.py'}:{trunk}",
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
        patience: float = PATIENCE,
        **settings: str,
    ) -> Run:
        """**Arguments:** `prefix`: of the command; `drop`: words of it that the prefix says itself;
        `settings`: of the environment."""
        command = [*prefix, *self.command(workdir, *flags, trunk=trunk)[drop:]]
        return Run(command, {**self._environment, **settings}, patience)

    @functools.cached_property
    def interrupted(self) -> pathlib.Path:
        """A run that SIGTERM ended at about half: copy it before going on with it."""
        workdir = self.folder / "interrupted"
        with self.start(workdir) as run:
            run.until(17)
            run.send(signal.SIGTERM)
            assert run.wait() == 143, "\n".join(run.said)
        return workdir

    def finish(self, workdir: pathlib.Path, *flags: str, trunk: str = "tiny") -> Run:
        """A run to its end, which must be a good one."""
        with self.start(workdir, *flags, trunk=trunk) as run:
            code = run.wait()
        assert code == 0, "\n".join(run.said)
        return run

    @functools.cache  # noqa: B019  # as long-lived as the lab
    def undisturbed(self, trunk: str = "tiny") -> tuple[End, float]:
        """The undisturbed run's end, and how many seconds it takes once everything is compiled."""
        for name in ("compiling", "undisturbed"):
            begin = time.perf_counter()
            self.finish(self.folder / f"{name}_{trunk}", trunk=trunk)
        seconds = time.perf_counter() - begin
        return end_of(self.folder / f"undisturbed_{trunk}"), seconds


def steps_of(workdir: pathlib.Path) -> list[int]:
    """Steps of the checkpoints in a workdir, ascending."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def write_faces(folder: pathlib.Path, *, training: int = 60, validation: int = 16) -> None:
    """Images of noise, so that no two faces give the same loss, and their tables."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("training", training), ("validation", validation)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", "valence", "arousal"])
            for i in range(count):
                name = f"{split}_{i}.png"
                image = random.integers(0, 256, (32, 32, 3), np.uint8)
                if split == "training" and i == 0:
                    image[:] = 255
                Image.fromarray(image).save(folder / name)
                table.writerow([name, i % 8, *random.uniform(-1, 1, 2)])
