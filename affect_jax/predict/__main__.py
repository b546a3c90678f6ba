"""Command `predict`: reads images, videos and webcams, and writes one row for each face.

    python -m affect_jax.predict --workdir=runs/weighted party.jpg
    python -m affect_jax.predict --workdir=runs/weighted photos/ --out=faces.parquet
    python -m affect_jax.predict --workdir=runs/weighted talk.mp4 --annotate=drawn/ --smooth=0.2
    python -m affect_jax.predict --workdir=runs/weighted webcam:0 | grep surprise

`affect_jax.predict.outputs` lists the columns. `affect_jax.Predictor` does the same in Python.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.predict.predictor_flags import add_predictor_flags, create_predictor

if TYPE_CHECKING:
    import numpy as np

    from affect_jax.predict.inputs import Source
    from affect_jax.predict.outputs import FaceTable
    from affect_jax.predict.predictor import DetectedFaces, FaceOutputs, Predictor
    from affect_jax.predict.video import Frame

MAX_HALF_LIFE_SECONDS = 3600  # with a longer half-life, predictions would not change visibly


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
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="half-life of a moving average over each face of a video; default: no smoothing",
    )
    parser.add_argument(
        "--batch_size", type=int, default=8, help="number of faces in one forward pass"
    )
    return parser


@handle_cli_errors
def main(arguments: Sequence[str] | None = None) -> int:
    args = create_parser().parse_args(arguments)
    if not 0 <= args.smooth <= MAX_HALF_LIFE_SECONDS:
        raise UserError(f"--smooth={args.smooth:g}: must be 0 to {MAX_HALF_LIFE_SECONDS} seconds")
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size}: must be 1 or more")
    return _predict(args)


def _predict(args: argparse.Namespace) -> int:
    # Heavy imports come after the flags are checked, so that errors in flags appear at once.
    from affect_jax.predict import inputs
    from affect_jax.predict.outputs import face_columns, file_format, open_face_table

    file_format(args.out)
    sources = inputs.expand_inputs(args.inputs)
    annotations = None if args.annotate is None else _AnnotationWriter(args.annotate, sources)
    predictor = create_predictor(args, args.batch_size)
    columns = face_columns(
        predictor.heads,
        predictor.classes,
        predictor.units,
        has_video=any(source.is_video for source in sources),
    )
    exit_code = 0
    with open_face_table(args.out, columns) as table:
        job = _PredictionJob(predictor, table, annotations, args.smooth, len(sources))
        for group in _group_sources(sources):
            try:
                if group[0].is_video:
                    job.predict_video(group[0])
                else:
                    job.predict_images(group)
            except KeyboardInterrupt:  # the rows written so far are kept
                if not isinstance(group[0].location, int):  # Ctrl-C is the normal end of a webcam
                    exit_code = 130
                    break
    job.print_summary()
    return exit_code


def _group_sources(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Groups consecutive images, which share batches; each video is a group of its own."""
    images: list[Source] = []
    for source in sources:
        if source.is_video:
            if images:
                yield images
            images = []
            yield [source]
        else:
            images.append(source)
    if images:
        yield images


class _PredictionJob:
    """Runs one predictor over all sources and writes the rows into one table."""

    def __init__(
        self,
        predictor: Predictor,
        table: FaceTable,
        annotations: _AnnotationWriter | None,
        half_life: float,
        num_sources: int,
    ):
        import tqdm

        self._predictor, self._table, self._annotations = predictor, table, annotations
        self._half_life = half_life
        self._counts: collections.Counter[str] = collections.Counter()
        self._bar = tqdm.tqdm(total=num_sources, unit=" images", disable=not sys.stderr.isatty())
        self._start_time = time.monotonic()

    def predict_images(self, sources: Sequence[Source]) -> None:
        stream = self._predictor.stream(
            (str(source.location) for source in sources), keep_pixels=self._annotations is not None
        )
        for source, result in zip(sources, stream, strict=True):
            self._write_rows(source, result.faces, result.outputs)
            if self._annotations is not None and result.faces.pixels is not None:
                self._annotations.write_image(source, self._draw(result, result.outputs))

    def predict_video(self, source: Source) -> None:
        from affect_jax.predict.video import FaceTracker, OutputSmoother, Video

        pending: collections.deque[tuple[int, float]] = collections.deque()
        tracker, smoother = FaceTracker(), OutputSmoother(self._half_life)

        def read_pixels(frames: Iterable[Frame]) -> Iterator[np.ndarray]:
            for frame in frames:
                pending.append((frame.number, frame.seconds))
                yield frame.pixels

        with contextlib.ExitStack() as stack:
            try:
                video = stack.enter_context(Video(source.location))
            except UserError as error:  # a file in a folder; `inputs` has checked other files
                self._write_unreadable(source, str(error).removeprefix(f"{source.name}: "))
                return
            is_live = video.is_camera
            self._bar.total = None if is_live else self._bar.total + (video.frame_count or 1) - 1
            write = None
            if self._annotations is not None:
                write = stack.enter_context(
                    self._annotations.open_video(source, video.frames_per_second)
                )
            frames, number = read_pixels(video.frames()), -1
            for result in self._predictor.stream(
                frames, keep_pixels=write is not None, immediate=is_live
            ):
                number, seconds = pending.popleft()
                tracks = tracker.update(result.faces.boxes, seconds)
                outputs = smoother(tracks, result.outputs, seconds)
                position = {"frame": number, "seconds": seconds, "tracks": tracks.tolist()}
                self._write_rows(source, result.faces, outputs, **position)
                if write is not None:
                    write(
                        self._draw(result, outputs, face_numbers=tracks.tolist(), panel_columns=1)
                    )
            self._warn_missing_frames(source, number + 1, video.frame_count)

    def _warn_missing_frames(self, source: Source, num_read: int, expected: int | None) -> None:
        if expected is not None and num_read < 0.99 * expected:
            self._print_line(
                f"{source.name}: only {num_read:,} of {expected:,} frames are readable"
            )

    def _write_unreadable(self, source: Source, reason: str) -> None:
        self._write_rows(source, self._predictor.no_faces(reason), {})

    def _write_rows(
        self, source: Source, faces: DetectedFaces, outputs: dict[str, Any], **position: Any
    ) -> None:
        from affect_jax.predict.outputs import face_rows

        names = {"classes": self._predictor.classes, "units": self._predictor.units}
        for row in face_rows(
            source.name,
            faces.boxes,
            faces.confidence,
            outputs,
            reason=faces.reason,
            **names,
            **position,
        ):
            self._table.write(row)
        self._counts["images"] += 1
        self._counts["faces"] += len(faces.boxes)
        self._counts["without a face"] += not len(faces.boxes)
        self._bar.update()

    def _draw(self, result: FaceOutputs, outputs: dict[str, Any], **options: Any) -> np.ndarray:
        from affect_jax.predict import overlay

        assert result.faces.pixels is not None
        names = overlay.OutputNames(self._predictor.classes, self._predictor.units)
        return overlay.draw_overlay(
            result.faces.pixels,
            result.faces.boxes,
            outputs,
            names,
            note=result.faces.reason,
            **options,
        )

    def _print_line(self, line: str) -> None:
        self._bar.clear()
        print(line, file=sys.stderr)

    def print_summary(self) -> None:
        """Prints the number of images and faces, the time and the throughput."""
        self._bar.close()
        seconds = max(time.monotonic() - self._start_time, 1e-9)
        counts = ", ".join(
            f"{self._counts[name]:,} {name}" for name in ("images", "faces", "without a face")
        )
        rate = self._counts["images"] / seconds
        self._print_line(f"{counts} in {seconds:.1f} s: {rate:.1f} frames per second")


class _AnnotationWriter:
    """Writes annotated images and videos into a folder.

    A file has the name of its source, with the suffix `.jpg` or `.mp4`. Sources of equal names get
    numbers: `x.jpg`, `x-2.jpg`.

    **Raises:** `UserError` if the folder is not writable or a file would replace an input.
    """

    def __init__(self, folder: pathlib.Path, sources: Sequence[Source]):
        self._folder = folder
        self._paths: dict[str | int, pathlib.Path] = {}
        inputs = {os.path.realpath(s.location) for s in sources if isinstance(s.location, str)}
        used: set[pathlib.Path] = set()
        for source in sources:
            parts = pathlib.Path(source.relative_path).parts
            relative_path = pathlib.Path(*[part for part in parts if part != ".."])
            suffix = ".mp4" if source.is_video else ".jpg"
            path = folder / relative_path.with_suffix(suffix)
            number = 1
            while path in used:
                number += 1
                path = folder / relative_path.with_name(f"{relative_path.stem}-{number}{suffix}")
            if os.path.realpath(path) in inputs:
                raise UserError(f"--annotate={folder}: {path} is an input; choose another folder")
            used.add(path)
            self._paths[source.location] = path

    def write_image(self, source: Source, drawing: np.ndarray) -> None:
        import cv2

        path = self._create_parent(source)
        _, content = cv2.imencode(".jpg", drawing[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
        try:
            path.write_bytes(content.tobytes())
        except OSError as error:
            raise UserError(f"--annotate={path}: cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def open_video(self, source: Source, frames_per_second: float) -> Iterator[Any]:
        """Yields a function that appends one frame, RGB [height, width, 3], to the video."""
        import cv2

        path = self._create_parent(source)
        writers: list[cv2.VideoWriter] = []  # created by the first frame, which gives the size

        def write(drawing: np.ndarray) -> None:
            if not writers:
                size = (drawing.shape[1], drawing.shape[0])
                codec = cv2.VideoWriter.fourcc(*"mp4v")
                writers.append(
                    cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, frames_per_second, size)
                )
                if not writers[0].isOpened():
                    raise UserError(f"--annotate={path}: cannot be written")
            writers[0].write(drawing[:, :, ::-1])

        try:
            yield write
        finally:
            for writer in writers:
                writer.release()

    def _create_parent(self, source: Source) -> pathlib.Path:
        """Creates the folder of a source's output file and returns the file's path."""
        path = self._paths[source.location]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--annotate={self._folder}: {error.strerror}") from error
        return path


if __name__ == "__main__":
    sys.exit(main())
