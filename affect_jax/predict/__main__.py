"""Command `predict`: reads images, videos and webcams, and writes one row for each face.

    python -m affect_jax.predict --workdir=runs/weighted party.jpg
    python -m affect_jax.predict --workdir=runs/weighted photos/ --out=faces.parquet
    python -m affect_jax.predict --workdir=runs/weighted talk.mp4 --annotate=drawn/
    python -m affect_jax.predict --workdir=runs/weighted webcam:0 | grep surprise

`affect_jax.predict.outputs` lists the columns. `affect_jax.Predictor` does the same in Python.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.predict.predictor_flags import add_predictor_flags, create_predictor

if TYPE_CHECKING:
    from affect_jax.predict.inputs import Frame, Source
    from affect_jax.predict.predictor import FaceOutputs, Predictor


def create_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m affect_jax.predict",
        description="Predicts the faces in images, videos and webcams.",
        allow_abbrev=False,
    )
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
        "--batch_size", type=int, default=8, help="number of faces in one forward pass"
    )
    return parser


@handle_cli_errors
def main(arguments: Sequence[str] | None = None) -> int:
    args = create_parser().parse_args(arguments)
    # Heavy imports come after the flags are checked, so that errors in flags appear at once.
    import tqdm

    from affect_jax.predict.inputs import expand_inputs
    from affect_jax.predict.outputs import face_columns, face_rows, open_face_table
    from affect_jax.predict.overlay import OverlayWriter, draw_predictions

    sources = expand_inputs(args.inputs)
    overlays = OverlayWriter(args.annotate, sources) if args.annotate else None
    predictor = create_predictor(args, args.batch_size)
    names = (predictor.classes, predictor.units)
    has_video = any(source.is_video for source in sources)
    columns = face_columns(predictor.heads, *names, has_video=has_video)
    num_images = num_faces = num_empty = exit_code = 0
    start_time = time.monotonic()
    with contextlib.ExitStack() as stack:
        write_row = stack.enter_context(open_face_table(args.out, columns))
        if overlays:
            stack.callback(overlays.close)
        results = tqdm.tqdm(
            _predict(predictor, sources, keep_pixels=overlays is not None),
            total=None if has_video else len(sources),
            unit=" images",
            disable=not sys.stderr.isatty(),
        )
        try:
            for frame, result in results:
                for row in face_rows(frame, result, *names):
                    write_row(row)
                if overlays and result.faces.pixels is not None:
                    overlays.write(frame, draw_predictions(result, *names))
                num_images += 1
                num_faces += len(result.faces.boxes)
                num_empty += not len(result.faces.boxes)
        except KeyboardInterrupt:  # the rows written so far are kept
            # Ctrl-C is the normal end of a webcam.
            exit_code = 130 if all(source.webcam is None for source in sources) else 0
    seconds = max(time.monotonic() - start_time, 1e-9)
    print(
        f"{num_images:,} images, {num_faces:,} faces, {num_empty:,} without a face in "
        f"{seconds:.1f} s: {num_images / seconds:.1f} frames per second",
        file=sys.stderr,
    )
    return exit_code


def _predict(
    predictor: Predictor, sources: Sequence[Source], *, keep_pixels: bool
) -> Iterator[tuple[Frame, FaceOutputs]]:
    """Yields every image and frame with its faces. Consecutive images share batches."""
    from affect_jax.predict.inputs import Frame, read_frames
    from affect_jax.predict.predictor import FaceOutputs

    for video, group in itertools.groupby(sources, lambda s: s if s.is_video else None):
        # The predictor reads ahead; `copies` keeps the frames until their results arrive.
        frames, copies = itertools.tee(itertools.chain.from_iterable(map(read_frames, group)))
        images = (frame.image for frame in frames)
        is_webcam = video is not None and video.webcam is not None
        try:
            for result in predictor.stream(images, keep_pixels=keep_pixels, immediate=is_webcam):
                yield next(copies), result
        except UserError as error:  # a video without a readable frame
            if video is None:
                raise
            reason = str(error).removeprefix(f"{video.name}: ")
            yield Frame(video, video.name), FaceOutputs(predictor.no_faces(reason), {})


if __name__ == "__main__":
    sys.exit(main())
