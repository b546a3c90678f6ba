"""Command-line flags shared by `predict` and `demo`: they select a network and its face detector.

Nothing heavy is imported until `create_predictor` is called, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from affect_jax.core.cli import add_run_flags, select_run

if TYPE_CHECKING:
    from affect_jax.predict.predictor import Predictor


def add_predictor_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--workdir` (or `--checkpoint`), `--step`, `--detector` and `--margin` to a parser."""
    add_run_flags(parser)
    parser.add_argument(
        "--detector",
        default="libfacedetection",
        metavar="NAME",
        help="libfacedetection, dlib, or none: each image is one face",
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="fraction of a detected box to add on each side; default: that of the run's data",
    )


def create_predictor(
    args: argparse.Namespace, batch_size: int, *, features: bool = False
) -> Predictor:
    """Loads and compiles the network that the flags select.

    **Arguments:**

    - `args`: parsed flags of `add_predictor_flags`.
    - `batch_size`: number of faces in one forward pass.
    - `features`: return the trunk's features too.

    **Raises:** `UserError` as `Predictor.load`.
    """
    from absl import logging

    from affect_jax.core import parallel
    from affect_jax.predict.predictor import Predictor

    parallel.enable_compilation_cache()
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file that it reads
    predictor = Predictor.load(
        select_run(args),
        step=args.step,
        detector=args.detector,
        margin=args.margin,
        batch_size=batch_size,
        features=features,
    )
    predictor.warm_up()
    return predictor
