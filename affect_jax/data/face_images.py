"""One face: from a row of a release to a square JPEG, or the reason why that cannot be.

This module runs in worker processes, so it imports little. Everything it reads is a stranger's:
images are checked before they are decoded, paths must stay below the image folder, and whatever is
wrong becomes an `Unusable` with a reason for `skipped.csv`.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from affect_jax.core.errors import UserError, first_line, for_want_of_memory
from affect_jax.data import label_parsing
from affect_jax.data.label_parsing import Unusable

MAX_PIXELS = 64 * 2**20
"""A larger image is not decoded: 64 megapixels are 192 MiB in memory."""

MAX_FILE_BYTES = 256 * 2**20
MAX_FLOAT_PIXELS = 4 * 2**20
"""A larger face is not held in floating-point numbers, which are 48 MiB of these."""

JPEG_QUALITY = 95

# Pillow knows more, some of which start other programs (EPS); a face comes as one of these.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM")


class Row(NamedTuple):
    """A row before anything in it is believed.

    - `number`: its line in the CSV, or the face's number in a release without one.
    - `id`: unique within the split.
    - `image`: path below the image folder.
    - `values`: texts by name: `expression`, `valence`, `arousal`, `facial_landmarks`, `AU1`, `AU2`,
      ..., and the four of `fields.BOX`. What is absent was not annotated; without a box the whole
      image is the face.
    - `annotations`: beginning of the paths of its `.npy` files, which then hold the values.
    """

    number: int
    id: str
    image: str
    values: Mapping[str, str] | None
    annotations: str = ""


class Settings(NamedTuple):
    """How rows become faces: the same for all rows of a split.

    - `folder`: the image folder, free of symbolic links.
    - `image_size`: side of the written face, pixels.
    - `margin`: share of the box's width and height added on each of its sides.
    - `classes`: names of the expressions; a label is one of them or its place.
    - `unit_scale`: how the greatest intensity of an action unit is written.
    """

    folder: str
    image_size: int
    margin: float
    classes: Sequence[str]
    unit_scale: float = 1.0


class Face(NamedTuple):
    """A row that was read; `reason` says why there is no `image`, or is empty."""

    number: int
    id: str
    reason: str
    image: bytes = b""
    expression: int = -1
    valence: float = math.nan
    arousal: float = math.nan
    landmarks: np.ndarray | None = None
    box: tuple[float, ...] = ()
    aspect: float = 1.0  # of what was cut out, its width over its height
    action_units: np.ndarray | None = None


def read_faces(rows: Sequence[Row], settings: Settings) -> list[Face]:
    """The work of a worker process: as many faces as rows, in their order."""
    return [read_face(row, settings) for row in rows]


def read_face(row: Row, settings: Settings) -> Face:
    """Reads, crops, resizes and encodes one face. Never raises for what the files contain.

    **Raises:** `UserError` where memory is short: which faces are kept must not depend on that.
    """
    try:
        values: Mapping[str, Any] = row.values or {}
        if row.annotations:
            values = label_parsing.read_annotations(row.annotations)
        expression = label_parsing.parse_expression(values, settings.classes)
        valence, arousal = (
            label_parsing.parse_axis(values, name) for name in ("valence", "arousal")
        )
        points = label_parsing.parse_landmarks(values)
        units = label_parsing.parse_action_units(values, settings.unit_scale)
        box = label_parsing.parse_box(values)
        image = read_image(path_below(settings.folder, row.image), upright=box is None)
        whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
        image, frame = crop(image, box or whole, settings.margin, settings.image_size)
        if points is not None:
            points = to_frame(points, frame, settings.image_size)
        content = encode(image)
    except Unusable as unusable:
        return Face(row.number, row.id, str(unusable))
    except Exception as error:
        if not for_want_of_memory(error):
            raise
        raise UserError(
            f"{row.image}: no memory is left to decode it ({first_line(error)}); one worker "
            "needs the least"
        ) from error
    labels, aspect = (expression, valence, arousal, points), frame[2] / frame[3]
    return Face(row.number, row.id, "", content, *labels, box or whole, aspect, units)


def path_below(folder: str, name: str) -> str:
    """The file's path, links resolved, if it lies below `folder` (itself resolved)."""
    if "\0" in name:
        raise Unusable("path contains a zero byte")
    path = os.path.realpath(os.path.join(folder, name.replace("\\", "/")))
    if not path.startswith(os.path.join(folder, "")):
        raise Unusable("path leaves the image folder")
    return path


def read_image(path: str, *, upright: bool = False) -> np.ndarray:
    """Decodes an image of any usual kind: uint8 RGB [height, width, 3].

    What a file is, its content says, not its ending. The first frame of an animation counts;
    greyscale, palette and CMYK become RGB, transparency is dropped, 16 bits are cut to 8.

    **Arguments:**

    - `upright`: turn the image as its EXIF entry asks. Wrong where annotations are in pixels:
      AffectNet's were made by tools that ignore the entry.
    """
    try:
        content = _content(path)
    except (FileNotFoundError, NotADirectoryError):
        raise Unusable("file missing") from None
    except OSError as error:  # a loop of links, no permission, a name too long, a failing disk
        if for_want_of_memory(error):
            raise
        raise Unusable(f"file cannot be read: {error.strerror}") from error
    return decode_image(content, upright=upright)


def decode_image(content: bytes, *, upright: bool = False) -> np.ndarray:
    """`read_image` of a file's bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about metadata
        try:
            return _decode(content, upright)
        except Unusable:
            raise
        except UnidentifiedImageError:
            raise Unusable("not an image") from None
        except Image.DecompressionBombError:
            raise Unusable("image has more than 64 megapixels") from None
        except Exception as error:  # fed with a stranger's bytes, a decoder raises anything
            if for_want_of_memory(error):
                raise
            np.empty(4 * MAX_PIXELS, np.uint8)  # raises where libwebp, which says nothing, had none
            if "truncated" in str(error).lower():
                raise Unusable("image is truncated") from error
            raise Unusable(f"broken image: {type(error).__name__}: {error}") from error


def _content(path: str) -> bytes:
    if not os.path.exists(path):
        os.stat(path)  # raises for a loop of links or a forbidden folder, with the reason
    if not os.path.isfile(path):
        raise Unusable("not a file")
    size = os.path.getsize(path)
    if size == 0:
        raise Unusable("file is empty")
    if size > MAX_FILE_BYTES:
        raise Unusable(f"file has more than {MAX_FILE_BYTES >> 20} MiB")
    with open(path, "rb") as file:
        return file.read()


def _decode(content: bytes, upright: bool) -> np.ndarray:
    if not (upright and b"Exif" in content) and (usual := _usual_jpeg(content)) is not None:
        return usual
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Unusable("image has more than 64 megapixels")
        kind = image.format
        image.load()
        pixels = to_rgb(image, upright=upright)
        if kind in ("JPEG", "MPO"):
            _check_jpeg(content)
        return pixels


def _usual_jpeg(content: bytes) -> np.ndarray | None:
    """What nearly every file is, in half of Pillow's time; None: it tells what else the file is."""
    try:
        height, width, colours, sampling = simplejpeg.decode_jpeg_header(content)
        usual = colours in ("YCbCr", "Gray") and sampling in ("420", "444", "Gray")
        if usual and int(width) * int(height) <= MAX_PIXELS:
            return simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        pass
    return None


def to_rgb(image: Image.Image, *, upright: bool = False) -> np.ndarray:
    """The pixels of an image of any mode, as in `read_image`."""
    pixels = ImageOps.exif_transpose(image) if upright else image
    if pixels.mode.startswith("I"):
        values = np.asarray(pixels)
        if values.min() < 0 or values.max() > 65535:
            raise Unusable("pixels have more than 16 bits")
        return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if pixels.mode == "F":
        raise Unusable("pixels are floating-point numbers")
    return np.asarray(pixels.convert("RGB"))


def _check_jpeg(content: bytes) -> None:
    """Pillow fills the rest of a JPEG that was cut and closed with grey; libjpeg only warns."""
    try:
        simplejpeg.decode_jpeg(content, "GRAY", strict=True, min_height=1, min_width=1)
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise Unusable("image is truncated") from error
        # Other remarks (stray bytes between segments) leave all pixels there: keep the face.


def crop(
    image: np.ndarray, box: Sequence[float], margin: float, size: int
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Cuts a box out and resizes it to a square, each axis by itself, as the release's own faces.

    A box that leaves the image is clipped at its border: no pixel is invented.

    **Arguments:**

    - `image`: uint8 [height, width, 3].
    - `box`: x, y, width, height in pixels.

    **Returns:** uint8 [size, size, 3], and the clipped box: left, top, width, height.
    """
    height, width = image.shape[:2]
    x, y, box_width, box_height = box
    if round(box_width) < 1 or round(box_height) < 1:
        raise Unusable("box has no area")
    left, top = max(0, round(x - margin * box_width)), max(0, round(y - margin * box_height))
    right = min(width, round(x + box_width + margin * box_width))
    bottom = min(height, round(y + box_height + margin * box_height))
    if left >= right or top >= bottom:
        raise Unusable("box lies outside the image")
    return _resized(image[top:bottom, left:right], size), (left, top, right - left, bottom - top)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """The whole of an image, uint8, as a square; averaged where it shrinks."""
    height, width = image.shape[:2]
    if height < size or width < size:  # INTER_AREA would repeat pixels
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    # OpenCV averages floats in 0.7 of the time that it takes for bytes, to the same bytes.
    # Whole numbers of pixels in both directions it averages faster as bytes, and rounds otherwise.
    if (height % size or width % size) and height * width <= MAX_FLOAT_PIXELS:
        floats = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        return cv2.convertScaleAbs(floats)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def to_frame(points: np.ndarray, frame: Sequence[int], size: int) -> np.ndarray:
    """Maps pixel coordinates of the image, float [P, 2], into a crop resized to `size`.

    Whole numbers are the centres of pixels, so half a pixel is added before scaling, as in
    `cv2.resize`.
    """
    left, top, width, height = frame
    scale = np.array([size / width, size / height])
    return ((points - (left, top) + 0.5) * scale - 0.5).astype(np.float32)


def encode(image: np.ndarray) -> bytes:
    """uint8 RGB [S, S, 3] as a JPEG file with halved colour resolution, quality 95."""
    content = np.ascontiguousarray(image)
    return simplejpeg.encode_jpeg(content, JPEG_QUALITY, "RGB", colorsubsampling="420")
