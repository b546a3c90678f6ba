"""Seconds until something happens: imports, `--help`, and the first step of a run.

    python -m benchmarks.start
    python -m benchmarks.start --config configs/resnet18_joint.py:synthetic_faces

Every run is a process of its own, from `python` to what is waited for. The first step is seen by
the line that the command logs after it. "Cold" has an empty folder for compiled code, "again" the
one that a cold start has filled; the data are prepared before. Beside it stand an import of JAX
alone, which no start is faster than, and PyTorch: its imports, and its first step of the same
network on random images, eager, which compiles nothing and reads no data.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import recording
from benchmarks.machine import installed

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "torch")
IMPORTS = "import affect_jax.main and all that training needs"
HELP, COLD, AGAIN = "--help", "first step, cold", "first step, again"
JAX = "import jax, one device asked for"
TORCH, TORCH_STEP = "PyTorch: import torch, torchvision", "PyTorch: first step, eager"
PARTS = ("imports", "steps")  # beside --help
WANTED = {IMPORTS: 3.0, HELP: 1.5}  # seconds, on a machine without other work

Work = dict[str, Callable[[], None]]  # what is waited for, by name

PREPARE = """
from ml_collections import config_flags
from absl import app
from affect_jax import program
config = config_flags.DEFINE_config_file("config", None, "", lock_config=False)
def main(_):
    program.registries()
    program.prepare(config.value)
app.run(main)
"""
STEP_OF_TORCH = """
from benchmarks import peers
import numpy as np
side = peers.Side({name!r}, dtype="float32", crop_size={crop})
images = peers.normalized(np.zeros(({batch}, {crop}, {crop}, 3), np.uint8))
side.update(images, peers.torch().zeros({batch}, dtype=peers.torch().int64, device=peers.device()))
peers.synchronize()
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = contenders(options, pathlib.Path(folder))
        turns = {
            name: functools.partial(recording.both_clocks, start) for name, start in work.items()
        }
        runs = recording.by_clock(recording.take_turns(turns, options.rounds))
    rows = [
        {
            "what": name,
            "seconds": f"{statistics.median(seconds):.2f}",
            "of processor time": f"{statistics.median(runs['processor'][name]):.2f}",
            "wanted": f"< {WANTED[name]:g}" if name in WANTED else "",
            "to import jax": recording.times(seconds, runs["wall"][JAX]),
        }
        for name, seconds in runs["wall"].items()
    ]
    recording.keep(
        "start",
        what=f"Seconds from `python`; first steps of {options.config}",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--config", default="configs/resnet18_joint.py:synthetic_faces")
    few = [f"--config.data.options.num_{split}=400" for split in ("training", "validation")]
    found.add_argument("--flags", nargs="*", default=few, help="more of the command's, as --a=b")
    found.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    return recording.parse(found, arguments, {"parts": []})


def contenders(options: argparse.Namespace, folder: pathlib.Path) -> Work:
    """What is waited for, by name: each starts a process."""
    imports = (
        "import affect_jax.main; from affect_jax.train import experiment, loop; "
        "experiment.all_registries()"
    )
    found: Work = {
        JAX: functools.partial(wait_for, ["-c", "import jax; jax.devices()"]),
        HELP: functools.partial(wait_for, ["-m", "affect_jax.main", "--help"], code=1),
    }
    if "imports" in options.parts:
        found[IMPORTS] = functools.partial(wait_for, ["-c", imports])
    if "imports" in options.parts and installed("torch"):
        imports = "from benchmarks import peers; peers.torchvision()"
        found[TORCH] = functools.partial(wait_for, ["-c", imports])
    if "steps" in options.parts:
        found |= first_steps(options, folder)
    return found


def first_steps(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Callable[[], None]]:
    data = f"--config.data.data_dir={folder / 'data'}"
    given = [f"--config={options.config}", data, *options.flags]
    wait_for(["-c", PREPARE, *given])
    number = iter(range(1 << 30))

    def first_step(cache: pathlib.Path) -> None:
        workdir = folder / f"run{next(number)}"
        command = ["-m", "affect_jax.main", *given, f"--workdir={workdir}", "--config.log_every=1"]
        wait_for(command, until="step 1 of", environment={"JAX_COMPILATION_CACHE_DIR": str(cache)})

    def cold() -> None:
        first_step(folder / f"cache{next(number)}")

    kept = folder / "cache"
    first_step(kept)
    found: Work = {COLD: cold, AGAIN: functools.partial(first_step, kept)}
    if installed("torch"):
        code = STEP_OF_TORCH.format(**network_of(given))
        found[TORCH_STEP] = functools.partial(wait_for, ["-c", code])
    return found


def network_of(given: Sequence[str]) -> dict[str, Any]:
    """Of a config as flags: its trunk's name, its crop and its batch."""
    code = (
        "from ml_collections import config_flags; from absl import app; "
        "flag = config_flags.DEFINE_config_file('config', None, '', lock_config=False); "
        "app.run(lambda _: print(flag.value.trunk.name, flag.value.data.crop_size, "
        "flag.value.batch_size))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, *(flag for flag in given if flag.startswith("--config"))],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return {"name": told[0], "crop": int(told[1]), "batch": int(told[2])}


def wait_for(
    command: Sequence[str],
    *,
    until: str = "",
    code: int = 0,
    environment: dict[str, str] | None = None,
) -> None:
    """Runs Python until a line of its standard error, or to its end.

    **Arguments:**

    - `until`: what the line contains; then the process is ended.
    - `code`: the exit code of a process that is to end by itself.

    **Raises:** `RuntimeError` with the last words of a process that does something else.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=recording.FOLDER.parent,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if until and until in line:
            process.kill()  # an interrupted run leaves a folder that goes with all others
            process.communicate()
            return
    ended = process.wait()
    if until or ended != code:
        raise RuntimeError(f"{command} ended with {ended}: {''.join(lines)[-2000:]}")


if __name__ == "__main__":
    main()
