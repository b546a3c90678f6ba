"""Input sources: expands the arguments of the command line to images, videos and webcams."""

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
from affect_jax.data.face_images import IMAGE_FORMATS
from affect_jax.predict.video import Video

IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv"
)  # fmt: skip
"""Videos are recognised by their suffix, not their content, because FFmpeg also decodes a text file
as a video of its characters."""


class Source(NamedTuple):
    """One image, video or webcam.

    - `name`: name in the output: the path as the user wrote it, or `webcam:0`.
    - `location`: path of the file, or index of the webcam.
    - `relative_path`: path below the folder that the user named, or the file's name; it names the
      annotated copy.
    """

    name: str
    location: str | int
    relative_path: str

    @property
    def is_video(self) -> bool:
        return isinstance(self.location, int) or get_suffix(self.location) in VIDEO_SUFFIXES


def get_suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def expand_inputs(inputs: Sequence[str]) -> list[Source]:
    """Lists all images and videos of the inputs, in order and without duplicates.

    **Arguments:**

    - `inputs`: files; folders, searched for images and videos at any depth; glob patterns
      (`'shots/**/*.png'`); `webcam:0`.

    **Raises:** `UserError` if an input matches nothing.
    """
    sources: dict[str | int, Source] = {}
    for text in inputs:
        for source in _expand_input(text):
            location = source.location
            key = location if isinstance(location, int) else os.path.realpath(location)
            sources.setdefault(key, source)
    return list(sources.values())


def _expand_input(text: str) -> Iterator[Source]:
    camera = re.fullmatch(r"webcam:(\d+)", text)
    if camera:
        with Video(int(camera[1])):
            pass
        yield Source(text, int(camera[1]), text.replace(":", "_"))
    elif os.path.isfile(text):
        _check_readable(text)
        yield Source(text, text, os.path.basename(text))
    elif os.path.isdir(text):
        paths = sorted(str(path) for path in pathlib.Path(text).rglob("*"))
        yield from _select_media(text, paths, text)
    elif os.path.exists(text):
        raise UserError(f"{text}: neither a file nor a folder")
    elif glob.has_magic(text):
        paths = sorted(glob.glob(text, recursive=True))
        yield from _select_media(text, paths, os.path.commonpath(paths) if paths else "")
    else:
        raise UserError(f"{text}: no such file or folder")


def _select_media(text: str, paths: Sequence[str], base: str) -> Iterator[Source]:
    """Yields the images and videos among `paths`; their relative paths start at `base`."""
    is_empty = True
    for path in paths:
        if os.path.isfile(path) and get_suffix(path) in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            is_empty = False
            relative_path = os.path.relpath(path, base)
            yield Source(
                path, path, os.path.basename(path) if relative_path == "." else relative_path
            )
    if is_empty:
        raise UserError(f"{text}: contains no file with the suffix of an image or video")


def _check_readable(path: str) -> None:
    """Opens a file that the user named, so that a wrong one stops the command at once.

    **Raises:** `UserError` if the file is not an image, or a video without a frame.
    """
    if get_suffix(path) in VIDEO_SUFFIXES:
        with Video(path):
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the predictor reports images that are too large
            with Image.open(path, formats=IMAGE_FORMATS):
                return
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image, and its suffix is not that of a video") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        return  # a damaged or too large image: its row gives the reason
