"""The command: images, folders, patterns, videos and webcams in, a row for each face out.

    python -m affect_jax.predict --checkpoint=runs/weighted party.jpg
    python -m affect_jax.predict --checkpoint=runs/weighted photos/ --out=faces.parquet
    python -m affect_jax.predict --checkpoint=runs/weighted talk.mp4 --annotate=drawn/ --smooth=0.2
    python -m affect_jax.predict --checkpoint=runs/weighted webcam:0 | grep surprise

Columns: `affect_jax.predict.outputs`. Predictions from Python: `affect_jax.Predictor`.
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

from affect_jax.core.cli import Parser, answering
from affect_jax.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from affect_jax.predict.inputs import Source
    from affect_jax.predict.outputs import FaceTable
    from affect_jax.predict.predictor import Found, Predictor, Seen
    from affect_jax.predict.video import Frame

MAX_SMOOTH = 3600  # seconds: beyond, nothing would move


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m affect_jax.predict",
        description="Predicts the faces of images, videos and cameras.",
        allow_abbrev=False,
    )
    made.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a video, a folder, a pattern such as 'shots/**/*.png', or webcam:0",
    )
    add_network_flags(made)
    made.add_argument(
        "--out",
        type=pathlib.Path,
        help="file for the rows: .jsonl, .csv or .parquet; default: JSON lines on standard output",
    )
    made.add_argument(
        "--annotate",
        type=pathlib.Path,
        metavar="FOLDER",
        help="draw it all into pictures and films",
    )
    made.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="films: moving average of each face, by half-life; default: none",
    )
    made.add_argument(
        "--batch_size", type=int, default=8, help="faces that go through the network at once"
    )
    return made


def add_network_flags(made: argparse.ArgumentParser) -> None:
    """Which network, and how faces get to it."""
    made.add_argument("--checkpoint", required=True, metavar="RUN", help="folder of a run")
    made.add_argument("--step", default="best", help="which checkpoint: best, last or a step")
    made.add_argument(
        "--detector",
        default="libfacedetection",
        metavar="NAME",
        help="libfacedetection, dlib, or none: each image is a face",
    )
    made.add_argument(
        "--margin",
        type=float,
        help="share of a found box added on each side; default: the run's own",
    )


def load(given: argparse.Namespace, batch_size: int) -> Predictor:
    """The network that the flags name, compiled.

    **Raises:** `UserError` where a flag names nothing.
    """
    if given.margin is not None and not 0 <= given.margin <= 2:
        raise UserError(f"--margin={given.margin:g}: must be between 0 and 2")
    from absl import logging

    from affect_jax.predict.predictor import Predictor

    logging.set_verbosity(logging.WARNING)  # Orbax tells the story of each file
    predictor = Predictor.load(
        given.checkpoint,
        step=given.step,
        detector=given.detector,
        margin=given.margin,
        batch_size=batch_size,
    )
    predictor.warm_up()
    return predictor


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if not 0 <= given.smooth <= MAX_SMOOTH:
        raise UserError(f"--smooth={given.smooth:g}: must be 0 to {MAX_SMOOTH} seconds")
    if given.batch_size < 1:
        raise UserError(f"--batch_size={given.batch_size}: must be 1 or more")
    return _predict(given)


def _predict(given: argparse.Namespace) -> int:
    # The libraries load once the flags are known to be right.
    from affect_jax.predict import inputs
    from affect_jax.predict.outputs import face_columns, file_format, open_face_table

    file_format(given.out)
    found = inputs.expand(given.inputs)
    drawings = None if given.annotate is None else _Drawings(given.annotate, found)
    predictor = load(given, given.batch_size)
    columns = face_columns(
        predictor.heads,
        predictor.classes,
        predictor.units,
        film=any(source.is_video for source in found),
    )
    code = 0
    with open_face_table(given.out, columns) as table:
        job = _Job(predictor, table, drawings, given.smooth, len(found))
        for some in _together(found):
            try:
                if some[0].is_video:
                    job.film(some[0])
                else:
                    job.images(some)
            except KeyboardInterrupt:  # a camera has no other end; what was seen is kept
                if not isinstance(some[0].place, int):
                    code = 130
                    break
    job.finish()
    return code


def _together(found: Iterable[Source]) -> Iterator[list[Source]]:
    """Images in a row fill batches together; each film is alone."""
    images: list[Source] = []
    for source in found:
        if source.is_video:
            if images:
                yield images
            images = []
            yield [source]
        else:
            images.append(source)
    if images:
        yield images


class _Job:
    """Everything that goes through one predictor into one table."""

    def __init__(
        self,
        predictor: Predictor,
        table: FaceTable,
        drawings: _Drawings | None,
        smooth: float,
        total: int,
    ):
        import tqdm

        self._predictor, self._table, self._drawings = predictor, table, drawings
        self._smooth = smooth
        self._counts: collections.Counter[str] = collections.Counter()
        self._bar = tqdm.tqdm(total=total, unit=" images", disable=not sys.stderr.isatty())
        self._started = time.monotonic()

    def images(self, found: Sequence[Source]) -> None:
        stream = self._predictor.stream(
            (str(source.place) for source in found), keep=self._drawings is not None
        )
        for source, seen in zip(found, stream, strict=True):
            self._write(source, seen.found, seen.outputs)
            if self._drawings is not None and seen.found.pixels is not None:
                self._drawings.picture(source, self._drawn(seen, seen.outputs))

    def film(self, source: Source) -> None:
        from affect_jax.predict.video import Smoothing, Tracks, Video

        waiting: collections.deque[tuple[int, float]] = collections.deque()
        tracks, smoothing = Tracks(), Smoothing(self._smooth)

        def pixels(frames: Iterable[Frame]) -> Iterator[np.ndarray]:
            for frame in frames:
                waiting.append((frame.number, frame.seconds))
                yield frame.pixels

        with contextlib.ExitStack() as stack:
            try:
                video = stack.enter_context(Video(source.place))
            except UserError as error:  # those that were named were looked at before
                self._without_faces(source, str(error).removeprefix(f"{source.name}: "))
                return
            self._bar.total = None if video.live else self._bar.total + (video.count or 1) - 1
            write = None
            if self._drawings is not None:
                write = stack.enter_context(self._drawings.film(source, video.rate))
            frames, number = pixels(video.frames()), -1
            for seen in self._predictor.stream(frames, keep=write is not None, at_once=video.live):
                number, seconds = waiting.popleft()
                ids = tracks.update(seen.found.boxes, seconds)
                outputs = smoothing(ids, seen.outputs, seconds)
                film = {"frame": number, "seconds": seconds, "tracks": ids.tolist()}
                self._write(source, seen.found, outputs, **film)
                if write is not None:
                    write(self._drawn(seen, outputs, numbers=ids.tolist(), columns=1))
            if video.count is not None and number + 1 < 0.99 * video.count:
                self._say(
                    f"{source.name}: {number + 1:,} of its {video.count:,} frames could be read"
                )

    def _without_faces(self, source: Source, reason: str) -> None:
        self._write(source, self._predictor.nothing(reason), {})

    def _write(self, source: Source, found: Found, outputs: dict[str, Any], **film: Any) -> None:
        from affect_jax.predict.outputs import face_rows

        names = {"classes": self._predictor.classes, "units": self._predictor.units}
        for row in face_rows(
            source.name,
            found.boxes,
            found.confidence,
            outputs,
            reason=found.reason,
            **names,
            **film,
        ):
            self._table.write(row)
        self._counts["images"] += 1
        self._counts["faces"] += len(found.boxes)
        self._counts["without a face"] += not len(found.boxes)
        self._bar.update()

    def _drawn(self, seen: Seen, outputs: dict[str, Any], **options: Any) -> np.ndarray:
        from affect_jax.predict import overlay

        assert seen.found.pixels is not None
        names = overlay.Names(self._predictor.classes, self._predictor.units)
        note = seen.found.reason
        return overlay.draw(
            seen.found.pixels, seen.found.boxes, outputs, names, note=note, **options
        )

    def _say(self, line: str) -> None:
        self._bar.clear()
        print(line, file=sys.stderr)

    def finish(self) -> None:
        """The last word: how much, how fast, where."""
        self._bar.close()
        seconds = max(time.monotonic() - self._started, 1e-9)
        counts = ", ".join(
            f"{self._counts[n]:,} {n}" for n in ("images", "faces", "without a face")
        )
        rate = self._counts["images"] / seconds
        self._say(f"{counts} in {seconds:.1f} s: {rate:.1f} frames per second")


class _Drawings:
    """Files of a folder, named as what they show, `.jpg` and `.mp4`.

    **Raises:** `UserError` where the folder cannot be written, or a drawing would replace an input.
    """

    def __init__(self, folder: pathlib.Path, found: Sequence[Source]):
        self._folder = folder
        self._paths: dict[str | int, pathlib.Path] = {}
        inputs = {os.path.realpath(s.place) for s in found if isinstance(s.place, str)}
        taken: set[pathlib.Path] = set()
        for source in found:
            inside = pathlib.Path(*[p for p in pathlib.Path(source.relative).parts if p != ".."])
            ending = ".mp4" if source.is_video else ".jpg"
            path = folder / inside.with_suffix(ending)
            number = 1
            while path in taken:
                number += 1
                path = folder / inside.with_name(f"{inside.stem}-{number}{ending}")
            if os.path.realpath(path) in inputs:
                raise UserError(f"--annotate={folder}: {path} is an input; choose another folder")
            taken.add(path)
            self._paths[source.place] = path

    def picture(self, source: Source, drawing: np.ndarray) -> None:
        import cv2

        path = self._place(source)
        _, content = cv2.imencode(".jpg", drawing[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
        try:
            path.write_bytes(content.tobytes())
        except OSError as error:
            raise UserError(f"--annotate={path}: cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def film(self, source: Source, rate: float) -> Iterator[Any]:
        """A function that takes one drawing after the other."""
        import cv2

        path = self._place(source)
        writers: list[cv2.VideoWriter] = []

        def write(drawing: np.ndarray) -> None:
            if not writers:
                size = (drawing.shape[1], drawing.shape[0])
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writers.append(cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, size))
                if not writers[0].isOpened():
                    raise UserError(f"--annotate={path}: cannot be written")
            writers[0].write(drawing[:, :, ::-1])

        try:
            yield write
        finally:
            for writer in writers:
                writer.release()

    def _place(self, source: Source) -> pathlib.Path:
        path = self._paths[source.place]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--annotate={self._folder}: {error.strerror}") from error
        return path


if __name__ == "__main__":
    sys.exit(main())
