"""Measures start-up: imports, `--help`, and the first training step of a run.

    python -m benchmarks.start
    python -m benchmarks.start --config configs/resnet18_joint.py:synthetic_faces

Each measurement starts a new process and ends when it exits or logs the first step. "Cold" starts
with an empty compilation cache, "again" with one that a cold start has filled; the dataset is
prepared beforehand. Lower bound: importing JAX alone. Comparison: the imports of PyTorch.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from benchmarks import harness

IMPORTS = "import affect_jax.main and all that training needs"
HELP, COLD, AGAIN = "--help", "first step, cold", "first step, again"
JAX = "import jax, one device asked for"
TORCH = "PyTorch: import torch, torchvision"
TARGETS = {IMPORTS: "< 3", HELP: "< 1.5"}  # seconds, on an idle machine

Contenders = dict[str, Callable[[], None]]  # name -> function that starts a process and waits


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        config=("configs/resnet18_joint.py:synthetic_faces", None),
        first_steps=(1, 0, "0: imports and --help only"),
    )
    with tempfile.TemporaryDirectory() as folder:
        contenders = import_contenders()
        if args.first_steps:
            contenders |= first_step_contenders(args, pathlib.Path(folder))
        timers = {
            name: functools.partial(harness.measure_seconds, start_and_wait)
            for name, start_and_wait in contenders.items()
        }
        runs = harness.run_interleaved(timers, args.rounds)
    rows = harness.summarize(runs, "seconds", {"to import jax": JAX})
    for row in rows:
        row["wanted"] = TARGETS.get(row["contender"], "")
    harness.write_result(
        "start",
        what=f"Seconds from `python`; first steps of {args.config}",
        args=args,
        rows=rows,
        runs=runs,
    )


def import_contenders() -> Contenders:
    imports = (
        "import affect_jax.main; from affect_jax.train import experiment, loop; "
        "experiment.load_registries()"
    )
    commands = {
        JAX: ["-c", "import jax; jax.devices()"],
        HELP: ["-m", "affect_jax.main", "--help"],
        IMPORTS: ["-c", imports],
    }
    if harness.is_installed("torch"):
        commands[TORCH] = ["-c", "from benchmarks import torch_peer; torch_peer.torchvision()"]
    return {name: functools.partial(wait_for, command) for name, command in commands.items()}


def first_step_contenders(args: argparse.Namespace, folder: pathlib.Path) -> Contenders:
    """Prepares the dataset and fills a compilation cache, then returns the first steps."""
    flags = ["-m", "affect_jax.main", f"--config={args.config}", "--config.log_every=1"]
    flags += [f"--config.data.data_dir={folder / 'data'}"]
    flags += [f"--config.data.options.num_{split}=400" for split in ("training", "validation")]
    numbers = itertools.count()

    def first_step(cache: pathlib.Path) -> None:
        workdir = folder / f"run{next(numbers)}"
        wait_for([*flags, f"--workdir={workdir}"], until="step 1 of", cache=cache)

    wait_for([*flags, "--mode=prepare"])
    first_step(folder / "cache")
    return {
        COLD: lambda: first_step(folder / f"cache{next(numbers)}"),
        AGAIN: lambda: first_step(folder / "cache"),
    }


def wait_for(command: Sequence[str], *, until: str = "", cache: pathlib.Path | None = None) -> None:
    """Runs Python until it writes a line to standard error, or until it exits.

    **Arguments:**

    - `until`: text of the line; the process is then killed. Empty: wait for the exit.
    - `cache`: folder of JAX's compilation cache.

    **Raises:** `RuntimeError` with the end of standard error if it exits before that line, or with
    an exit code other than 0.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=harness.FOLDER.parent,
        env={**os.environ, **({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if until and until in line:
            process.kill()  # its folder is temporary
            process.communicate()
            return
    exit_code = process.wait()
    if until or exit_code:
        raise RuntimeError(f"{command} ended with exit code {exit_code}: {''.join(lines)[-2000:]}")


if __name__ == "__main__":
    main()
