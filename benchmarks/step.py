"""Measures training and evaluation steps, compared with PyTorch.

    python -m benchmarks.step
    python -m benchmarks.step --networks resnet18 --types float32 --rounds 3   # other rows stay
    taskset -c 0 python -m benchmarks.step --clock processor          # a CPU with other work

Our steps are those of the package, from uint8 faces to the next state or to probabilities. They
include crop, mirroring, normalisation, loss, update, the averages of the log and the check for
non-finite values. PyTorch gets cropped and normalised images and keeps no averages. All inputs are
in device memory. Contenders run in turns; ratios are of runs in the same round.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the card

import jax
import numpy as np

from affect_jax.config import Config, defaults
from affect_jax.core import env_vars, parallel
from affect_jax.core.batch import make_targets, split_for_devices, take_rows
from affect_jax.core.errors import first_line
from affect_jax.models.network import predict_step
from affect_jax.train.experiment import Experiment, create_experiment, load_registries
from affect_jax.train.state import TrainState, create_state, eval_variables
from affect_jax.train.step import create_train_step
from benchmarks import harness, torch_peer

OURS, EAGER, COMPILED = "affect_jax", "PyTorch", "PyTorch, compiled"
PEERS, AUGMENTED = (EAGER, COMPILED), "affect_jax, augmented"
NETWORKS = ("alexnet", "alexnet_one_tower", "resnet18")
TYPES = ("float32", "bfloat16")
KINDS = ("train", "eval")
CASE = ("network", "type", "batch", "step")
AUGMENTATIONS = (  # a usual set
    {"name": "affine", "degrees": 10, "scale": (0.9, 1.1), "translate": 0.05},
    {"name": "colour_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    {"name": "random_erasing", "probability": 0.25},
    {"name": "mixup", "alpha": 0.2, "probability": 1.0},
)
MARGIN = 32  # pixels by which a stored face is larger than its crop

Case = tuple[str, str, int, str]  # network, dtype, batch size, train or eval
RunSteps = Callable[[int], Any]  # runs so many steps and waits for them


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(__doc__, argv)
    for flag, allowed in (("types", TYPES), ("kinds", KINDS), ("peers", (*PEERS, AUGMENTED))):
        if unknown := set(getattr(args, flag)) - set(allowed):
            raise SystemExit(f"--{flag}: {', '.join(unknown)}: must be of {', '.join(allowed)}")
    env_vars.set_cpu_fusion_types()  # as every run does
    load_registries()
    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else device.device_kind
    rows, runs = [], {}
    for name, dtype, kind in itertools.product(args.networks, args.types, args.kinds):
        case = (name, dtype, args.batch, kind)
        rates = measure(case, args)
        runs[", ".join(map(str, case))] = rates
        rows.append(table_row(case, rates))
        harness.write_result(  # after each case: the next one may run out of time
            "step_gpu" if accelerator else "step",
            what="Images/s of one step; 'to' a peer: how many times its images/s",
            args=args,
            rows=rows,
            runs=runs,
            accelerator=accelerator,
            key=CASE,
        )


def parse_args(documentation: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    return harness.parse_args(
        documentation,
        argv,
        networks=(NETWORKS, ("alexnet",), "names of trunks"),
        types=(TYPES, ("float32",)),
        kinds=(KINDS, None),
        batch=(32, 4),
        steps=(5, 1, "per contender and round"),
        crop_size=(224, 67),
        width=harness.WIDTH,
        peers=(PEERS, (EAGER,), f"also {AUGMENTED!r}"),
        clock=harness.CLOCK,
    )


def measure(case: Case, args: argparse.Namespace) -> harness.Runs:
    """Returns images/s in every round, of each contender that can run the case."""
    creators: dict[str, Callable[[], RunSteps]] = {OURS: functools.partial(our_steps, case, args)}
    for peer in args.peers:
        if peer == AUGMENTED:  # the cost of augmentation in our step
            creators[peer] = functools.partial(our_steps, case, args, AUGMENTATIONS)
        elif harness.is_installed("torch"):
            creators[peer] = functools.partial(torch_steps, case, args, compiled=peer == COMPILED)
    contenders: dict[str, Callable[[], float]] = {}
    for contender, create in creators.items():
        try:
            contenders[contender] = prepare(create, case[2], args)
        except Exception as error:  # out of memory, or a missing compiler
            print(f"skipped: {contender}, {case}: {first_line(error)}", file=sys.stderr)
    return harness.run_interleaved(contenders, args.rounds)


def prepare(
    create: Callable[[], RunSteps], batch_size: int, args: argparse.Namespace
) -> Callable[[], float]:
    """Creates and compiles a contender, and returns a function that measures its images/s."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's internals
        run_steps = create()
        run_steps(2)

    def images_per_second() -> float:
        run_steps(1)  # refills caches and memory that were freed during the other turns
        work = functools.partial(run_steps, args.steps)
        return batch_size * args.steps / harness.measure_seconds(work, args.clock)

    return images_per_second


def random_faces(count: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns faces uint8 [N, S, S, 3] and labels [N]."""
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    return faces, random.integers(0, 8, count)


def our_steps(
    case: Case, args: argparse.Namespace, augment: Sequence[Mapping[str, Any]] = ()
) -> RunSteps:
    faces, labels = random_faces(case[2], args.crop_size + MARGIN)
    experiment, state, batch = create_on_devices(case, args, faces, labels, augment)
    if case[3] == "train":
        update = create_train_step(experiment, resident=False)

        def train(steps: int) -> None:
            nonlocal state
            for _ in range(steps):
                state, _ = update(state, batch)
            jax.block_until_ready(state)

        return train
    predict = parallel.parallelize_per_device(functools.partial(predict_step, experiment))
    variables = eval_variables(state)
    images = {name: batch[name] for name in ("image", "valid")}

    def evaluate(steps: int) -> None:
        jax.block_until_ready([predict(variables, images) for _ in range(steps)])

    return evaluate


def create_on_devices(
    case: Case,
    args: argparse.Namespace,
    faces: np.ndarray,
    labels: np.ndarray,
    augment: Sequence[Mapping[str, Any]] = (),
) -> tuple[Experiment, TrainState, dict[str, jax.Array]]:
    """Returns an experiment, and a new state and a batch in device memory."""
    targets = make_targets({"expression": labels})
    config = create_config(case, args)
    config.data.augment = tuple(augment)
    experiment = create_experiment(config, targets, steps_per_epoch=1000)
    batch = take_rows(targets, np.arange(case[2])) | {"image": faces}
    batch = parallel.shard(split_for_devices(batch, jax.local_device_count()))
    return experiment, parallel.replicate(create_state(experiment)), batch


def create_config(case: Case, args: argparse.Namespace) -> Config:
    """Returns the config of the protocol with the network of the case."""
    name, dtype, batch_size, _ = case
    config = defaults()
    config.trunk = torch_peer.trunk_spec(name, args.width)
    config.dtype, config.batch_size = dtype, batch_size
    config.data.crop_size = args.crop_size
    return config


def torch_steps(case: Case, args: argparse.Namespace, *, compiled: bool) -> RunSteps:
    name, dtype, batch_size, kind = case
    trainer = torch_peer.Trainer(
        name, dtype=dtype, crop_size=args.crop_size, width=args.width, compiled=compiled
    )
    crops, labels = random_faces(batch_size, args.crop_size)
    images = torch_peer.normalize_images(crops)
    classes = torch_peer.torch().as_tensor(labels, device=torch_peer.torch_device())

    def run_steps(steps: int) -> None:
        for _ in range(steps):
            trainer.train_step(images, classes) if kind == "train" else trainer.predict(images)
        torch_peer.synchronize()

    return run_steps


def table_row(case: Case, rates: harness.Runs) -> dict[str, Any]:
    """Returns a row of the table: medians of images/s and of ratios."""
    row: dict[str, Any] = dict(zip(CASE, case, strict=True))
    for contender, values in rates.items():
        row[contender] = statistics.median(values)
        if contender != OURS and OURS in rates:
            row[f"to {contender}"] = harness.format_ratio(rates[OURS], values)
    return row


if __name__ == "__main__":
    main()
