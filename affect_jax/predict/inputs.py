"""What a person names on the command line, as a list of images, videos and cameras."""

from __future__ import annotations

import glob
import os
import pathlib
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from affect_jax.core.errors import UserError
from affect_jax.data.face_images import FORMATS
from affect_jax.predict.video import Video

IMAGES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
VIDEOS = (
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv"
)  # fmt: skip
"""By their endings: FFmpeg, asked for the content, takes a text for a film of letters."""


class Source(NamedTuple):
    """One image, video or camera.

    - `name`: for output: the path as it was named, `webcam:0`.
    - `place`: the file, or the camera's number.
    - `relative`: path below the folder that was named, or the file's name: for files beside others.
    """

    name: str
    place: str | int
    relative: str

    @property
    def is_video(self) -> bool:
        return isinstance(self.place, int) or ending(self.place) in VIDEOS


def ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def expand(inputs: Sequence[str]) -> list[Source]:
    """Every image and video that the inputs name, in their order, each once.

    **Arguments:**

    - `inputs`: files; folders, of which every image and video at any depth counts; patterns
      (`'shots/**/*.png'`); `webcam:0`.

    **Raises:** `UserError` for an input that names nothing.
    """
    found: dict[str | int, Source] = {}
    for text in inputs:
        for source in _of_input(text):
            place = source.place
            found.setdefault(place if isinstance(place, int) else os.path.realpath(place), source)
    return list(found.values())


def _of_input(text: str) -> Iterator[Source]:
    camera = re.fullmatch(r"webcam:(\d+)", text)
    if camera:
        with Video(int(camera[1])):
            pass
        yield Source(text, int(camera[1]), text.replace(":", "_"))
    elif os.path.isfile(text):
        _check(text)
        yield Source(text, text, os.path.basename(text))
    elif os.path.isdir(text):
        paths = sorted(str(path) for path in pathlib.Path(text).rglob("*"))
        yield from _several(text, paths, text)
    elif os.path.exists(text):
        raise UserError(f"{text}: neither a file nor a folder")
    elif glob.has_magic(text):
        paths = sorted(glob.glob(text, recursive=True))
        yield from _several(text, paths, os.path.commonpath(paths) if paths else "")
    else:
        raise UserError(f"{text}: no such file or folder")


def _several(text: str, paths: Sequence[str], base: str) -> Iterator[Source]:
    some = False
    for path in paths:
        if os.path.isfile(path) and ending(path) in (*IMAGES, *VIDEOS):
            some = True
            inside = os.path.relpath(path, base)
            yield Source(path, path, os.path.basename(path) if inside == "." else inside)
    if not some:
        raise UserError(f"{text}: no image or video in it, by the endings of the names")


def _check(path: str) -> None:
    """A file that was named is looked at before any work begins.

    **Raises:** `UserError` where its content is no image, or a video without a frame.
    """
    if ending(path) in VIDEOS:
        with Video(path):
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is told when it is its turn
            with Image.open(path, formats=FORMATS):
                return
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image, nor by its ending a video") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        return  # damaged or too large, but an image: its row says so
