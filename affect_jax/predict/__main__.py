"""Command `predict`: reads images, videos and webcams, and writes one row for each face.

    python -m affect_jax.predict party.jpg
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
from collections.abc import Sequence

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.predict.predictor_flags import add_predictor_flags, create_predictor


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
        help="file (.npz) for the network's features: `id`, and `features` of each face",
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

    from affect_jax.predict import outputs
    from affect_jax.predict.inputs import expand_inputs, read_frames
    from affect_jax.predict.overlay import OverlayWriter, draw_predictions

    sources = expand_inputs(args.inputs)
    overlays = OverlayWriter(args.annotate, sources) if args.annotate else None
    predictor = create_predictor(args, args.batch_size, features=bool(args.features))
    names = (predictor.classes, predictor.units)
    has_video = any(source.is_video for source in sources)
    has_webcam = any(source.webcam is not None for source in sources)
    # The predictor reads ahead; `copies` keeps the frames until their results arrive.
    frames, copies = itertools.tee(itertools.chain.from_iterable(map(read_frames, sources)))
    results = predictor.stream(
        (frame.image for frame in frames), keep_pixels=overlays is not None, immediate=has_webcam
    )
    columns = outputs.face_columns(predictor.heads, *names, has_video=has_video)
    units = {"frames" if source.is_video else "images" for source in sources}
    unit = " and ".join(sorted(units, reverse=True))
    num_images = num_faces = num_empty = num_unreadable = exit_code = 0
    start_time = time.monotonic()
    with contextlib.ExitStack() as stack:
        write_row = stack.enter_context(outputs.open_face_table(args.out, columns))
        write_features = stack.enter_context(outputs.open_feature_file(args.features))
        if overlays:
            stack.callback(overlays.close)
        progress = tqdm.tqdm(
            zip(results, copies, strict=False),
            total=None if has_video else len(sources),
            unit=f" {unit}",
            disable=not sys.stderr.isatty(),
        )
        try:
            for faces, frame in progress:
                rows = list(outputs.face_rows(frame, faces, *names))
                for row in rows:
                    write_row(row)
                write_features([row["id"] for row in rows], faces.outputs)
                if overlays and faces.pixels is not None:
                    overlays.write(frame, draw_predictions(faces, *names))
                num_images += 1
                num_faces += len(faces.boxes)
                num_unreadable += faces.size == (0, 0)
                num_empty += not len(faces.boxes) and faces.size != (0, 0)
        except KeyboardInterrupt:  # the rows written so far are kept
            exit_code = 0 if has_webcam else 130  # Ctrl-C is the normal end of a webcam
    seconds = max(time.monotonic() - start_time, 1e-9)
    print(
        f"{num_images:,} {unit}, {num_faces:,} faces, {num_empty:,} without a face, "
        f"{num_unreadable:,} unreadable in {seconds:.1f} s: {num_images / seconds:.1f} {unit} per "
        "second",
        file=sys.stderr,
    )
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
