"""Command `predict`: reads images, videos and webcams, and writes one row for each face.

    python -m affect_jax.predict party.jpg
    python -m affect_jax.predict --workdir=runs/weighted photos/ --out=faces.parquet
    python -m affect_jax.predict --workdir=runs/weighted talk.mp4 --annotate=drawn/
    python -m affect_jax.predict --workdir=runs/weighted webcam:0 | grep surprise

`affect_jax.predict.outputs` lists the columns. `affect_jax.Predictor` does the same in Python.
Nothing heavy is imported before the flags are checked, so that errors in flags appear at once.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from affect_jax.core.cli import ArgumentParser, add_run_flags, handle_cli_errors, select_run
from affect_jax.core.errors import UserError

if TYPE_CHECKING:
    from affect_jax.predict.predictor import Predictor


def create_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser("predict", "Predicts the faces in images, videos and webcams.")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a video, a folder, a pattern such as 'shots/**/*.png', or webcam:0",
    )
    add_predictor_flags(parser)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="output file: .jsonl, .csv or .parquet; default: JSON lines on standard output",
    )
    parser.add_argument(
        "--annotate",
        type=pathlib.Path,
        metavar="FOLDER",
        help="folder for copies of the images and videos with the predictions drawn on them",
    )
    parser.add_argument(
        "--features",
        type=pathlib.Path,
        metavar="FILE",
        help="file (.npz or .parquet) for the network's features of each face: `id`, `features`",
    )
    parser.add_argument(
        "--batch_size", type=int, default=8, help="number of faces in one forward pass"
    )
    return parser


def add_predictor_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--workdir` (or `--checkpoint`), `--step`, `--detector` and `--margin` to a parser."""
    add_run_flags(parser)
    parser.add_argument(
        "--detector",
        default="",
        metavar="NAME",
        help="libfacedetection (default; if it is not installed, dlib), dlib, or none: each image "
        "is one face",
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="fraction of a detected box to add on each side; default: that of the run's data",
    )


def create_predictor(args: argparse.Namespace, **options: int) -> Predictor:
    """Loads and compiles the network that the flags of `add_predictor_flags` select."""
    from absl import logging

    from affect_jax.core import parallel
    from affect_jax.predict.predictor import Predictor

    parallel.enable_compilation_cache()
    logging.set_verbosity(logging.WARNING)  # Orbax logs every file that it reads
    options |= {"detector": args.detector, "margin": args.margin}
    predictor = Predictor.load(select_run(args), step=args.step, **options)
    predictor.predict([])  # compiles the network
    return predictor


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    args = create_parser().parse_args(arguments)
    if args.out and args.out == args.features:
        raise UserError(f"--features={args.features}: the file of --out; choose another")
    import tqdm

    from affect_jax.predict import outputs
    from affect_jax.predict.inputs import expand_inputs, read_frames
    from affect_jax.predict.overlay import OverlayWriter

    sources = expand_inputs(args.inputs)
    overlays = OverlayWriter(args.annotate, sources) if args.annotate else None
    features = bool(args.features)
    predictor = create_predictor(args, batch_size=args.batch_size, features=features)
    names = predictor.output_names
    has_video = any(source.is_video for source in sources)
    has_webcam = any(source.webcam is not None for source in sources)
    # The predictor reads ahead; `copies` keeps the frames until their results arrive.
    frames, copies = itertools.tee(itertools.chain.from_iterable(map(read_frames, sources)))
    results = predictor.stream((frame.image for frame in frames), immediate=has_webcam)
    unit = "frames" if has_video else "images"
    counts = collections.Counter()
    exit_code, start_time = 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        columns = outputs.face_columns(names, has_video=has_video)
        write_row = stack.enter_context(outputs.open_face_table(args.out, columns))
        features = stack.enter_context(outputs.open_feature_file(args.features))
        if overlays:
            stack.callback(overlays.close)
        progress = tqdm.tqdm(
            zip(results, copies, strict=False),
            total=None if has_video else len(sources),
            unit=f" {unit}",
            disable=None,  # no progress bar in a file
        )
        try:
            for faces, frame in progress:
                rows = list(outputs.face_rows(frame, faces, names))
                for row in rows:
                    write_row(row)
                ids = [row["id"] for row in rows]
                features.update(zip(ids, faces.outputs.get("features", ()), strict=False))
                is_readable = faces.size != (0, 0)
                if overlays and is_readable:
                    overlays.write(frame, faces, names)
                counts["all"] += 1
                counts["faces"] += len(faces.boxes)
                counts["unreadable"] += not is_readable
                counts["empty"] += is_readable and not len(faces.boxes)
        except KeyboardInterrupt:  # the rows written so far are kept
            exit_code = 0 if has_webcam else 130  # Ctrl-C is the normal end of a webcam
    seconds = max(time.monotonic() - start_time, 1e-9)
    print(
        f"{counts['all']:,} {unit}, {counts['faces']:,} faces, {counts['empty']:,} without a face, "
        f"{counts['unreadable']:,} unreadable in {seconds:.1f} s: {counts['all'] / seconds:.1f} "
        f"{unit} per second",
        file=sys.stderr,
    )
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
