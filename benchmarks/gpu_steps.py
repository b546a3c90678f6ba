"""The contenders of `benchmarks.gpu`: a training or evaluation step of affect_jax or PyTorch."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from affect_jax.core.errors import first_line
from benchmarks import frameworks, harness
from benchmarks.minimal_step import MinimalExperiment, compile_on_first_device

FACES_PER_WRITE = 256  # random faces generated at once
RunSteps = Callable[[int], Any]  # runs so many steps and waits for them
Result = TypeVar("Result")


def run_or_skip(
    what: str, work: Callable[..., Result], *values: Any, **named_values: Any
) -> Result | None:
    """Returns the result of `work`; if it fails, logs the error and returns None."""
    try:
        return work(*values, **named_values)
    except Exception as error:  # out of memory, or a missing compiler
        print(f"skipped: {what}: {first_line(error)}", file=sys.stderr)
        return None


def random_faces(count: int, image_size: int) -> jax.Array:
    """Generates uint8 [count, S, S, 3] on the device, in chunks."""
    chunk = min(FACES_PER_WRITE, count)

    @functools.partial(jax.jit, donate_argnums=0)
    def write(faces: jax.Array, first: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(1), first)
        bits = jax.random.bits(key, (chunk, image_size, image_size, 3), jnp.uint8)
        return lax.dynamic_update_slice_in_dim(faces, bits, first, axis=0)

    faces = jnp.zeros((count, image_size, image_size, 3), jnp.uint8)
    for first in range(0, count, chunk):  # XLA shifts the last chunk so that it fits
        faces = write(faces, jnp.int32(first))
    return faces


def prepare_rate(
    what: str,
    create: Callable[[], RunSteps],
    steps: int,
    batch_size: int,
    args: argparse.Namespace,
) -> Callable[[], float | None] | None:
    """Creates and compiles a contender, and returns a function that measures its images/s.

    Both return None after an error, which is logged.
    """
    run_steps = run_or_skip(what, create_and_warm_up, create, 1 if args.quick else 5)
    if run_steps is None:
        return None
    return functools.partial(run_or_skip, what, images_per_second, run_steps, steps, batch_size)


def create_and_warm_up(create: Callable[[], RunSteps], steps: int) -> RunSteps:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other frameworks' internals
        run_steps = create()
        run_steps(steps)
    return run_steps


def images_per_second(run_steps: RunSteps, steps: int, batch_size: int) -> float:
    return steps * batch_size / harness.measure_seconds(lambda: run_steps(steps))


def parse_flag(flag: str) -> dict[str, Any]:
    """Parses `NAME=VALUE` for JAX, which takes booleans and numbers, not their text."""
    name, _, value = flag.partition("=")
    try:
        return {name: json.loads(value)}
    except ValueError:
        return {name: value}


def our_steps(
    name: str, dtype: str, batch_size: int, kind: str, args: argparse.Namespace, flag: str = ""
) -> RunSteps:
    """Creates our training or evaluation step.

    **Arguments:** `flag`: an XLA flag of the training step.
    """
    trunk = frameworks.trunk_spec(name, args.width)
    experiment = MinimalExperiment(trunk, dtype=dtype, crop_size=args.crop_size)
    images = random_faces(batch_size, args.side)
    index = jnp.arange(batch_size, dtype=jnp.int32)
    labels = index % 8
    state = experiment.create_state()
    if kind == "eval":
        predict = jax.jit(experiment.predict)
        return lambda steps: jax.block_until_ready([predict(state, images) for _ in range(steps)])
    train_step = compile_on_first_device(experiment.train_step, parse_flag(flag) if flag else None)

    def train(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = train_step(state, images, labels, index)
        jax.block_until_ready(state)

    return train


def torch_steps(
    name: str, dtype: str, batch_size: int, kind: str, args: argparse.Namespace, compiled: bool
) -> RunSteps:
    """Creates the training or evaluation step of PyTorch."""
    trainer = frameworks.TorchTrainer(
        name, dtype=dtype, crop_size=args.crop_size, compiled=compiled, width=args.width
    )
    shape = (batch_size, args.crop_size, args.crop_size, 3)
    images = frameworks.normalize_images(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    labels = frameworks.torch().arange(batch_size, device=frameworks.torch_device()) % 8

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            trainer.train_step(images, labels) if kind == "train" else trainer.predict(images)
        frameworks.synchronize()

    return run_steps
