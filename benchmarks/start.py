"""Measures start-up: imports, `--help`, and the first training step of a run.

    python -m benchmarks.start
    python -m benchmarks.start --config configs/resnet18_joint.py:synthetic_faces

Each measurement starts a new process and ends when it exits or logs the first step. "Cold" starts
with an empty compilation cache, "again" with one that a cold start has filled; the dataset is
prepared beforehand. Lower bound: importing JAX alone. Comparison: the imports of PyTorch, and its
first step of the same network on random images in eager mode, without compilation or data.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.machine import is_installed

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "torch")
IMPORTS = "import affect_jax.main and all that training needs"
HELP, COLD, AGAIN = "--help", "first step, cold", "first step, again"
JAX = "import jax, one device asked for"
TORCH, TORCH_STEP = "PyTorch: import torch, torchvision", "PyTorch: first step, eager"
PARTS = ("imports", "steps")  # besides --help
TARGET_SECONDS = {IMPORTS: 3.0, HELP: 1.5}  # on an idle machine

Contenders = dict[str, Callable[[], None]]  # name -> function that starts a process and waits

PREPARE_SCRIPT = """
from ml_collections import config_flags
from absl import app
from affect_jax.data.targets import prepare_dataset
from affect_jax.train.experiment import load_registries
config = config_flags.DEFINE_config_file("config", None, "", lock_config=False)
def main(_):
    load_registries()
    prepare_dataset(config.value)
app.run(main)
"""
TORCH_STEP_SCRIPT = """
from benchmarks import frameworks
import numpy as np
trainer = frameworks.TorchTrainer({name!r}, dtype="float32", crop_size={crop})
images = frameworks.normalize_images(np.zeros(({batch}, {crop}, {crop}, 3), np.uint8))
torch = frameworks.torch()
labels = torch.zeros({batch}, dtype=torch.int64, device=frameworks.torch_device())
trainer.train_step(images, labels)
frameworks.synchronize()
"""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        timers = {
            name: functools.partial(harness.measure_both_clocks, start_and_wait)
            for name, start_and_wait in create_contenders(args, pathlib.Path(folder)).items()
        }
        runs = harness.split_by_clock(harness.run_interleaved(timers, args.rounds))
    rows = [
        {
            "what": name,
            "seconds": f"{statistics.median(seconds):.2f}",
            "of processor time": f"{statistics.median(runs['processor'][name]):.2f}",
            "wanted": f"< {TARGET_SECONDS[name]:g}" if name in TARGET_SECONDS else "",
            "to import jax": harness.format_ratio(seconds, runs["wall"][JAX]),
        }
        for name, seconds in runs["wall"].items()
    ]
    harness.write_result(
        "start",
        what=f"Seconds from `python`; first steps of {args.config}",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--config", default="configs/resnet18_joint.py:synthetic_faces")
    few_faces = [f"--config.data.options.num_{split}=400" for split in ("training", "validation")]
    parser.add_argument(
        "--flags", nargs="*", default=few_faces, help="more flags of the command, --a=b"
    )
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    return harness.parse_args(parser, argv, {"parts": []})


def create_contenders(args: argparse.Namespace, folder: pathlib.Path) -> Contenders:
    """Returns name -> function that starts a process and waits for it."""
    imports = (
        "import affect_jax.main; from affect_jax.train import experiment, loop; "
        "experiment.load_registries()"
    )
    contenders: Contenders = {
        JAX: functools.partial(wait_for, ["-c", "import jax; jax.devices()"]),
        HELP: functools.partial(wait_for, ["-m", "affect_jax.main", "--help"], code=0),
    }
    if "imports" in args.parts:
        contenders[IMPORTS] = functools.partial(wait_for, ["-c", imports])
    if "imports" in args.parts and is_installed("torch"):
        imports = "from benchmarks import frameworks; frameworks.torchvision()"
        contenders[TORCH] = functools.partial(wait_for, ["-c", imports])
    if "steps" in args.parts:
        contenders |= create_first_steps(args, folder)
    return contenders


def create_first_steps(args: argparse.Namespace, folder: pathlib.Path) -> Contenders:
    """Prepares the dataset and a compilation cache, then returns the first steps to measure."""
    data = f"--config.data.data_dir={folder / 'data'}"
    flags = [f"--config={args.config}", data, *args.flags]
    wait_for(["-c", PREPARE_SCRIPT, *flags])
    numbers = itertools.count()

    def first_step(cache: pathlib.Path) -> None:
        workdir = folder / f"run{next(numbers)}"
        command = ["-m", "affect_jax.main", *flags, f"--workdir={workdir}", "--config.log_every=1"]
        wait_for(command, until="step 1 of", environment={"JAX_COMPILATION_CACHE_DIR": str(cache)})

    def cold() -> None:
        first_step(folder / f"cache{next(numbers)}")

    cache = folder / "cache"
    first_step(cache)
    contenders: Contenders = {COLD: cold, AGAIN: functools.partial(first_step, cache)}
    if is_installed("torch"):
        code = TORCH_STEP_SCRIPT.format(**read_network(flags))
        contenders[TORCH_STEP] = functools.partial(wait_for, ["-c", code])
    return contenders


def read_network(flags: Sequence[str]) -> dict[str, Any]:
    """Reads the trunk name, crop size and batch size of a config given as flags."""
    code = (
        "from ml_collections import config_flags; from absl import app; "
        "flag = config_flags.DEFINE_config_file('config', None, '', lock_config=False); "
        "app.run(lambda _: print(flag.value.trunk.name, flag.value.data.crop_size, "
        "flag.value.batch_size))"
    )
    name, crop_size, batch_size = subprocess.run(
        [sys.executable, "-c", code, *(flag for flag in flags if flag.startswith("--config"))],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return {"name": name, "crop": int(crop_size), "batch": int(batch_size)}


def wait_for(
    command: Sequence[str],
    *,
    until: str = "",
    code: int = 0,
    environment: dict[str, str] | None = None,
) -> None:
    """Runs Python until it writes a line to standard error, or until it exits.

    **Arguments:**

    - `until`: text of the line; the process is then killed. Empty: wait for the exit.
    - `code`: the expected exit code if `until` is empty.

    **Raises:** `RuntimeError` with the end of standard error if the process ends otherwise.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=harness.FOLDER.parent,
        env={**os.environ, **(environment or {})},
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
    if until or exit_code != code:
        raise RuntimeError(f"{command} ended with exit code {exit_code}: {''.join(lines)[-2000:]}")


if __name__ == "__main__":
    main()
