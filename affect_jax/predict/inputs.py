"""Inputs of the command line: images, videos and webcams, and their frames."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from absl import logging

from affect_jax.core.errors import UserError
from affect_jax.core.paths import is_utf8
from affect_jax.data.face_images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
"""Videos are recognised by their suffix, not their content, because FFmpeg also decodes a text file
as a video of its characters."""

DEFAULT_FRAMES_PER_SECOND = 15.0  # of an annotated video, if the camera does not report its rate

# Standard error is reserved for the command's summary: neither FFmpeg nor OpenCV logs files that
# are damaged or cannot be opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
_opencv_logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has the function in cv2
_opencv_logging.setLogLevel(0)


class Source(NamedTuple):
    """One image, video or webcam.

    - `name`: path of the file as the user wrote it, or `webcam:0`.
    - `relative_path`: path below the folder that the user named, or the file's name; it names the
      annotated copy.
    - `webcam`: index of the webcam; None for a file.
    """

    name: str
    relative_path: str
    webcam: int | None = None

    @property
    def is_video(self) -> bool:
        """Whether the source is a video or a webcam."""
        return self.webcam is not None or self.name.lower().endswith(tuple(VIDEO_SUFFIXES))


class Frame(NamedTuple):
    """An image, or one frame of a video.

    - `source`: its origin.
    - `image`: path of an image; pixels of a frame, uint8 RGB [height, width, 3], upright; None if
      a video or webcam has no readable frame.
    - `number`: index of a frame, from 0.
    - `seconds`: time since the first frame, from the file's timestamps or the clock (webcam).
    - `frames_per_second`: of the video.
    """

    source: Source
    image: str | np.ndarray | None
    number: int | None = None
    seconds: float | None = None
    frames_per_second: float = 0.0


def expand_inputs(inputs: Sequence[str]) -> list[Source]:
    """Lists all images and videos of the inputs, in order and without duplicates.

    **Arguments:** `inputs`: files; folders, searched for images and videos at any depth; glob
    patterns (`'shots/**/*.png'`); `webcam:0`.

    **Raises:** `UserError` if an input matches nothing, or a webcam has no frame.
    """
    sources: dict[str, Source] = {}
    for text in inputs:
        for source in _expand_input(text):
            sources.setdefault(os.path.realpath(source.name), source)
    return list(sources.values())


def _expand_input(text: str) -> list[Source]:
    if webcam := re.fullmatch(r"webcam:(\d{1,3})", text):
        source = Source(text, text.replace(":", "_"), webcam=int(webcam[1]))
        if next(read_frames(source)).image is None:
            raise UserError(f"{text}: no such camera, or it is in use")
        return [source]
    if os.path.isfile(text):
        return [Source(text, os.path.basename(text))]
    is_folder = os.path.isdir(text)
    found = _list_files(text) if is_folder else glob.glob(text, recursive=True)
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    paths = sorted(
        path for path in found if path.lower().endswith(suffixes) and os.path.isfile(path)
    )
    if not paths:
        raise UserError(f"{text}: no such image or video, nor a folder with any")
    base = text if is_folder else os.path.commonpath(map(os.path.dirname, paths))
    return [Source(path, os.path.relpath(path, base)) for path in paths]


def _list_files(folder: str) -> Iterator[str]:
    """Yields the files of a folder at any depth, none hidden; enters a linked folder once."""
    entered = set()
    for path, folders, files in os.walk(folder, followlinks=True):
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = () if os.path.realpath(path) in entered else sorted(visible)
        entered.add(os.path.realpath(path))
        yield from (os.path.join(path, name) for name in files if not name.startswith("."))


def read_frames(source: Source) -> Iterator[Frame]:
    """Yields an image, or every frame of a video until it ends or the webcam is disconnected."""
    name = source.name
    if not source.is_video:
        yield Frame(source, name)
        return
    if not is_utf8(name):  # OpenCV would crash
        logging.warning("%s: OpenCV reads no file whose name is not UTF-8", ascii(name))
        yield Frame(source, None)
        return
    backend = cv2.CAP_FFMPEG if source.webcam is None else cv2.CAP_ANY
    capture = cv2.VideoCapture(name if source.webcam is None else source.webcam, backend)
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate <= 1000 else DEFAULT_FRAMES_PER_SECOND
    seconds, number, start_time = -1.0, 0, 0.0
    try:
        while True:
            is_read, pixels = capture.read()
            if not is_read:
                break
            start_time = start_time or time.monotonic()  # a webcam takes seconds to start
            now = time.monotonic() - start_time
            if source.webcam is None:
                now = max(0.0, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            seconds = now if now > seconds else seconds + 1 / rate  # the file has no timestamps
            yield Frame(source, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), number, seconds, rate)
            number += 1
        if number == 0:
            yield Frame(source, None)
        expected = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # from the file's header
        if 0 < number < 0.99 * expected:
            logging.warning("%s: only %d of %d frames are readable", name, number, expected)
    finally:
        capture.release()
